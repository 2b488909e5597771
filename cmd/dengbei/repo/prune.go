package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/prune"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// pruning is the options of commands that prune.
type pruning struct {
	cmd *cobra.Command

	grace         time.Duration
	noGrace       bool
	repack        bool
	maxUnused     string
	maxRepack     string
	cacheableOnly bool
	small         bool
	uncompressed  bool
}

// flags gives the options to cmd.
func (p *pruning) flags(cmd *cobra.Command) {
	p.cmd = cmd
	f := cmd.Flags()
	f.DurationVar(&p.grace, "grace", prune.DefaultGrace, "remove packs that have been marked for this `duration`")
	f.BoolVar(&p.noGrace, "unsafe-no-grace", false, "remove at once what nothing needs, as stock restic does: nothing else may work on the repository")
	f.BoolVar(&p.repack, "repack", false, "rewrite packs of which only a part is needed; implied by the options that follow")
	f.StringVar(&p.maxUnused, "max-unused", "5%", "tolerate this `limit` of unused data: bytes with k, m, g or t, a value in %, or 'unlimited'")
	f.StringVar(&p.maxRepack, "max-repack-size", "", "rewrite packs of at most this `size` in one run: bytes with k, m, g or t")
	f.BoolVar(&p.cacheableOnly, "repack-cacheable-only", false, "rewrite only packs of directories")
	f.BoolVar(&p.small, "repack-small", false, "rewrite packs below 80% of the size at which packs are finished")
	f.BoolVar(&p.uncompressed, "repack-uncompressed", false, "rewrite packs that hold data stored as it is")
}

// options returns what the command line asks for.
func (p *pruning) options() (prune.Options, error) {
	changed := p.cmd.Flags().Changed
	o := prune.Options{Grace: p.grace, NoGrace: p.noGrace}
	if p.noGrace {
		if changed("grace") {
			return o, term.Usagef("--grace and --unsafe-no-grace exclude each other")
		}
		o.Grace = 0
	} else if p.grace <= 0 {
		return o, term.Usagef("--grace %s: want more than 0; see --unsafe-no-grace", p.grace)
	}
	if !p.repack && !changed("max-unused") && !changed("max-repack-size") && !p.cacheableOnly && !p.small && !p.uncompressed {
		return o, nil
	}
	limit, err := parseUnused(p.maxUnused)
	if err != nil {
		return o, err
	}
	o.Repack = &prune.Repack{MaxUnused: limit, CacheableOnly: p.cacheableOnly, Small: p.small, Uncompressed: p.uncompressed}
	if p.maxRepack != "" {
		if o.Repack.MaxBytes, err = parseBytes("--max-repack-size", p.maxRepack); err != nil {
			return o, err
		}
		if o.Repack.MaxBytes == 0 {
			o.Repack = nil // nothing at all, as with stock restic
		}
	}
	return o, nil
}

// parseUnused reads the value of --max-unused.
func parseUnused(s string) (prune.Limit, error) {
	if s == "unlimited" {
		return prune.Limit{Unlimited: true}, nil
	}
	if number, ok := strings.CutSuffix(s, "%"); ok {
		v, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(v) || v < 0 || v > 100 {
			return prune.Limit{}, term.Usagef("--max-unused %q: want a percentage from 0 to 100", s)
		}
		if v == 100 {
			return prune.Limit{Unlimited: true}, nil
		}
		return prune.Limit{Percent: v}, nil
	}
	n, err := parseBytes("--max-unused", s)
	return prune.Limit{Bytes: n}, err
}

// parseBytes reads a size as stock restic's options take it.
func parseBytes(option, s string) (int64, error) {
	number, unit := s, int64(1)
	if n := len(s) - 1; n >= 0 {
		if i := strings.IndexByte("bkmgt", s[n]|0x20); i >= 0 {
			number, unit = s[:n], int64(1)<<(10*i)
		}
	}
	v, err := strconv.ParseInt(number, 10, 64)
	if err != nil || v < 0 || v > math.MaxInt64/unit {
		return 0, term.Usagef("%s %q: want a number with k, m, g or t behind it, or nothing", option, s)
	}
	return v * unit, nil
}

func (r *commands) pruneCommand() *cobra.Command {
	var p pruning
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "give back the space of what no snapshot needs",
		Long: `Give back the space of what no snapshot needs, in two steps: packs that nothing needs are marked, and a later run removes those
that have been marked for --grace, so that a mistaken forget or a backup at work loses nothing. What is needed again meanwhile is taken
back. Run it again after the grace; each run does both steps. With --unsafe-no-grace one run does all, as stock restic's prune.

Packs of which a part is needed stay as they are unless --repack, or an option that implies it, asks for them to be rewritten.

Nothing is removed if something that a snapshot needs is missing or cannot be read. A run that is interrupted is gone on with by the
next. With --dry-run nothing changes.`,
		RunE: r.run(func(cmd *cobra.Command, _ []string) (err error) {
			o, err := p.options()
			if err != nil {
				return err
			}
			o.DryRun = dryRun
			u := removing
			if dryRun {
				u = reading
			}
			repo, err := r.opener.open(cmd.Context(), u, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			report, err := r.prune(cmd.Context(), repo.Repository, o)
			if err != nil {
				return err
			}
			return r.Print(viewOfPrune(report), func(w io.Writer) { printPrune(w, report) })
		}),
	}
	p.flags(cmd)
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "change nothing, tell what would be done")
	return cmd
}

// prune prunes an open repository and shows how far it is.
func (r *commands) prune(ctx context.Context, repo *repository.Repository, o prune.Options) (prune.Report, error) {
	if !r.opener.quiet {
		bar := r.NewProgress("reading index", 0, false)
		defer bar.End()
		o.Progress = func(p prune.Progress) { bar.Phase(p.Step, p.Done, p.Total) }
	}
	return prune.Run(ctx, repo, o)
}

// pruneView is the result of pruning as JSON.
type pruneView struct {
	MessageType string `json:"message_type"`
	prune.Report
}

func viewOfPrune(report prune.Report) pruneView { return pruneView{"summary", report} }

// printPrune tells the result of pruning.
func printPrune(w io.Writer, report prune.Report) {
	amount := func(what string, a prune.Amount, more string) {
		if a.Packs > 0 {
			fmt.Fprintf(w, "%s\t%d packs\t%s\t%s\n", what, a.Packs, term.ByteCount(uint64(a.Bytes)), more)
		}
	}
	done := func(did, would string) string {
		if report.DryRun {
			return would
		}
		return did
	}
	fmt.Fprintf(w, "needed by %d snapshots\t%d blobs\t\t\n", report.Snapshots, report.Blobs)
	unused := ""
	if report.UnusedBytes > 0 {
		unused = "of it not needed " + term.ByteCount(uint64(report.UnusedBytes))
	}
	amount("in use", report.Kept, unused)
	amount(done("taken back", "would be taken back"), report.TakenBack, "")
	whole := report.Marked
	whole.Packs -= report.Repacked.Packs
	whole.Bytes -= report.Repacked.Bytes
	amount(done("marked", "would be marked"), whole, "")
	amount(done("rewritten", "would be rewritten"), report.Repacked, "into "+term.ByteCount(uint64(report.Rewritten)))
	amount("marked before", report.Waiting, "")
	amount(done("removed", "would be removed"), report.Removed, "")
	if !report.Due.IsZero() {
		fmt.Fprintf(w, "Marked packs may be removed from %s on: run prune again then.\n", report.Due.In(term.ArchiveTime).Format(time.RFC3339))
	}
}
