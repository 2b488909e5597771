package replication

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore/digest"
	"dengbei/replication/manifest"
)

// segmentFiles bounds the files fetched before a receipt in between, beside Config.SegmentBytes.
const segmentFiles = 10_000

// keeper makes one attempt to bring one repository up to date.
type keeper struct {
	r     *Replicator
	h     Holding
	p     *progress
	store Store

	set   manifest.Set // verified up to the last confirmed step
	final manifest.Set // what will be held in the end

	// The segment being gathered:
	docs  []manifest.Document
	need  []manifest.File // not stored
	check []manifest.File // stored, by an earlier attempt or another replicator, but not yet compared with their leaf roots

	seen    map[string]bool // names looked at in this attempt
	skipped map[string]bool // in the set so far, not stored, and released later: not worth fetching
	lost    error           // files that no source delivered; nothing is confirmed after that

	mu       sync.Mutex      // guards verified
	verified map[string]bool // fetched and verified in this segment
}

// run works through the manifests in order, fetches what the newest set needs, and confirms whatever sequence is whole.
func (k *keeper) run(ctx context.Context) error {
	if err := k.registered(); err != nil {
		return err
	}
	var err error
	if k.store, err = k.r.c.OpenStore(ctx, k.h.Repository); err != nil {
		return fmt.Errorf("store of %s: %w", k.h.Repository, err)
	}
	cache := setCache(k.r.c.CacheDir)
	set, sequence, err := cache.load(k.h)
	if err != nil {
		return err
	}
	refs := k.h.Manifests[sequence:]
	docs, err := k.documents(ctx, refs)
	if err != nil {
		return err
	}
	if k.final, err = manifest.Apply(set, docs...); err != nil {
		return fmt.Errorf("%s: %w: %w", k.h.Repository, ErrInconsistent, err)
	}
	k.set, k.seen, k.skipped = set, make(map[string]bool), make(map[string]bool)
	if err := k.base(ctx); err != nil {
		return err
	}
	last, _ := k.h.last()
	if len(refs) == 0 { // the set was cached, and power went before the receipt
		return k.finish(ctx, last)
	}
	size := int64(0)
	for i, d := range docs {
		if err := k.step(ctx, refs[i], d); err != nil {
			return err
		}
		size += d.AddedBytes
		if i+1 < len(docs) && size < k.r.c.SegmentBytes && len(k.need)+len(k.check) < segmentFiles {
			continue
		}
		size = 0
		if err := k.finish(ctx, refs[i]); err != nil {
			return err
		}
	}
	return k.lost
}

// registered checks what the ledger says before it is relied on.
func (k *keeper) registered() error {
	if err := manifest.CheckRepository(k.h.Repository); err != nil {
		return fmt.Errorf("%w: %w", ErrInconsistent, err)
	}
	var parent digest.Digest
	for i, m := range k.h.Manifests {
		if m.Sequence != uint64(i)+1 || m.Parent != parent {
			return fmt.Errorf("%s: %w: manifest %d in the list has sequence %d and parent %s, want %d and %s",
				k.h.Repository, ErrInconsistent, i+1, m.Sequence, m.Parent, i+1, parent)
		}
		parent = m.Digest
	}
	return nil
}

// base looks at the files of the cached set: a scrub may have moved some aside since.
func (k *keeper) base(ctx context.Context) error {
	for f := range k.set.Files() {
		if err := k.want(ctx, f, false); err != nil {
			return err
		}
	}
	return nil
}

// step adds one manifest to the segment.
func (k *keeper) step(ctx context.Context, ref ManifestRef, d manifest.Document) error {
	for _, name := range d.Released {
		delete(k.skipped, name)
	}
	for _, f := range d.Added {
		// What an earlier receipt vouches for was compared then.
		if err := k.want(ctx, f, ref.Sequence > k.h.Receipted); err != nil {
			return err
		}
	}
	k.docs = append(k.docs, d)
	return nil
}

