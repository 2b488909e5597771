package repo

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/repository"
)

func (r *commands) unlockCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "unlock",
		Short: "remove locks whose holders are gone",
		Long: `Remove the locks of processes that are gone: those of this host that do not run any more, and those that nobody refreshed
for 30 minutes.

--remove-all removes every lock. Nothing may work on the repository then: a backup that goes on while another process prunes may
be left with holes.`,
		RunE: r.run(func(cmd *cobra.Command, _ []string) (err error) {
			dir, err := r.opener.directory()
			if err != nil {
				return err
			}
			repo, err := r.opener.openLocked(cmd.Context(), dir, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			removed, err := repo.Unlock(cmd.Context(), all)
			if err != nil {
				return err
			}
			v := struct {
				Removed int `json:"removed"`
			}{removed}
			return r.Print(v, func(w io.Writer) { fmt.Fprintf(w, "%d locks removed\n", removed) })
		}),
	}
	cmd.Flags().BoolVar(&all, "remove-all", false, "remove also the locks of processes that are at work")
	return cmd
}
