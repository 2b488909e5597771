package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Server is one member of the group.
type Server struct {
	ID    string
	Voter bool
}

// Bootstrap makes serverID the only voter of a new group; done once in a network's life, on its first node. It returns an error
// matching [ErrBootstrapped] if this node has a Raft state.
func (r *Raft) Bootstrap(serverID string) error {
	err := r.raft.BootstrapCluster(raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: raft.ServerID(serverID), Address: raft.ServerAddress(serverID)},
	}}).Error()
	if errors.Is(err, raft.ErrCantBootstrap) {
		return fmt.Errorf("bootstrap: %w", ErrBootstrapped)
	}
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

// AddNonvoter adds a member that replicates and does not vote. Repeating it changes nothing; a voter stays one.
func (r *Raft) AddNonvoter(ctx context.Context, serverID string) error {
	return r.change(ctx, "add non-voter", serverID, func(d time.Duration) raft.IndexFuture {
		return r.raft.AddNonvoter(raft.ServerID(serverID), raft.ServerAddress(serverID), 0, d)
	})
}

// AddVoter adds a voter, or promotes a non-voter, which should have caught up first.
func (r *Raft) AddVoter(ctx context.Context, serverID string) error {
	return r.change(ctx, "add voter", serverID, func(d time.Duration) raft.IndexFuture {
		return r.raft.AddVoter(raft.ServerID(serverID), raft.ServerAddress(serverID), 0, d)
	})
}

// Demote makes a voter a non-voter. Revoke its voter credential afterwards.
func (r *Raft) Demote(ctx context.Context, serverID string) error {
	return r.change(ctx, "demote", serverID, func(d time.Duration) raft.IndexFuture {
		return r.raft.DemoteVoter(raft.ServerID(serverID), 0, d)
	})
}

// Remove takes a member out of the group.
func (r *Raft) Remove(ctx context.Context, serverID string) error {
	return r.change(ctx, "remove", serverID, func(d time.Duration) raft.IndexFuture {
		return r.raft.RemoveServer(raft.ServerID(serverID), 0, d)
	})
}

// change runs a membership change on the leader. Its errors are Propose's, and Raft's own for a change that makes no sense, such as
// removing the last voter, which was not appended.
func (r *Raft) change(ctx context.Context, what, serverID string, do func(time.Duration) raft.IndexFuture) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.isClosed() {
		return fmt.Errorf("%s %s: %w", what, serverID, ErrClosed)
	}
	if err := r.wait(ctx, do(timeLeft(ctx))); err != nil {
		return fmt.Errorf("%s %s: %w", what, serverID, changeError(ctx, err))
	}
	return nil
}

func changeError(ctx context.Context, err error) error {
	for _, known := range []error{
		raft.ErrNotLeader, raft.ErrLeadershipTransferInProgress, raft.ErrEnqueueTimeout, raft.ErrLeadershipLost, raft.ErrRaftShutdown,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, known) {
			return proposeError(ctx, err)
		}
	}
	return err
}

// Servers returns the members as this node knows them, in Raft's order.
func (r *Raft) Servers() ([]Server, error) {
	f := r.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	var out []Server
	for _, s := range f.Configuration().Servers {
		out = append(out, Server{ID: string(s.ID), Voter: s.Suffrage == raft.Voter})
	}
	return out, nil
}

// TransferLeadership hands leadership to serverID, or to the voter that is furthest if serverID is empty.
func (r *Raft) TransferLeadership(ctx context.Context, serverID string) error {
	if r.isClosed() {
		return fmt.Errorf("transfer leadership: %w", ErrClosed)
	}
	if !r.IsLeader() {
		return fmt.Errorf("transfer leadership: %w", ErrNotLeader)
	}
	var f raft.Future
	if serverID == "" {
		f = r.raft.LeadershipTransfer()
	} else {
		f = r.raft.LeadershipTransferToServer(raft.ServerID(serverID), raft.ServerAddress(serverID))
	}
	if err := r.wait(ctx, f); err != nil {
		return fmt.Errorf("transfer leadership to %q: %w", serverID, err)
	}
	return nil
}

// IsLeader reports whether this node believes that it leads; only [Raft.ReadIndex] asks the others.
func (r *Raft) IsLeader() bool { return r.raft.State() == raft.Leader }

// Leader returns the server ID of the leader as far as this node knows, or "".
func (r *Raft) Leader() string {
	_, id := r.raft.LeaderWithID()
	return string(id)
}

// LeaderChanges gives the newest leader ("" for none) after each change; changes that nobody took in time are merged. There is one
// channel, for one reader; it is never closed.
func (r *Raft) LeaderChanges() <-chan string { return r.changes }

// AppliedIndex returns the last entry that the local state machine is done with.
func (r *Raft) AppliedIndex() uint64 { return r.fsm.applied() }

// CommitIndex returns the last entry this node knows to be committed.
func (r *Raft) CommitIndex() uint64 { return r.raft.CommitIndex() }

// LastIndex returns the last entry in this node's log or snapshot.
func (r *Raft) LastIndex() uint64 { return r.raft.LastIndex() }

// Term returns the current term.
func (r *Raft) Term() uint64 { return r.raft.CurrentTerm() }

// LastContact returns when this node last heard from a leader; zero if never. On the leader it is now.
func (r *Raft) LastContact() time.Time {
	if r.IsLeader() {
		return time.Now()
	}
	return r.raft.LastContact()
}

// Stats returns Raft's own figures, for display only.
func (r *Raft) Stats() map[string]string { return r.raft.Stats() }

// Snapshot takes a snapshot now and cuts the log. It returns an error matching [ErrNothingNew] if there is nothing to take.
func (r *Raft) Snapshot() error {
	err := r.raft.Snapshot().Error()
	if errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("snapshot: %w", ErrNothingNew)
	}
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// SetTrailingLogs changes how many entries the next snapshot leaves, to bound the log by bytes when entries are large.
func (r *Raft) SetTrailingLogs(n uint64) error {
	rc := r.raft.ReloadableConfig()
	rc.TrailingLogs = n
	if err := r.raft.ReloadConfig(rc); err != nil {
		return fmt.Errorf("set trailing logs to %d: %w", n, err)
	}
	return nil
}

// watchLeadership drains Raft's notices, on which its loop blocks.
func (r *Raft) watchLeadership(notify <-chan bool) {
	for {
		select {
		case leading := <-notify:
			r.cfg.Logger.Info("leadership of this node changed", "centre", r.cfg.ServerID, "leading", leading)
		case <-r.stop:
			return
		}
	}
}

func (r *Raft) watchLeader(observed <-chan raft.Observation) {
	for {
		select {
		case o := <-observed:
			l, ok := o.Data.(raft.LeaderObservation)
			if !ok {
				continue
			}
			select { // only this goroutine sends: after taking the stale one there is room
			case <-r.changes:
			default:
			}
			r.changes <- string(l.LeaderID)
		case <-r.stop:
			return
		}
	}
}
