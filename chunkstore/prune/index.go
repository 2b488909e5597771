package prune

import (
	"context"
	"fmt"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

const (
	// maxIndexBlobs is stock restic's limit per index file.
	maxIndexBlobs = 50_000

	// Each backup leaves an index file; this many small ones are worth being put together.
	smallIndexBlobs = maxIndexBlobs / 10
	manySmall       = 16
)

// indexWriter replaces index files: what they say goes into new ones, changed as decided, and an old file is removed once
// all of it is in new ones. A reader finds every pack that is in use at any moment, some twice.
type indexWriter struct {
	*pruner
	out   repository.IndexFile
	fresh []int // positions in out.PacksToDelete of what is marked now
	blobs int
	old   []chunkstore.Name // read to their end, not removed yet
	info  []indexInfo       // the index afterwards
	done  map[*pack]bool    // packs written already
}

// writeIndex brings the index up to the actions of the packs, which are then done but for remove.
func (p *pruner) writeIndex(ctx context.Context) error {
	s := p.survey
	w := &indexWriter{pruner: p, done: make(map[*pack]bool)}
	dirty := make(map[int32]bool)
	var loose []*pack
	marks := false // whether something marked changes
	s.all(func(k *pack) {
		switch {
		case k.action == keep || k.action == remove:
		case k.listed:
			dirty[k.file] = true
		case k.marked:
			marks = true
		case k.action == mark:
			loose = append(loose, k)
		}
	})
	small := 0
	for _, info := range s.index {
		if info.blobs < smallIndexBlobs {
			small++
		}
	}
	for i, info := range s.index {
		if !dirty[int32(i)] && !(info.marks && marks) && !info.again && !(info.blobs < smallIndexBlobs && small >= manySmall) {
			w.info = append(w.info, info)
			continue
		}
		p.options.Progress(Progress{"writing index", int64(i), int64(len(s.index))})
		f, err := p.repo.LoadIndexFile(ctx, info.name)
		if err != nil {
			return fmt.Errorf("read index: %w", err)
		}
		if err := w.take(ctx, f); err != nil {
			return err
		}
	}
	for _, k := range loose {
		// What cannot be read of a pack that nothing names is nobody's loss; it waits as the others do.
		blobs, err := p.repo.PackHeader(ctx, k.name(), k.size)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			blobs = []repository.PackedBlob{}
		}
		if err := w.add(ctx, k, repository.IndexedPack{ID: k.id, Blobs: blobs}, true); err != nil {
			return err
		}
	}
	if err := w.save(ctx); err != nil {
		return err
	}
	s.index = w.info
	s.settle(p.options.NoGrace && p.options.Phase != MarkOnly)
	return nil
}

// settle notes that the index says what was decided. Without a grace, what is marked now is due now.
func (s *survey) settle(noGrace bool) {
	s.all(func(k *pack) {
		switch k.action {
		case mark:
			k.listed, k.marked, k.action = false, true, keep
			if noGrace {
				k.action = remove
			}
		case remark:
			k.action = keep
		case takeBack:
			k.listed, k.action = true, keep
		case drop:
			k.listed, k.marked, k.action = false, false, keep
		}
	})
}

// take moves what one index file says into the new ones.
func (w *indexWriter) take(ctx context.Context, f *repository.IndexFile) error {
	for _, x := range f.Packs {
		k := w.survey.find(x.ID)
		if k == nil || k.action == drop || w.done[k] && !k.odd {
			continue
		}
		if err := w.add(ctx, k, x, k.action == mark); err != nil {
			return err
		}
	}
	for _, x := range f.PacksToDelete {
		k := w.survey.find(x.ID)
		if k == nil || k.action == drop || k.listed || w.done[k] {
			continue // one that is in use is listed elsewhere: its mark is void
		}
		if k.action == keep || k.action == remove {
			x.Time = time.Unix(0, k.since).UTC()
		}
		if err := w.add(ctx, k, x, k.action != takeBack); err != nil {
			return err
		}
	}
	w.old = append(w.old, f.Name)
	return nil
}

// add puts a pack into the file being filled.
func (w *indexWriter) add(ctx context.Context, k *pack, x repository.IndexedPack, marked bool) error {
	if w.blobs > 0 && w.blobs+len(x.Blobs) > maxIndexBlobs {
		if err := w.save(ctx); err != nil {
			return err
		}
	}
	w.blobs += len(x.Blobs) + 1
	w.done[k] = true
	if !marked {
		x.Time = time.Time{}
		w.out.Packs = append(w.out.Packs, x)
		return nil
	}
	if k.action == mark || k.action == remark {
		w.fresh = append(w.fresh, len(w.out.PacksToDelete))
	}
	w.out.PacksToDelete = append(w.out.PacksToDelete, x)
	return nil
}

// save stores the file being filled, and removes those whose content is stored.
func (w *indexWriter) save(ctx context.Context) error {
	if len(w.out.Packs)+len(w.out.PacksToDelete) > 0 {
		// The time of writing, not that of the decision: until the old file is gone, a backup may still count on the pack.
		now := w.options.Now().UTC()
		for _, i := range w.fresh {
			x := &w.out.PacksToDelete[i]
			x.Time = now
			w.survey.find(x.ID).since = nanos(now)
		}
		e, err := w.repo.SaveIndexFile(ctx, &w.out)
		if err != nil {
			return err
		}
		w.report.IndexWritten++
		w.info = append(w.info, indexInfo{name: e.Name, blobs: w.blobs, marks: len(w.out.PacksToDelete) > 0})
	}
	w.out, w.fresh, w.blobs = repository.IndexFile{}, nil, 0
	for _, n := range w.old {
		if err := w.repo.Files().Remove(ctx, n); err != nil {
			return err
		}
		w.report.IndexRemoved++
	}
	w.old = nil
	return nil
}
