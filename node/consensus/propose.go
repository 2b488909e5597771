package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// enqueueTimeout bounds how long a proposal waits for Raft's loop if ctx has no earlier end.
const enqueueTimeout = 10 * time.Second

// Propose appends data on the leader and returns what the state machine made of it, with the entry's index. Errors:
//
//   - [ErrNotLeader], [ErrBusy], [ErrTooLarge], [ErrClosed]: not appended, and never will be;
//   - [ErrOutcomeUnknown]: appended, then leadership, this node or ctx ended; with the latter the error also matches ctx's.
//
// data must not be changed afterwards.
func (r *Raft) Propose(ctx context.Context, data []byte) (result any, index uint64, err error) {
	if len(data) > MaxEntryBytes {
		return nil, 0, fmt.Errorf("propose %d bytes: %w: the limit is %d", len(data), ErrTooLarge, MaxEntryBytes)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if r.isClosed() {
		return nil, 0, fmt.Errorf("propose: %w", ErrClosed)
	}
	f := r.raft.Apply(data, timeLeft(ctx))
	if err := r.wait(ctx, f); err != nil {
		return nil, 0, fmt.Errorf("propose: %w", proposeError(ctx, err))
	}
	return f.Response(), f.Index(), nil
}

func timeLeft(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		// Raft reads 0 as "wait for ever".
		return min(max(time.Until(end), time.Millisecond), enqueueTimeout)
	}
	return enqueueTimeout
}

// wait waits for f, the end of ctx or Close: Raft does not answer everything that its queues hold when it stops.
func (r *Raft) wait(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-r.streams.ctx.Done():
		return raft.ErrRaftShutdown
	}
}

func proposeError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
		}
		return ErrBusy
	default: // leadership lost, shut down, or given up by the caller while the entry was under way
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
}

func (r *Raft) isClosed() bool {
	select {
	case <-r.streams.ctx.Done():
		return true
	default:
		return r.raft.State() == raft.Shutdown
	}
}