// want sorts f into what has to be fetched, compared, or left.
func (k *keeper) want(ctx context.Context, f manifest.File, fresh bool) error {
	if k.seen[f.Name] {
		return nil
	}
	size, ok, err := k.store.Has(ctx, f.Name)
	if err != nil {
		return fmt.Errorf("look up %s: %w", f.Name, err)
	}
	_, stays := k.final.File(f.Name)
	switch {
	case ok && size == f.SizeBytes:
		if fresh {
			k.check = append(k.check, f)
		}
	case stays:
		k.need = append(k.need, f)
	default:
		k.skipped[f.Name] = true
		return nil // it may be added again and stay
	}
	k.seen[f.Name] = true
	return nil
}

// finish fetches and verifies the segment that ends with ref, and confirms ref if its set is whole.
func (k *keeper) finish(ctx context.Context, ref ManifestRef) error {
	err := k.gather(ctx, ref)
	if errors.Is(err, ErrIncomplete) || errors.Is(err, ErrNoSource) {
		// One lost file must not keep the others from having a copy, but nothing is confirmed any more.
		k.lost = errors.Join(k.lost, err)
	} else if err != nil {
		return err
	}
	if k.lost != nil {
		if last, _ := k.h.last(); ref.Sequence == last.Sequence {
			return k.lost
		}
		return nil
	}
	next, err := manifest.Apply(k.set, k.docs...)
	if err != nil {
		return fmt.Errorf("%s: %w: %w", k.h.Repository, ErrInconsistent, err)
	}
	k.set, k.docs = next, nil
	if next.Root() != ref.SetRoot || uint64(next.Len()) != ref.Files || next.SizeBytes() != ref.SizeBytes {
		return fmt.Errorf("%s: %w: the set after manifest %d is not the registered one", k.h.Repository, ErrInconsistent, ref.Sequence)
	}
	if len(k.skipped) > 0 {
		return nil // some files of this set are gone everywhere by right; a later set is whole without them
	}
	if err := setCache(k.r.c.CacheDir).save(next); err != nil {
		return full(err)
	}
	receipt := Receipt{Repository: k.h.Repository, Manifest: ref.Digest, Sequence: ref.Sequence, SetRoot: ref.SetRoot,
		Files: ref.Files, SizeBytes: ref.SizeBytes, VerifiedAt: time.Now().UTC()}
	if err := k.r.c.Ledger.Confirm(ctx, receipt); err != nil {
		return fmt.Errorf("confirm manifest %d of %s: %w", ref.Sequence, k.h.Repository, err)
	}
	k.p.confirm(ref.Sequence)
	k.r.confirmed(receipt)
	return nil
}

// gather makes the files of the segment stored and verified.
func (k *keeper) gather(ctx context.Context, ref ManifestRef) error {
	need, check := k.need, k.check
	k.need, k.check = nil, nil
	k.p.expect(need)
	// A stored file that turns out damaged is fetched once more; if that does not help, the next attempt looks again.
	for range 2 {
		k.verified = make(map[string]bool)
		if len(need) > 0 {
			if err := k.fetch(ctx, ref, need); err != nil {
				return err
			}
		}
		for _, f := range need {
			if !k.verified[f.Name] {
				check = append(check, f)
			}
		}
		var err error
		if need, err = k.compare(ctx, check); err != nil {
			return err
		}
		if check = nil; len(need) == 0 {
			return nil
		}
		k.p.expect(need)
	}
	return fmt.Errorf("%s: %w: %d files read back damaged, first %s", k.h.Repository, digest.ErrMismatch, len(need), need[0].Name)
}

func (k *keeper) fetch(ctx context.Context, ref ManifestRef, need []manifest.File) error {
	sources, err := k.sources(ctx, ref.Sequence)
	if err != nil {
		return err
	}
	_, err = Gather(ctx, GatherConfig{
		Repository: k.h.Repository, Files: need, Sources: sources, Store: k.store,
		Streams: k.r.c.Streams, Stall: k.r.c.Stall, Limiter: k.r.limiter, Observer: k.r.c.Observer, Logger: k.r.c.Logger,
		OnBytes: k.p.bytes,
		OnFile: func(_ string, f manifest.File) {
			k.mu.Lock()
			k.verified[f.Name] = true
			k.mu.Unlock()
			k.p.file(f)
		},
	})
	return err
}

