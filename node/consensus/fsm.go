package consensus

import (
	"context"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// countingFSM passes everything to the state machine and knows how far that is. Raft's own applied index says only what was handed
// to the machine's queue.
type countingFSM struct {
	inner    raft.FSM
	batching raft.BatchingFSM        // inner, or nil
	configs  raft.ConfigurationStore // inner, or nil
	durable  func() uint64

	mu      sync.Mutex    // guards the fields below, held for moments
	seen    uint64        // last entry that inner is done with
	advance chan struct{} // closed when seen grows; nil if nobody waits
}

func newCountingFSM(inner raft.FSM, durable func() uint64) *countingFSM {
	f := &countingFSM{inner: inner, durable: durable, seen: durable()}
	f.batching, _ = inner.(raft.BatchingFSM)
	f.configs, _ = inner.(raft.ConfigurationStore)
	return f
}

// Apply implements [raft.FSM]. Raft calls ApplyBatch instead.
func (f *countingFSM) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements [raft.BatchingFSM].
func (f *countingFSM) ApplyBatch(logs []*raft.Log) []any {
	var out []any
	if f.batching != nil {
		out = f.batching.ApplyBatch(logs)
	} else {
		out = make([]any, len(logs))
		for i, l := range logs {
			switch {
			case l.Type == raft.LogCommand:
				out[i] = f.inner.Apply(l)
			case l.Type == raft.LogConfiguration && f.configs != nil:
				f.configs.StoreConfiguration(l.Index, raft.DecodeConfiguration(l.Data))
			}
		}
	}
	f.reached(logs[len(logs)-1].Index)
	return out
}

// Snapshot implements [raft.FSM].
func (f *countingFSM) Snapshot() (raft.FSMSnapshot, error) { return f.inner.Snapshot() }

// Restore implements [raft.FSM].
func (f *countingFSM) Restore(rc io.ReadCloser) error {
	if err := f.inner.Restore(rc); err != nil {
		return err
	}
	f.reached(f.durable())
	return nil
}

func (f *countingFSM) reached(index uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if index > f.seen {
		f.seen = index
		if f.advance != nil {
			close(f.advance)
			f.advance = nil
		}
	}
}

func (f *countingFSM) applied() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

// wait returns once inner is done with entry index, or with ctx's or closed's error.
func (f *countingFSM) wait(ctx context.Context, closed <-chan struct{}, index uint64) error {
	for {
		f.mu.Lock()
		if f.seen >= index {
			f.mu.Unlock()
			return nil
		}
		if f.advance == nil {
			f.advance = make(chan struct{})
		}
		advance := f.advance
		f.mu.Unlock()
		select {
		case <-advance:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-closed:
			return ErrClosed
		}
	}
}
