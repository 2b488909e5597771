package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

var (
	// ErrUnindexed is the finding for a pack that no index file names: left by an interrupted backup, or planted.
	ErrUnindexed = errors.New("pack is in no index")

	// ErrSize is the finding for a pack that is not as long as its blobs, and for files that do not add up.
	ErrSize = errors.New("wrong size")

	// ErrHeader is the finding for a pack whose own list of blobs is not what the index says.
	ErrHeader = errors.New("pack header and index differ")

	// ErrMissing is the finding for a pack that the index names and that is not there.
	ErrMissing = errors.New("pack is missing")
)

// Options says how deep to look.
type Options struct {
	// ReadData has every byte of every pack read and verified.
	ReadData bool

	// Progress, if not nil, is called after each pack that was read, by one goroutine at a time.
	Progress func(packs, packsTotal int)
}

// MaxAffected is how many paths a finding lists; the rest is counted.
const MaxAffected = 1000

// Finding is something wrong with one file.
type Finding struct {
	Name     chunkstore.Name
	Err      error      // the first thing found
	Affects  []Affected // what cannot be restored because of it; empty if nothing
	More     int        // affected paths beyond MaxAffected
	Harmless bool       // nothing that a snapshot names depends on the file
}

// Affected is a file or directory of a snapshot that cannot be restored whole.
type Affected struct {
	Snapshot digest.Digest
	Path     string
}

// String returns one line for people and logs.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: %v", f.Name, f.Err)
	if n := len(f.Affects) + f.More; n > 0 {
		s += fmt.Sprintf(" (%d paths suffer, such as %s in snapshot %s)", n, f.Affects[0].Path, f.Affects[0].Snapshot.Hex()[:8])
	}
	return s
}

// Check examines repo. Findings are ascending by kind and name; none means that all is well. An error says that the
// check itself could not be done.
func Check(ctx context.Context, repo *repository.Repository, o Options) ([]Finding, error) {
	c := &checker{
		repo: repo.WithoutHealing(), options: o,
		findings: make(map[chunkstore.Name]*Finding),
		bad:      make(map[blobKey]badBlob),
		trees:    make(map[repository.ID]bool),
	}
	for _, step := range []func(context.Context) error{c.smallFiles, c.packs, c.snapshots} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("check: %w", err)
		}
	}
	var all []Finding
	for _, f := range c.findings {
		all = append(all, *f)
	}
	slices.SortFunc(all, func(a, b Finding) int {
		if a.Name.Kind != b.Name.Kind {
			return int(a.Name.Kind) - int(b.Name.Kind)
		}
		return a.Name.ID.Compare(b.Name.ID)
	})
	return all, nil
}

type checker struct {
	repo    *repository.Repository
	options Options

	mu       sync.Mutex // guards what follows while packs are read
	findings map[chunkstore.Name]*Finding
	bad      map[blobKey]badBlob
	read     int

	trees map[repository.ID]bool // trees seen: whether something in or below them is bad
}

type blobKey struct {
	typ repository.BlobType
	id  repository.ID
}

// badBlob is a blob that cannot be read. Without packs it is in no index.
type badBlob struct {
	packs []chunkstore.Name
	err   error
}

// find records something wrong with a file; c.mu is held or not needed.
func (c *checker) find(name chunkstore.Name, err error) *Finding {
	f := c.findings[name]
	if f == nil {
		f = &Finding{Name: name, Err: err}
		c.findings[name] = f
	}
	return f
}

// smallFiles reads every config, key, index and snapshot file and holds it to its name.
func (c *checker) smallFiles(ctx context.Context) error {
	for _, u := range c.repo.Unreadable() {
		c.find(u.Name, u.Err)
	}
	for _, k := range []chunkstore.Kind{chunkstore.Config, chunkstore.Key, chunkstore.Index, chunkstore.Snapshot} {
		for e, err := range c.repo.Files().List(ctx, k) {
			if err != nil {
				return err
			}
			if err := c.verify(ctx, e.Name); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				c.find(e.Name, err)
			}
		}
	}
	return nil
}

func (c *checker) verify(ctx context.Context, name chunkstore.Name) error {
	r, err := c.repo.Files().Open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// packs compares the packs that are there with the index, and reads them if that is wished.
func (c *checker) packs(ctx context.Context) error {
	indexed := make(map[chunkstore.Name][]repository.PackedBlob)
	for l := range c.repo.Blobs() {
		indexed[l.Pack] = append(indexed[l.Pack], l.Blob)
	}
	sizes := make(map[chunkstore.Name]int64)
	for e, err := range c.repo.Files().List(ctx, chunkstore.Pack) {
		if err != nil {
			return err
		}
		sizes[e.Name] = e.SizeBytes
		if indexed[e.Name] == nil {
			c.find(e.Name, ErrUnindexed).Harmless = true
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1) // one waits for the disk
	for name, blobs := range indexed {
		slices.SortFunc(blobs, func(a, b repository.PackedBlob) int { return int(int64(a.Offset) - int64(b.Offset)) })
		size, ok := sizes[name]
		if !ok {
			c.broken(name, ErrMissing, blobs)
			continue
		}
		if want := repository.PackSize(blobs); size != want {
			c.mu.Lock()
			c.find(name, fmt.Errorf("%d bytes, want %d: %w", size, want, ErrSize))
			c.mu.Unlock()
		}
		if !c.options.ReadData {
			continue
		}
		g.Go(func() error {
			bad, err := c.readPack(gctx, name, size, blobs)
			if gctx.Err() != nil {
				return gctx.Err()
			}
			if err != nil {
				c.broken(name, err, bad)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.read++
			if c.options.Progress != nil {
				c.options.Progress(c.read, len(indexed))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	// A blob that lies in a sound pack as well is not lost.
	for key, b := range c.bad {
		if len(c.repo.Locate(key.typ, key.id)) > len(b.packs) {
			delete(c.bad, key)
		}
	}
	return nil
}

// broken records a pack that yields some of its blobs no more.
func (c *checker) broken(name chunkstore.Name, err error, blobs []repository.PackedBlob) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.find(name, err)
	for _, b := range blobs {
		key := blobKey{b.Type, b.ID}
		bad := c.bad[key]
		bad.packs, bad.err = append(bad.packs, name), err
		c.bad[key] = bad
	}
}
