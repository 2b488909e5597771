package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/pattern"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// matchView is a match as stock restic's find --json has it.
type matchView struct {
	Path        string      `json:"path"`
	Permissions string      `json:"permissions"`
	Type        string      `json:"type"`
	Mode        fs.FileMode `json:"mode,omitempty"`
	ModTime     time.Time   `json:"mtime"`
	AccessTime  time.Time   `json:"atime"`
	ChangeTime  time.Time   `json:"ctime"`
	UID         uint32      `json:"uid"`
	GID         uint32      `json:"gid"`
	User        string      `json:"user,omitempty"`
	Group       string      `json:"group,omitempty"`
	DeviceID    uint64      `json:"device_id,omitempty"`
	Size        uint64      `json:"size,omitempty"`
	Links       uint64      `json:"links,omitempty"`
	LinkTarget  string      `json:"linktarget,omitempty"`
}

func matchOf(e browse.Entry) matchView {
	n := e.Node
	return matchView{
		e.Path, n.Mode.String(), n.Type, n.Mode, n.ModTime, n.AccessTime, n.ChangeTime, n.UID, n.GID, n.User, n.Group, n.DeviceID,
		n.SizeBytes, n.Links, n.LinkTarget,
	}
}

// placeView is the place of a blob as stock restic's find --json has it.
type placeView struct {
	ObjectType string    `json:"object_type"` // blob or tree
	ID         string    `json:"id"`
	Path       string    `json:"path"`
	ParentTree string    `json:"parent_tree,omitempty"`
	Snapshot   string    `json:"snapshot"`
	Time       time.Time `json:"time"`
	Packs      []string  `json:"packs,omitempty"` // with --show-pack-id; not restic's
}

// timeForms are the forms in which restic takes an instant, and RFC 3339.
var timeForms = [...]string{
	"2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 MST", "02.01.2006",
	"02.01.2006 15:04", "02.01.2006 15:04:05", "02.01.2006 15:04:05 -0700", "02.01.2006 15:04:05 MST", "Mon Jan 2 15:04:05 -0700 MST 2006",
	time.RFC3339,
}

// parseInstant reads an instant, in UTC+8 unless it says otherwise.
func parseInstant(option, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, form := range timeForms {
		if t, err := time.ParseInLocation(form, s, term.ArchiveTime); err == nil {
			return t, nil
		}
	}
	return time.Time{}, term.Usagef("%s %q: want a time as 2006-01-02 or \"2006-01-02 15:04:05\"", option, s)
}

// finding is the options of find.
type finding struct {
	sel              selection
	snapshots        []string
	fold, long       bool
	oldest, newest   string
	blob, tree, pack bool
	showPack         bool
}

func (r *commands) findCommand() *cobra.Command {
	var o finding
	cmd := &cobra.Command{
		Use:   "find PATTERN…",
		Short: "find files in snapshots",
		Long: `Find files and directories by patterns: *, ? and [a-z] within a name, ** for any number of directories. A pattern that begins
with a slash must fit from the top, any other one anywhere. All snapshots are searched unless --snapshot, --host, --tag or --path
says less.

With --blob, --tree or --pack the arguments are IDs, or their beginnings, and every place in a snapshot that needs the object is
shown: what is lost if it is damaged.`,
		Args: cobra.MinimumNArgs(1),
		RunE: r.run(func(cmd *cobra.Command, args []string) (err error) {
			files, err := o.files(args)
			if err != nil {
				return err
			}
			repo, err := r.opener.open(cmd.Context(), reading, repository.Options{})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, repo.close()) }()
			list, err := o.sel.all(cmd.Context(), repo.Repository, o.snapshots)
			if err != nil {
				return err
			}
			f := finder{commands: r, options: &o, repo: repo.Repository, out: r.newLines(), lost: damages{console: r.Console}}
			if files == nil {
				err = f.objects(cmd.Context(), list, args)
			} else {
				files.Repo = repo.Repository
				err = f.files(cmd.Context(), list, files)
			}
			return f.out.flush(errors.Join(err, f.lost.err()))
		}),
	}
	o.sel.flags(cmd)
	f := cmd.Flags()
	f.StringArrayVarP(&o.snapshots, "snapshot", "s", nil, "search this `snapshot` only (may be given several times)")
	f.BoolVarP(&o.fold, "ignore-case", "i", false, "do not tell upper from lower case")
	f.BoolVarP(&o.long, "long", "l", false, "with mode, owner, size and time")
	f.StringVarP(&o.oldest, "oldest", "O", "", "modified at this `time` or later; UTC+8 unless it says otherwise")
	f.StringVarP(&o.newest, "newest", "N", "", "modified at this `time` or earlier")
	f.BoolVar(&o.blob, "blob", false, "the arguments are IDs of data blobs")
	f.BoolVar(&o.tree, "tree", false, "the arguments are IDs of trees")
	f.BoolVar(&o.pack, "pack", false, "the arguments are IDs of packs")
	f.BoolVar(&o.showPack, "show-pack-id", false, "show the packs that the objects lie in")
	return cmd
}

