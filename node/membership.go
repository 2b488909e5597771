package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dengbei/node/consensus"
	"dengbei/node/gossip"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/registry"
	"dengbei/registry/registrypb"
)

// membership answers who is a member, where, and who may speak Raft, from the replica of the registry; before the
// replica has anything, from what enrolment left.
type membership struct {
	initial []*registrypb.Member
	state   func() *registry.State
}

// member returns what is known of a server ID, active or revoked.
func (m *membership) member(serverID string) (*registrypb.Member, error) {
	found, err := m.state().MemberByServerID(serverID)
	if err == nil {
		return found, nil
	}
	for _, x := range m.initial {
		if registry.MemberID(x) == serverID {
			return x, nil
		}
	}
	return nil, err
}

// Resolve returns the peer address of an active member.
func (m *membership) Resolve(serverID string) (string, error) {
	x, err := m.member(serverID)
	if err != nil {
		return "", err
	}
	if !registry.Active(x) {
		return "", fmt.Errorf("%s was revoked: %w", serverID, registry.ErrNotMember)
	}
	return x.GetPeerAddress(), nil
}

// Current reports whether a centre's credential belongs to an active member. A credential of a later enrolment than any
// this replica knows is believed, for the CA has issued it: a replica that was away learns of it through that very
// member.
func (m *membership) Current(s identity.Subject) error {
	x, err := m.member(s.ServerID())
	if errors.Is(err, registry.ErrNotFound) {
		newest, err := m.newestSerial()
		if err != nil {
			return err
		}
		if s.Serial > newest {
			return nil
		}
		return fmt.Errorf("%s: %w", s.ServerID(), registry.ErrNotMember)
	}
	if err != nil {
		return err
	}
	if !registry.Active(x) {
		return fmt.Errorf("%s was revoked: %w", s.ServerID(), registry.ErrNotMember)
	}
	return nil
}

// MayVote reports whether a credential may speak Raft: the voter role is in it (which the TLS layer has checked) and the
// registry still says so.
func (m *membership) MayVote(p identity.Peer) error {
	if err := m.Current(p.Subject); err != nil {
		return err
	}
	x, err := m.member(p.Subject.ServerID())
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !x.GetVoter() {
		return fmt.Errorf("%s is no voter: %w", p.Subject.ServerID(), registry.ErrNotMember)
	}
	return nil
}

func (m *membership) newestSerial() (uint64, error) {
	all, err := m.state().AllMembers()
	if err != nil {
		return 0, err
	}
	var newest uint64
	for _, x := range append(all, m.initial...) {
		newest = max(newest, x.GetSerial())
	}
	return newest, nil
}

// Gossip lists the members for the rejoin loop.
func (m *membership) Gossip() []gossip.Peer {
	members, err := m.state().Members()
	if err != nil || len(members) == 0 {
		members = m.initial
	}
	var out []gossip.Peer
	for _, x := range members {
		if x.GetGossipAddress() != "" {
			out = append(out, gossip.Peer{ServerID: registry.MemberID(x), Address: x.GetGossipAddress()})
		}
	}
	return out
}

// watchRevocations closes the connections of members as they are revoked or demoted, and forgets them as callees.
func (n *Node) watchRevocations(ctx context.Context) {
	var last string
	for ctx.Err() == nil {
		state := n.ledger.state()
		wait := state.Changed()
		all, err := state.AllMembers()
		if err == nil {
			revoked, demoted, key := map[string]bool{}, map[string]bool{}, ""
			for _, m := range all {
				id := registry.MemberID(m)
				if !registry.Active(m) {
					revoked[id] = true
					key += id + " "
				} else if !m.GetVoter() {
					demoted[id] = true
					key += id + "- "
				}
			}
			if key != last {
				last = key
				n.mux.CloseWhere(func(s identity.Subject) bool { return s.Account == "" && revoked[s.ServerID()] })
				n.mux.CloseProto(identity.ProtoRaft, func(s identity.Subject) bool { return demoted[s.ServerID()] })
				for id := range revoked {
					n.peers.Forget(id)
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-wait:
			sleep(ctx, 50*time.Millisecond)
		}
	}
}

// reconciler makes the Raft configuration what the registry says, while this node leads: members are added as
// non-voters, voters promoted once they have caught up, revoked ones removed. It removes nobody for being silent.
type reconciler struct {
	ledger *ledger
	log    *slog.Logger
}

const reconcileEvery = time.Second

// caughtUp is how many entries a member may lack when it becomes a voter.
const caughtUp = 256

func (r *reconciler) run(ctx context.Context) {
	tick := time.NewTicker(reconcileEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !r.ledger.raft.IsLeader() {
			continue
		}
		if err := r.reconcile(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, registry.ErrClosed) {
			r.log.Warn("membership not reconciled", "err", err)
		}
	}
}

func (r *reconciler) reconcile(ctx context.Context) error {
	members, err := r.ledger.state().AllMembers()
	if err != nil || len(members) == 0 {
		return err
	}
	servers, err := r.ledger.raft.Servers()
	if err != nil {
		return err
	}
	have := map[string]consensus.Server{}
	for _, s := range servers {
		have[s.ID] = s
	}
	var failed []error
	for _, m := range members {
		id := registry.MemberID(m)
		s, in := have[id]
		switch {
		case !registry.Active(m) && in && id == r.ledger.self:
			failed = append(failed, r.ledger.raft.TransferLeadership(ctx, ""))
		case !registry.Active(m) && in:
			r.log.Info("revoked member leaves Raft", "centre", id)
			failed = append(failed, r.ledger.raft.Remove(ctx, id))
		case registry.Active(m) && !in:
			r.log.Info("member joins Raft", "centre", id)
			failed = append(failed, r.ledger.raft.AddNonvoter(ctx, id))
		case registry.Active(m) && m.GetVoter() && !s.Voter:
			if !r.isCaughtUp(ctx, id) {
				continue
			}
			r.log.Info("member becomes a voter", "centre", id)
			failed = append(failed, r.ledger.raft.AddVoter(ctx, id))
		case registry.Active(m) && !m.GetVoter() && s.Voter:
			r.log.Info("voter becomes a non-voter", "centre", id)
			failed = append(failed, r.ledger.raft.Demote(ctx, id))
		}
	}
	return errors.Join(failed...)
}

// isCaughtUp asks the member itself: as a voter it must be able to confirm entries at once.
func (r *reconciler) isCaughtUp(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client, err := r.ledger.peers.Network(id)
	if err != nil {
		return false
	}
	status, err := client.Status(ctx, &nodepb.StatusRequest{})
	return err == nil && status.GetAppliedIndex() > 0 && status.GetAppliedIndex()+caughtUp >= r.ledger.raft.AppliedIndex()
}
