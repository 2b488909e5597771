package registry

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"dengbei/registry/tlog"
)

// Reader answers questions. The Reader inside a [State] sees the newest state; one from [State.View] sees one moment.
// Every method is consistent in itself, and returns an error matching [ErrNotFound] for what is not registered and
// [ErrClosed] once the state was closed.
type Reader struct {
	db   pebble.Reader
	gate *gate
	head func() meta
}

// View is a Reader of one moment of the state. It must be closed, soon: it keeps old data on disk, and a state waits
// for its views before it closes.
type View struct {
	Reader
	snapshot *pebble.Snapshot
}

// View returns a reader of the state as it is now.
func (s *State) View() (*View, error) {
	if err := s.gate.enter(); err != nil {
		return nil, err
	}
	snap := s.pebble.NewSnapshot()
	v := &View{snapshot: snap}
	m := meta{}
	b, err := read(snap, key(keyMeta))
	if err == nil {
		m, err = decodeMeta(b)
	} else if errors.Is(err, ErrNotFound) {
		err = nil
	}
	if err != nil {
		s.gate.leave()
		return nil, errors.Join(fmt.Errorf("view of the registry: %w", err), snap.Close())
	}
	v.Reader = Reader{db: snap, gate: s.gate, head: func() meta { return m }}
	return v, nil
}

// Close releases the view. It must be called once.
func (v *View) Close() error {
	err := v.snapshot.Close()
	v.gate.leave()
	if err != nil {
		return fmt.Errorf("close view of the registry: %w", err)
	}
	return nil
}

// reading runs f while the state is open.
func (r *Reader) reading(f func() error) error {
	if err := r.gate.enter(); err != nil {
		return err
	}
	defer r.gate.leave()
	return f()
}

// read returns a copy of the value at k, or an error matching ErrNotFound.
func read(db pebble.Reader, k []byte) ([]byte, error) {
	v, closer, err := db.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", k, err)
	}
	v = slices.Clone(v)
	if err := closer.Close(); err != nil {
		return nil, fmt.Errorf("read %q: %w", k, err)
	}
	return v, nil
}

// scan calls f for the keys that begin with prefix, from the key from on (nil = the first), until f returns false.
func scan(db pebble.Reader, prefix, from []byte, f func(k, v []byte) (bool, error)) (err error) {
	o := &pebble.IterOptions{LowerBound: prefix}
	if len(prefix) > 0 {
		o.UpperBound = prefixEnd(prefix)
	}
	if from != nil {
		o.LowerBound = from
	}
	it, err := db.NewIter(o)
	if err != nil {
		return fmt.Errorf("scan %q: %w", prefix, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		more, err := f(it.Key(), it.Value())
		if err != nil || !more {
			return err
		}
	}
	return it.Error()
}

// decode reads a stored message.
func decode[T proto.Message](what string, b []byte, into T) (T, error) {
	if err := proto.Unmarshal(b, into); err != nil {
		return into, fmt.Errorf("%s: %w (%w)", what, ErrCorrupt, err)
	}
	return into, nil
}

// one reads the message at k.
func one[T proto.Message](r *Reader, what string, k []byte, into T) (T, error) {
	var none T
	var b []byte
	err := r.reading(func() (err error) { b, err = read(r.db, k); return err })
	if err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	if into, err = decode(what, b, into); err != nil {
		return none, err
	}
	return into, nil
}

// list reads the messages whose keys begin with prefix, in key order, that keep accepts.
func list[T proto.Message](r *Reader, what string, prefix []byte, fresh func() T, keep func(T) bool) ([]T, error) {
	var out []T
	err := r.reading(func() error {
		return scan(r.db, prefix, nil, func(_, v []byte) (bool, error) {
			m, err := decode(what, v, fresh())
			if err == nil && (keep == nil || keep(m)) {
				out = append(out, m)
			}
			return true, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return out, nil
}

// treeStore reads the log's tree for package tlog.
type treeStore struct{ db pebble.Reader }

// Tile implements [tlog.Store].
func (s treeStore) Tile(level int, n int64) ([]byte, error) {
	b, err := read(s.db, tileKey(level, n))
	if errors.Is(err, ErrNotFound) {
		return nil, tlog.ErrNotStored
	}
	return b, err
}

// Edge implements [tlog.Store].
func (s treeStore) Edge(level int, index int64) (tlog.Hash, error) {
	b, err := read(s.db, edgeKey(level, index))
	if errors.Is(err, ErrNotFound) {
		return tlog.Hash{}, tlog.ErrNotStored
	}
	if err != nil {
		return tlog.Hash{}, err
	}
	e, err := decodeEdge(b)
	if err == nil && e.index != index {
		err = tlog.ErrNotStored
	}
	return e.hash, err
}

func tileKey(level int, n int64) []byte { return key(keyTile, byte(level), uint64(n)) }

func edgeKey(level int, index int64) []byte {
	return key(keyEdge, byte(level), byte(index%tlog.TileWidth))
}