// files returns the search for files, or nil if objects are looked for.
func (o *finding) files(patterns []string) (*browse.Search, error) {
	switch {
	case o.blob && o.tree, o.blob && o.pack, o.tree && o.pack:
		return nil, term.Usagef("--blob, --tree and --pack exclude each other")
	case o.blob, o.tree, o.pack:
		return nil, nil
	}
	parse := pattern.Parse
	if o.fold {
		parse = pattern.ParseFold
	}
	set, err := parse(patterns)
	if err != nil {
		return nil, term.Usagef("%v", err)
	}
	if set.Empty() {
		return nil, term.Usagef("an empty pattern finds nothing")
	}
	s := &browse.Search{Patterns: set}
	if s.Oldest, err = parseInstant("--oldest", o.oldest); err != nil {
		return nil, err
	}
	s.Newest, err = parseInstant("--newest", o.newest)
	return s, err
}

// finder is one run of find.
type finder struct {
	*commands
	options *finding
	repo    *repository.Repository
	out     *lines
	lost    damages
}

// files prints what a search finds in each snapshot. As JSON it is one array, with an object for each snapshot that has
// matches; nothing is held in memory.
func (f *finder) files(ctx context.Context, list []*repository.Snapshot, search *browse.Search) error {
	groups := array{lines: f.out}
	for _, sn := range list {
		matches := array{lines: f.out}
		err := search.Run(ctx, sn, func(e browse.Entry) error {
			first := matches.n == 0
			matches.n++
			if !f.JSON {
				if first {
					if err := f.out.printf("snapshot %s of %s, %s:\n", browse.Short(sn.ID), term.Safe(sn.Hostname), shownTime(sn.Time)); err != nil {
						return err
					}
				}
				return f.out.printf("%s\n", nodeLine(e.Path, e.Node, f.options.long))
			}
			if first {
				if err := groups.next(); err != nil {
					return err
				}
				if err := f.out.printf(`{"matches":[`); err != nil {
					return err
				}
			} else if err := f.out.printf(","); err != nil {
				return err
			}
			return f.out.object(matchOf(e))
		}, f.lost.note)
		if matches.n > 0 {
			if f.JSON {
				err = errors.Join(err, f.out.printf(`],"hits":%d,"snapshot":"%s"}`, matches.n, sn.ID.Hex()))
			} else {
				err = errors.Join(err, f.out.printf("\n"))
			}
		}
		if err != nil {
			return err
		}
	}
	if f.JSON {
		return groups.end()
	}
	return nil
}

// objects prints every place that needs one of the objects.
func (f *finder) objects(ctx context.Context, list []*repository.Snapshot, ids []string) error {
	search, err := f.objectSearch(ids)
	if err != nil {
		return err
	}
	places := array{lines: f.out}
	n := 0
	for _, sn := range list {
		err := search.Run(ctx, sn, func(p browse.Place) error {
			n++
			v := placeView{ObjectType: "blob", ID: p.ID.String(), Path: p.Path, Snapshot: sn.ID.Hex(), Time: sn.Time}
			if p.Type == repository.TreeBlob {
				v.ObjectType = "tree"
			} else {
				v.ParentTree = p.Parent.String()
			}
			if f.options.showPack {
				for _, l := range f.repo.Locate(p.Type, p.ID) {
					v.Packs = append(v.Packs, l.Pack.ID.Hex())
				}
			}
			if f.JSON {
				return errors.Join(places.next(), f.out.object(v))
			}
			packs := ""
			if f.options.showPack {
				packs = " in packs " + strings.Join(v.Packs, ", ")
			}
			return f.out.printf("%s %s%s\n  needed by %s in snapshot %s, %s\n", v.ObjectType, v.ID, packs, term.Safe(v.Path), browse.Short(sn.ID), shownTime(sn.Time))
		}, f.lost.note)
		if err != nil {
			return err
		}
	}
	if f.JSON {
		return places.end()
	}
	if n == 0 {
		return f.out.printf("no snapshot needs it\n")
	}
	return nil
}

func (f *finder) objectSearch(ids []string) (*browse.ObjectSearch, error) {
	search := &browse.ObjectSearch{Repo: f.repo}
	if f.options.pack {
		n, err := search.AddPacks(ids)
		if err == nil && n == 0 {
			err = fmt.Errorf("the index lists no pack whose ID begins with %s", strings.Join(ids, " or "))
		}
		return search, err
	}
	typ := repository.DataBlob
	if f.options.tree {
		typ = repository.TreeBlob
	}
	for _, id := range ids {
		if err := search.Add(typ, id); err != nil {
			return nil, err
		}
	}
	return search, nil
}
