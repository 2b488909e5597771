package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/retention"
	"dengbei/cmd/dengbei/term"
)

// forgetting is the options of forget.
type forgetting struct {
	sel       selection
	policy    retention.Policy
	tags      []string
	group     string
	dryRun    bool
	compact   bool
	prune     bool
	pruning   pruning
	removeAll bool
}

// count is an option that takes a number, or unlimited.
type count struct{ at *int }

func (c count) String() string {
	if c.at == nil || *c.at == 0 {
		return ""
	}
	if *c.at == retention.Unlimited {
		return "unlimited"
	}
	return strconv.Itoa(*c.at)
}

func (c count) Set(s string) error {
	n, err := strconv.Atoi(s)
	if s == "unlimited" {
		n, err = retention.Unlimited, nil
	}
	if err != nil || n < retention.Unlimited {
		return errors.New("want a number, or unlimited")
	}
	*c.at = n
	return nil
}

func (count) Type() string { return "n" }

// duration is an option that takes a stretch of the calendar.
type duration struct{ at *retention.Duration }

func (d duration) String() string {
	if d.at == nil {
		return ""
	}
	return d.at.String()
}

func (d duration) Set(s string) (err error) {
	*d.at, err = retention.ParseDuration(s)
	return err
}

func (duration) Type() string { return "duration" }

func (o *forgetting) flags(cmd *cobra.Command) {
	f, p := cmd.Flags(), &o.policy
	for _, c := range []struct {
		name, short string
		at          *int
	}{{"last", "l", &p.Last}, {"hourly", "H", &p.Hourly}, {"daily", "d", &p.Daily}, {"weekly", "w", &p.Weekly}, {"monthly", "m", &p.Monthly}, {"yearly", "y", &p.Yearly}} {
		text := "keep the last `n` " + c.name + " snapshots, or unlimited"
		if c.name == "last" {
			text = "keep the last `n` snapshots, or unlimited"
		}
		f.VarP(count{c.at}, "keep-"+c.name, c.short, text)
	}
	f.Var(duration{&p.Within}, "keep-within", "keep what is younger than `duration` (as 1y5m7d2h) before the latest snapshot")
	for _, d := range []struct {
		name string
		at   *retention.Duration
	}{{"hourly", &p.WithinHourly}, {"daily", &p.WithinDaily}, {"weekly", &p.WithinWeekly}, {"monthly", &p.WithinMonthly}, {"yearly", &p.WithinYearly}} {
		f.Var(duration{d.at}, "keep-within-"+d.name, "keep "+d.name+" snapshots within `duration` before the latest")
	}
	f.StringArrayVar(&o.tags, "keep-tag", nil, "keep snapshots with all of `tag[,tag…]` (may be given several times)")
	f.StringVarP(&o.group, "group-by", "g", "host,paths", "apply the policy to each group by `host,paths,tags` or some of them; '' for all together")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "change nothing, tell what would be done")
	f.BoolVarP(&o.compact, "compact", "c", false, "leave out the paths")
	f.BoolVar(&o.removeAll, "unsafe-allow-remove-all", false, "let a group lose its last snapshot; without a policy, remove all that --host, --tag and --path pick")
	f.BoolVar(&o.prune, "prune", false, "prune as well if something was removed, with the options of prune")
	o.sel.flagsLong(cmd)
	o.pruning.flags(cmd)
}

func (r *commands) forgetCommand() *cobra.Command {
	var o forgetting
	cmd := &cobra.Command{
		Use:   "forget [SNAPSHOT…]",
		Short: "remove snapshots by name or by a policy",
		Long: `Remove the snapshots named, or those that a policy does not keep. What they alone need stays until prune gives it back.

Snapshots are grouped by host and paths, and the policy holds in each group: whatever one of its rules keeps stays. Of an hour, day,
week, month and year the newest snapshot counts, in the snapshot's own time zone. Without any rule nothing is removed. A snapshot whose
time is in the future is kept and takes nobody's place. A snapshot of a backup that was cut off (tag partial) takes nobody's place
either, and goes when a later one is there. A policy that would leave a group with nothing is refused.`,
		Args: cobra.ArbitraryArgs,
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			for _, l := range o.tags {
				o.policy.Tags = append(o.policy.Tags, browse.SplitTags(l))
			}
			by, err := retention.ParseGroupBy(o.group)
			if err != nil {
				return term.Usagef("--group-by: %v", err)
			}
			switch {
			case len(args) > 0 && !o.policy.Empty():
				return term.Usagef("either snapshots are named or a policy is given, not both")
			case len(args) == 0 && o.policy.Empty() && o.removeAll && o.sel.filter.IsZero():
				return term.Usagef("--unsafe-allow-remove-all without a policy needs --host, --tag or --path")
			}
			prune, err := o.pruning.options()
			if err != nil {
				return err
			}
			prune.DryRun = o.dryRun
			u := removing
			if o.dryRun {
				u = reading
			}
			repo, err := r.opener.open(cmd.Context(), u, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			list, err := o.sel.all(cmd.Context(), repo.Repository, args)
			if err != nil {
				return err
			}
			gone, err := r.forget(cmd.Context(), repo.Repository, &o, list, by, len(args) > 0)
			if err != nil || gone == 0 || !o.prune {
				return err
			}
			if o.dryRun {
				r.Note("prune is left out: it would count on the snapshots that are still there")
				return nil
			}
			report, err := r.prune(cmd.Context(), repo.Repository, prune)
			if err != nil {
				return err
			}
			return r.Print(viewOfPrune(report), func(w io.Writer) { printPrune(w, report) })
		}),
	}
	o.flags(cmd)
	return cmd
}

