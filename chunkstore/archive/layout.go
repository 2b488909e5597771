package archive

import (
	"fmt"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"dengbei/chunkstore/repository"
)

// Root places a file or directory on disk in the snapshot.
type Root struct {
	// Path is where it goes: absolute, with slashes, clean. "/" makes the directory Source the snapshot's root, and
	// must then be the only one.
	Path string

	// Source is the file, directory or symlink on disk. Its own name does not matter.
	Source string

	// Base, if not empty, is a directory whose directories on the way to Path describe those above the root: the one at
	// /a is what Base/a is. Without it they bear the snapshot's time.
	Base string

	// Content, if not nil, is read in place of Source, to its end.
	Content io.Reader
}

// place is a name in the directories above the roots.
type place struct {
	root  *Root             // what goes here; nil for a directory made up of children
	about string            // on disk, what describes such a directory; empty if nothing does
	below map[string]*place // nil for a root
}

// layout arranges the roots into one tree.
func layout(roots []Root) (*place, error) {
	if len(roots) == 0 {
		return nil, fmt.Errorf("nothing to back up: %w", ErrRoots)
	}
	top := &place{below: make(map[string]*place)}
	for _, r := range roots {
		if (r.Source == "") == (r.Content == nil) || !strings.HasPrefix(r.Path, "/") || path.Clean(r.Path) != r.Path {
			return nil, fmt.Errorf("%q from %q: want a clean absolute path and a source: %w", r.Path, r.Source, ErrRoots)
		}
		if r.Path == "/" {
			if len(roots) > 1 {
				return nil, fmt.Errorf(`"/" is not the only root: %w`, ErrRoots)
			}
			return &place{root: &r}, nil
		}
		names := strings.Split(r.Path[1:], "/")
		at := top
		for i, name := range names {
			if err := (&repository.Node{Name: name}).CheckName(); err != nil {
				return nil, fmt.Errorf("%q: %w: %w", r.Path, err, ErrRoots)
			}
			next := at.below[name]
			last := i == len(names)-1
			switch {
			case next == nil && last:
				next = &place{root: &r}
			case next == nil:
				next = &place{below: make(map[string]*place)}
				if r.Base != "" {
					next.about = filepath.Join(r.Base, filepath.Join(names[:i+1]...))
				}
			case last || next.root != nil:
				return nil, fmt.Errorf("%q lies on another root: %w", r.Path, ErrRoots)
			}
			at.below[name] = next
			at = next
		}
	}
	return top, nil
}

func (p *place) names() []string { return slices.Sorted(maps.Keys(p.below)) }
