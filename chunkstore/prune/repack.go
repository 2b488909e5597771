package prune

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore/repository"
)

// Limit is an amount of data that nothing needs. The zero Limit is none at all.
type Limit struct {
	Bytes     int64
	Percent   float64 // of what the kept packs hold; counts if Bytes is 0
	Unlimited bool
}

// bytes returns the limit beside needed bytes.
func (l Limit) bytes(needed int64) int64 {
	switch {
	case l.Unlimited:
		return math.MaxInt64
	case l.Percent != 0:
		return int64(l.Percent / (100 - l.Percent) * float64(needed))
	default:
		return l.Bytes
	}
}

// Repack says which packs are rewritten. What is needed of them goes into new packs, and they are marked. The meaning is
// that of stock restic's options of the same names.
type Repack struct {
	// MaxUnused is how much that nothing needs may stay in kept packs. Those with the greatest share of it go first.
	MaxUnused Limit

	// MaxBytes bounds the packs rewritten in one run; zero means no bound.
	MaxBytes int64

	// CacheableOnly leaves packs of file content alone.
	CacheableOnly bool

	// Small has packs rewritten that are shorter than four fifths of the size at which packs are finished.
	Small bool

	// Uncompressed has packs rewritten that hold blobs stored as they are. What does not shrink stays so.
	Uncompressed bool
}

func (r *Repack) check() error {
	l := r.MaxUnused
	if l.Bytes < 0 || l.Percent < 0 || l.Percent >= 100 || math.IsNaN(l.Percent) || r.MaxBytes < 0 {
		return fmt.Errorf("unused %d bytes, %v %%, repack %d bytes: %w", l.Bytes, l.Percent, r.MaxBytes, ErrOptions)
	}
	return nil
}

// repack selects packs, rewrites what is needed of them and has them marked. The new packs are durable and in the index
// before the old ones lose their place in it.
func (p *pruner) repack(ctx context.Context) error {
	if err := p.claim(ctx); err != nil {
		return err
	}
	selected := p.selectPacks()
	for _, k := range selected {
		k.selected = true
		p.report.Rewritten += k.needed
	}
	if len(selected) > 0 && !p.options.DryRun {
		p.report.Rewritten = 0
		if err := p.rewrite(ctx, len(selected)); err != nil {
			return err
		}
	}
	for _, k := range selected {
		k.action = mark
	}
	return nil
}

