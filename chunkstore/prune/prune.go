package prune

import (
	"context"
	"fmt"
	"time"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// DefaultGrace is how long a pack stays marked before it is removed: longer than a backup takes.
const DefaultGrace = 24 * time.Hour

// maxRounds is how often one run looks for snapshots that were saved while it worked.
const maxRounds = 3

// Phase is a part of the work.
type Phase uint8

// The parts of the work.
const (
	MarkAndSweep Phase = iota // the default
	MarkOnly                  // removes no pack
	SweepOnly                 // marks no pack
)

// Options says what to prune. The zero Options marks the packs that nothing needs and removes those that have been marked
// for [DefaultGrace].
type Options struct {
	// Grace is how long packs stay marked, and so the longest that a backup may take from opening the repository to its
	// snapshot. Zero means [DefaultGrace].
	Grace time.Duration

	// NoGrace removes what nothing needs in the same run. The caller knows that nothing else works on the repository: it
	// holds the exclusive lock, and no backup goes on without one.
	NoGrace bool

	// Phase restricts the run to one part.
	Phase Phase

	// Repack, if not nil, has packs rewritten of which only a part is needed.
	Repack *Repack

	// DryRun changes nothing. The report says what a run would do.
	DryRun bool

	// Now is the clock; nil means [time.Now].
	Now func() time.Time

	// Progress, if not nil, is called now and then, by one goroutine at a time.
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	Step        string
	Done, Total int64 // Total is 0 where it is not known
}

func (o Options) check() (Options, error) {
	if o.Grace < 0 {
		return o, fmt.Errorf("grace of %s: %w", o.Grace, ErrOptions)
	}
	if o.NoGrace && o.Grace != 0 {
		return o, fmt.Errorf("a grace of %s and none at all: %w", o.Grace, ErrOptions)
	}
	if o.Grace == 0 && !o.NoGrace {
		o.Grace = DefaultGrace
	}
	if o.Repack != nil && o.Phase == SweepOnly {
		return o, fmt.Errorf("repacking marks packs: %w", ErrOptions)
	}
	if o.Repack != nil {
		if err := o.Repack.check(); err != nil {
			return o, err
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return o, nil
}

// Amount is a number of packs and their bytes.
type Amount struct {
	Packs int   `json:"packs"`
	Bytes int64 `json:"bytes"`
}

func (a *Amount) add(bytes int64) {
	a.Packs++
	a.Bytes += bytes
}

// Report is what a run did, or with DryRun would do.
type Report struct {
	DryRun bool `json:"dry_run,omitempty"`

	Snapshots int    `json:"snapshots"`
	Trees     int    `json:"trees"`
	Blobs     int    `json:"blobs_used"`
	Before    Amount `json:"before"` // in data/, marked or not

	Kept        Amount `json:"kept"`
	UnusedBytes int64  `json:"unused_bytes"` // of the kept packs, not needed: what repacking could free at most

	Marked    Amount    `json:"marked"`               // newly, to be removed by a run after the grace
	Unindexed Amount    `json:"unindexed"`            // of Marked, packs that no index file named
	Waiting   Amount    `json:"waiting"`              // marked before, within the grace
	Due       time.Time `json:"next_due,omitzero"`    // when the first of Waiting and Marked may be removed
	TakenBack Amount    `json:"taken_back"`           // marked before and needed again
	Removed   Amount    `json:"removed"`              // from data/
	Repacked  Amount    `json:"repacked"`             // of Marked, packs whose needed blobs were written anew
	Rewritten int64     `json:"repacked_blobs_bytes"` // bytes of those blobs
	Forgotten int       `json:"index_entries_dropped"`

	IndexWritten int `json:"index_written"`
	IndexRemoved int `json:"index_removed"`
}

// pruner is one run.
type pruner struct {
	repo    *repository.Repository
	options Options
	report  Report

	walked map[digest.Digest]bool // snapshots whose blobs are all in used
	used   *set
	survey *survey
}

// Run prunes repo. It reads the index and all trees anew; only one run at a time may work on a repository. On an error the
// report says what was done until then; whatever stopped a run, the next one goes on from there.
func Run(ctx context.Context, repo *repository.Repository, o Options) (Report, error) {
	o, err := o.check()
	if err != nil {
		return Report{}, fmt.Errorf("prune: %w", err)
	}
	p := &pruner{repo: repo, options: o, walked: make(map[digest.Digest]bool), report: Report{DryRun: o.DryRun}}
	if err := p.run(ctx); err != nil {
		return p.report, fmt.Errorf("prune: %w", err)
	}
	return p.report, nil
}

func (p *pruner) run(ctx context.Context) error {
	for round := range maxRounds {
		snapshots, err := p.newSnapshots(ctx)
		if err != nil {
			return err
		}
		if round > 0 && len(snapshots) == 0 {
			break
		}
		// The snapshots first, then the index: it names whatever those need.
		if err := p.look(ctx, snapshots); err != nil {
			return err
		}
		p.decide(round > 0)
		if round == 0 && p.options.Repack != nil {
			if err := p.repack(ctx); err != nil {
				return err
			}
		}
		p.account(round > 0)
		if p.options.DryRun {
			return nil
		}
		if err := p.writeIndex(ctx); err != nil {
			return err
		}
		// A backup that was saved meanwhile may need what was marked just now. It gets it back at once: until then
		// readers would miss it.
	}
	if err := p.sweep(ctx); err != nil {
		return err
	}
	return p.repo.Reload(ctx)
}

// look finds out what there is and what of it the snapshots need, those of earlier rounds included.
func (p *pruner) look(ctx context.Context, snapshots []*repository.Snapshot) error {
	if err := p.repo.Reload(ctx); err != nil {
		return err
	}
	s, err := p.takeSurvey(ctx)
	if err != nil {
		return err
	}
	p.survey = s
	if p.used == nil {
		p.used = newSet(s.blobs)
	}
	if err := p.walk(ctx, snapshots); err != nil {
		return err
	}
	return p.count(ctx)
}

// sweep removes the packs that are due, and then their mention in the index. A pack goes while the index still names it
// as marked: a backup that comes between finds neither its blobs nor a pack that no index names and that it would take up.
func (p *pruner) sweep(ctx context.Context) error {
	due := p.survey.with(remove)
	for i, k := range due {
		p.options.Progress(Progress{"removing packs", int64(i), int64(len(due))})
		if err := p.repo.Files().Remove(ctx, k.name()); err != nil {
			return err
		}
		p.report.Removed.add(k.size)
		k.action = drop
	}
	if len(due) == 0 {
		return nil
	}
	return p.writeIndex(ctx)
}
