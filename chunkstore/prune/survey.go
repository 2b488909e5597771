package prune

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

// action is what becomes of a pack.
type action uint8

const (
	keep     action = iota // as the index has it, marked or not
	mark                   // nothing needs it
	remark                 // marked at a time that is nobody's: the grace begins anew
	takeBack               // marked and needed
	remove                 // marked for long enough
	drop                   // it is gone: drop it from the index
)

// pack is what is known of one pack.
type pack struct {
	id       repository.ID
	size     int64 // on disk; -1 if it is not there
	bytes    int64 // as long as it must be by the index
	body     int64 // bytes of its blobs
	needed   int64 // bytes of its blobs that snapshots need
	since    int64 // nanoseconds since 1970 of the latest mark; 0 if unknown
	blobs    int32 // by the index
	used     int32 // of them, needed
	file     int32 // position in survey.index of the file that lists it
	listed   bool  // in packs of an index file
	marked   bool  // in packs_to_delete of one
	odd      bool  // index files disagree on its blobs
	counted  bool
	plain    bool // holds blobs that are not compressed
	trees    bool
	data     bool
	selected bool // to be repacked
	action   action
}

func (k *pack) name() chunkstore.Name {
	return chunkstore.Name{Kind: chunkstore.Pack, ID: k.id.Digest()}
}

// whole reports whether the pack is there and as long as it must be.
func (k *pack) whole() bool { return k.size == k.bytes && !k.odd }

// indexInfo is one index file that the run has read or written.
type indexInfo struct {
	name  chunkstore.Name
	blobs int
	marks bool // it has packs_to_delete
	again bool // it lists a pack that another one lists too
}

// survey is what there is.
type survey struct {
	packs   []pack                   // on disk, ascending
	missing map[repository.ID]*pack  // named by the index only
	index   []indexInfo              //
	blobs   int                      // in the index
	trees   map[repository.ID]placed // tree blobs in packs that are marked: nobody else finds those
}

// placed is where a blob of a marked pack lies.
type placed struct {
	pack repository.ID
	blob repository.PackedBlob
}

func (s *survey) find(id repository.ID) *pack {
	i, ok := slices.BinarySearchFunc(s.packs, id, func(k pack, id repository.ID) int { return bytes.Compare(k.id[:], id[:]) })
	if ok {
		return &s.packs[i]
	}
	return s.missing[id]
}

// all calls do for each pack.
func (s *survey) all(do func(*pack)) {
	for i := range s.packs {
		do(&s.packs[i])
	}
	for _, k := range s.missing {
		do(k)
	}
}

// with returns the packs that have action a.
func (s *survey) with(a action) []*pack {
	var found []*pack
	s.all(func(k *pack) {
		if k.action == a {
			found = append(found, k)
		}
	})
	return found
}

// takeSurvey lists the packs, then reads the index.
func (p *pruner) takeSurvey(ctx context.Context) (*survey, error) {
	s := &survey{missing: make(map[repository.ID]*pack), trees: make(map[repository.ID]placed)}
	var err error
	if s.packs, err = p.onDisk(ctx); err != nil {
		return nil, err
	}
	var bad []string
	for f, err := range p.repo.IndexFiles(ctx) {
		if f == nil {
			return nil, fmt.Errorf("read index: %w", err)
		}
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		s.enter(f)
		p.options.Progress(Progress{Step: "reading index", Done: int64(len(s.index))})
	}
	if len(bad) > 0 {
		return nil, unsafe("repair the index (repair index), then prune again", "index files cannot be read", bad)
	}
	return s, p.lookAgain(ctx, s)
}

func (p *pruner) onDisk(ctx context.Context) ([]pack, error) {
	var packs []pack
	for e, err := range p.repo.Files().List(ctx, chunkstore.Pack) {
		if err != nil {
			return nil, err
		}
		packs = append(packs, pack{id: repository.IDOf(e.Name.ID), size: e.SizeBytes})
	}
	slices.SortFunc(packs, func(a, b pack) int { return bytes.Compare(a.id[:], b.id[:]) })
	return packs, nil
}

// lookAgain clears up which of the missing packs were only stored after the listing, by a backup at work.
func (p *pruner) lookAgain(ctx context.Context, s *survey) error {
	if len(s.missing) == 0 {
		return nil
	}
	now, err := p.onDisk(ctx)
	if err != nil {
		return err
	}
	for i := range now {
		if k := s.missing[now[i].id]; k != nil {
			k.size = now[i].size
		}
	}
	return nil
}

// enter takes up what an index file says.
func (s *survey) enter(f *repository.IndexFile) {
	info := indexInfo{name: f.Name, marks: len(f.PacksToDelete) > 0}
	at := int32(len(s.index))
	for i := range f.Packs {
		info.blobs += len(f.Packs[i].Blobs)
		info.again = s.enterPack(&f.Packs[i], at, false) || info.again
	}
	for i := range f.PacksToDelete {
		info.blobs += len(f.PacksToDelete[i].Blobs)
		s.enterPack(&f.PacksToDelete[i], at, true)
	}
	s.blobs += info.blobs
	s.index = append(s.index, info)
}

