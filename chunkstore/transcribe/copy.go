package transcribe

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

const (
	// A batch of snapshots is saved when so much was copied for it: a new pack and index file for each of many small
	// snapshots would fill the target with small files.
	batchBytes = 1 << 30

	// roundBlobs is how many blobs are looked up before they are copied.
	roundBlobs = 200_000
)

// Options says how to copy. The zero Options is right for most.
type Options struct {
	// Recompress has content compressed anew as the target compresses, rather than copied as it is compressed.
	Recompress bool

	// Progress, if not nil, is called now and then, by one goroutine at a time.
	Progress func(Progress)
}

// Progress is how far a copy is.
type Progress struct {
	Snapshots, SnapshotsTotal int
	Blobs                     int   // copied
	Bytes                     int64 // of them, as stored
}

// Result is what a copy did.
type Result struct {
	Copied  []Pair // in the order of saving
	Skipped []Pair // were there already

	// Added lists the files that the target gained.
	Added []chunkstore.Entry
	Stats repository.SessionStats
}

// Pair is a snapshot of the source and its copy in the target.
type Pair struct {
	Source *repository.Snapshot
	Copy   digest.Digest
}

// Alike reports whether two repositories cut files alike.
func Alike(a, b *repository.Repository) bool {
	return a.Config().Polynomial == b.Config().Polynomial && a.Config().Chunks == b.Config().Chunks
}

// Copy copies snapshots of from into to. What was saved before an error stays and is in the result.
func Copy(ctx context.Context, from, to *repository.Repository, snapshots []*repository.Snapshot, o Options) (_ *Result, err error) {
	if from.Config().ID == to.Config().ID {
		return nil, fmt.Errorf("copy: %w", ErrSame)
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	there, err := known(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	c := &copier{from: from, to: to, session: to.NewSession(), options: o,
		visited: make(map[repository.ID]struct{}), planned: make(map[repository.ID]struct{})}
	c.progress.SnapshotsTotal = len(snapshots)
	defer func() {
		err = errors.Join(err, c.session.Close())
		c.result.Added, c.result.Stats = c.session.Added(), c.session.Stats()
	}()
	// What a copy that was cut off has stored counts as stored.
	if _, err := c.session.Adopt(ctx); err != nil {
		return &c.result, fmt.Errorf("copy: %w", err)
	}
	for _, sn := range snapshots {
		if id, ok := there.find(sn); ok {
			c.result.Skipped = append(c.result.Skipped, Pair{sn, id})
			c.saved(1)
			continue
		}
		if err := c.add(ctx, sn); err != nil {
			return &c.result, fmt.Errorf("copy %s: %w", sn.Name(), err)
		}
		if c.bytes >= batchBytes || len(c.data)+len(c.trees) >= roundBlobs {
			if err := c.save(ctx); err != nil {
				return &c.result, fmt.Errorf("copy: %w", err)
			}
		}
	}
	if err := c.save(ctx); err != nil {
		return &c.result, fmt.Errorf("copy: %w", err)
	}
	return &c.result, nil
}

// copier is one copy.
type copier struct {
	from, to *repository.Repository
	session  *repository.Session
	options  Options
	result   Result
	progress Progress

	visited map[repository.ID]struct{} // trees
	batch   []*repository.Snapshot     // to be saved when all below is copied
	data    []repository.ID            // to be copied
	planned map[repository.ID]struct{} // the same
	trees   []repository.ID            // to be copied after the data
	bytes   int64                      // of data and of what was copied for the batch
}

// add has everything copied that sn needs, now or by save.
func (c *copier) add(ctx context.Context, sn *repository.Snapshot) error {
	if err := c.walk(ctx, sn.Tree); err != nil {
		return err
	}
	c.batch = append(c.batch, sn)
	return nil
}

// save copies what is left of the batch and saves its snapshots.
func (c *copier) save(ctx context.Context) error {
	if err := c.copyData(ctx); err != nil {
		return err
	}
	if err := c.copyAll(ctx, repository.TreeBlob, c.trees); err != nil {
		return err
	}
	c.trees = c.trees[:0]
	for _, sn := range c.batch {
		n := *sn
		n.Parent = nil // it may not be there
		if n.Original == nil {
			id := repository.IDOf(sn.ID)
			n.Original = &id
		}
		if _, err := c.session.SaveSnapshot(ctx, &n); err != nil {
			return err
		}
		c.result.Copied = append(c.result.Copied, Pair{sn, n.ID})
		c.saved(1)
	}
	c.batch, c.bytes = nil, 0
	return nil
}

func (c *copier) saved(n int) {
	c.progress.Snapshots += n
	c.options.Progress(c.progress)
}

// copies is the snapshots of the target by what they are copies of, themselves included.
type copies map[digest.Digest][]*repository.Snapshot

func known(ctx context.Context, to *repository.Repository) (copies, error) {
	snapshots, _, err := to.Snapshots(ctx) // one that cannot be read is copied again
	if err != nil {
		return nil, err
	}
	k := make(copies)
	for _, sn := range snapshots {
		k[sn.ID] = append(k[sn.ID], sn)
		if o := origin(sn); o != sn.ID {
			k[o] = append(k[o], sn)
		}
	}
	return k, nil
}

// origin returns the snapshot that sn is a copy of, itself if it is none.
func origin(sn *repository.Snapshot) digest.Digest {
	if sn.Original != nil && !sn.Original.IsZero() {
		return sn.Original.Digest()
	}
	return sn.ID
}

// find returns a copy of sn that says the same.
func (k copies) find(sn *repository.Snapshot) (digest.Digest, bool) {
	for _, other := range k[origin(sn)] {
		if alike(sn, other) {
			return other.ID, true
		}
	}
	return digest.Digest{}, false
}

// alike compares everything but what a copy changes.
func alike(a, b *repository.Snapshot) bool {
	return a.Time.Equal(b.Time) && a.Tree == b.Tree && a.Hostname == b.Hostname && a.Username == b.Username && a.UID == b.UID && a.GID == b.GID &&
		slices.Equal(a.Paths, b.Paths) && slices.Equal(a.Excludes, b.Excludes) && slices.Equal(a.Tags, b.Tags)
}
