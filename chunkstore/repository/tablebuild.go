package repository

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	tableName     = "index.table"
	tableTemp     = "index.table.*.tmp"
	spillPattern  = "index.spill.*.tmp"
	staleAfter    = time.Hour // a temporary file that nobody has written to for so long has no process any more
	packRunBlocks = 1 << 16
)

// tableBuilder makes a table file of what index files say. Up to runRecords blobs stay in memory; beyond that it takes
// temporary files in dir, about as large as the table itself.
type tableBuilder struct {
	dir    string
	secret *secret

	mu    sync.Mutex
	blobs *sorter
	packs *sorter // with the numbers that blobs have
	n     uint32  // packs
}

func newTableBuilder(dir string, s *secret, runRecords int) *tableBuilder {
	return &tableBuilder{dir: dir, secret: s, blobs: newSorter(dir, runRecords, true), packs: newSorter(dir, packRunBlocks, false)}
}

func (b *tableBuilder) close() {
	b.blobs.close()
	b.packs.close()
}

// spilled reports whether there are more blobs than fit into memory.
func (b *tableBuilder) spilled() bool { return b.blobs.spill != nil || b.packs.spill != nil }

// addFile enters what an index file says. It may be called concurrently.
func (b *tableBuilder) addFile(f *IndexFile) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range f.Packs {
		if err := b.addPack(&f.Packs[i]); err != nil {
			return err
		}
	}
	for i := range f.PacksToDelete {
		if err := b.mark(f.PacksToDelete[i].ID, f.PacksToDelete[i].Time); err != nil {
			return err
		}
	}
	return nil
}

// addPack is called by one goroutine at a time, like mark.
func (b *tableBuilder) addPack(p *IndexedPack) error {
	if len(p.Blobs) == 0 {
		return nil
	}
	n, err := b.number(p.ID, func(*record) {})
	if err != nil {
		return err
	}
	for i := range p.Blobs {
		r := blobRecord(&p.Blobs[i], n)
		if err := b.blobs.add(&r); err != nil {
			return err
		}
	}
	return nil
}

// mark enters a pack to be deleted since at.
func (b *tableBuilder) mark(pack ID, at time.Time) error {
	_, err := b.number(pack, func(r *record) { r.mark(at) })
	return err
}

// number enters a pack. A pack that is entered several times has several numbers until the table is written.
func (b *tableBuilder) number(pack ID, change func(*record)) (uint32, error) {
	if b.n == maxTablePacks {
		return 0, fmt.Errorf("%w: more than %d packs", errTable, b.n)
	}
	r := packRecord(pack, b.n)
	change(&r)
	if err := b.packs.add(&r); err != nil {
		return 0, err
	}
	b.n++
	return b.n - 1, nil
}

// moveTo enters what was added into t. Nothing has been spilled.
func (b *tableBuilder) moveTo(t *table) {
	var blobs []PackedBlob
	for run := b.blobs.run; len(run) > 0; {
		n := run[0].pack()
		blobs = blobs[:0]
		for len(run) > 0 && run[0].pack() == n {
			blobs = append(blobs, run[0].blob())
			run = run[1:]
		}
		t.addPack(*b.packs.run[n].id(), blobs)
	}
	for i := range b.packs.run {
		if at, marked := b.packs.run[i].markedSince(); marked {
			t.mark(*b.packs.run[i].id(), at)
		}
	}
}

// write makes the table file of what was added and of all that old has, unless old is nil, and opens it. covers are the
// index files that this comes from. The file is durable and takes the place of the one before in one step.
func (b *tableBuilder) write(ctx context.Context, old *tableFile, covers []ID) (_ *tableFile, err error) {
	f, err := createTemp(b.dir, tableTemp)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := tableWriter{ctx: ctx, b: b, old: old}
	if err := w.write(f, covers); err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, tableName)
	for _, step := range []func() error{
		f.Sync, f.Close,
		func() error { return os.Rename(f.Name(), path) },
		func() error { return syncDirectory(b.dir) },
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("%w: %w", errTable, err)
		}
	}
	return openTable(path, b.secret)
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeStale removes what killed processes left in dir.
func removeStale(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // then there is nothing that could be removed
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), "index.") || !strings.HasSuffix(e.Name(), ".tmp") || time.Since(info.ModTime()) < staleAfter {
			continue
		}
		os.Remove(filepath.Join(dir, e.Name()))
	}
}

// tableWriter writes one table file.
type tableWriter struct {
	ctx context.Context
	b   *tableBuilder
	old *tableFile

	blocks   *blocks
	out      *blockWriter
	counts   [3]uint64 // packs, blobs, index files
	fences   []byte
	newPacks []uint32 // final positions by the builder's numbers
	oldPacks []uint32 // by positions in old
	ticks    int
}

func (w *tableWriter) write(f *os.File, covers []ID) error {
	header := make([]byte, tableBlockBytes)
	rand.Read(header[copy(header, tableMagic):][:32])
	w.blocks = &blocks{f: f}
	var err error
	if w.blocks.aead, err = w.b.secret.tableCipher(header); err != nil {
		return fmt.Errorf("%w: %w", errTable, err)
	}
	if _, err := f.Write(header); err != nil {
		return fmt.Errorf("%w: %w", errTable, err)
	}
	w.out = newBlockWriter(w.blocks, 1)
	if err := w.writePacks(); err != nil {
		return err
	}
	if err := w.writeBlobs(); err != nil {
		return err
	}
	for _, id := range slices.SortedFunc(slices.Values(covers), func(a, b ID) int { return bytes.Compare(a[:], b[:]) }) {
		r := packRecord(id, 0)
		if err := w.record(2, &r); err != nil {
			return err
		}
	}
	if err := w.out.end(); err != nil {
		return err
	}
	for ; len(w.fences) > 0; w.fences = w.fences[8:] {
		if _, err := w.out.append(w.fences[:8]); err != nil {
			return err
		}
	}
	if err := w.out.end(); err != nil {
		return err
	}
	var last []byte
	for _, n := range w.counts {
		last = binary.BigEndian.AppendUint64(last, n)
	}
	if _, err := w.out.append(last); err != nil {
		return err
	}
	if err := w.out.end(); err != nil {
		return err
	}
	return w.out.flush()
}

