package registry

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// tx collects what a batch of entries changes. Reads see the writes before them. Errors of the database halt.
type tx struct {
	s     *State
	batch *pebble.Batch
	fresh map[string][]byte // written in this batch; nil = deleted
	meta  meta
	net   *registrypb.Network // nil before the founding

	leaves   [][]byte // registered, not yet in the tree
	treeSize int64    // leaves in the tree
}

func (s *State) begin() *tx {
	if len(s.apply.objects)+len(s.apply.values) > maxCached {
		s.apply.reset()
	}
	t := &tx{s: s, batch: s.pebble.NewBatch(), fresh: make(map[string][]byte), meta: *s.latest.Load()}
	t.treeSize = int64(t.meta.size)
	t.net, _ = load(t, key(keyNetwork), &registrypb.Network{})
	return t
}

// commit writes everything and the head at once. No sync: see State.Sync.
func (t *tx) commit() {
	t.growTree()
	t.write(key(keyMeta), t.meta.encode())
	if err := t.s.pebble.Apply(t.batch, pebble.NoSync); err != nil {
		halt("write a batch of entries", err)
	}
	if err := t.batch.Close(); err != nil {
		halt("write a batch of entries", err)
	}
	m := t.meta
	t.s.latest.Store(&m)
	t.s.announce()
}

// write sets a key that applying never reads again.
func (t *tx) write(k, v []byte) {
	if err := t.batch.Set(k, v, nil); err != nil {
		halt("write a batch of entries", err)
	}
}

// set sets a key that later commands of the batch may read.
func (t *tx) set(k, v []byte) {
	t.write(k, v)
	t.fresh[string(k)] = v
}

func (t *tx) remove(k []byte) {
	if err := t.batch.Delete(k, nil); err != nil {
		halt("write a batch of entries", err)
	}
	t.fresh[string(k)] = nil
}

func (t *tx) get(k []byte) ([]byte, bool) {
	if v, ok := t.fresh[string(k)]; ok {
		return v, v != nil
	}
	v, err := read(t.s.pebble, k)
	if errors.Is(err, ErrNotFound) {
		return nil, false
	}
	if err != nil {
		halt("read the state", err)
	}
	return v, true
}

func (t *tx) has(k []byte) bool {
	_, ok := t.get(k)
	return ok
}

// value is get with a cache, for small values that are asked for often.
func (t *tx) value(k []byte) ([]byte, bool) {
	if v, ok := t.s.apply.values[string(k)]; ok {
		return v, true
	}
	v, ok := t.get(k)
	if ok {
		t.s.apply.values[string(k)] = v
	}
	return v, ok
}

func (t *tx) setValue(k, v []byte) {
	t.write(k, v)
	t.s.apply.values[string(k)] = v
}

// load returns the message at k. It is shared: change a clone.
func load[T proto.Message](t *tx, k []byte, into T) (T, bool) {
	if m, ok := t.s.apply.objects[string(k)]; ok {
		return m.(T), true
	}
	var none T
	v, ok := t.get(k)
	if !ok {
		return none, false
	}
	if err := proto.Unmarshal(v, into); err != nil {
		halt("read the state", err)
	}
	t.s.apply.objects[string(k)] = into
	return into, true
}

// store writes a message, which now belongs to the state.
func (t *tx) store(k []byte, m proto.Message) {
	t.write(k, marshal(m))
	t.s.apply.objects[string(k)] = m
}

func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		halt("encode a value", err)
	}
	return b
}

// growTree puts the waiting leaves into the tree.
func (t *tx) growTree() {
	if len(t.leaves) == 0 {
		return
	}
	up, size, err := tlog.Append(applyStore{t}, t.treeSize, t.leaves)
	if err != nil {
		halt("append to the log", err)
	}
	for _, tile := range up.Tiles {
		t.set(tileKey(tile.Level, tile.N), tile.Data)
	}
	for _, e := range up.Edges {
		slot := edge{e.Index, e.Hash}
		t.write(edgeKey(e.Level, e.Index), slot.encode())
		t.s.apply.edges[e.Level][e.Index%tlog.TileWidth] = slot
	}
	t.treeSize, t.leaves = size, t.leaves[:0]
}

// applyStore is the tree as the batch has grown it.
type applyStore struct{ t *tx }

// Tile implements [tlog.Store].
func (s applyStore) Tile(level int, n int64) ([]byte, error) {
	if v, ok := s.t.get(tileKey(level, n)); ok {
		return v, nil
	}
	return nil, tlog.ErrNotStored
}

// Edge implements [tlog.Store].
func (s applyStore) Edge(level int, index int64) (tlog.Hash, error) {
	if e := s.t.s.apply.edges[level][index%tlog.TileWidth]; e.index == index {
		return e.hash, nil
	}
	return tlog.Hash{}, tlog.ErrNotStored
}

// link extends the chain by the outcome of one command: its entry and place, whether it was refused, and what time,
// size of the log and serial it left behind.
func (t *tx) link(index uint64, place int, r Result) {
	b := append(make([]byte, 0, 32+8+4+2+1+3*8), t.meta.chain[:]...)
	b = binary.BigEndian.AppendUint64(b, index)
	b = binary.BigEndian.AppendUint32(b, uint32(place))
	b = binary.BigEndian.AppendUint16(b, uint16(r.Reject))
	existing := byte(0)
	if r.Existing {
		existing = 1
	}
	b = append(b, existing)
	b = binary.BigEndian.AppendUint64(b, uint64(t.meta.now))
	b = binary.BigEndian.AppendUint64(b, t.meta.size)
	b = binary.BigEndian.AppendUint64(b, t.meta.serial)
	t.meta.chain = sha256.Sum256(b)
}
