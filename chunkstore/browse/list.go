package browse

import (
	"context"
	"fmt"
	"path"
	"strings"

	"dengbei/chunkstore/repository"
)

// ListOptions says which part of a directory is listed.
type ListOptions struct {
	// Dirs are absolute paths below it: each is listed with what lies in it. None means everything.
	Dirs []string

	// Recursive lists what lies deeper as well.
	Recursive bool
}

// List calls visit for the nodes in tree, as [Walk] does. What is not listed is not read. After everything it gives
// [ErrNoPath] for directories that are not there. Damage is as in [Walk].
func List(ctx context.Context, repo *repository.Repository, tree repository.ID, o ListOptions, visit func(Entry) error, damage func(string, error) error) error {
	missing := make(map[string]bool)
	var dirs []string
	for _, d := range o.Dirs {
		d = path.Clean("/" + d)
		dirs = append(dirs, d)
		missing[d] = d != "/"
	}
	w := Walk{Repo: repo, Damage: damage, Visit: func(e Entry) error {
		delete(missing, e.Path)
		within, above := len(dirs) == 0, len(dirs) == 0
		for _, d := range dirs {
			parent := path.Dir(e.Path)
			switch {
			case e.Path == d:
				within, above = true, true
			case isBelow(d, e.Path): // on the way down to it
				above = true
			case parent == d:
				within, above = true, above || o.Recursive
			case o.Recursive && isBelow(e.Path, d):
				within, above = true, true
			}
		}
		if within {
			if err := visit(e); err != nil {
				return err
			}
		}
		if !above {
			return ErrSkipDir
		}
		return nil
	}}
	if err := w.Run(ctx, tree); err != nil {
		return err
	}
	for _, d := range dirs {
		if missing[d] {
			return fmt.Errorf("%q: %w", d, ErrNoPath)
		}
	}
	return nil
}

// isBelow reports whether p lies below dir.
func isBelow(p, dir string) bool {
	return len(p) > len(dir) && strings.HasPrefix(p, dir) && (dir == "/" || p[len(dir)] == '/')
}
