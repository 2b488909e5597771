package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// lsView is a node as stock restic's ls --json has it.
type lsView struct {
	Name        string      `json:"name"`
	Type        string      `json:"type"`
	Path        string      `json:"path"`
	UID         uint32      `json:"uid"`
	GID         uint32      `json:"gid"`
	Size        *uint64     `json:"size,omitempty"`
	Mode        fs.FileMode `json:"mode,omitempty"`
	Permissions string      `json:"permissions,omitempty"`
	ModTime     time.Time   `json:"mtime"`
	AccessTime  time.Time   `json:"atime"`
	ChangeTime  time.Time   `json:"ctime"`
	StructType  string      `json:"struct_type"`
}

func lsViewOf(e browse.Entry) lsView {
	n := e.Node
	v := lsView{
		Name: n.Name, Type: n.Type, Path: e.Path, UID: n.UID, GID: n.GID, Mode: n.Mode, Permissions: n.Mode.String(),
		ModTime: n.ModTime, AccessTime: n.AccessTime, ChangeTime: n.ChangeTime, StructType: "node",
	}
	if n.Type == repository.TypeFile {
		v.Size = &n.SizeBytes
	}
	return v
}

// nodeLine is a node for people.
func nodeLine(at string, n *repository.Node, long bool) string {
	if !long {
		return term.Safe(at)
	}
	link := ""
	if n.Type == repository.TypeSymlink {
		link = " -> " + term.Safe(n.LinkTarget)
	}
	return fmt.Sprintf("%s %5d %5d %12d %s %s%s", n.Mode, n.UID, n.GID, n.SizeBytes, shownTime(n.ModTime), term.Safe(at), link)
}

// describe names a snapshot, and the part of it that is meant, for people.
func describe(f *browse.Found) string {
	part := ""
	if f.Path != "/" {
		part = term.Safe(f.Path) + " of "
	}
	return fmt.Sprintf("%ssnapshot %s of %s, %s", part, browse.Short(f.Snapshot.ID), term.Safe(f.Snapshot.Hostname), shownTime(f.Snapshot.Time))
}

func (r *commands) lsCommand() *cobra.Command {
	var sel selection
	var long, recursive bool
	cmd := &cobra.Command{
		Use:   "ls SNAPSHOT[:FOLDER] [DIR…]",
		Short: "list the files in a snapshot",
		Long: `List the files in a snapshot: latest, or the beginning of an ID, and with :FOLDER behind it what lies there.

DIRs are absolute paths; then only these and what lies in them is listed, with --recursive all below as well.`,
		Args: cobra.MinimumNArgs(1),
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			for _, d := range args[1:] {
				if !path.IsAbs(d) {
					return term.Usagef("%q: directories are given by their absolute paths in the snapshot", d)
				}
			}
			repo, err := r.opener.open(cmd.Context(), reading, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			f, err := sel.one(cmd.Context(), repo.Repository, args[0])
			if err != nil {
				return err
			}
			if err := f.Directory(); err != nil {
				return err
			}
			out := r.newLines()
			show := func(e browse.Entry) error { return out.printf("%s\n", nodeLine(e.Path, e.Node, long)) }
			if r.JSON {
				show = func(e browse.Entry) error { return out.object(lsViewOf(e)) }
				err = out.object(struct {
					snapshotView
					StructType string `json:"struct_type"`
				}{viewOf(f.Snapshot), "snapshot"})
			} else {
				err = out.printf("%s:\n", describe(f))
			}
			if err != nil {
				return err
			}
			lost := damages{console: r.Console}
			err = browse.List(cmd.Context(), repo.Repository, f.Tree, browse.ListOptions{Dirs: args[1:], Recursive: recursive}, show, lost.note)
			return out.flush(errors.Join(err, lost.err()))
		}),
	}
	sel.flags(cmd)
	cmd.Flags().BoolVarP(&long, "long", "l", false, "with mode, owner, size and time")
	cmd.Flags().BoolVar(&recursive, "recursive", false, "with what lies below the directories named")
	return cmd
}
