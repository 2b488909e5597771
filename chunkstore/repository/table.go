package repository

import (
	"bytes"
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// table is the index of a repository in memory, about 60 bytes a blob: a list of entries and an open-addressing hash
// table of positions in it. A blob that lies in several packs has several entries.
type table struct {
	mu    sync.RWMutex // guards everything below; never held during I/O
	seed  maphash.Seed // nobody can choose blobs that collide
	packs []ID
	known map[ID]uint32 // position in packs
	pages [][]tableEntry
	count uint32
	slots []uint32    // position in pages + 1; length is a power of two
	loose map[ID]bool // packs that are known from their headers only

	marked map[ID]time.Time // packs to be deleted, unless they are in known as well
}

// tableEntry is a PackedBlob with its pack, without padding.
type tableEntry struct {
	id                    ID
	pack                  uint32
	offset, length, plain uint32
	kind                  BlobType
}

// maxPlaces is how many places of one blob are kept. Programs that write at the same time leave a handful; who plants
// more would otherwise have every look-up go through all of them.
const maxPlaces = 128

const pageEntries = 1 << 13 // growing by pages never copies what is there

func newTable() *table {
	return &table{seed: maphash.MakeSeed(), known: make(map[ID]uint32), loose: make(map[ID]bool), marked: make(map[ID]time.Time), slots: make([]uint32, 1<<10)}
}

// Location is where a blob lies.
type Location struct {
	Pack chunkstore.Name
	Blob PackedBlob
}

func (t *table) at(i uint32) *tableEntry { return &t.pages[i/pageEntries][i%pageEntries] }

func (t *table) start(id *ID) uint32 {
	return uint32(maphash.Bytes(t.seed, id[:])) & uint32(len(t.slots)-1)
}

// addPack enters the blobs of a pack. Entries that are there already are not doubled. A pack without blobs is none:
// nothing is known of it.
func (t *table) addPack(pack ID, blobs []PackedBlob) {
	if len(blobs) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.known[pack]
	if !ok {
		p = uint32(len(t.packs))
		t.packs = append(t.packs, pack)
		t.known[pack] = p
	}
	for _, b := range blobs {
		t.add(tableEntry{b.ID, p, b.Offset, b.Length, b.UncompressedBytes, b.Type})
	}
}

func (t *table) add(e tableEntry) {
	if int(t.count)*4 >= len(t.slots)*3 {
		t.grow()
	}
	mask := uint32(len(t.slots) - 1)
	i := t.start(&e.id)
	places := 0
	for ; t.slots[i] != 0; i = (i + 1) & mask {
		o := t.at(t.slots[i] - 1)
		if *o == e {
			return
		}
		if o.id == e.id && o.kind == e.kind {
			if places++; places == maxPlaces {
				return
			}
		}
	}
	if t.count%pageEntries == 0 {
		t.pages = append(t.pages, make([]tableEntry, pageEntries))
	}
	*t.at(t.count) = e
	t.count++
	t.slots[i] = t.count
}

func (t *table) grow() {
	t.slots = make([]uint32, 2*len(t.slots))
	mask := uint32(len(t.slots) - 1)
	for n := range t.count {
		i := t.start(&t.at(n).id)
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = n + 1
	}
}

// lookup appends the places of a blob to dst.
func (t *table) lookup(dst []Location, typ BlobType, id ID) []Location {
	t.mu.RLock()
	defer t.mu.RUnlock()
	mask := uint32(len(t.slots) - 1)
	for i := t.start(&id); t.slots[i] != 0; i = (i + 1) & mask {
		if e := t.at(t.slots[i] - 1); e.id == id && e.kind == typ {
			dst = append(dst, t.location(e))
		}
	}
	return dst
}

func (t *table) has(typ BlobType, id ID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	mask := uint32(len(t.slots) - 1)
	for i := t.start(&id); t.slots[i] != 0; i = (i + 1) & mask {
		if e := t.at(t.slots[i] - 1); e.id == id && e.kind == typ {
			return true
		}
	}
	return false
}

// addFile enters what an index file says.
func (t *table) addFile(f *IndexFile) {
	for _, p := range f.Packs {
		t.addPack(p.ID, p.Blobs)
	}
	for _, p := range f.PacksToDelete {
		t.mark(p.ID, p.Time)
	}
}

// indexed reports whether an index file names pack, be it to be deleted.
func (t *table) indexed(pack ID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	_, ok := t.known[pack]
	_, marked := t.marked[pack]
	return ok && !t.loose[pack] || marked
}

// mark enters a pack to be deleted since at. Of several instants the latest counts.
func (t *table) mark(pack ID, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.marked[pack]; !ok || at.After(old) {
		t.marked[pack] = at
	}
}

// marks returns what is known of a pack: whether it is in use, and if not, since when it is to be deleted.
func (t *table) marks(pack ID) (since time.Time, marked, live bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if _, live := t.known[pack]; live {
		return time.Time{}, false, true
	}
	since, marked = t.marked[pack]
	return since, marked, false
}

// size returns how many blobs there are.
func (t *table) size() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return int(t.count)
}

// contains reports whether a blob is known to lie at l.
func (t *table) contains(l Location) bool {
	return t.has(l.Blob.Type, l.Blob.ID) && slices.Contains(t.lookup(nil, l.Blob.Type, l.Blob.ID), l)
}

// eachPack calls f with the packs that have blobs, in parts, and whether they are known from their headers only. The
// blobs are f's until it returns. The table must not change meanwhile.
func (t *table) eachPack(f func(p *IndexedPack, loose bool) error) error {
	var p IndexedPack
	for n := uint32(0); n < t.count; {
		number := t.at(n).pack
		p.ID, p.Blobs = t.packs[number], p.Blobs[:0]
		for ; n < t.count && t.at(n).pack == number; n++ {
			p.Blobs = append(p.Blobs, t.at(n).blob())
		}
		if err := f(&p, t.loose[p.ID]); err != nil {
			return err
		}
	}
	return nil
}

func (e *tableEntry) blob() PackedBlob {
	return PackedBlob{ID: e.id, Type: e.kind, Offset: e.offset, Length: e.length, UncompressedBytes: e.plain}
}

// markLoose notes whether pack is known from its header only.
func (t *table) markLoose(pack ID, loose bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if loose {
		t.loose[pack] = true
	} else {
		delete(t.loose, pack)
	}
}

type markedPack struct {
	pack ID
	at   time.Time
}

// allMarked returns the packs to be deleted, by ID.
func (t *table) allMarked() []markedPack {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var all []markedPack
	for pack, at := range t.marked {
		if _, live := t.known[pack]; !live {
			all = append(all, markedPack{pack, at})
		}
	}
	slices.SortFunc(all, func(a, b markedPack) int { return bytes.Compare(a.pack[:], b.pack[:]) })
	return all
}

func (t *table) location(e *tableEntry) Location {
	return Location{Pack: packName(t.packs[e.pack]), Blob: e.blob()}
}

// all yields every entry. The table must not change meanwhile.
func (t *table) all() iter.Seq[Location] {
	return func(yield func(Location) bool) {
		for n := range t.count {
			if !yield(t.location(t.at(n))) {
				return
			}
		}
	}
}

func packName(id ID) chunkstore.Name {
	d, _ := digest.FromBytes(digest.SHA256, id[:])
	return chunkstore.Name{Kind: chunkstore.Pack, ID: d}
}
