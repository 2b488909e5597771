package repair

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

// maxIndexBlobs is stock restic's limit per index file.
const maxIndexBlobs = 50_000

// IndexOptions says how [Index] goes about it.
type IndexOptions struct {
	// ReadAllPacks has the header of every pack read, and not only of those whose size is not what the index says.
	ReadAllPacks bool

	// DryRun has nothing changed.
	DryRun bool

	// Progress, if not nil, is called after each index file and each pack whose header was read.
	Progress func(done, total int)
}

// IndexResult is what [Index] did, or with DryRun would do.
type IndexResult struct {
	Kept, Written, Removed int // index files

	// SetAside are index files that cannot be read.
	SetAside []repository.Unreadable

	// FromHeader are packs that the index did not list, or listed wrongly, and now lists as their headers say.
	FromHeader []chunkstore.Name

	// Gone are packs that the index listed and that are not there.
	Gone []chunkstore.Name

	// Headless are packs whose header cannot be read. What the index said of those is kept as far as it lies within the
	// file; [Packs] saves what can be saved of them. Others are none of this repository.
	Headless []repository.Unreadable
}

// Changed reports whether there was something to repair.
func (r *IndexResult) Changed() bool { return r.Written+r.Removed+len(r.SetAside) > 0 }

// Index brings the index files in line with the packs. Index files that are right are kept; of the others what is right
// is taken over. New files are durable before old ones go.
func Index(ctx context.Context, repo *repository.Repository, o IndexOptions) (*IndexResult, error) {
	x := &indexer{repo: repo, options: o, partial: make(map[repository.ID][]repository.PackedBlob)}
	if err := x.run(ctx); err != nil {
		return nil, fmt.Errorf("repair index: %w", err)
	}
	return &x.result, nil
}

type indexer struct {
	repo    *repository.Repository
	options IndexOptions
	packs   packList
	files   []indexFile
	partial map[repository.ID][]repository.PackedBlob // what the index says of packs without a readable header
	next    repository.IndexFile                      // being filled
	blobs   int                                       // in next
	result  IndexResult
	steps   int
}

// indexFile is an index file that is there.
type indexFile struct {
	name    chunkstore.Name
	err     error // it cannot be read
	rewrite bool
}

func (x *indexer) run(ctx context.Context) (err error) {
	if x.packs, err = listPacks(ctx, x.repo.Files()); err != nil {
		return err
	}
	if err := x.survey(ctx); err != nil {
		return err
	}
	for n := range x.files {
		if x.files[n].rewrite {
			if err := x.takeOver(ctx, int32(n)); err != nil {
				return err
			}
		}
	}
	if err := x.addPartial(ctx); err != nil {
		return err
	}
	if err := x.addUnlisted(ctx); err != nil {
		return err
	}
	if err := x.flush(ctx); err != nil {
		return err
	}
	return x.dropOld(ctx)
}

func (x *indexer) step() {
	x.steps++
	if x.options.Progress != nil {
		x.options.Progress(x.steps, max(x.steps, len(x.files)))
	}
}

// survey reads all index files and decides which are right.
func (x *indexer) survey(ctx context.Context) error {
	gone := make(map[repository.ID]bool)
	for f, err := range x.repo.IndexFiles(ctx) {
		if f == nil {
			return err
		}
		if err != nil { // once more before it is set aside
			name := f.Name
			_ = x.repo.Reread(ctx, name)
			if f, err = x.repo.LoadIndexFile(ctx, name); ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				x.files = append(x.files, indexFile{name: name, err: err})
				x.result.SetAside = append(x.result.SetAside, repository.Unreadable{Name: name, Err: err})
				continue
			}
		}
		n := len(x.files)
		x.files = append(x.files, indexFile{name: f.Name})
		for _, l := range f.Packs {
			p := x.packs.find(l.ID)
			if p == nil {
				x.files[n].rewrite = true
				if !gone[l.ID] {
					gone[l.ID] = true
					x.result.Gone = append(x.result.Gone, packName(l.ID))
				}
				continue
			}
			if err := x.judge(ctx, p, l.Blobs, int32(n)); err != nil {
				return err
			}
		}
		for _, l := range f.PacksToDelete {
			if p := x.packs.find(l.ID); p != nil && p.state == unlisted {
				p.state = marked
			}
		}
		x.step()
	}
	for i := range x.files {
		if !x.files[i].rewrite && x.files[i].err == nil {
			x.result.Kept++
		}
	}
	return nil
}

// judge decides whether file n is right about a pack.
func (x *indexer) judge(ctx context.Context, p *pack, blobs []repository.PackedBlob, n int32) error {
	p.times++
	if p.times > 1 {
		p.state = suspect
		x.files[p.owner].rewrite, x.files[n].rewrite = true, true
		return nil
	}
	p.owner, p.state = n, right
	if !fills(blobs, p.size) {
		p.state, x.files[n].rewrite = suspect, true
		return nil
	}
	if !x.options.ReadAllPacks {
		return nil
	}
	header, err := x.header(ctx, p)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && !slices.Equal(header, byOffset(blobs)) || err != nil {
		p.state, x.files[n].rewrite = suspect, true
	}
	return nil
}

