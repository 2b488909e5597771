package repo

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/repository"
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

func (r *commands) snapshotsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "snapshots",
		Short: "list the snapshots",
		RunE: r.run(func(cmd *cobra.Command, _ []string) (err error) {
			repo, err := r.opener.open(cmd.Context(), reading, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			list, unreadable, err := repo.Snapshots(cmd.Context())
			if err != nil {
				return err
			}
			for _, u := range unreadable {
				r.Note("passed over %s: %v", u.Name, u.Err)
			}
			views := []snapshotView{}
			for _, sn := range list {
				views = append(views, viewOf(sn))
			}
			return r.Print(views, func(w io.Writer) {
				fmt.Fprintln(w, "ID\tTIME\tHOST\tTAGS\tPATHS")
				for _, v := range views {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", v.ShortID, v.Time.In(term.ArchiveTime).Format(time.RFC3339), term.Safe(v.Hostname),
						term.Safe(strings.Join(v.Tags, ",")), term.Safe(strings.Join(v.Paths, " ")))
				}
			})
		}),
	}
}
