package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"dengbei/node/consensus"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/registrypb"
)

// Limits of one Raft entry: what is grouped stays small enough not to hold up heartbeats.
const (
	maxGroupCommands = 512
	maxGroupBytes    = 1 << 20
)

// proposeTimeout bounds one proposal, forwarded or not.
const proposeTimeout = 30 * time.Second

// ledger is this node's way to the registry: it proposes commands, here or at the leader, and reads the replica.
type ledger struct {
	raft  *consensus.Raft
	fsm   *registry.FSM
	peers *rpc.Peers
	self  string
	log   *slog.Logger
	queue chan *pending
}

// pending is a proposal that waits for its place in a Raft entry.
type pending struct {
	ctx      context.Context
	commands []*registrypb.Command
	outcomes []*nodepb.Outcome
	index    uint64
	err      error
	done     chan struct{}
}

func newLedger(raft *consensus.Raft, fsm *registry.FSM, peers *rpc.Peers, self string, log *slog.Logger) *ledger {
	return &ledger{raft: raft, fsm: fsm, peers: peers, self: self, log: log, queue: make(chan *pending, 1024)}
}

// state returns the replica of the registry.
func (l *ledger) state() *registry.State { return l.fsm.State() }

// Propose has the commands admitted and committed, forwarding them once if another node leads, and returns what each
// did. It returns when this node has applied them too, or has given up waiting for that. A refusal is an outcome, see
// [outcomeError]; an error means that nothing is known ([rpc.ErrOutcomeUnknown]) or that nothing was proposed.
func (l *ledger) Propose(ctx context.Context, commands ...*registrypb.Command) ([]*nodepb.Outcome, error) {
	var all []*nodepb.Outcome
	var last uint64
	for len(commands) > 0 {
		var part []*registrypb.Command
		part, commands = cutGroup(commands)
		if n := proto.Size(part[0]); n > registry.MaxCommandBytes {
			// No leader admits it, and no message carries it there.
			err := fmt.Errorf("command of %d bytes, at most %d: %w", n, registry.MaxCommandBytes, registry.ErrTooLarge)
			all = append(all, &nodepb.Outcome{Reason: rpc.ReasonOf(err), Detail: err.Error()})
			continue
		}
		outcomes, index, err := l.proposePart(ctx, part)
		if err != nil {
			return nil, err
		}
		all, last = append(all, outcomes...), max(last, index)
	}
	if last == 0 {
		return all, nil // nothing was committed
	}
	wait, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	if err := l.raft.WaitApplied(wait, last); err != nil {
		l.log.Debug("proposal committed, not applied here yet", "index", last, "err", err)
	}
	return all, nil
}

// cutGroup takes the first commands that go together into one call and one entry: within the limits of a group, and one
// above the limit of a command alone.
func cutGroup(commands []*registrypb.Command) (group, rest []*registrypb.Command) {
	size := 0
	for i, c := range commands {
		n := proto.Size(c)
		size += n
		if i > 0 && (i == maxGroupCommands || size > maxGroupBytes || n > registry.MaxCommandBytes) {
			return commands[:i], commands[i:]
		}
		if n > registry.MaxCommandBytes {
			return commands[:1], commands[1:]
		}
	}
	return commands, nil
}

// proposePart proposes here, or else at the leader.
func (l *ledger) proposePart(ctx context.Context, commands []*registrypb.Command) ([]*nodepb.Outcome, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	outcomes, index, err := l.proposeHere(ctx, commands)
	if errors.Is(err, consensus.ErrNotLeader) {
		return l.forward(ctx, commands)
	}
	return outcomes, index, err
}

// ProposeOne is [ledger.Propose] of one command whose refusal is an error.
func (l *ledger) ProposeOne(ctx context.Context, c *registrypb.Command) (*nodepb.Outcome, error) {
	outcomes, err := l.Propose(ctx, c)
	if err != nil {
		return nil, err
	}
	return outcomes[0], outcomeError(outcomes[0])
}

// outcomeError turns a refusal into an error that matches its sentinel.
func outcomeError(o *nodepb.Outcome) error {
	if o.GetReason() == "" {
		return nil
	}
	if o.GetDetail() == "" {
		return rpc.ByReason(o.GetReason())
	}
	return fmt.Errorf("%s: %w", o.GetDetail(), rpc.ByReason(o.GetReason()))
}

func (l *ledger) forward(ctx context.Context, commands []*registrypb.Command) ([]*nodepb.Outcome, uint64, error) {
	leader := l.raft.Leader()
	if leader == "" || leader == l.self {
		return nil, 0, rpc.ErrNoLeader
	}
	client, err := l.peers.Peering(leader)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", rpc.ErrNoLeader, err)
	}
	req := &nodepb.ProposeRequest{}
	for _, c := range commands {
		b, err := proto.Marshal(c)
		if err != nil {
			return nil, 0, fmt.Errorf("encode command: %w", err)
		}
		req.Commands = append(req.Commands, b)
	}
	reply, err := client.Propose(ctx, req)
	if err != nil {
		var answered *rpc.Error
		if errors.As(err, &answered) && answered.Reason != "" {
			return nil, 0, fmt.Errorf("leader %s: %w", leader, err)
		}
		return nil, 0, fmt.Errorf("leader %s: %w: %w", leader, rpc.ErrOutcomeUnknown, err)
	}
	if len(reply.GetOutcomes()) != len(commands) {
		return nil, 0, fmt.Errorf("leader %s answered %d outcomes for %d commands: %w", leader, len(reply.GetOutcomes()), len(commands), rpc.ErrOutcomeUnknown)
	}
	return reply.GetOutcomes(), reply.GetAppliedIndex(), nil
}

