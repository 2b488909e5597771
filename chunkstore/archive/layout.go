package archive

import (
	"fmt"
	"maps"
	"path"
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
}

// place is a name in the directories above the roots.
type place struct {
	source string            // what is on disk; "" for a directory made up of children
	below  map[string]*place // nil for a source
}

// layout arranges the roots into one tree.
func layout(roots []Root) (*place, error) {
	if len(roots) == 0 {
		return nil, fmt.Errorf("nothing to back up: %w", ErrRoots)
	}
	top := &place{below: make(map[string]*place)}
	for _, r := range roots {
		if r.Source == "" || !strings.HasPrefix(r.Path, "/") || path.Clean(r.Path) != r.Path {
			return nil, fmt.Errorf("%q from %q: want a clean absolute path and a source: %w", r.Path, r.Source, ErrRoots)
		}
		if r.Path == "/" {
			if len(roots) > 1 {
				return nil, fmt.Errorf(`"/" is not the only root: %w`, ErrRoots)
			}
			return &place{source: r.Source}, nil
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
				next = &place{source: r.Source}
			case next == nil:
				next = &place{below: make(map[string]*place)}
			case last || next.source != "":
				return nil, fmt.Errorf("%q lies on another root: %w", r.Path, ErrRoots)
			}
			at.below[name] = next
			at = next
		}
	}
	return top, nil
}

func (p *place) names() []string { return slices.Sorted(maps.Keys(p.below)) }
