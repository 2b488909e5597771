package registry

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// DefaultCacheBytes is the block cache of a small centre's node.
const DefaultCacheBytes = 16 << 20

// Options are the settings of a [State]. None of them influences what a command does.
type Options struct {
	// CacheBytes bounds the cache of blocks read from disk, in bytes. 0 = DefaultCacheBytes.
	CacheBytes int64

	// CheckNote is asked by Admit whether a checkpoint's note is signed by the log and by enough cosigners. nil refuses
	// every checkpoint.
	CheckNote func(*registrypb.PublishCheckpoint) error
}

// State is the registry as this node has applied it. Apply is called by one goroutine at a time; every other method
// may be called concurrently with it and with each other.
type State struct {
	Reader

	pebble *pebble.DB
	dir    string
	check  func(*registrypb.PublishCheckpoint) error
	latest atomic.Pointer[meta]

	mu      sync.Mutex // guards changed, held for an instant
	changed chan struct{}

	apply applier // of the goroutine that applies
}

// applier is what applying keeps in memory: decoded values that commands ask for again and again, and the ragged edge
// of the tree. It always equals what is in the database.
type applier struct {
	objects map[string]proto.Message
	values  map[string][]byte
	edges   [treeLevels][tlog.TileWidth]edge
}

// treeLevels is how many levels of tiles a log of 2⁶³ leaves has.
const treeLevels = 8

type edge struct {
	index int64
	hash  tlog.Hash
}

// memTableBytes is what Pebble collects in memory before it writes a table.
const memTableBytes = 8 << 20

// maxCached bounds the decoded values kept by an applier.
const maxCached = 1 << 14

// Open opens the state in dir, or makes an empty one. It returns an error matching [ErrCorrupt] for a directory that
// cannot be read; a directory belongs to one State at a time.
func Open(dir string, opts Options) (*State, error) {
	return openOn(vfs.Default, dir, opts)
}

// openOn is Open on a file system of choice.
func openOn(fs vfs.FS, dir string, opts Options) (*State, error) {
	if err := fs.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open registry state: %w", err)
	}
	size := opts.CacheBytes
	if size <= 0 {
		size = DefaultCacheBytes
	}
	cache := pebble.NewCache(size + 2*memTableBytes) // Pebble takes its memtables out of the cache
	defer cache.Unref()
	db, err := pebble.Open(dir, pebbleOptions(fs, cache))
	if err != nil {
		if pebble.IsCorruptionError(err) {
			err = fmt.Errorf("%w (%w)", ErrCorrupt, err)
		}
		return nil, fmt.Errorf("open registry state %s: %w", dir, err)
	}
	s := &State{pebble: db, dir: dir, check: opts.CheckNote, changed: make(chan struct{})}
	s.Reader = Reader{db: db, gate: newGate(), head: func() meta { return *s.latest.Load() }}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open registry state %s: %w", dir, err), db.Close())
	}
	return s, nil
}

func pebbleOptions(fs vfs.FS, cache *pebble.Cache) *pebble.Options {
	o := &pebble.Options{
		FS:                 fs,
		Cache:              cache,
		FormatMajorVersion: pebble.FormatTableFormatV6, // fixed: a newer one would keep older builds from restoring
		MemTableSize:       memTableBytes,
		MaxOpenFiles:       512,
		Logger:             haltLogger{},
	}
	// Most look-ups by submission ask for an ID that is not there yet.
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// haltLogger drops Pebble's chatter. What Pebble calls fatal leaves the state unusable.
type haltLogger struct{}

func (haltLogger) Infof(string, ...any)  {}
func (haltLogger) Errorf(string, ...any) {}
func (haltLogger) Fatalf(format string, args ...any) {
	halt("database", fmt.Errorf(format, args...))
}

// halt stops the node: skipping a committed entry would fork the registry.
func halt(what string, err error) {
	panic(fmt.Sprintf("registry: %s: %v; the node stops so that no committed entry is skipped: check the disk for space and "+
		"errors and restart it, or move the state's directory away and restart to restore it from the peers", what, err))
}

func (s *State) load() error {
	m := meta{}
	b, err := read(s.pebble, key(keyMeta))
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	default:
		if m, err = decodeMeta(b); err != nil {
			return err
		}
	}
	s.latest.Store(&m)
	s.apply.reset()
	for level := range s.apply.edges {
		for slot := range s.apply.edges[level] {
			s.apply.edges[level][slot].index = -1
		}
	}
	return scan(s.pebble, key(keyEdge), nil, func(k, v []byte) (bool, error) {
		e, err := decodeEdge(v)
		if err != nil || len(k) != 3 || int(k[1]) >= treeLevels {
			return false, fmt.Errorf("edge of the log %x: %w", k, ErrCorrupt)
		}
		s.apply.edges[k[1]][k[2]] = e
		return true, nil
	})
}

func (a *applier) reset() {
	a.objects, a.values = make(map[string]proto.Message), make(map[string][]byte)
}

func (e edge) encode() []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+tlog.HashSize), uint64(e.index)), e.hash[:]...)
}

func decodeEdge(b []byte) (edge, error) {
	if len(b) != 8+tlog.HashSize {
		return edge{}, fmt.Errorf("edge of %d bytes: %w", len(b), ErrCorrupt)
	}
	return edge{int64(binary.BigEndian.Uint64(b)), tlog.Hash(b[8:])}, nil
}

// Close closes the channels of [State.Changed], waits until every reader has left and closes the directory. Readers
// that come later get [ErrClosed].
func (s *State) Close() error {
	if !s.gate.shut() {
		return nil
	}
	s.announce()
	<-s.gate.empty
	if err := s.pebble.Close(); err != nil {
		return fmt.Errorf("close registry state %s: %w", s.dir, err)
	}
	return nil
}

// Sync makes everything applied so far durable. Nothing needs it for correctness: a node that lost the tail of its
// state in a power cut gets it again from the Raft log.
func (s *State) Sync() error {
	if err := s.pebble.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("sync registry state %s: %w", s.dir, err)
	}
	return nil
}

// Changed returns a channel that is closed after the next entries were applied, or when the state is closed. To miss
// nothing, take the channel first, then read.
func (s *State) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *State) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Digest returns the SHA-256 over every key and value. Two replicas that applied the same log with the same build have
// the same. It reads everything.
func (s *State) Digest() ([32]byte, error) {
	h := sha256.New()
	var n [8]byte
	err := s.reading(func() error {
		return scan(s.db, nil, nil, func(k, v []byte) (bool, error) {
			binary.BigEndian.PutUint32(n[:], uint32(len(k)))
			binary.BigEndian.PutUint32(n[4:], uint32(len(v)))
			h.Write(n[:])
			h.Write(k)
			h.Write(v)
			return true, nil
		})
	})
	return [32]byte(h.Sum(nil)), err
}

// gate lets readers in until it is shut.
type gate struct {
	mu     sync.Mutex // guards the fields, held for an instant
	inside int
	closed bool
	empty  chan struct{} // closed when the gate is shut and the last reader has left
}

func newGate() *gate { return &gate{empty: make(chan struct{})} }

func (g *gate) enter() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	g.inside++
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.closed {
		close(g.empty)
	}
}

// shut lets nobody in any more. It returns false if the gate was shut before.
func (g *gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.closed = true
	if g.inside == 0 {
		close(g.empty)
	}
	return true
}