// compare re-reads stored files against their leaf roots and returns those that are damaged, moved aside.
func (k *keeper) compare(ctx context.Context, files []manifest.File) (damaged []manifest.File, err error) {
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		root, err := leafRoot(ctx, k.store, f.Name)
		switch {
		case errors.Is(err, digest.ErrMismatch):
			k.r.c.Logger.WarnContext(ctx, "stored file is damaged, fetching it again", "chunk", f.Name)
			if err := k.store.Quarantine(ctx, f.Name); err != nil {
				return nil, fmt.Errorf("quarantine %s: %w", f.Name, err)
			}
			damaged = append(damaged, f)
		case err != nil:
			return nil, err
		case root != f.LeafRoot:
			return nil, fmt.Errorf("%s: %w: %s has leaf root %s, registered is %s",
				k.h.Repository, ErrInconsistent, f.Name, root, f.LeafRoot)
		}
	}
	return damaged, nil
}

// sources dials everybody who can be asked.
func (k *keeper) sources(ctx context.Context, sequence uint64) ([]Source, error) {
	ids, err := k.r.c.Ledger.Sources(ctx, k.h.Repository, sequence)
	if err != nil {
		return nil, fmt.Errorf("sources of %s: %w", k.h.Repository, err)
	}
	var sources []Source
	errs := []error{fmt.Errorf("manifest %d of %s: %w", sequence, k.h.Repository, ErrNoSource)}
	for _, id := range ids {
		client, err := k.r.c.Peers.Dial(ctx, id)
		if err != nil {
			errs = append(errs, fmt.Errorf("dial %s: %w", id, err))
			continue
		}
		sources = append(sources, Source{ServerID: id, Client: client})
	}
	if len(sources) == 0 {
		return nil, errors.Join(errs...)
	}
	return sources, nil
}

// documents returns the manifests of refs, from the local store or fetched and stored.
func (k *keeper) documents(ctx context.Context, refs []ManifestRef) ([]manifest.Document, error) {
	dial := sync.OnceValues(func() ([]Source, error) {
		last, _ := k.h.last()
		return k.sources(ctx, last.Sequence)
	})
	docs := make([]manifest.Document, len(refs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(k.r.c.Streams)
	for i, ref := range refs {
		g.Go(func() (err error) {
			if docs[i], err = k.document(gctx, ref, dial); err != nil {
				return fmt.Errorf("manifest %d of %s: %w", ref.Sequence, k.h.Repository, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return docs, nil
}

// document returns one manifest, proven to be the registered one.
func (k *keeper) document(ctx context.Context, ref ManifestRef, dial func() ([]Source, error)) (manifest.Document, error) {
	d, err := k.stored(ctx, ref.Digest)
	if err != nil {
		sources, err := dial()
		if err != nil {
			return d, err
		}
		f := documentFetch{c: &k.r.c, limiter: k.r.limiter, repository: k.h.Repository, sum: ref.Digest}
		text, err := f.from(ctx, sources)
		if err != nil {
			return d, err
		}
		if d, err = manifest.Parse(text); err != nil {
			return d, fmt.Errorf("%w: %w", ErrInconsistent, err)
		}
	}
	if d.Repository != k.h.Repository || d.Parent != ref.Parent || d.SetRoot != ref.SetRoot ||
		d.SetFiles != ref.Files || d.SetBytes != ref.SizeBytes {
		return d, fmt.Errorf("%w: document %s is not what was registered", ErrInconsistent, ref.Digest)
	}
	return d, nil
}

func (k *keeper) stored(ctx context.Context, sum digest.Digest) (manifest.Document, error) {
	r, err := k.r.c.Documents.Open(ctx, sum)
	if err != nil {
		return manifest.Document{}, err
	}
	defer r.Close()
	return manifest.Read(r, sum)
}

// full marks err with [ErrFull] if the disk is the reason.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
