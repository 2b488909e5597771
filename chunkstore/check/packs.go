package check

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sort"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

// packInfo is a pack that is there.
type packInfo struct {
	id       repository.ID
	size     int64
	verified int64  // when it was found sound to the last byte, Unix seconds; negative if it was not, 0 never
	listings uint32 // how often index files name it
	chosen   bool   // to be read
	dead     bool   // yields none of its blobs
}

// looked returns when the pack was looked at last.
func (p *packInfo) looked() int64 { return max(p.verified, -p.verified) }

func (p *packInfo) name() chunkstore.Name { return packName(p.id) }

func packName(id repository.ID) chunkstore.Name {
	return chunkstore.Name{Kind: chunkstore.Pack, ID: id.Digest()}
}

// place is where a bad blob lies. The ID tells two entries apart that an index claims for one offset.
type place struct {
	pack, offset uint32
	id           [8]byte
}

// pack returns what is known of a pack, or nil if it is not there.
func (c *checker) pack(id repository.ID) *packInfo {
	if i, ok := c.packAt(id); ok {
		return &c.disk[i]
	}
	return nil
}

// packAt looks at nothing but IDs: the rest changes meanwhile.
func (c *checker) packAt(id repository.ID) (int, bool) {
	i := sort.Search(len(c.disk), func(i int) bool { return bytes.Compare(c.disk[i].id[:], id[:]) >= 0 })
	return i, i < len(c.disk) && c.disk[i].id == id
}

// maxListings bounds how often one pack is looked at because index files list it again and again.
const maxListings = 16

// listing is a pack as one index file lists it, or one that no index file names.
type listing struct {
	pack   *packInfo
	blobs  []repository.PackedBlob
	named  bool // by an index file
	first  bool // the first of this pack
	marked bool // for deletion
}

// packs compares the packs that are there with the index, and reads those that are to be read.
func (c *checker) packs(ctx context.Context) error {
	for e, err := range c.repo.Files().List(ctx, chunkstore.Pack) {
		if err != nil {
			return err
		}
		c.disk = append(c.disk, packInfo{id: repository.IDOf(e.Name.ID), size: e.SizeBytes})
	}
	slices.SortFunc(c.disk, func(a, b packInfo) int { return bytes.Compare(a.id[:], b.id[:]) })
	c.report.Packs = len(c.disk)
	if err := c.loadState(); err != nil {
		return err
	}
	c.choose()
	for _, p := range c.disk {
		if p.chosen {
			c.progress.PacksTotal++
			c.progress.BytesTotal += p.size
		}
	}

	g, gctx := errgroup.WithContext(ctx)
	jobs := make(chan listing)
	for _, v := range c.repo.NewVerifiers(workers()) {
		g.Go(func() error {
			r := &reader{c: c, blob: v}
			for l := range jobs {
				if err := r.pack(gctx, l); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(jobs)
		return c.feed(gctx, jobs)
	})
	stop := make(chan struct{})
	saved := make(chan error, 1)
	go func() { saved <- c.saveOften(stop) }()
	err := g.Wait()
	close(stop)
	serr := <-saved
	if c.options.reads() && serr == nil {
		serr = c.saveState()
	}
	return cmp.Or(err, serr)
}

// saveOften keeps what was verified so far, so that an interruption costs little.
func (c *checker) saveOften(stop <-chan struct{}) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
			if c.options.reads() {
				if err := c.saveState(); err != nil {
					return err
				}
			}
		}
	}
}

// feed passes all packs on, one index file after another.
func (c *checker) feed(ctx context.Context, jobs chan<- listing) error {
	send := func(l listing) error {
		select {
		case jobs <- l:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for f, err := range c.repo.IndexFiles(ctx) {
		if f == nil {
			return err
		}
		c.mu.Lock()
		c.report.IndexFiles++
		c.mu.Unlock()
		if err != nil {
			name := f.Name
			err = c.steady(ctx, name, func() (err error) {
				f, err = c.repo.LoadIndexFile(ctx, name)
				return err
			})
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				c.find(name, err, false)
				continue
			}
		}
		for i, packs := range [][]repository.IndexedPack{f.Packs, f.PacksToDelete} {
			marked := i == 1
			for _, p := range packs {
				l := listing{pack: c.pack(p.ID), blobs: p.Blobs, named: true, marked: marked}
				if l.pack == nil {
					if err := c.absent(ctx, p.ID, marked); err != nil {
						return err
					}
					continue
				}
				l.pack.listings++
				if l.pack.listings > maxListings {
					continue // was found to be repeated before
				}
				l.first = l.pack.listings == 1
				if err := send(l); err != nil {
					return err
				}
			}
		}
	}
	for i := range c.disk {
		if c.disk[i].listings == 0 {
			c.find(c.disk[i].name(), ErrUnindexed, true)
			if err := send(listing{pack: &c.disk[i], first: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// absent looks for a pack that the index names and the listing did not show: it may have come since.
func (c *checker) absent(ctx context.Context, id repository.ID, marked bool) error {
	if marked {
		return nil // deleted in the meantime, as it should be
	}
	err := c.repo.Files().ReadRange(ctx, packName(id), 0, make([]byte, 1))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, io.ErrUnexpectedEOF):
		err = ErrMissing
	default:
		err = fmt.Errorf("%w: %w", ErrMissing, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.findLocked(packName(id), err, false)
	c.lost = true
	return nil
}

// spoil enters blobs of a pack that cannot be had from it.
func (c *checker) spoil(p *packInfo, blobs []repository.PackedBlob) {
	at, _ := c.packAt(p.id)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range blobs {
		c.bad[place{uint32(at), b.Offset, [8]byte(b.ID[:8])}] = struct{}{}
	}
}

// kill notes a pack that yields nothing.
func (c *checker) kill(p *packInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.dead, c.lost = true, true
}

// sound reports whether a blob can be had from one of its places, as far as is known.
func (c *checker) sound(at []repository.Location) bool {
	return slices.ContainsFunc(at, func(l repository.Location) bool {
		i, ok := c.packAt(repository.IDOf(l.Pack.ID))
		if !ok {
			// Missing, unless it came since.
			_, missing := c.findings[l.Pack]
			return !missing
		}
		if c.disk[i].dead {
			return false
		}
		_, bad := c.bad[place{uint32(i), l.Blob.Offset, [8]byte(l.Blob.ID[:8])}]
		return !bad
	})
}

// verified counts a pack that was read.
func (c *checker) verified(p *packInfo, sound bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.verified = c.options.Now().Unix()
	if !sound {
		p.verified = -p.verified // looked at in its turn, and never skipped
	}
	c.report.PacksRead++
	c.report.BytesRead += p.size
	c.progress.Packs++
	c.progress.Bytes += p.size
	if c.options.Progress != nil {
		c.options.Progress(c.progress)
	}
}

func byOffset(blobs []repository.PackedBlob) []repository.PackedBlob {
	if !sort.SliceIsSorted(blobs, func(i, j int) bool { return blobs[i].Offset < blobs[j].Offset }) {
		blobs = slices.Clone(blobs)
		slices.SortStableFunc(blobs, func(a, b repository.PackedBlob) int { return cmp.Compare(a.Offset, b.Offset) })
	}
	return blobs
}
