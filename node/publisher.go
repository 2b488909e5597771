package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"golang.org/x/mod/sumdb/note"

	"dengbei/node/nodepb"
	"dengbei/registry"
	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// A checkpoint follows a registration within about a second, and waits at most a second for cosigners beyond the quorum.
const (
	publishEvery = 500 * time.Millisecond
	cosignWait   = time.Second
)

// publisher makes the log's checkpoints while this node leads: signs the root of its own state with the log's key,
// collects the voters' cosignatures, and has the note registered.
type publisher struct {
	ledger *ledger
	keys   *keys
	own    *cosigner
	log    *slog.Logger
}

func (p *publisher) run(ctx context.Context) {
	tick := time.NewTicker(publishEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !p.ledger.raft.IsLeader() {
			continue
		}
		if err := p.publish(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("checkpoint not published", "err", err)
		}
	}
}

func (p *publisher) publish(ctx context.Context) error {
	state := p.ledger.state()
	size := state.Size()
	published, err := state.LatestCheckpoint()
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	if size == published.GetSize() {
		return nil
	}
	skey, err := p.keys.LogKey()
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("this voter has no log key: %w", err)
	}
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return fmt.Errorf("log key: %w", err)
	}
	network, err := state.Network()
	if err != nil {
		return err
	}
	root, err := state.Root(size)
	if err != nil {
		return err
	}
	cp := tlog.Checkpoint{Origin: network.GetOrigin(), Size: size, Root: root}
	signed, err := tlog.SignCheckpoint(cp, signer)
	if err != nil {
		return err
	}
	policy, err := policyOf(state)
	if err != nil {
		return err
	}
	lines, failures := p.collect(ctx, state, cp, signed)
	countersigned, used, err := policy.Assemble(signed, lines)
	if err != nil {
		return errors.Join(append([]error{err}, failures...)...)
	}
	c := &registrypb.PublishCheckpoint{Size: size, Root: root[:], Note: countersigned}
	for _, u := range used {
		c.Cosigners = append(c.Cosigners, u.Witness)
	}
	_, err = p.ledger.ProposeOne(ctx, &registrypb.Command{Kind: &registrypb.Command_PublishCheckpoint{PublishCheckpoint: c}})
	return err
}

// collect asks every voter at once and returns the lines that came in time.
func (p *publisher) collect(ctx context.Context, state *registry.State, cp tlog.Checkpoint, signed []byte) (lines []string, failures []error) {
	voters, err := state.Voters()
	if err != nil {
		return nil, []error{err}
	}
	ctx, cancel := context.WithTimeout(ctx, cosignWait)
	defer cancel()
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, len(voters))
	for _, m := range voters {
		go func() {
			line, err := p.ask(ctx, m, cp, signed)
			if err != nil {
				err = fmt.Errorf("cosigner %s: %w", registry.MemberID(m), err)
			}
			answers <- answer{line, err}
		}()
	}
	for range voters {
		a := <-answers
		if a.err != nil {
			failures = append(failures, a.err)
			continue
		}
		lines = append(lines, a.line)
	}
	return lines, failures
}

func (p *publisher) ask(ctx context.Context, m *registrypb.Member, cp tlog.Checkpoint, signed []byte) (string, error) {
	if registry.MemberID(m) == p.ledger.self {
		return p.own.Cosign(ctx, signed)
	}
	client, err := p.ledger.peers.Peering(registry.MemberID(m))
	if err != nil {
		return "", err
	}
	reply, err := client.Cosign(ctx, &nodepb.CosignRequest{Size: cp.Size, Root: cp.Root[:], Note: signed})
	if err != nil {
		return "", err
	}
	return reply.GetLine(), nil
}

// policyOf writes the policy that the state implies now: the log's key, the voters as witnesses, every authority key that
// ever was.
func policyOf(state *registry.State) (*tlog.Policy, error) {
	return policyWith(state, func(m *registrypb.Member) bool { return registry.Active(m) })
}

// policyFor returns the policy under which a checkpoint was published: its voters may have been replaced since.
func policyFor(state *registry.State, cp *registrypb.Checkpoint) (*tlog.Policy, error) {
	at := cp.GetPublishedAtMillis()
	var failed []error
	for _, voted := range []func(*registrypb.Member) bool{
		registry.Active,
		func(m *registrypb.Member) bool {
			return m.GetEnrolledAtMillis() <= at && (registry.Active(m) || m.GetRevokedAtMillis() > at)
		},
		// Revoked in the very millisecond of the publication, after it.
		func(m *registrypb.Member) bool {
			return m.GetEnrolledAtMillis() <= at && (registry.Active(m) || m.GetRevokedAtMillis() >= at)
		},
		func(m *registrypb.Member) bool {
			return m.GetEnrolledAtMillis() < at && (registry.Active(m) || m.GetRevokedAtMillis() >= at)
		},
	} {
		policy, err := policyWith(state, voted)
		if err == nil {
			_, err = policy.Check(cp.GetNote())
		}
		if err == nil {
			return policy, nil
		}
		failed = append(failed, err)
	}
	return nil, fmt.Errorf("checkpoint of size %d fits no policy this network had: %w", cp.GetSize(), errors.Join(failed...))
}

// policyWith writes the policy whose witnesses are the voters that voted selects.
func policyWith(state *registry.State, voted func(*registrypb.Member) bool) (*tlog.Policy, error) {
	network, err := state.Network()
	if err != nil {
		return nil, err
	}
	members, err := state.AllMembers()
	if err != nil {
		return nil, err
	}
	spec := tlog.PolicySpec{Logs: []tlog.PolicyLog{{VKey: network.GetLogVkey()}}}
	group := tlog.PolicyGroup{Name: "voters", K: int(network.GetQuorum())}
	authorities := map[string]bool{}
	for _, m := range members { // ordered by code and serial: the same on every node
		if m.GetVoter() && voted(m) {
			spec.Witnesses = append(spec.Witnesses, tlog.PolicyWitness{Name: m.GetCode(), VKey: m.GetCosignerVkey()})
			group.Members = append(group.Members, m.GetCode())
		}
		if key := m.GetCode() + " " + m.GetAuthorityVkey(); !authorities[key] {
			authorities[key] = true
			spec.Authorities = append(spec.Authorities, tlog.PolicyAuthority{Code: m.GetCode(), VKey: m.GetAuthorityVkey()})
		}
	}
	if group.K == 0 {
		group.K = len(group.Members)/2 + 1
	}
	spec.Groups, spec.Quorum = []tlog.PolicyGroup{group}, group.Name
	return tlog.NewPolicy(spec)
}
