package repair

import (
	"bytes"
	"context"
	"slices"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

// pack is a pack that is there.
type pack struct {
	id    repository.ID
	size  int64
	owner int32  // number of the first index file that lists it
	times uint32 // how often index files list it
	state packState
}

type packState uint8

const (
	unlisted packState = iota
	right              // listed once, and its size fits
	suspect            // what the index says does not fit, or it says it twice
	marked             // for deletion only
	done
)

func (p *pack) name() chunkstore.Name { return packName(p.id) }

func packName(id repository.ID) chunkstore.Name {
	return chunkstore.Name{Kind: chunkstore.Pack, ID: id.Digest()}
}

// packList is the packs that are there, ascending by ID.
type packList []pack

func listPacks(ctx context.Context, files repository.Files) (packList, error) {
	var l packList
	for e, err := range files.List(ctx, chunkstore.Pack) {
		if err != nil {
			return nil, err
		}
		l = append(l, pack{id: repository.IDOf(e.Name.ID), size: e.SizeBytes})
	}
	slices.SortFunc(l, func(a, b pack) int { return bytes.Compare(a.id[:], b.id[:]) })
	return l, nil
}

// find returns the pack, or nil if it is not there.
func (l packList) find(id repository.ID) *pack {
	i, ok := slices.BinarySearchFunc(l, id, func(p pack, id repository.ID) int { return bytes.Compare(p.id[:], id[:]) })
	if !ok {
		return nil
	}
	return &l[i]
}

// present reports whether one of the places lies in a pack that is there.
func (l packList) present(at []repository.Location) bool {
	return slices.ContainsFunc(at, func(x repository.Location) bool { return l.find(repository.IDOf(x.Pack.ID)) != nil })
}
