package check

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

// Options says how deep to look.
type Options struct {
	// ReadData has every byte of every pack read and verified.
	ReadData bool

	// Subset, if not zero, has part of the packs read. It goes before ReadData.
	Subset Subset

	// State is the path of a file that remembers when each pack was verified; empty for none. It is made when it is not
	// there. With ReadData, packs that an interrupted check has verified are not read again.
	State string

	// Progress, if not nil, is called after each pack that was read, by one goroutine at a time.
	Progress func(Progress)

	// Now is the clock for the state file; nil means time.Now.
	Now func() time.Time
}

func (o Options) reads() bool { return o.ReadData || !o.Subset.IsZero() }

// Progress is how far the reading of packs is.
type Progress struct {
	Packs, PacksTotal int
	Bytes, BytesTotal int64
}

// Report is what a check saw.
type Report struct {
	// Findings are ascending by kind and name; none means that all is well.
	Findings []Finding

	IndexFiles, Packs int
	Snapshots, Trees  int
	PacksRead         int
	BytesRead         int64

	// PacksSkipped counts packs that were to be read and that an interrupted check had verified.
	PacksSkipped int

	// StateErr says why the state file was ignored, if it was; it matches [ErrState].
	StateErr error
}

// Damaged reports whether something was found that is not harmless.
func (r *Report) Damaged() bool {
	for _, f := range r.Findings {
		if !f.Harmless {
			return true
		}
	}
	return false
}

// Check examines repo. Findings are ascending by kind and name; none means that all is well. An error says that the
// check itself could not be done.
func Check(ctx context.Context, repo *repository.Repository, o Options) ([]Finding, error) {
	r, err := Examine(ctx, repo, o)
	if err != nil {
		return nil, err
	}
	return r.Findings, nil
}

// Examine is [Check] with numbers.
func Examine(ctx context.Context, repo *repository.Repository, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &checker{
		repo: repo.WithoutHealing(), options: o,
		findings: make(map[chunkstore.Name]*Finding),
		bad:      make(map[place]struct{}),
	}
	// Snapshots are listed before the index is read and that before the packs are looked at: the reverse of the order in
	// which a backup writes them.
	for _, step := range []func(context.Context) error{c.smallFiles, c.loadSnapshots, c.packs, c.references, c.blame} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("check: %w", err)
		}
	}
	c.report.Findings = c.sorted()
	return &c.report, nil
}

type checker struct {
	repo    *repository.Repository
	options Options

	disk      []packInfo // the packs that are there, ascending by ID
	round     int64      // when the present round of reading began, Unix seconds; 0 if none
	snapshots []*repository.Snapshot
	spoiled   bool // some tree or what it names is bad
	listed    int  // paths in all findings
	blamed    int  // nodes looked at for them

	mu       sync.Mutex // guards what follows while packs and trees are read
	report   Report
	findings map[chunkstore.Name]*Finding
	bad      map[place]struct{}
	lost     bool // some pack is missing or yields nothing
	progress Progress
}

func workers() int { return runtime.GOMAXPROCS(0) + 1 } // one waits for the disk

// smallFiles reads every config, key and snapshot file and holds it to its name. Index files are read later.
func (c *checker) smallFiles(ctx context.Context) error {
	for _, u := range c.repo.Unreadable() {
		if u.Name.Kind != chunkstore.Index {
			c.find(u.Name, u.Err, false)
		}
	}
	for _, k := range []chunkstore.Kind{chunkstore.Config, chunkstore.Key, chunkstore.Snapshot} {
		for e, err := range c.repo.Files().List(ctx, k) {
			if err != nil {
				return err
			}
			err := c.steady(ctx, e.Name, func() error { return c.verify(ctx, e.Name) })
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				c.find(e.Name, err, false)
			}
		}
	}
	return nil
}

// verifier is implemented by files that can read a file from the disk and not from the system's memory.
type verifier interface {
	Verify(ctx context.Context, name chunkstore.Name) error
}

// steady looks once more when look fails, past the system's cache if that is possible. A second success is a finding.
func (c *checker) steady(ctx context.Context, name chunkstore.Name, look func() error) error {
	first := look()
	if first == nil || ctx.Err() != nil {
		return cmp.Or(ctx.Err(), first)
	}
	if v, ok := c.repo.Files().(verifier); ok {
		_ = v.Verify(ctx, name) // what matters is what look says then
	}
	err := look()
	if err == nil {
		c.find(name, fmt.Errorf("%w (%w)", ErrUnsteady, first), true)
	}
	return err
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

func (c *checker) loadSnapshots(ctx context.Context) error {
	all, unreadable, err := c.repo.Snapshots(ctx)
	if err != nil {
		return err
	}
	for _, u := range unreadable {
		sn, err := c.repo.LoadSnapshot(ctx, u.Name.ID)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			c.find(u.Name, fmt.Errorf("%w (%w)", ErrUnsteady, u.Err), true)
			all = append(all, sn)
		default:
			c.find(u.Name, err, false)
		}
	}
	c.snapshots = all
	c.report.Snapshots = len(all)
	return nil
}
