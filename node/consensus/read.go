package consensus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// readGroup lets reads that arrive while a majority is being asked share the next question.
type readGroup struct {
	mu      sync.Mutex // guards the rest, held for moments
	closed  bool
	running bool
	next    *readRound
}

type readRound struct {
	done  chan struct{}
	index uint64
	err   error
}

// ReadIndex returns an index such that a reader who waits for it (here or on any member: [Raft.WaitApplied]) sees everything that was
// committed when ReadIndex was called. It asks a majority whether this node still leads: [ErrNotLeader] if not.
func (r *Raft) ReadIndex(ctx context.Context) (uint64, error) {
	g := &r.reads
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return 0, fmt.Errorf("read index: %w", ErrClosed)
	}
	if g.next == nil {
		g.next = &readRound{done: make(chan struct{})}
	}
	round := g.next
	if !g.running {
		g.running = true
		r.wg.Go(r.answerReads)
	}
	g.mu.Unlock()
	select {
	case <-round.done:
		return round.index, round.err
	case <-ctx.Done():
		return 0, fmt.Errorf("read index: %w", ctx.Err())
	}
}

// answerReads answers rounds until none waits. A round is closed to newcomers before its question is asked.
func (r *Raft) answerReads() {
	g := &r.reads
	for {
		g.mu.Lock()
		round := g.next
		g.next = nil
		if round == nil {
			g.running = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		round.index, round.err = r.readIndex()
		close(round.done)
	}
}

func (r *Raft) readIndex() (uint64, error) {
	ctx := context.Background() // a round serves many readers; Close ends it
	term := r.raft.CurrentTerm()
	if r.raft.State() != raft.Leader {
		return 0, fmt.Errorf("read index: %w", ErrNotLeader)
	}
	// A new leader does not know what its predecessors committed until an entry of its own term is.
	if r.readyTerm.Load() != term {
		if err := r.wait(ctx, r.raft.Barrier(enqueueTimeout)); err != nil {
			return 0, fmt.Errorf("read index: %w", readError(err))
		}
		if r.raft.CurrentTerm() != term {
			return 0, fmt.Errorf("read index: %w", ErrNotLeader)
		}
		r.readyTerm.Store(term)
	}
	index := r.raft.CommitIndex()
	if err := r.wait(ctx, r.raft.VerifyLeader()); err != nil {
		return 0, fmt.Errorf("read index: %w", readError(err))
	}
	if r.raft.CurrentTerm() != term {
		return 0, fmt.Errorf("read index: %w", ErrNotLeader)
	}
	return r.visible(index)
}

// visible returns the last entry up to index that state machines are handed; they never see the rest, and a reader would wait for
// ever.
func (r *Raft) visible(index uint64) (uint64, error) {
	for ; index > r.fsm.applied(); index-- {
		var l raft.Log
		err := r.store.GetLog(index, &l)
		if errors.Is(err, raft.ErrLogNotFound) {
			return r.fsm.applied(), nil // all before is in a snapshot that this node has
		}
		if err != nil {
			return 0, fmt.Errorf("read index: %w", err)
		}
		if l.Type == raft.LogCommand || l.Type == raft.LogConfiguration {
			return index, nil
		}
	}
	return index, nil
}

func readError(err error) error {
	switch {
	case errors.Is(err, raft.ErrRaftShutdown):
		return ErrClosed
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrBusy
	default:
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
}

// WaitApplied returns once the local state machine is done with entry index: an index that [Raft.ReadIndex] or [Raft.Propose] gave.
func (r *Raft) WaitApplied(ctx context.Context, index uint64) error {
	for {
		again, cancel := context.WithTimeout(ctx, restoredCheck)
		err := r.fsm.wait(again, r.streams.ctx.Done(), index)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || errors.Is(err, ErrClosed) {
			return fmt.Errorf("wait for entry %d, at %d: %w", index, r.fsm.applied(), err)
		}
		r.fsm.reached(r.snapshotIndex())
	}
}

// restoredCheck is how often a waiting reader looks whether a snapshot brought the entry: what a snapshot says of its end (Applied)
// may leave out the last entries, which were none for the state machine.
const restoredCheck = 250 * time.Millisecond

// snapshotIndex returns the newest snapshot's index. Raft sets it after the state machine has made or restored that snapshot.
func (r *Raft) snapshotIndex() uint64 {
	n, err := strconv.ParseUint(r.raft.Stats()["last_snapshot_index"], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