// claim decides for each blob that several packs hold which of them counts: one of which all is needed, if there is one.
// In the others it is no longer needed.
func (p *pruner) claim(ctx context.Context) error {
	double := false
	for note := range p.used.all() {
		double = double || *note&maxCopies > 1
	}
	if !double {
		return nil
	}
	isFull := make(map[*pack]bool) // as counted, before anything is claimed
	p.survey.all(func(k *pack) {
		if k.odd || k.used == k.blobs {
			isFull[k] = true
		}
	})
	for _, round := range []bool{true, false} {
		seen := make(map[*pack]bool)
		if err := p.eachIndex(ctx, "looking for duplicates", func(_ int, f *repository.IndexFile) error {
			for _, x := range f.Packs {
				k := p.survey.find(x.ID)
				if k == nil || isFull[k] != round || seen[k] {
					continue
				}
				seen[k] = !k.odd
				for _, b := range x.Blobs {
					note := p.used.note(b.Type, &b.ID)
					switch {
					case note == nil:
					case *note&claimed == 0:
						*note |= claimed
					case !k.odd:
						k.used--
						k.needed -= int64(b.Length)
					}
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// selectPacks returns the packs to be rewritten.
func (p *pruner) selectPacks() []*pack {
	o := p.options.Repack
	var needed, unused int64
	var candidates, small []*pack
	reasons := make(map[*pack]bool) // apart from what is unused
	p.survey.all(func(k *pack) {
		if k.action != keep || !k.listed || !k.whole() {
			return
		}
		needed += k.needed
		unused += k.unused()
		if o.CacheableOnly && k.data {
			return
		}
		if k.trees && k.data || o.Uncompressed && k.plain {
			reasons[k] = true
		}
		if o.Small && k.size < repository.DefaultPackBytes/5*4 {
			small = append(small, k)
		}
		if reasons[k] || k.unused() > 0 {
			candidates = append(candidates, k)
		}
	})
	if len(small) > 1 { // a lone one would only move
		for _, k := range small {
			if !reasons[k] && k.unused() == 0 {
				candidates = append(candidates, k)
			}
			reasons[k] = true
		}
	}
	slices.SortFunc(candidates, func(a, b *pack) int {
		if reasons[a] != reasons[b] {
			if reasons[a] {
				return -1
			}
			return 1
		}
		shareA, shareB := float64(a.unused())/float64(a.size), float64(b.unused())/float64(b.size)
		return cmp.Or(cmp.Compare(shareB, shareA), bytes.Compare(a.id[:], b.id[:]))
	})
	limit := o.MaxUnused.bytes(needed)
	var selected []*pack
	var total int64
	for _, k := range candidates {
		if !reasons[k] && unused <= limit {
			break
		}
		if o.MaxBytes > 0 && total+k.size > o.MaxBytes {
			continue
		}
		total += k.size
		unused -= k.unused()
		selected = append(selected, k)
	}
	return selected
}

// unused returns the bytes of blobs in the pack that nothing needs.
func (k *pack) unused() int64 { return k.body - k.needed }

// rewriter copies what is needed of the selected packs.
type rewriter struct {
	*pruner
	session *repository.Session

	mu   sync.Mutex // guards notes, done and the report
	done map[*pack]bool
	n    int
}

func (p *pruner) rewrite(ctx context.Context, total int) (err error) {
	w := &rewriter{pruner: p, session: p.repo.NewSession(), done: make(map[*pack]bool)}
	defer func() { err = errors.Join(err, w.session.Close()) }()
	if err := p.eachIndex(ctx, "repacking", func(_ int, f *repository.IndexFile) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(runtime.GOMAXPROCS(0) + 1)
		for _, x := range f.Packs {
			k := p.survey.find(x.ID)
			if k == nil || !k.selected || w.done[k] {
				continue
			}
			w.done[k] = true
			g.Go(func() error {
				if err := w.copyPack(ctx, k, x.Blobs); err != nil {
					return fmt.Errorf("repack %s: %w", k.name(), err)
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				w.n++
				p.options.Progress(Progress{"repacking", int64(w.n), int64(total)})
				return nil
			})
		}
		return g.Wait()
	}); err != nil {
		return err
	}
	return w.session.Flush(ctx)
}

// take reports whether the caller is to copy the blob: it is needed, and nobody has copied it.
func (w *rewriter) take(b repository.PackedBlob) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	note := w.used.note(b.Type, &b.ID)
	if note == nil || *note&rewritten != 0 {
		return false
	}
	*note |= rewritten
	return true
}

func (w *rewriter) copyPack(ctx context.Context, k *pack, blobs []repository.PackedBlob) error {
	r, err := repository.OpenRanges(ctx, w.repo.Files(), k.name())
	if err != nil {
		return err
	}
	defer r.Close()
	var env, kept []byte
	for _, b := range blobs {
		if !w.take(b) {
			continue
		}
		if w.elsewhere(ctx, b) {
			continue
		}
		env = slices.Grow(env[:0], int(b.Length))[:b.Length]
		if err := r.ReadRange(ctx, int64(b.Offset), env); err != nil {
			return err
		}
		kept = append(kept[:0], env...)
		payload, err := w.repo.OpenEnvelope(env, b)
		if err != nil {
			return err
		}
		if w.options.Repack.Uncompressed && b.UncompressedBytes == 0 {
			err = w.session.SaveBlobAgain(ctx, b.Type, payload)
		} else {
			err = w.session.SaveEnvelope(ctx, b, kept)
		}
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.report.Rewritten += int64(b.Length)
		w.mu.Unlock()
	}
	return nil
}

// elsewhere reports whether a pack that stays holds the blob too, as read and verified now: an entry in an index is no
// reason to let a copy go.
func (w *rewriter) elsewhere(ctx context.Context, b repository.PackedBlob) bool {
	for _, l := range w.repo.Locate(b.Type, b.ID) {
		k := w.survey.find(repository.IDOf(l.Pack.ID))
		if k == nil || k.selected || !k.listed || !k.whole() || k.action != keep {
			continue
		}
		env := make([]byte, l.Blob.Length)
		if err := w.repo.Files().ReadRange(ctx, l.Pack, int64(l.Blob.Offset), env); err != nil {
			continue
		}
		if _, err := w.repo.OpenEnvelope(env, l.Blob); err == nil {
			return true
		}
	}
	return false
}
