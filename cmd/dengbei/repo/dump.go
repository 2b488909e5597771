package repo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
	"dengbei/cmd/dengbei/term"
)

func (r *commands) dumpCommand() *cobra.Command {
	var sel selection
	var archive, target string
	cmd := &cobra.Command{
		Use:   "dump SNAPSHOT[:FOLDER] FILE|DIR",
		Short: "write a file, or a directory as an archive, to standard output",
		Long: `Write the content of a file in a snapshot to standard output, or to --target. A directory comes as an archive, tar or zip; / is all of
the snapshot. Paths in the archive begin at the snapshot's root, or at FOLDER.

What the repository lacks is left out of an archive and named, and the exit status is 3.`,
		Args: cobra.ExactArgs(2),
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			if archive != "tar" && archive != "zip" {
				return term.Usagef("--archive %q: want tar or zip", archive)
			}
			if target == "" && term.IsTerminal(r.Out) {
				return term.Usagef("standard output is a terminal: redirect it, or give --target FILE")
			}
			repo, err := r.opener.open(cmd.Context(), reading, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			top, err := sel.one(cmd.Context(), repo.Repository, args[0])
			if err != nil {
				return err
			}
			found, err := browse.At(cmd.Context(), repo.Repository, top.Snapshot, top.Path+"/"+args[1])
			if err != nil {
				return err
			}
			if target == "" {
				return r.dump(cmd, repo, top, found, archive, r.Out)
			}
			return writeWhole(target, func(w io.Writer) error { return r.dump(cmd, repo, top, found, archive, w) })
		}),
	}
	f := cmd.Flags()
	f.StringVarP(&archive, "archive", "a", "tar", "`format` of archives: tar or zip")
	f.StringVarP(&target, "target", "t", "", "write to this `file`, which appears when it is whole")
	sel.flags(cmd)
	return cmd
}

// dump writes what was found. top is where paths in an archive begin.
func (r *commands) dump(cmd *cobra.Command, repo *opened, top, found *browse.Found, archive string, w io.Writer) error {
	if found.Tree.IsZero() {
		return restore.Dump(cmd.Context(), repo.Repository, found.Node, w)
	}
	prefix, err := filepath.Rel(top.Path, found.Path)
	if err != nil {
		return err
	}
	write := restore.WriteTar
	if archive == "zip" {
		write = restore.WriteZip
	}
	missing, err := write(cmd.Context(), repo.Repository, found.Tree, filepath.Join("/", prefix), w)
	for _, m := range missing {
		r.Note("missing: %s: %s", term.Safe(m.Path), term.Safe(m.Err.Error()))
	}
	if errors.Is(err, restore.ErrIncomplete) {
		return incomplete{err}
	}
	return err
}

// writeWhole makes a file that has its name only once write has succeeded, or left out what is [incomplete], and it is
// durable.
func writeWhole(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".dengbei-dump-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone if all went well
	werr := write(f)
	var part incomplete
	if werr != nil && !errors.As(werr, &part) {
		return errors.Join(werr, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(werr, dir.Sync(), dir.Close())
}