// enterPack takes up one pack and reports whether an earlier index file lists it too.
func (s *survey) enterPack(x *repository.IndexedPack, file int32, marked bool) bool {
	k := s.find(x.ID)
	if k == nil {
		k = &pack{id: x.ID, size: -1}
		s.missing[x.ID] = k
	}
	length := repository.PackSize(x.Blobs)
	if marked {
		k.marked = true
		if at := nanos(x.Time); at > k.since {
			k.since = at
		}
		for _, b := range x.Blobs {
			if b.Type == repository.TreeBlob {
				s.trees[b.ID] = placed{x.ID, b}
			}
		}
		if k.listed {
			return false // in use: the mark is void
		}
	}
	again := k.listed && !marked
	if (again || k.marked && k.blobs > 0 && marked) && (int(k.blobs) != len(x.Blobs) || k.bytes != length) {
		k.odd = true
		k.blobs += int32(len(x.Blobs))
		return false
	}
	k.blobs, k.bytes, k.body = int32(len(x.Blobs)), length, 0
	if !marked {
		k.listed, k.file = true, file
	}
	for _, b := range x.Blobs {
		k.body += int64(b.Length)
		k.trees = k.trees || b.Type == repository.TreeBlob
		k.data = k.data || b.Type == repository.DataBlob
		k.plain = k.plain || b.UncompressedBytes == 0
	}
	return again
}

func nanos(t time.Time) int64 {
	if t.IsZero() || t.Year() < 1970 {
		return 0
	}
	if t.Year() > 2200 {
		return 1<<63 - 1
	}
	return t.UnixNano()
}

// Notes of a blob that is needed: how many listed, whole packs hold it (up to maxCopies), and what else is known of it.
const (
	maxCopies = 0x0f
	inMarked  = 0x10 // a marked pack holds it
	claimed   = 0x20 // one of the packs that hold it is the one that counts
	rewritten = 0x40 // repacking has seen to it
)

// count finds out how much of each pack is needed, and refuses if something needed is not there.
func (p *pruner) count(ctx context.Context) error {
	s := p.survey
	for note := range p.used.all() {
		*note = 0
	}
	if err := p.eachIndex(ctx, "counting", func(_ int, f *repository.IndexFile) error {
		for i := range f.Packs {
			k := s.find(f.Packs[i].ID)
			if k == nil || k.counted && !k.odd {
				continue
			}
			k.counted = true
			p.countPack(k, f.Packs[i].Blobs)
		}
		return nil
	}); err != nil {
		return err
	}
	// The marked ones come last: they are needed only for what no pack in use has.
	if err := p.eachIndex(ctx, "counting marked packs", func(i int, f *repository.IndexFile) error {
		for i := range f.PacksToDelete {
			k := s.find(f.PacksToDelete[i].ID)
			if k == nil || k.listed || !k.whole() {
				continue
			}
			for _, b := range f.PacksToDelete[i].Blobs {
				if note := p.used.note(b.Type, &b.ID); note != nil && *note&maxCopies == 0 {
					*note |= inMarked
					k.used++
					k.needed += int64(b.Length)
				}
			}
		}
		return nil
	}, func(info indexInfo) bool { return info.marks }); err != nil {
		return err
	}
	return p.refuse(ctx)
}

func (p *pruner) countPack(k *pack, blobs []repository.PackedBlob) {
	for _, b := range blobs {
		note := p.used.note(b.Type, &b.ID)
		if note == nil {
			continue
		}
		k.used++
		k.needed += int64(b.Length)
		if k.size >= 0 && *note&maxCopies < maxCopies {
			*note++
		}
	}
}

// eachIndex reads the index files of the survey again.
func (p *pruner) eachIndex(ctx context.Context, step string, do func(int, *repository.IndexFile) error, only ...func(indexInfo) bool) error {
	for i, info := range p.survey.index {
		if len(only) > 0 && !only[0](info) {
			continue
		}
		p.options.Progress(Progress{step, int64(i), int64(len(p.survey.index))})
		f, err := p.repo.LoadIndexFile(ctx, info.name)
		if err != nil {
			return fmt.Errorf("read index: %w", err)
		}
		if err := do(i, f); err != nil {
			return err
		}
	}
	return nil
}

// refuse gives [ErrUnsafe] if something that snapshots need is not there.
func (p *pruner) refuse(ctx context.Context) error {
	var missing, cut []string
	p.survey.all(func(k *pack) {
		switch {
		case k.used == 0:
		case k.size < 0:
			missing = append(missing, k.name().String())
		case k.odd:
		case k.size != k.bytes:
			cut = append(cut, fmt.Sprintf("%s of %d bytes, by the index %d", k.name(), k.size, k.bytes))
		}
	})
	slices.Sort(missing)
	slices.Sort(cut)
	if len(missing) > 0 {
		return unsafe("bring them back from another copy, or take what is left with repair packs, then prune again",
			"packs that snapshots need are missing", missing)
	}
	if len(cut) > 0 {
		return unsafe("bring them back from another copy, or take what is left with repair packs, then prune again",
			"packs that snapshots need are not as long as they must be", cut)
	}
	for note := range p.used.all() {
		if *note&(maxCopies|inMarked) == 0 {
			blobs, err := p.unlisted(ctx)
			if err != nil {
				return err
			}
			return unsafe("repair the index (repair index), or forget these snapshots, then prune again",
				"blobs that snapshots need are in no pack that the index knows", blobs)
		}
	}
	return nil
}

// maxNamed is how many things an error names.
const maxNamed = 5

func unsafe(wayOut, what string, names []string) error {
	more := ""
	if n := len(names) - maxNamed; n > 0 {
		names, more = names[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("%w: %s: %s%s; nothing was removed; %s", ErrUnsafe, what, strings.Join(names, ", "), more, wayOut)
}
