package repository

import (
	"bytes"
	"cmp"
	"container/heap"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
)

// blockWriter writes sealed blocks one after another.
type blockWriter struct {
	blocks *blocks
	n      uint64 // blocks so far, the file's header included
	nonce  [12]byte
	plain  []byte // of the block that is being filled
	sealed []byte // blocks to be written
}

func newBlockWriter(b *blocks, first uint64) *blockWriter {
	return &blockWriter{blocks: b, n: first, plain: make([]byte, 0, tableRoom), sealed: make([]byte, 0, scanBlocks*tableBlockBytes)}
}

// append adds one item, which does not straddle blocks, and reports whether it began a block.
func (w *blockWriter) append(item []byte) (began bool, err error) {
	if len(w.plain)+len(item) > tableRoom {
		if err := w.end(); err != nil {
			return false, err
		}
	}
	began = len(w.plain) == 0
	w.plain = append(w.plain, item...)
	return began, nil
}

// end completes the block that is being filled, if there is one.
func (w *blockWriter) end() error {
	if len(w.plain) == 0 {
		return nil
	}
	n := len(w.plain)
	w.plain = w.plain[:tableRoom]
	clear(w.plain[n:])
	binary.BigEndian.PutUint64(w.nonce[4:], w.n)
	w.sealed = w.blocks.aead.Seal(w.sealed, w.nonce[:], w.plain, nil)
	w.plain = w.plain[:0]
	w.n++
	if len(w.sealed) == cap(w.sealed) {
		return w.flush()
	}
	return nil
}

// flush writes the blocks that are complete.
func (w *blockWriter) flush() error {
	_, err := w.blocks.f.WriteAt(w.sealed, int64(w.n)*tableBlockBytes-int64(len(w.sealed)))
	w.sealed = w.sealed[:0]
	if err != nil {
		return fmt.Errorf("%w: %w", errTable, err)
	}
	return nil
}

// source yields records in ascending order, nil at the end. A record is valid until the next call.
type source interface {
	next() (*record, error)
}

// sorter sorts more records than fit into memory: each full run is sorted and put aside, sealed under a key that only
// the sorter has, in a file that is gone with it.
type sorter struct {
	dir    string
	thin   bool // drop records that are there already, and of one blob those beyond maxPlaces
	run    []record
	max    int       // records in memory
	runs   []section // in spill
	spill  *blocks   // nil until a run was full
	writer *blockWriter
}

func newSorter(dir string, runRecords int, thin bool) *sorter {
	return &sorter{dir: dir, thin: thin, max: runRecords}
}

func (s *sorter) add(r *record) error {
	if len(s.run) == s.max {
		if err := s.putAside(); err != nil {
			return err
		}
	}
	s.run = append(s.run, *r)
	return nil
}

// close drops everything.
func (s *sorter) close() {
	s.run = nil
	if s.spill != nil {
		s.spill.f.Close()
		os.Remove(s.spill.f.Name()) // where an open file cannot be removed
		s.spill = nil
	}
}

func (s *sorter) putAside() error {
	if s.spill == nil {
		if err := s.openSpill(); err != nil {
			return err
		}
	}
	sec := section{first: s.writer.n}
	sorted := s.sorted()
	for r, _ := sorted.next(); r != nil; r, _ = sorted.next() {
		if _, err := s.writer.append(r[:]); err != nil {
			return err
		}
		sec.records++
	}
	if err := s.writer.end(); err != nil {
		return err
	}
	if err := s.writer.flush(); err != nil {
		return err
	}
	s.runs = append(s.runs, sec)
	s.run = s.run[:0]
	return nil
}

func (s *sorter) openSpill() error {
	f, err := createTemp(s.dir, spillPattern)
	if err != nil {
		return err
	}
	os.Remove(f.Name()) // nothing is left of it if the process is killed; not every system can do that
	s.spill = &blocks{f: f}
	s.spill.aead, err = randomCipher()
	if err != nil {
		return fmt.Errorf("%w: %w", errTable, err)
	}
	s.writer = newBlockWriter(s.spill, 0)
	return nil
}

func randomCipher() (cipher.AEAD, error) {
	var key [32]byte
	rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sorted yields the records in memory. None may be added meanwhile.
func (s *sorter) sorted() source {
	order := make([]sortKey, len(s.run))
	for i := range s.run {
		order[i] = sortKey{binary.BigEndian.Uint64(s.run[i][:]), uint32(i)}
	}
	slices.SortFunc(order, func(a, b sortKey) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		return bytes.Compare(s.run[a.at][8:], s.run[b.at][8:])
	})
	all := &sortedRun{records: s.run, order: order}
	if s.thin {
		return &thinned{from: all}
	}
	return all
}

// sortKey stands for a record while the records of a run are sorted, which are not moved.
type sortKey struct {
	prefix uint64
	at     uint32
}

// sortedRun yields records in a given order.
type sortedRun struct {
	records []record
	order   []sortKey
}

func (s *sortedRun) next() (*record, error) {
	if len(s.order) == 0 {
		return nil, nil
	}
	r := &s.records[s.order[0].at]
	s.order = s.order[1:]
	return r, nil
}

// thinned drops records that come again, and those of one blob beyond maxPlaces.
type thinned struct {
	from   source
	last   record
	places int // of last's blob; 0 before the first
}

func (t *thinned) next() (*record, error) {
	for {
		r, err := t.from.next()
		if r == nil || err != nil {
			return nil, err
		}
		switch {
		case t.places == 0 || !t.last.group(r):
			t.places = 1
		case t.last == *r || t.places == maxPlaces:
			continue
		default:
			t.places++
		}
		t.last = *r
		return &t.last, nil
	}
}

// sources returns all records in as many sorted sources as need be. None may be added any more.
func (s *sorter) sources() []source {
	var all []source
	ahead := min(scanBlocks, max(16, 8192/(len(s.runs)+1))) // not too much memory for many runs
	for _, sec := range s.runs {
		scan := &recordScan{blocks: s.spill, block: sec.first, left: sec.records, ahead: ahead}
		all = append(all, scan)
	}
	if len(s.run) > 0 {
		all = append(all, s.sorted())
	}
	return all
}

// merge is one sorted source made of several.
type merge struct {
	heads []mergeHead
	begun bool
}

type mergeHead struct {
	from source
	now  *record
}

func newMerge(from ...source) (*merge, error) {
	m := new(merge)
	for _, s := range from {
		r, err := s.next()
		if err != nil {
			return nil, err
		}
		if r != nil {
			m.heads = append(m.heads, mergeHead{s, r})
		}
	}
	heap.Init(m)
	return m, nil
}

func (m *merge) next() (*record, error) {
	if m.begun {
		r, err := m.heads[0].from.next()
		if err != nil {
			return nil, err
		}
		if r == nil {
			heap.Pop(m)
		} else {
			m.heads[0].now = r
			heap.Fix(m, 0)
		}
	}
	m.begun = len(m.heads) > 0
	if !m.begun {
		return nil, nil
	}
	return m.heads[0].now, nil
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (m *merge) Len() int           { return len(m.heads) }
func (m *merge) Less(i, j int) bool { return bytes.Compare(m.heads[i].now[:], m.heads[j].now[:]) < 0 }
func (m *merge) Swap(i, j int)      { m.heads[i], m.heads[j] = m.heads[j], m.heads[i] }
func (m *merge) Push(h any)         { m.heads = append(m.heads, h.(mergeHead)) }
func (m *merge) Pop() any {
	h := m.heads[len(m.heads)-1]
	m.heads = m.heads[:len(m.heads)-1]
	return h
}
