package chunktest

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync/atomic"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// Op is a call on a store of files.
type Op string

// The calls. Write, Sum and Commit are those of a staged file, Read those of an open one.
const (
	OpPut       Op = "put"
	OpStage     Op = "stage"
	OpWrite     Op = "write"
	OpCommit    Op = "commit"
	OpOpen      Op = "open"
	OpRead      Op = "read"
	OpReadRange Op = "read range"
	OpList      Op = "list"
	OpRemove    Op = "remove"
)

// Call is one call on a [Faulty].
type Call struct {
	N    int // calls before this one
	Op   Op
	Name chunkstore.Name // without ID where that is not known yet
}

// Changes reports whether the call may change what is stored.
func (c Call) Changes() bool {
	return c.Op == OpPut || c.Op == OpStage || c.Op == OpWrite || c.Op == OpCommit || c.Op == OpRemove
}

// Fault is what becomes of a call. The zero Fault is none.
type Fault struct {
	// Wait holds the call up until it is closed, or the call's context ends. Staged files have no context.
	Wait <-chan struct{}

	// Err is what the call gives, without having been carried out.
	Err error

	// Done has the call carried out first, and then reported failed: the answer was lost.
	Done bool

	// Torn has half of the call carried out first: half the bytes written or read, half the files listed. A call that is
	// all or nothing is not carried out.
	Torn bool
}

// Faulty passes calls on to another store and has those fail that it is told to. Without a fault it passes [TestFiles]
// wherever the other store does.
type Faulty struct {
	// Files is the other store.
	Files repository.Files

	// Decide says what becomes of a call; nil means that nothing fails. It may be called concurrently.
	Decide func(Call) Fault

	calls atomic.Int64
}

var _ repository.Files = (*Faulty)(nil)

// Calls returns how many calls there were.
func (f *Faulty) Calls() int { return int(f.calls.Load()) }

// decide counts a call, waits where that is the fault, and returns it.
func (f *Faulty) decide(ctx context.Context, op Op, name chunkstore.Name) Fault {
	c := Call{N: int(f.calls.Add(1)) - 1, Op: op, Name: name}
	if f.Decide == nil {
		return Fault{}
	}
	fault := f.Decide(c)
	if fault.Err != nil {
		fault.Err = fmt.Errorf("call %d, %s %s: %w", c.N, op, name, fault.Err)
	}
	if fault.Wait != nil {
		select {
		case <-fault.Wait:
		case <-ctx.Done():
			return Fault{Err: ctx.Err()}
		}
	}
	return fault
}

// Put implements [repository.Files].
func (f *Faulty) Put(ctx context.Context, name chunkstore.Name, r io.Reader) (int64, error) {
	fault := f.decide(ctx, OpPut, name)
	if fault.Err != nil && !fault.Done {
		return 0, fault.Err
	}
	n, err := f.Files.Put(ctx, name, r)
	if fault.Err != nil {
		return 0, fault.Err
	}
	return n, err
}

// Stage implements [repository.Files].
func (f *Faulty) Stage(kind chunkstore.Kind) (chunkstore.Staged, error) {
	if fault := f.decide(context.Background(), OpStage, chunkstore.Name{Kind: kind}); fault.Err != nil {
		return nil, fault.Err // a file that nobody holds cannot have been begun
	}
	s, err := f.Files.Stage(kind)
	if err != nil {
		return nil, err
	}
	return &faultyStaged{s, f, chunkstore.Name{Kind: kind}}, nil
}

type faultyStaged struct {
	staged chunkstore.Staged
	faulty *Faulty
	name   chunkstore.Name
}

func (s *faultyStaged) Sum() digest.Digest { return s.staged.Sum() }

func (s *faultyStaged) SizeBytes() int64 { return s.staged.SizeBytes() }

func (s *faultyStaged) Abort() { s.staged.Abort() }

func (s *faultyStaged) Write(b []byte) (int, error) {
	fault := s.faulty.decide(context.Background(), OpWrite, s.name)
	switch {
	case fault.Err == nil:
		return s.staged.Write(b)
	case fault.Torn:
		b = b[:len(b)/2]
	case !fault.Done:
		return 0, fault.Err
	}
	n, err := s.staged.Write(b)
	if err == nil {
		err = fault.Err
	}
	return n, err
}

func (s *faultyStaged) Commit() (chunkstore.Entry, error) {
	fault := s.faulty.decide(context.Background(), OpCommit, s.name)
	if fault.Err != nil && !fault.Done {
		s.staged.Abort()
		return chunkstore.Entry{}, fault.Err
	}
	e, err := s.staged.Commit()
	if fault.Err != nil {
		return chunkstore.Entry{}, fault.Err
	}
	return e, err
}

// Open implements [repository.Files].
func (f *Faulty) Open(ctx context.Context, name chunkstore.Name) (io.ReadCloser, error) {
	if fault := f.decide(ctx, OpOpen, name); fault.Err != nil {
		return nil, fault.Err
	}
	r, err := f.Files.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &faultyReader{r, ctx, f, name}, nil
}

type faultyReader struct {
	io.ReadCloser
	ctx    context.Context
	faulty *Faulty
	name   chunkstore.Name
}

func (r *faultyReader) Read(b []byte) (int, error) {
	fault := r.faulty.decide(r.ctx, OpRead, r.name)
	if fault.Err == nil {
		return r.ReadCloser.Read(b)
	}
	if !fault.Torn {
		return 0, fault.Err
	}
	n, _ := r.ReadCloser.Read(b[:len(b)/2])
	return n, fault.Err
}

// ReadRange implements [repository.Files].
func (f *Faulty) ReadRange(ctx context.Context, name chunkstore.Name, off int64, buf []byte) error {
	fault := f.decide(ctx, OpReadRange, name)
	if fault.Err == nil {
		return f.Files.ReadRange(ctx, name, off, buf)
	}
	if fault.Torn {
		_ = f.Files.ReadRange(ctx, name, off, buf[:len(buf)/2]) // the fault is what is reported
	}
	return fault.Err
}

// List implements [repository.Files].
func (f *Faulty) List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error] {
	return func(yield func(chunkstore.Entry, error) bool) {
		fault := f.decide(ctx, OpList, chunkstore.Name{Kind: kind})
		if fault.Err == nil {
			f.Files.List(ctx, kind)(yield)
			return
		}
		if fault.Torn {
			var all []chunkstore.Entry
			for e, err := range f.Files.List(ctx, kind) {
				if err == nil {
					all = append(all, e)
				}
			}
			for _, e := range all[:len(all)/2] {
				if !yield(e, nil) {
					return
				}
			}
		}
		yield(chunkstore.Entry{}, fault.Err)
	}
}

// Remove implements [repository.Files].
func (f *Faulty) Remove(ctx context.Context, name chunkstore.Name) error {
	fault := f.decide(ctx, OpRemove, name)
	if fault.Err != nil && !fault.Done {
		return fault.Err
	}
	err := f.Files.Remove(ctx, name)
	if fault.Err != nil {
		return fault.Err
	}
	return err
}
