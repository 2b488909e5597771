package restore

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

const (
	// Blobs of a pack that lie this close are read in one go.
	maxGapBytes = 64 << 10
	maxRunBytes = 4 << 20
)

// piece is a place in a file that a blob goes to.
type piece struct {
	file   *file
	offset int64
}

// blobWork is a blob and all the places it goes to; it is read once.
type blobWork struct {
	blob   repository.PackedBlob
	pieces []piece
}

// packWork is what is wanted of one pack.
type packWork struct {
	name  chunkstore.Name
	blobs []*blobWork
}

// packPlan sorts the blobs of files by pack, packs in the order in which files first need them.
type packPlan struct {
	repo  *repository.Repository
	byID  map[repository.ID]*blobWork
	packs map[chunkstore.Name]*packWork
	order []*packWork
}

func newPackPlan(repo *repository.Repository) *packPlan {
	return &packPlan{repo: repo, byID: make(map[repository.ID]*blobWork), packs: make(map[chunkstore.Name]*packWork)}
}

// add plans a file, all of it or, with an error, nothing.
func (p *packPlan) add(f *file) error {
	var size int64
	for _, id := range f.node.Content {
		if w := p.byID[id]; w != nil {
			size += w.blob.PlainBytes()
			continue
		}
		at := p.repo.Locate(repository.DataBlob, id)
		if len(at) == 0 {
			return fmt.Errorf("blob %s: %w", id, repository.ErrNoBlob)
		}
		size += at[0].Blob.PlainBytes()
	}
	if uint64(size) != f.node.SizeBytes {
		return fmt.Errorf("%d bytes of %d: %w", size, f.node.SizeBytes, ErrSize)
	}
	f.left = len(f.node.Content)
	size = 0
	for _, id := range f.node.Content {
		w := p.byID[id]
		if w == nil {
			at := p.repo.Locate(repository.DataBlob, id)[0]
			w = &blobWork{blob: at.Blob}
			p.byID[id] = w
			pack := p.packs[at.Pack]
			if pack == nil {
				pack = &packWork{name: at.Pack}
				p.packs[at.Pack] = pack
				p.order = append(p.order, pack)
			}
			pack.blobs = append(pack.blobs, w)
		}
		w.pieces = append(w.pieces, piece{f, size})
		size += w.blob.PlainBytes()
	}
	return nil
}

func (p *packPlan) sorted() []*packWork {
	for _, pack := range p.order {
		slices.SortFunc(pack.blobs, func(a, b *blobWork) int { return cmp.Compare(a.blob.Offset, b.blob.Offset) })
	}
	return p.order
}

// runs yields the blobs in stretches to read at once.
func (p *packWork) runs() iter.Seq[[]*blobWork] {
	return func(yield func([]*blobWork) bool) {
		for start := 0; start < len(p.blobs); {
			first := int64(p.blobs[start].blob.Offset)
			end := start + 1
			for ; end < len(p.blobs); end++ {
				last, next := p.blobs[end-1].blob, p.blobs[end].blob
				if int64(next.Offset) > int64(last.Offset)+int64(last.Length)+maxGapBytes ||
					int64(next.Offset) < int64(last.Offset)+int64(last.Length) ||
					int64(next.Offset)+int64(next.Length)-first > maxRunBytes {
					break
				}
			}
			if !yield(p.blobs[start:end]) {
				return
			}
			start = end
		}
	}
}