// record appends to a section.
func (w *tableWriter) record(section int, r *record) error {
	if w.ticks++; w.ticks%(1<<14) == 0 && w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	began, err := w.out.append(r[:])
	if began {
		w.fences = append(w.fences, r[:8]...)
	}
	w.counts[section]++
	return err
}

// writePacks gives every pack its position: it is marked only if nobody lists it as in use, since the latest mark.
func (w *tableWriter) writePacks() error {
	w.newPacks = make([]uint32, w.b.n)
	from := w.b.packs.sources()
	if w.old != nil {
		w.oldPacks = make([]uint32, w.old.packs.records)
		from = append(from, &numbered{from: w.old.scan(&w.old.packs, 0), first: w.b.n})
	}
	m, err := newMerge(from...)
	if err != nil {
		return err
	}
	var now record
	begun := false
	for {
		r, err := m.next()
		if err != nil {
			return err
		}
		if w.counts[0] == maxTablePacks {
			return fmt.Errorf("%w: more than %d packs", errTable, maxTablePacks)
		}
		if begun && (r == nil || *r.id() != *now.id()) {
			now.put32(32, 0)
			if err := w.record(0, &now); err != nil {
				return err
			}
		}
		if r == nil {
			return w.out.end()
		}
		if !begun || *r.id() != *now.id() {
			now, begun = *r, true
		} else if since, marked := now.markedSince(); marked {
			if at, again := r.markedSince(); !again || at.After(since) {
				now = *r
			}
		}
		if n := r.u32(32); n < w.b.n {
			w.newPacks[n] = uint32(w.counts[0])
		} else {
			w.oldPacks[n-w.b.n] = uint32(w.counts[0])
		}
	}
}

// numbered gives the packs of a table numbers, one after another.
type numbered struct {
	from  source
	first uint32
	now   record
}

func (n *numbered) next() (*record, error) {
	r, err := n.from.next()
	if r == nil || err != nil {
		return nil, err
	}
	n.now = *r
	n.now.put32(32, n.first)
	n.first++
	return &n.now, nil
}

// renumbered gives blobs the final positions of their packs. What belongs to one blob is put in order again.
type renumbered struct {
	from  source
	packs []uint32
	ahead record // the first record of the next blob
	more  bool   // ahead is one
	ready []record
	at    int
}

func newRenumbered(from source, packs []uint32) (*renumbered, error) {
	r := &renumbered{from: from, packs: packs}
	return r, r.pull()
}

// pull gets the next record into ahead.
func (n *renumbered) pull() error {
	r, err := n.from.next()
	n.more = r != nil && err == nil
	if n.more {
		if int(r.pack()) >= len(n.packs) {
			return fmt.Errorf("%w: blob in pack %d of %d", errDamaged, r.pack(), len(n.packs))
		}
		n.ahead = *r
		n.ahead.put32(32, r.u32(32)&topBit|n.packs[r.pack()])
	}
	return err
}

func (n *renumbered) next() (*record, error) {
	if n.at == len(n.ready) {
		n.ready, n.at = n.ready[:0], 0
		for n.more && (len(n.ready) == 0 || n.ahead.group(&n.ready[0])) {
			n.ready = append(n.ready, n.ahead)
			if len(n.ready) >= 2*maxPlaces {
				n.ready = tidy(n.ready)
				n.ready = n.ready[:min(maxPlaces, len(n.ready))]
			}
			if err := n.pull(); err != nil {
				return nil, err
			}
		}
		n.ready = tidy(n.ready)
		if len(n.ready) == 0 {
			return nil, nil
		}
	}
	n.at++
	return &n.ready[n.at-1], nil
}

// tidy sorts records and drops doubles.
func tidy(r []record) []record {
	if len(r) > 1 {
		slices.SortFunc(r, func(a, b record) int { return bytes.Compare(a[:], b[:]) })
		r = slices.Compact(r)
	}
	return r
}

func (w *tableWriter) writeBlobs() error {
	fresh, err := newMerge(w.b.blobs.sources()...)
	if err != nil {
		return err
	}
	from := []source{nil}
	if from[0], err = newRenumbered(fresh, w.newPacks); err != nil {
		return err
	}
	if w.old != nil {
		old, err := newRenumbered(w.old.scan(&w.old.blobs, 0), w.oldPacks)
		if err != nil {
			return err
		}
		from = append(from, old)
	}
	m, err := newMerge(from...)
	if err != nil {
		return err
	}
	all := &thinned{from: m}
	for {
		r, err := all.next()
		if err != nil {
			return err
		}
		if r == nil {
			return w.out.end()
		}
		if err := w.record(1, r); err != nil {
			return err
		}
	}
}

// createTemp makes a file in dir, and dir if need be: a small repository has none.
func createTemp(dir, pattern string) (*os.File, error) {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		var f *os.File
		if f, err = os.CreateTemp(dir, pattern); err == nil {
			return f, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", errTable, err)
}