// proposeHere proposes on this node, which must lead.
func (l *ledger) proposeHere(ctx context.Context, commands []*registrypb.Command) ([]*nodepb.Outcome, uint64, error) {
	if !l.raft.IsLeader() {
		return nil, 0, consensus.ErrNotLeader
	}
	p := &pending{ctx: ctx, commands: commands, done: make(chan struct{})}
	select {
	case l.queue <- p:
	case <-ctx.Done():
		return nil, 0, ctx.Err()
	}
	select {
	case <-p.done:
		return p.outcomes, p.index, p.err
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("%w: %w", rpc.ErrOutcomeUnknown, ctx.Err())
	}
}

// run groups what waits into Raft entries until ctx ends. Grouping never waits: an entry takes what queued while the
// one before was on its way.
func (l *ledger) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-l.queue:
			l.commit(ctx, l.group(p))
		}
	}
}

func (l *ledger) group(first *pending) []*pending {
	group := []*pending{first}
	n, size := len(first.commands), pendingBytes(first)
	for n < maxGroupCommands && size < maxGroupBytes {
		select {
		case p := <-l.queue:
			group = append(group, p)
			n, size = n+len(p.commands), size+pendingBytes(p)
		default:
			return group
		}
	}
	return group
}

func pendingBytes(p *pending) (n int) {
	for _, c := range p.commands {
		n += proto.Size(c)
	}
	return n
}

// commit admits the commands of a group, appends what was admitted as one entry, and answers everybody.
func (l *ledger) commit(ctx context.Context, group []*pending) {
	now := time.Now().UnixMilli()
	state := l.state()
	var admitted []*registrypb.Command
	type slot struct {
		p *pending
		i int
	}
	var slots []slot
	for _, p := range group {
		p.outcomes = make([]*nodepb.Outcome, len(p.commands))
		for i, c := range p.commands {
			c.AtMillis = now
			if err := state.Admit(c); err != nil {
				p.outcomes[i] = &nodepb.Outcome{Reason: rpc.ReasonOf(err), Detail: err.Error()}
				continue
			}
			admitted = append(admitted, c)
			slots = append(slots, slot{p, i})
		}
	}
	if len(admitted) > 0 {
		results, index, err := l.append(ctx, admitted)
		for k, s := range slots {
			if err != nil {
				s.p.err = err
				continue
			}
			s.p.index = index
			s.p.outcomes[s.i] = outcome(results[k])
		}
	}
	for _, p := range group {
		close(p.done)
	}
}

func (l *ledger) append(ctx context.Context, commands []*registrypb.Command) ([]registry.Result, uint64, error) {
	data, err := registry.EncodeEntry(commands...)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	result, index, err := l.raft.Propose(ctx, data)
	switch {
	case errors.Is(err, consensus.ErrNotLeader), errors.Is(err, consensus.ErrBusy), errors.Is(err, consensus.ErrClosed):
		return nil, 0, fmt.Errorf("%w: %w", rpc.ErrNoLeader, err)
	case err != nil:
		return nil, 0, fmt.Errorf("%w: %w", rpc.ErrOutcomeUnknown, err)
	}
	results, ok := result.([]registry.Result)
	if !ok || len(results) != len(commands) {
		return nil, 0, fmt.Errorf("%w: the state machine answered %T", rpc.ErrOutcomeUnknown, result)
	}
	return results, index, nil
}

func outcome(r registry.Result) *nodepb.Outcome {
	o := &nodepb.Outcome{Existing: r.Existing, Sequence: r.Sequence, Member: r.Member}
	if r.Reject != registry.RejectNone {
		o.Reason, o.Detail = r.Reject.String(), r.Detail
	}
	for _, x := range r.Records {
		o.Registered = append(o.Registered, &nodepb.Registered{Seq: x.Seq, Number: x.Number})
	}
	return o
}

// AwaitFounded waits a moment for a network that is being founded, or for the replica of a node that has just joined.
func (l *ledger) AwaitFounded(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		state := l.state()
		wait := state.Changed()
		_, err := state.Network()
		if !errors.Is(err, registry.ErrNotFound) {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return registry.ErrNotFounded
		}
	}
}

// ReadIndex returns an index such that a replica that has applied it is not older than any write acknowledged before.
func (l *ledger) ReadIndex(ctx context.Context) (uint64, error) {
	index, err := l.raft.ReadIndex(ctx)
	if err == nil {
		return index, nil
	}
	if !errors.Is(err, consensus.ErrNotLeader) {
		return 0, err
	}
	leader := l.raft.Leader()
	if leader == "" || leader == l.self {
		return 0, rpc.ErrNoLeader
	}
	client, err := l.peers.Peering(leader)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", rpc.ErrNoLeader, err)
	}
	reply, err := client.ReadIndex(ctx, &nodepb.ReadIndexRequest{})
	if err != nil {
		return 0, fmt.Errorf("leader %s: %w", leader, err)
	}
	return reply.GetIndex(), nil
}

// Await makes the replica as fresh as level asks for.
func (l *ledger) Await(ctx context.Context, level nodepb.ReadLevel) error {
	switch level {
	case nodepb.ReadLevel_LOCAL:
		return nil
	case nodepb.ReadLevel_LEADER:
		if l.raft.IsLeader() {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	index, err := l.ReadIndex(ctx)
	if err != nil {
		return err
	}
	return l.raft.WaitApplied(ctx, index)
}
