package repo

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/retention"
	"dengbei/cmd/dengbei/term"
)

// snapshotView is a snapshot as stock restic's JSON has it.
type snapshotView struct {
	*repository.Snapshot
	ID      string `json:"id"`
	ShortID string `json:"short_id"`
}

func viewOf(sn *repository.Snapshot) snapshotView {
	return snapshotView{sn, sn.ID.Hex(), sn.ID.Hex()[:8]}
}

// viewsOf keeps nil nil: where stock restic's JSON has null for none, so do we.
func viewsOf(list []*repository.Snapshot) []snapshotView {
	var views []snapshotView
	for _, sn := range list {
		views = append(views, viewOf(sn))
	}
	return views
}

// groupView is a group of snapshots as stock restic's JSON has it.
type groupView struct {
	Key struct {
		Hostname string   `json:"hostname"`
		Paths    []string `json:"paths"`
		Tags     []string `json:"tags"`
	} `json:"group_key"`
	Snapshots []snapshotView `json:"snapshots"`
}

// shownTime is the time of a snapshot for people.
func shownTime(t time.Time) string { return t.In(term.ArchiveTime).Format(time.RFC3339) }

// snapshotTable prints snapshots, one row for each path and tag as far as there are several.
func snapshotTable(w io.Writer, list []*repository.Snapshot, compact bool) {
	head := "ID\tTIME\tHOST\tTAGS\tPATHS\n"
	if compact {
		head = "ID\tTIME\tHOST\tTAGS\n"
	}
	fmt.Fprint(w, head)
	for _, sn := range list {
		rows := max(1, len(sn.Tags))
		if !compact {
			rows = max(rows, len(sn.Paths))
		}
		for i := range rows {
			if i == 0 {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s", sn.ID.Hex()[:8], shownTime(sn.Time), term.Safe(sn.Hostname), cell(sn.Tags, i))
			} else {
				fmt.Fprintf(w, "\t\t\t%s", cell(sn.Tags, i))
			}
			if !compact {
				fmt.Fprintf(w, "\t%s", cell(sn.Paths, i))
			}
			fmt.Fprintln(w)
		}
	}
	fmt.Fprintf(w, "%d snapshots\n", len(list))
}

// cell is element i of a list for a table, empty behind its end.
func cell(list []string, i int) string {
	if i >= len(list) {
		return ""
	}
	return term.Safe(list[i])
}

func (r *commands) snapshotsCommand() *cobra.Command {
	var sel selection
	var group string
	var compact bool
	var latest int
	cmd := &cobra.Command{
		Use:   "snapshots [SNAPSHOT…]",
		Short: "list the snapshots",
		Long: `List the snapshots, the oldest first; times are those of UTC+8.

A snapshot with the tag partial is of a backup that was cut off. It lacks files.`,
		Args: cobra.ArbitraryArgs,
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			by, err := retention.ParseGroupBy(group)
			if err != nil {
				return term.Usagef("--group-by: %v", err)
			}
			if latest < 0 {
				return term.Usagef("--latest %d: want a number above 0", latest)
			}
			repo, err := r.opener.open(cmd.Context(), reading, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			list, err := sel.all(cmd.Context(), repo.Repository, args)
			if err != nil {
				return err
			}
			if group == "" {
				list = lastOfEach(list, latest)
				return r.Print(term.OrEmpty(viewsOf(list)), func(w io.Writer) { snapshotTable(w, list, compact) })
			}
			groups := by.Groups(list)
			views := []groupView{}
			for i, g := range groups {
				groups[i].Snapshots = lastOfEach(g.Snapshots, latest)
				v := groupView{Snapshots: viewsOf(groups[i].Snapshots)}
				v.Key.Hostname, v.Key.Paths, v.Key.Tags = g.Key.Host, g.Key.Paths, g.Key.Tags
				views = append(views, v)
			}
			return r.Print(views, func(w io.Writer) {
				for i, g := range groups {
					if i > 0 {
						fmt.Fprintln(w)
					}
					fmt.Fprintf(w, "snapshots of %s\n", g.Key)
					snapshotTable(w, g.Snapshots, compact)
				}
			})
		}),
	}
	sel.flags(cmd)
	cmd.Flags().StringVarP(&group, "group-by", "g", "", "group by `host,paths,tags` or some of them")
	cmd.Flags().BoolVarP(&compact, "compact", "c", false, "leave out the paths")
	cmd.Flags().IntVar(&latest, "latest", 0, "only the last `n` of each host and set of paths")
	return cmd
}

// lastOfEach returns the last n snapshots of each host and set of paths, the oldest first; 0 means all.
func lastOfEach(list []*repository.Snapshot, n int) []*repository.Snapshot {
	var kept []*repository.Snapshot
	for _, g := range (retention.GroupBy{Host: true, Paths: true}).Groups(list) {
		if n > 0 && len(g.Snapshots) > n {
			g.Snapshots = g.Snapshots[:n]
		}
		kept = append(kept, g.Snapshots...)
	}
	slices.SortFunc(kept, func(a, b *repository.Snapshot) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return a.ID.Compare(b.ID)
	})
	return kept
}
