package repo

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// The JSON of diff is stock restic's.
type (
	changeView struct {
		MessageType string `json:"message_type"`
		Path        string `json:"path"`
		Modifier    string `json:"modifier"`
	}
	countView struct {
		Files     int    `json:"files"`
		Dirs      int    `json:"dirs"`
		Others    int    `json:"others"`
		DataBlobs int    `json:"data_blobs"`
		TreeBlobs int    `json:"tree_blobs"`
		Bytes     uint64 `json:"bytes"`
	}
	differenceView struct {
		MessageType  string    `json:"message_type"`
		Source       string    `json:"source_snapshot"`
		Target       string    `json:"target_snapshot"`
		ChangedFiles int       `json:"changed_files"`
		Added        countView `json:"added"`
		Removed      countView `json:"removed"`
	}
)

func countOf(c browse.Count) countView {
	return countView{c.Files, c.Dirs, c.Others, c.DataBlobs, c.TreeBlobs, c.Bytes}
}

func (r *commands) diffCommand() *cobra.Command {
	var sel selection
	var metadata bool
	cmd := &cobra.Command{
		Use:   "diff SNAPSHOT[:FOLDER] SNAPSHOT[:FOLDER]",
		Short: "show what differs between two snapshots",
		Long: `Show what differs from the first to the second snapshot:

  +  added      -  removed      M  content changed
  T  type changed, as from a file to a symlink
  U  only metadata changed: mode, owner, times (with --metadata)

Added and removed bytes are those of pieces that the other snapshot has nowhere.`,
		Args: cobra.ExactArgs(2),
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			repo, err := r.opener.open(cmd.Context(), reading, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			var sides [2]*browse.Found
			for i, spec := range args {
				if sides[i], err = sel.one(cmd.Context(), repo.Repository, spec); err != nil {
					return err
				}
				if err := sides[i].Directory(); err != nil {
					return err
				}
			}
			out := r.newLines()
			lost := damages{console: r.Console}
			o := browse.DiffOptions{Metadata: metadata, Damage: lost.note, Change: func(c browse.Change) error {
				if r.JSON {
					return out.object(changeView{"change", c.Path, c.Modifier})
				}
				return out.printf("%-4s %s\n", c.Modifier, term.Safe(c.Path))
			}}
			if !r.JSON {
				if err := out.printf("from %s\nto   %s\n\n", describe(sides[0]), describe(sides[1])); err != nil {
					return err
				}
			}
			d, err := browse.Diff(cmd.Context(), repo.Repository, sides[0].Tree, sides[1].Tree, o)
			if err != nil {
				return out.flush(err)
			}
			if r.JSON {
				err = out.object(differenceView{"statistics", sides[0].Snapshot.ID.Hex(), sides[1].Snapshot.ID.Hex(), d.ChangedFiles, countOf(d.Added), countOf(d.Removed)})
				return out.flush(errors.Join(err, lost.err()))
			}
			if err := out.flush(nil); err != nil {
				return err
			}
			return errors.Join(r.Print(nil, func(w io.Writer) { differenceTable(w, d) }), lost.err())
		}),
	}
	sel.flags(cmd)
	cmd.Flags().BoolVar(&metadata, "metadata", false, "show changes of metadata as well")
	return cmd
}

func differenceTable(w io.Writer, d *browse.Difference) {
	fmt.Fprintf(w, "\n\tADDED\tREMOVED\tCHANGED\n")
	fmt.Fprintf(w, "files\t%d\t%d\t%d\n", d.Added.Files, d.Removed.Files, d.ChangedFiles)
	fmt.Fprintf(w, "directories\t%d\t%d\n", d.Added.Dirs, d.Removed.Dirs)
	fmt.Fprintf(w, "others\t%d\t%d\n", d.Added.Others, d.Removed.Others)
	fmt.Fprintf(w, "data blobs\t%d\t%d\n", d.Added.DataBlobs, d.Removed.DataBlobs)
	fmt.Fprintf(w, "tree blobs\t%d\t%d\n", d.Added.TreeBlobs, d.Removed.TreeBlobs)
	fmt.Fprintf(w, "bytes\t%s\t%s\n", term.ByteCount(d.Added.Bytes), term.ByteCount(d.Removed.Bytes))
}
