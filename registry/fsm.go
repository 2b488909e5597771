package registry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// FSM gives a [State] to hashicorp/raft. Its directory holds the state in a directory of its own, named by a pointer
// file, so that a restored state takes the old one's place at once or not at all.
type FSM struct {
	dir  string
	opts Options

	state   atomic.Pointer[State]
	last    uint64         // highest number given to a state's directory; of Raft's FSM goroutine
	copies  uint64         // snapshots taken; of Raft's FSM goroutine
	retired sync.WaitGroup // replaced states that are waiting for their readers

	mu       sync.Mutex // guards replaced, held for an instant
	replaced []error    // what went wrong when old states were closed
}

var (
	_ raft.FSM         = (*FSM)(nil)
	_ raft.BatchingFSM = (*FSM)(nil)
)

const (
	pointerFile    = "CURRENT_STATE"
	statePrefix    = "state-"
	snapshotPrefix = "snapshot-"
)

// NewFSM opens the state under dir, or makes an empty one, and removes what an interrupted restore or snapshot left.
func NewFSM(dir string, opts Options) (*FSM, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	f := &FSM{dir: dir, opts: opts, last: 1}
	name, err := os.ReadFile(filepath.Join(dir, pointerFile))
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	if !fresh {
		if f.last, err = parseStateName(strings.TrimSuffix(string(name), "\n")); err != nil {
			return nil, fmt.Errorf("open registry: %s: %w", filepath.Join(dir, pointerFile), err)
		}
	}
	if err := f.sweep(); err != nil {
		return nil, fmt.Errorf("open registry: %w", err)
	}
	if fresh { // the pointer comes before the state that it names
		if err := writePointer(dir, stateName(f.last)); err != nil {
			return nil, fmt.Errorf("open registry: %w", err)
		}
	}
	s, err := Open(filepath.Join(dir, stateName(f.last)), opts)
	if err != nil {
		return nil, err
	}
	f.state.Store(s)
	return f, nil
}

func stateName(n uint64) string { return fmt.Sprintf("%s%06d", statePrefix, n) }

func parseStateName(name string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(name, statePrefix), 10, 63)
	if err != nil || stateName(n) != name {
		return 0, fmt.Errorf("%.80q names no state: %w", name, ErrCorrupt)
	}
	return n, nil
}

// writePointer makes name the current state, durably.
func writePointer(dir, name string) (err error) {
	path := filepath.Join(dir, pointerFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteString(name + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(dir)
}

// sweep removes states and snapshots that the pointer does not name. If the state that it names is missing beside
// others, a person has moved something, and nothing is removed.
func (f *FSM) sweep() error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	found, others := false, []string(nil)
	for _, e := range entries {
		switch name := e.Name(); {
		case name == stateName(f.last):
			found = true
		case strings.HasPrefix(name, statePrefix), strings.HasPrefix(name, snapshotPrefix):
			others = append(others, name)
		}
	}
	if !found && slices.ContainsFunc(others, func(name string) bool { return strings.HasPrefix(name, statePrefix) }) {
		return fmt.Errorf("%s names %s, which is missing beside %v: %w", filepath.Join(f.dir, pointerFile), stateName(f.last), others, ErrCorrupt)
	}
	for _, name := range others {
		if err := os.RemoveAll(filepath.Join(f.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// State returns the current state. Ask again after [ErrClosed]: a restore has put another in its place.
func (f *FSM) State() *State { return f.state.Load() }

// AppliedIndex returns the index of the last entry in the state. A node whose newest snapshot was taken at M starts
// Raft with NoSnapshotRestoreOnStart if AppliedIndex is at least [SnapshotIndex] of it, restores if it is less, and
// must not start if it is beyond the last index of Raft's log and snapshots.
func (f *FSM) AppliedIndex() uint64 { return f.State().Applied() }

// Close closes the state, once every reader has left. Raft must have been shut down.
func (f *FSM) Close() error {
	err := f.State().Close()
	f.retired.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(append(f.replaced, err)...)
}

// Apply implements [raft.FSM]. Its value is a []Result, one for each command of the entry.
func (f *FSM) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements [raft.BatchingFSM]. A value is a []Result, or nil for an entry without commands and for one
// that had been applied before.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	entries := make([]LogEntry, len(logs))
	for i, l := range logs {
		entries[i] = LogEntry{Index: l.Index, Data: l.Data, Configuration: l.Type != raft.LogCommand}
	}
	out := make([]any, len(logs))
	for i, results := range f.State().Apply(entries) {
		if results != nil {
			out[i] = results
		}
	}
	return out
}

// Snapshot implements [raft.FSM]: it links the state's files, so that Persist can stream them while entries are applied.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	f.copies++
	dir := filepath.Join(f.dir, fmt.Sprintf("%s%06d", snapshotPrefix, f.copies))
	applied, err := f.State().Checkpoint(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &snapshot{dir: dir, applied: applied}, nil
}

type snapshot struct {
	dir     string
	applied uint64
}

// Persist implements [raft.FSMSnapshot].
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := WriteSnapshot(sink, s.dir, s.applied); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

// Release implements [raft.FSMSnapshot]. What it cannot remove goes at the next start.
func (s *snapshot) Release() { _ = os.RemoveAll(s.dir) }

// Restore implements [raft.FSM]. Until the stream was read, checked and synced, the old state stays. Raft closes r.
func (f *FSM) Restore(r io.ReadCloser) error {
	f.last++ // never a number that the pointer may name already
	dir := filepath.Join(f.dir, stateName(f.last))
	fresh, err := openSnapshot(r, dir, f.opts)
	if err != nil {
		return errors.Join(fmt.Errorf("restore registry: %w", err), os.RemoveAll(dir))
	}
	if err := writePointer(f.dir, stateName(f.last)); err != nil {
		// Which state the next start takes is not known now, but both are whole.
		return errors.Join(fmt.Errorf("restore registry: %w", err), fresh.Close())
	}
	old := f.state.Swap(fresh)
	f.retired.Go(func() {
		if err := errors.Join(old.Close(), os.RemoveAll(old.dir)); err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.replaced = append(f.replaced, err)
		}
	})
	return nil
}

// openSnapshot reads a snapshot into dir and opens it.
func openSnapshot(r io.Reader, dir string, opts Options) (*State, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	applied, err := ReadSnapshot(r, dir)
	if err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	s, err := Open(dir, opts)
	if err != nil {
		return nil, err
	}
	if s.Applied() != applied {
		return nil, errors.Join(fmt.Errorf("snapshot says entry %d, its state %d: %w", applied, s.Applied(), ErrCorrupt), s.Close())
	}
	return s, nil
}