// fills reports whether a pack of that size consists of exactly these blobs and its header.
func fills(blobs []repository.PackedBlob, size int64) bool {
	var at int64
	for _, b := range byOffset(blobs) {
		if int64(b.Offset) != at {
			return false
		}
		at += int64(b.Length)
	}
	return len(blobs) > 0 && repository.PackSize(blobs) == size
}

func byOffset(blobs []repository.PackedBlob) []repository.PackedBlob {
	less := func(a, b repository.PackedBlob) int { return cmp.Compare(a.Offset, b.Offset) }
	if !slices.IsSortedFunc(blobs, less) {
		blobs = slices.Clone(blobs)
		slices.SortStableFunc(blobs, less)
	}
	return blobs
}

// header reads the header of a pack, twice if need be.
func (x *indexer) header(ctx context.Context, p *pack) ([]repository.PackedBlob, error) {
	blobs, err := x.repo.PackHeader(ctx, p.name(), p.size)
	if err != nil && ctx.Err() == nil {
		blobs, err = x.repo.PackHeader(ctx, p.name(), p.size)
	}
	return blobs, err
}

// takeOver moves what is right in file n into the new files, and asks the packs themselves where it is not.
func (x *indexer) takeOver(ctx context.Context, n int32) error {
	f, err := x.repo.LoadIndexFile(ctx, x.files[n].name)
	if err != nil {
		return err
	}
	for _, l := range f.Packs {
		p := x.packs.find(l.ID)
		switch {
		case p == nil || p.state == done:
		case p.state == right:
			p.state = done
			err = x.add(ctx, l)
		case p.state == suspect:
			if _, tried := x.partial[p.id]; tried {
				x.partial[p.id] = append(x.partial[p.id], l.Blobs...)
				continue
			}
			var known bool
			if known, err = x.fromHeader(ctx, p); err == nil && !known {
				x.partial[p.id] = slices.Clone(l.Blobs)
			}
		}
		if err != nil {
			return err
		}
	}
	for _, l := range f.PacksToDelete {
		if p := x.packs.find(l.ID); p != nil && p.state == marked {
			p.state = done
			x.next.PacksToDelete = append(x.next.PacksToDelete, l)
			x.blobs += len(l.Blobs)
		}
	}
	x.step()
	return nil
}

// fromHeader lists a pack as its header says, and reports whether that can be read.
func (x *indexer) fromHeader(ctx context.Context, p *pack) (bool, error) {
	blobs, err := x.header(ctx, p)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		x.result.Headless = append(x.result.Headless, repository.Unreadable{Name: p.name(), Err: err})
		return false, nil
	}
	p.state = done
	x.step()
	if len(blobs) == 0 {
		return true, nil
	}
	x.result.FromHeader = append(x.result.FromHeader, p.name())
	return true, x.add(ctx, repository.IndexedPack{ID: p.id, Blobs: blobs})
}

// addPartial keeps what the index said of packs whose header is lost, as far as it lies within them.
func (x *indexer) addPartial(ctx context.Context) error {
	for id, blobs := range x.partial {
		p := x.packs.find(id)
		var inside []repository.PackedBlob
		var end int64
		for _, b := range byOffset(blobs) {
			if int64(b.Offset) >= end && int64(b.Offset)+int64(b.Length) <= p.size {
				inside = append(inside, b)
				end = int64(b.Offset) + int64(b.Length)
			}
		}
		p.state = done
		if len(inside) > 0 {
			if err := x.add(ctx, repository.IndexedPack{ID: id, Blobs: inside}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *indexer) addUnlisted(ctx context.Context) error {
	for i := range x.packs {
		if p := &x.packs[i]; p.state == unlisted {
			if _, err := x.fromHeader(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// add enters a pack into the new index file, and stores that when it is full.
func (x *indexer) add(ctx context.Context, l repository.IndexedPack) error {
	if x.blobs > 0 && x.blobs+len(l.Blobs) > maxIndexBlobs {
		if err := x.flush(ctx); err != nil {
			return err
		}
	}
	x.next.Packs = append(x.next.Packs, l)
	x.blobs += len(l.Blobs)
	return nil
}

func (x *indexer) flush(ctx context.Context) error {
	if len(x.next.Packs)+len(x.next.PacksToDelete) == 0 {
		return nil
	}
	if !x.options.DryRun {
		if _, err := x.repo.SaveIndexFile(ctx, &x.next); err != nil {
			return err
		}
	}
	x.result.Written++
	x.next, x.blobs = repository.IndexFile{}, 0
	return nil
}

// dropOld removes the files whose content the new ones have.
func (x *indexer) dropOld(ctx context.Context) error {
	for _, f := range x.files {
		var err error
		switch {
		case f.err != nil:
			if !x.options.DryRun {
				err = x.repo.SetAside(ctx, f.name)
			}
		case f.rewrite:
			x.result.Removed++
			if !x.options.DryRun {
				err = x.repo.Files().Remove(ctx, f.name)
			}
		}
		if err != nil {
			return err
		}
	}
	if x.options.DryRun {
		return nil
	}
	return x.repo.Reload(ctx)
}
