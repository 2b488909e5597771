package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/registrypb"
)

// peeringService is what other nodes ask.
type peeringService struct {
	nodepb.UnimplementedPeeringServer
	n *Node
}

// Propose admits and commits commands that another node forwards. They are not forwarded again.
func (s peeringService) Propose(ctx context.Context, req *nodepb.ProposeRequest) (*nodepb.ProposeReply, error) {
	if len(req.GetCommands()) > maxGroupCommands {
		return nil, fmt.Errorf("%d commands in one call, at most %d: %w", len(req.GetCommands()), maxGroupCommands, rpc.ErrInvalid)
	}
	caller := rpc.CallerOf(ctx).Subject
	commands := make([]*registrypb.Command, len(req.GetCommands()))
	for i, b := range req.GetCommands() {
		commands[i] = &registrypb.Command{}
		if err := proto.Unmarshal(b, commands[i]); err != nil {
			return nil, fmt.Errorf("command %d: %w: %w", i, registry.ErrMalformed, err)
		}
		if err := competent(caller, commands[i]); err != nil {
			return nil, fmt.Errorf("command %d: %w", i, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	outcomes, index, err := s.n.ledger.proposeHere(ctx, commands)
	if err != nil {
		return nil, noLeader(err)
	}
	return &nodepb.ProposeReply{Outcomes: outcomes, AppliedIndex: index}, nil
}

// ReadIndex answers a linearizable read point.
func (s peeringService) ReadIndex(ctx context.Context, _ *nodepb.ReadIndexRequest) (*nodepb.ReadIndexReply, error) {
	index, err := s.n.raft.ReadIndex(ctx)
	if err != nil {
		return nil, noLeader(err)
	}
	return &nodepb.ReadIndexReply{Index: index}, nil
}

// Cosign waits a moment for this replica to catch up, recomputes and signs.
func (s peeringService) Cosign(ctx context.Context, req *nodepb.CosignRequest) (*nodepb.CosignReply, error) {
	for {
		wait := s.n.ledger.state().Changed()
		line, err := s.n.cosigner.Cosign(ctx, req.GetNote())
		if err == nil {
			return &nodepb.CosignReply{Line: line}, nil
		}
		if errors.Is(err, ErrDiverged) {
			s.n.alarm("this node's log and a checkpoint of the leader disagree", err)
		}
		if !errors.Is(err, errBehind) {
			return nil, fmt.Errorf("%w: %w", rpc.ErrState, err)
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// noLeader gives what consensus says a public reason.
func noLeader(err error) error {
	if rpc.ReasonOf(err) == "INTERNAL" {
		return fmt.Errorf("%w: %w", rpc.ErrNoLeader, err)
	}
	return err
}

// enrolmentService takes new centres in. It answers on the node that holds the CA.
type enrolmentService struct {
	nodepb.UnimplementedEnrolmentServer
	n *Node
}

// Enrol uses a token up. Repeated by the same node key with the same token it gives the same member again: a reply may
// be lost.
func (s enrolmentService) Enrol(ctx context.Context, req *nodepb.EnrolRequest) (*nodepb.EnrolReply, error) {
	n := s.n
	ca, err := n.authority()
	if err != nil {
		return nil, err
	}
	if err := n.ledger.Await(ctx, nodepb.ReadLevel_LINEARIZABLE); err != nil {
		return nil, err
	}
	state := n.ledger.state()
	network, err := state.Network()
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(req.GetSecret())
	invitation, err := state.Invitation(hash[:])
	if errors.Is(err, registry.ErrNotFound) {
		return nil, fmt.Errorf("token: %w", registry.ErrInvitation)
	}
	if err != nil {
		return nil, err
	}
	if req.GetPrepare() {
		return &nodepb.EnrolReply{Network: network.GetName(), Origin: network.GetOrigin()}, nil
	}
	invite := invitation.GetInvite()
	member := proto.CloneOf(req.GetMember())
	if member == nil || member.GetCode() != invite.GetCode() {
		return nil, fmt.Errorf("the token invites centre %s, centre %q came: %w", invite.GetCode(), member.GetCode(), registry.ErrInvitation)
	}
	member.Voter = invite.GetVoter()
	member.SealedLogKey = nil
	if member.GetVoter() {
		if member.SealedLogKey, err = n.sealLogKey(member.GetSealingRecipient()); err != nil {
			return nil, err
		}
	}
	enrolled, err := s.enrol(ctx, invitation, hash[:], member)
	if err != nil {
		return nil, err
	}
	reply := &nodepb.EnrolReply{
		Network: network.GetName(), Origin: network.GetOrigin(), Member: enrolled, CaCertificate: network.GetCaCertificate(), GossipKey: n.gossipKey,
	}
	roles := []identity.Role{identity.Centre}
	if enrolled.GetVoter() {
		roles = append(roles, identity.Voter)
	}
	code, serial := enrolled.GetCode(), enrolled.GetSerial()
	for _, x := range []struct {
		csr     []byte
		der     *[]byte
		subject identity.Subject
	}{
		{req.GetNodeCsr(), &reply.NodeCertificate, identity.Subject{Network: network.GetName(), Code: code, Serial: serial, Roles: roles}},
		{req.GetOperatorCsr(), &reply.OperatorCertificate, officer(network.GetName(), code, serial, identity.Operator)},
		{req.GetRegistrarCsr(), &reply.RegistrarCertificate, officer(network.GetName(), code, serial, identity.Registrar)},
	} {
		if *x.der, err = ca.Issue(x.csr, x.subject); err != nil {
			return nil, fmt.Errorf("%w: %w", rpc.ErrInvalid, err)
		}
	}
	if reply.Members, err = n.ledger.state().Members(); err != nil {
		return nil, err
	}
	n.log.Info("centre enrolled", "centre", registry.MemberID(enrolled), "voter", enrolled.GetVoter())
	return reply, nil
}

func (s enrolmentService) enrol(ctx context.Context, invitation *registrypb.Invitation, hash []byte, member *registrypb.Member) (*registrypb.Member, error) {
	n := s.n
	if used := invitation.GetUsedBySerial(); used != 0 {
		before, err := n.ledger.state().MemberByServerID(registry.ServerID(invitation.GetInvite().GetCode(), used))
		if err != nil {
			return nil, err
		}
		if string(before.GetCredentialSha256()) == string(member.GetCredentialSha256()) && registry.Active(before) {
			return before, nil
		}
		return nil, fmt.Errorf("token: %w", registry.ErrInvitationUsed)
	}
	outcome, err := n.ledger.ProposeOne(ctx, &registrypb.Command{Kind: &registrypb.Command_EnrolMember{EnrolMember: &registrypb.EnrolMember{
		TokenSha256: hash, Member: member,
	}}})
	if err != nil {
		return nil, err
	}
	return n.ledger.state().MemberByServerID(outcome.GetMember())
}

// authority returns the network's CA, which lies on one node only.
func (n *Node) authority() (*identity.CA, error) {
	if n.ca == nil {
		return nil, fmt.Errorf("the network's CA is at centre %s: %w", n.caHolder(), rpc.ErrElsewhere)
	}
	return n.ca, nil
}

// caHolder returns the server ID of the member that founded the network and holds the CA.
func (n *Node) caHolder() string {
	all, err := n.ledger.state().AllMembers()
	if err != nil {
		return ""
	}
	for _, m := range all {
		if m.GetSerial() == founderSerial {
			return registry.MemberID(m)
		}
	}
	return ""
}

func (n *Node) sealLogKey(recipient string) ([]byte, error) {
	skey, err := n.keys.LogKey()
	if err != nil {
		return nil, err
	}
	r, err := identity.ParseRecipient(recipient)
	if err != nil {
		return nil, fmt.Errorf("sealing key of the new voter: %w: %w", rpc.ErrInvalid, err)
	}
	return identity.Seal([]byte(skey), r)
}

// networkService is about members, agreements and registrants.
type networkService struct {
	nodepb.UnimplementedNetworkServer
	n *Node
}

const (
	defaultInvitation = time.Hour
	longestInvitation = 30 * 24 * time.Hour
)

// Invite makes a token for one enrolment. With replace the active member of the code is revoked at once.
func (s networkService) Invite(ctx context.Context, req *nodepb.InviteRequest) (*nodepb.InviteReply, error) {
	n := s.n
	if _, err := registry.CurrentDivision(req.GetCode()); err != nil {
		return nil, err
	}
	if err := n.own(ctx); err != nil {
		return nil, err
	}
	ca, err := n.authority()
	if err != nil {
		return nil, err
	}
	if err := n.ledger.AwaitFounded(ctx); err != nil {
		return nil, err
	}
	valid := time.Duration(req.GetValidSeconds()) * time.Second
	if valid == 0 {
		valid = defaultInvitation
	}
	if valid < time.Second || valid > longestInvitation {
		return nil, fmt.Errorf("an invitation is valid for 1 second to %s: %w", longestInvitation, rpc.ErrInvalid)
	}
	reply := &nodepb.InviteReply{ExpiresAtMillis: time.Now().Add(valid).UnixMilli()}
	active, err := n.ledger.state().Member(req.GetCode())
	switch {
	case err == nil && !req.GetReplace():
		return nil, fmt.Errorf("centre %s: %w", req.GetCode(), registry.ErrActiveMember)
	case err == nil:
		reply.RevokedServerId = registry.MemberID(active)
	case !errors.Is(err, registry.ErrNotFound):
		return nil, err
	}
	token, err := identity.NewToken(n.network.GetNetwork(), req.GetCode(), ca.Fingerprint(), n.cfg.Peer.Advertise)
	if err != nil {
		return nil, err
	}
	hash := token.SecretHash()
	_, err = n.ledger.ProposeOne(ctx, &registrypb.Command{Kind: &registrypb.Command_InviteMember{InviteMember: &registrypb.InviteMember{
		TokenSha256: hash[:], Code: req.GetCode(), Voter: req.GetVoter(), Replace: req.GetReplace(), ExpiresAtMillis: reply.GetExpiresAtMillis(),
	}}})
	if err != nil {
		return nil, err
	}
	reply.Token = token.String()
	return reply, nil
}

// Members lists the network as the registry knows it, with what gossip and Raft say of each.
func (s networkService) Members(ctx context.Context, req *nodepb.MembersRequest) (*nodepb.MembersReply, error) {
	n := s.n
	if err := n.ledger.Await(ctx, req.GetLevel()); err != nil {
		return nil, err
	}
	state := n.ledger.state()
	members, err := state.AllMembers()
	if err != nil {
		return nil, err
	}
	alive := map[string]bool{n.serverID: true}
	for _, p := range n.gossip.Alive() {
		alive[p.ServerID] = true
	}
	servers, err := n.raft.Servers()
	if err != nil {
		return nil, err
	}
	role := map[string]string{}
	for _, x := range servers {
		role[x.ID] = "nonvoter"
		if x.Voter {
			role[x.ID] = "voter"
		}
	}
	reply := &nodepb.MembersReply{Leader: n.raft.Leader(), AppliedIndex: state.Applied()}
	for _, m := range members {
		if !registry.Active(m) && !req.GetAll() {
			continue
		}
		id := registry.MemberID(m)
		x := &nodepb.MemberStatus{Member: m, ServerId: id, Alive: alive[id], RaftRole: role[id]}
		switch {
		case id == reply.GetLeader():
			x.RaftRole = "leader"
		case x.RaftRole == "":
			x.RaftRole = "none"
		}
		reply.Members = append(reply.Members, x)
	}
	return reply, nil
}

// contactLimit is how long ago this node may have heard from the leader for the quorum to count as there.
const contactLimit = 10 * time.Second

// Status says how this node is.
func (s networkService) Status(context.Context, *nodepb.StatusRequest) (*nodepb.StatusReply, error) {
	n := s.n
	state := n.ledger.state()
	reply := &nodepb.StatusReply{
		Network: n.network.GetNetwork(), ServerId: n.serverID, Code: n.cfg.Centre, Leader: n.raft.Leader(),
		AppliedIndex: state.Applied(), LogSize: state.Size(), Registrations: state.Size(), Alarms: n.alarms.list(),
	}
	reply.Quorum = reply.GetLeader() != "" && time.Since(n.raft.LastContact()) < contactLimit
	if !reply.GetQuorum() {
		reply.Alarms = append(reply.Alarms, "no quorum: submissions are received, nothing is registered")
	}
	root, err := state.Root(reply.GetLogSize())
	if err != nil {
		return nil, err
	}
	reply.LogRoot = root[:]
	chain, _ := state.Chain()
	reply.StateChain = chain[:]
	cp, err := state.LatestCheckpoint()
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return nil, err
	}
	reply.PublishedSize = cp.GetSize()
	reply.WaitingSubmissions = uint64(n.desk.waiting())
	if reply.Recovering, err = n.keeper.Recovering(); err != nil {
		return nil, err
	}
	if reply.GetRecovering() {
		reply.Alarms = append(reply.Alarms, "this centre's repositories are not here: run `dengbei recover`")
	}
	exposed, err := n.notEscrowed()
	if err != nil {
		return nil, err
	}
	for _, id := range exposed {
		reply.Alarms = append(reply.Alarms, fmt.Sprintf("the password of repository %s is not in escrow: if this centre is lost, nobody can open its copies; run `dengbei escrow split`", id))
	}
	for id, err := range n.quarantine.Damaged() {
		reply.Alarms = append(reply.Alarms, fmt.Sprintf("submission %s in the quarantine cannot be read: %v", id.Hex(), err))
	}
	for _, h := range n.healer.Recent() {
		reply.Alarms = append(reply.Alarms, fmt.Sprintf("damaged file %s of %s was replaced by the copy of %s", h.File, h.Repository, h.Source))
	}
	for _, x := range n.replicator.Status() {
		r, err := state.Repository(x.Repository)
		if err != nil {
			continue // a status may outlive an agreement
		}
		h := &nodepb.HoldingStatus{
			Repository: x.Repository, Owner: r.GetOwner(), Files: uint64(x.Files), Missing: uint64(x.Files - x.FilesDone),
			ReceiptedSequence: x.Sequence, RegisteredSequence: x.Target,
		}
		if x.LastError != nil {
			h.LastError = x.LastError.Error()
		}
		reply.Holdings = append(reply.Holdings, h)
	}
	return reply, nil
}

// PutAgreement registers an agreement between two centres.
func (s networkService) PutAgreement(ctx context.Context, req *nodepb.PutAgreementRequest) (*nodepb.PutAgreementReply, error) {
	a := req.GetAgreement()
	if a == nil {
		return nil, fmt.Errorf("no agreement in the request: %w", rpc.ErrInvalid)
	}
	if err := s.n.own(ctx); err != nil {
		return nil, err
	}
	if centre := s.n.cfg.Centre; a.GetOwner() != centre && a.GetHolder() != centre {
		return nil, fmt.Errorf("an agreement between %s and %s is registered at one of them, this is %s: %w", a.GetOwner(), a.GetHolder(), centre, rpc.ErrElsewhere)
	}
	if err := s.n.ledger.AwaitFounded(ctx); err != nil {
		return nil, err
	}
	_, err := s.n.ledger.ProposeOne(ctx, &registrypb.Command{Kind: &registrypb.Command_PutAgreement{PutAgreement: &registrypb.PutAgreement{Agreement: a}}})
	if err != nil {
		return nil, err
	}
	return &nodepb.PutAgreementReply{}, nil
}

// AddRegistrant registers a unit of this centre's jurisdiction and has its credential issued.
func (s networkService) AddRegistrant(ctx context.Context, req *nodepb.AddRegistrantRequest) (*nodepb.AddRegistrantReply, error) {
	n := s.n
	if err := n.own(ctx); err != nil {
		return nil, err
	}
	code, account, ok := strings.Cut(req.GetId(), "/")
	if !ok || code != n.cfg.Centre {
		return nil, fmt.Errorf("registrant %q: want %s/<short name>, the registrants of another centre are added there: %w", req.GetId(), n.cfg.Centre, rpc.ErrInvalid)
	}
	if err := n.ledger.AwaitFounded(ctx); err != nil {
		return nil, err
	}
	der, err := n.issue(ctx, req.GetCsr(), account, identity.Registrant)
	if err != nil {
		return nil, err
	}
	_, err = n.ledger.ProposeOne(ctx, &registrypb.Command{Kind: &registrypb.Command_PutRegistrant{PutRegistrant: &registrypb.PutRegistrant{
		Registrant: &registrypb.Registrant{Id: req.GetId(), Authority: n.cfg.Centre, Name: req.GetName(), Fonds: req.GetFonds(), PublicKey: req.GetPublicKey()},
	}}})
	if err != nil {
		return nil, err
	}
	return &nodepb.AddRegistrantReply{Certificate: der, CaCertificate: n.cred.Load().CA.Raw}, nil
}

// issue has the CA certify a key for an account of this centre.
func (n *Node) issue(ctx context.Context, csr []byte, account string, role identity.Role) ([]byte, error) {
	if n.ca != nil {
		der, err := n.ca.Issue(csr, n.accountSubject(n.serverID, account, role))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", rpc.ErrInvalid, err)
		}
		return der, nil
	}
	client, err := n.peers.Network(n.caHolder())
	if err != nil {
		return nil, err
	}
	reply, err := client.Issue(ctx, &nodepb.IssueRequest{Csr: csr, Code: n.cfg.Centre, Account: account, Roles: []string{string(role)}})
	if err != nil {
		return nil, err
	}
	return reply.GetCertificate(), nil
}

func (n *Node) accountSubject(serverID, account string, role identity.Role) identity.Subject {
	code, serial, err := registry.ParseServerID(serverID)
	if err != nil {
		return identity.Subject{}
	}
	return identity.Subject{Network: n.network.GetNetwork(), Code: code, Serial: serial, Account: account, Roles: []identity.Role{role}}
}

// Issue certifies a key for an account of the calling centre: a node asks for its own people only.
func (s networkService) Issue(ctx context.Context, req *nodepb.IssueRequest) (*nodepb.IssueReply, error) {
	ca, err := s.n.authority()
	if err != nil {
		return nil, err
	}
	caller := rpc.CallerOf(ctx).Subject
	if req.GetCode() != caller.Code || len(req.GetRoles()) != 1 || req.GetRoles()[0] != string(identity.Registrant) {
		return nil, fmt.Errorf("centre %s may ask for credentials of its own registrants only: %w", caller.Code, rpc.ErrDenied)
	}
	der, err := ca.Issue(req.GetCsr(), s.n.accountSubject(caller.ServerID(), req.GetAccount(), identity.Registrant))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", rpc.ErrInvalid, err)
	}
	return &nodepb.IssueReply{Certificate: der}, nil
}

// Policy returns the policy file that certificates of this network are checked with: the present one, or the one of the
// time when a record's certificate was made. Voters may have been replaced in between.
func (s networkService) Policy(_ context.Context, req *nodepb.PolicyRequest) (*nodepb.PolicyReply, error) {
	state := s.n.ledger.state()
	if req.GetNumber() == "" {
		p, err := policyOf(state)
		if err != nil {
			return nil, err
		}
		return &nodepb.PolicyReply{Policy: p.Format()}, nil
	}
	rec, err := state.RecordByNumber(req.GetNumber())
	if err != nil {
		return nil, err
	}
	_, p, err := coveredBy(state, rec)
	if err != nil {
		return nil, err
	}
	return &nodepb.PolicyReply{Policy: p.Format()}, nil
}