// forget removes what the options say and returns how many that were, or would be.
func (r *commands) forget(ctx context.Context, repo *repository.Repository, o *forgetting, list []*repository.Snapshot, by retention.GroupBy, named bool) (int, error) {
	var decisions []retention.Decision
	switch {
	case named, o.policy.Empty() && o.removeAll:
		decisions = []retention.Decision{{Remove: list}}
	default:
		decisions = retention.Decide(by.Groups(list), o.policy, time.Now())
		if o.policy.Empty() {
			r.Note("no policy was given: nothing is removed")
		}
	}
	var ids []digest.Digest
	var emptied []string
	for i := range decisions {
		d := &decisions[i]
		for _, sn := range d.Remove {
			ids = append(ids, sn.ID)
		}
		for _, sn := range d.Future {
			r.Note("snapshot %s carries a time in the future, %s: it is kept and takes nobody's place. Was a clock wrong?", browse.Short(sn.ID), shownTime(sn.Time))
		}
		if !named && !o.removeAll && d.Emptied() {
			emptied = append(emptied, d.Key.String())
		}
	}
	verb := "remove"
	if o.dryRun || emptied != nil {
		verb = "would remove"
	}
	if err := r.printDecisions(o, decisions, named, verb); err != nil {
		return 0, err
	}
	if emptied != nil {
		return 0, fmt.Errorf("nothing is removed: the policy would leave no snapshot of %s; name them by their IDs, or allow it with --unsafe-allow-remove-all",
			strings.Join(emptied, "; "))
	}
	if o.dryRun {
		return len(ids), nil
	}
	return len(ids), retention.Forget(ctx, repo, ids)
}

// decisionView is a group as stock restic's forget --json has it.
type decisionView struct {
	Tags    []string       `json:"tags"`
	Host    string         `json:"host"`
	Paths   []string       `json:"paths"`
	Keep    []snapshotView `json:"keep"`
	Remove  []snapshotView `json:"remove"`
	Reasons []reasonView   `json:"reasons"`
}

type reasonView struct {
	Snapshot *repository.Snapshot `json:"snapshot"`
	Matches  []string             `json:"matches"`
	Counters retention.Counters   `json:"counters"`
}

func (r *commands) printDecisions(o *forgetting, decisions []retention.Decision, named bool, verb string) error {
	views := []decisionView{}
	for _, d := range decisions {
		v := decisionView{Tags: d.Key.Tags, Host: d.Key.Host, Paths: d.Key.Paths, Remove: viewsOf(d.Remove)}
		for _, k := range d.Keep {
			v.Keep = append(v.Keep, viewOf(k.Snapshot))
			v.Reasons = append(v.Reasons, reasonView{k.Snapshot, k.Reasons, k.Counters})
		}
		views = append(views, v)
	}
	return r.Print(views, func(w io.Writer) {
		if !named && !o.policy.Empty() {
			fmt.Fprintf(w, "policy: %s\n\n", o.policy)
		}
		for _, d := range decisions {
			if !named {
				fmt.Fprintf(w, "%s: keep %d, %s %d\n", d.Key, len(d.Keep), verb, len(d.Remove))
			}
			fmt.Fprintf(w, "\tID\tTIME\tHOST\tTAGS\tREASONS")
			if !o.compact {
				fmt.Fprintf(w, "\tPATHS")
			}
			fmt.Fprintln(w)
			for _, k := range d.Keep {
				decisionRow(w, "keep", k.Snapshot, strings.Join(k.Reasons, ", "), o.compact)
			}
			for _, sn := range d.Remove {
				decisionRow(w, verb, sn, "", o.compact)
			}
			fmt.Fprintln(w)
		}
	})
}

func decisionRow(w io.Writer, verb string, sn *repository.Snapshot, reasons string, compact bool) {
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s", verb, browse.Short(sn.ID), shownTime(sn.Time), term.Safe(sn.Hostname), term.Safe(strings.Join(sn.Tags, ",")), term.Safe(reasons))
	if !compact {
		fmt.Fprintf(w, "\t%s", term.Safe(strings.Join(sn.Paths, " ")))
	}
	fmt.Fprintln(w)
}
