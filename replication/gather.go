package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
)

const (
	defaultStreams = 4
	defaultStall   = 30 * time.Second
)

// Source is a centre that can be asked for files.
type Source struct {
	ServerID string
	Client   replicationpb.TransferClient
}

// GatherConfig says what to fetch and from whom. Repository, Sources and Store are required.
type GatherConfig struct {
	Repository string
	Files      []manifest.File // without duplicates; order does not matter
	Sources    []Source        // all are asked at once
	Store      Store

	// Streams is how many streams are open at once over all sources; there is at least one for each source. Default 4.
	Streams int

	// Stall is how long a source may be silent in the middle of a stream before its files are asked from others. Default
	// 30 s.
	Stall time.Duration

	// OnFile is called once for each file that has arrived and was verified, concurrently. Nil for nobody.
	OnFile func(source string, f manifest.File)

	// OnBytes is called with the length of every piece received, concurrently. Nil for nobody.
	OnBytes func(n int)

	Limiter  *Limiter     // shared by all streams; nil for no limit
	Observer Observer     // nil for none
	Logger   *slog.Logger // nil for none
}

// Tally is what one source delivered.
type Tally struct {
	Files int   // whole or their last part, verified
	Bytes int64 // on the wire, bad ones included
}

// Blame names a source and a file of which it delivered wrong bytes, or admitted to have a damaged one.
type Blame struct{ Source, Name string }

// GatherReport is what [Gather] did. It is valid beside an error.
type GatherReport struct {
	PerSource map[string]Tally // one entry for each source
	Present   int              // files of which no byte had to be fetched
	Damaged   []Blame          // sorted
	Missing   []string         // files that no source delivered in good order, sorted
	Seconds   float64
}

// Gather fetches files from all sources at once: each stream takes a share, and a stream without work takes over what
// another one has not begun. A file that a source lacks or delivers wrong comes from another source. A file counts once it
// is durable, was re-hashed from disk and has the leaf root of the manifest; what is in the store already, with the right
// size, is not read again. What cannot be rebuilt, config and keys, comes first.
//
// Gather gives [ErrIncomplete] if files are missing at the end, [ErrFull], [ErrInconsistent], or an error matching
// ctx.Err(). Whatever arrived before stays, whole files and parts, and is not fetched again by the next call.
func Gather(ctx context.Context, c GatherConfig) (GatherReport, error) {
	report := GatherReport{PerSource: make(map[string]Tally)}
	if err := c.complete(); err != nil {
		return report, err
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := newSchedule(&c, cancel)
	stop := context.AfterFunc(ctx, func() { s.abort(ctx.Err()) })
	defer stop()

	var wg sync.WaitGroup
	n := max(c.Streams, len(c.Sources))
	for i := range n {
		w := &worker{c: &c, s: s, id: i, source: i % len(c.Sources)}
		wg.Go(func() {
			w.run(ctx)
			w.commits.Wait()
		})
	}
	wg.Wait()
	if err := s.close(); err != nil { // parts count for nothing, so nothing is lost but time
		c.Logger.WarnContext(ctx, "unfinished files may have to be fetched again", "err", err)
	}

	for i, src := range c.Sources {
		t := report.PerSource[src.ServerID]
		t.Files += s.tally[i].Files
		t.Bytes += s.tally[i].Bytes
		report.PerSource[src.ServerID] = t
	}
	report.Present, report.Damaged, report.Missing = s.present, s.damaged, s.missing
	slices.Sort(report.Missing)
	slices.SortFunc(report.Damaged, func(a, b Blame) int {
		return slices.Compare([]string{a.Source, a.Name}, []string{b.Source, b.Name})
	})
	report.Seconds = time.Since(began).Seconds()
	if s.err != nil {
		return report, fmt.Errorf("gather %s: %w", c.Repository, s.err)
	}
	if n := len(s.inconsistent); n > 0 {
		return report, fmt.Errorf("gather %s: %w: %d files have another leaf root than registered, first %s",
			c.Repository, ErrInconsistent, n, s.inconsistent[0])
	}
	if n := len(report.Missing); n > 0 {
		err := fmt.Errorf("gather %s: %w: %d of %d files, first %s", c.Repository, ErrIncomplete, n, len(c.Files),
			report.Missing[0])
		return report, errors.Join(append([]error{err}, s.causes()...)...)
	}
	return report, nil
}

// complete fills in defaults.
func (c *GatherConfig) complete() error {
	switch {
	case c.Store == nil:
		return fmt.Errorf("gather: %w: Store is required", ErrConfig)
	case manifest.CheckRepository(c.Repository) != nil:
		return fmt.Errorf("gather: %w: %w", ErrConfig, manifest.CheckRepository(c.Repository))
	case len(c.Sources) == 0:
		return fmt.Errorf("gather %s: %w", c.Repository, ErrNoSource)
	}
	for _, f := range c.Files {
		if err := f.Check(); err != nil {
			return fmt.Errorf("gather %s: %w", c.Repository, err)
		}
	}
	if c.Streams <= 0 {
		c.Streams = defaultStreams
	}
	if c.Stall <= 0 {
		c.Stall = defaultStall
	}
	if c.Observer == nil {
		c.Observer = silent{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnFile == nil {
		c.OnFile = func(string, manifest.File) {}
	}
	if c.OnBytes == nil {
		c.OnBytes = func(int) {}
	}
	return nil
}
