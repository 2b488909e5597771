package restore

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

const (
	// Blobs of a pack that lie this close are read in one go.
	maxGapBytes = 64 << 10
	maxRunBytes = 4 << 20
)

// file is a file to restore.
type file struct {
	dir     *dir
	name    string
	attrs   attributes
	size    int64
	content []repository.ID
	was     int64 // size of what lies there and is rewritten where it differs; -1 if a new file is made

	// unfinished says that it carries its unfinished name until it is whole.
	unfinished bool

	// replaces says that something else of its name is there.
	replaces bool

	// resumed says that an unfinished file of an earlier run is gone on with.
	resumed bool

	// touched says that something is to be written.
	touched bool

	left  atomic.Int32 // pieces to write
	holes atomic.Bool  // pieces were left out, so that the size has to be set

	mu    sync.Mutex // guards what follows; held while the file is made
	made  bool
	state state
}

// state of a file.
type state uint8

const (
	pending state = iota
	written       // whole; it may wait for its name
	failed
	skipped
)

// disk is the name of f in the target now.
func (f *file) disk() string {
	if f.unfinished {
		return unfinishedName(f.name)
	}
	return f.name
}

func (f *file) path() string { return f.dir.join(f.name) }

// piece is a place in a file that a blob goes to. There is one for each chunk that is to be written, so they are small
// and hold no pointers.
type piece struct {
	pack           uint32 // position in plan.packs
	offset, length uint32 // in the pack
	plain          uint32 // uncompressed size, 0 if stored as it is
	file           uint32 // position in plan.files
	index          uint32 // in the file's content
	at             int64  // in the file
}

// plan is what a restore has to do. Everything in it is a few hundred bytes per file and 32 per chunk.
type plan struct {
	mu     sync.Mutex // guards what follows while trees are read
	made   []*dir     // parents first
	files  []*file
	pieces []piece
	packs  []chunkstore.Name // in the order in which files first need them
	known  map[chunkstore.Name]uint32
	proofs []*file // files that exist and whose content is to be compared
	aside  []*file // of them, those to be rewritten in place
	firsts map[linkKey]*file
	links  []hardLink
	doomed map[*dir][]extra
	mounts map[uint64]*dir // by device: where another file system than the target's is mounted
}

// linkKey says which files of the snapshot were one.
type linkKey struct{ device, inode uint64 }

// hardLink is a further name of a file.
type hardLink struct {
	dir  *dir
	name string
	to   *file
}

// extra is something in the target that is not in the snapshot.
type extra struct {
	dir  *dir
	name string
	told bool // it was the user's, and that it is removed is told
}

// blob returns p as [repository.Repository.DecodeBlob] wants it.
func (p *plan) blob(at piece) repository.PackedBlob {
	return repository.PackedBlob{ID: p.files[at.file].content[at.index], Type: repository.DataBlob,
		Offset: at.offset, Length: at.length, UncompressedBytes: at.plain}
}

// locate returns the pieces of a file, all or, with an error, none. Their pack and file are not set yet.
func locate(repo *repository.Repository, f *file) ([]piece, []chunkstore.Name, error) {
	pieces := make([]piece, len(f.content))
	packs := make([]chunkstore.Name, len(f.content))
	var size int64
	for i, id := range f.content {
		at := repo.Locate(repository.DataBlob, id)
		if len(at) == 0 {
			return nil, nil, fmt.Errorf("blob %s: %w", id, repository.ErrNoBlob)
		}
		b := at[0].Blob
		pieces[i] = piece{offset: b.Offset, length: b.Length, plain: b.UncompressedBytes, index: uint32(i), at: size}
		packs[i] = at[0].Pack
		size += b.PlainBytes()
	}
	if size != f.size {
		return nil, nil, fmt.Errorf("%d bytes of %d: %w", size, f.size, ErrSize)
	}
	return pieces, packs, nil
}

// addPieces takes f up, with the pieces that are to be written: those that same does not say are there already.
func (p *plan) addPieces(f *file, pieces []piece, packs []chunkstore.Name, same []bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	number := uint32(len(p.files))
	p.files = append(p.files, f)
	n := int32(0)
	for i, at := range pieces {
		if same != nil && same[i] {
			continue
		}
		pack, ok := p.known[packs[i]]
		if !ok {
			pack = uint32(len(p.packs))
			p.packs = append(p.packs, packs[i])
			p.known[packs[i]] = pack
		}
		at.pack, at.file = pack, number
		p.pieces = append(p.pieces, at)
		n++
	}
	f.left.Store(n)
	f.touched = n > 0 || f.was != f.size
}

// sort puts the pieces in the order of packs.
func (p *plan) sort() {
	slices.SortFunc(p.pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.pack, b.pack), cmp.Compare(a.offset, b.offset), cmp.Compare(a.file, b.file), cmp.Compare(a.at, b.at))
	})
}

// nextRun returns where the run of pieces that starts at from ends: what is read from one pack at once.
func (p *plan) nextRun(from int) (to int) {
	first := p.pieces[from]
	end := int64(first.offset) + int64(first.length)
	for to = from + 1; to < len(p.pieces); to++ {
		next := p.pieces[to]
		if next.pack != first.pack {
			break
		}
		if next.offset == p.pieces[to-1].offset && next.length == p.pieces[to-1].length {
			continue // the same blob once more
		}
		if int64(next.offset) < end || int64(next.offset) > end+maxGapBytes || int64(next.offset)+int64(next.length)-int64(first.offset) > maxRunBytes {
			break
		}
		end = int64(next.offset) + int64(next.length)
	}
	return to
}
