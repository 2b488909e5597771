package browse

import (
	"context"
	"errors"
	"fmt"
	"path"

	"dengbei/chunkstore/repository"
)

// maxDepth bounds how deep directories may be nested: the paths of Linux end at 4096 bytes, two for each directory. A
// hostile tree does not end.
const maxDepth = 2048

// Entry is a node at its place.
type Entry struct {
	Path   string // absolute; the directory where the walk began is "/"
	Node   *repository.Node
	Parent repository.ID // the tree that holds the node
}

// Walk is a pass through a directory.
type Walk struct {
	Repo *repository.Repository

	// Visit is called for each node: a directory before what it holds, names ascending by their bytes. [ErrSkipDir] leaves
	// out a directory's content; any other error ends the walk and is returned.
	Visit func(Entry) error

	// Leave, if not nil, is called for each directory when all that it holds was visited without an error or damage.
	// Skipped ones are left out.
	Leave func(Entry) error

	// Damage is called for what cannot be walked: the path and why. After nil the walk goes on beside it; after an error
	// it ends. A nil Damage ends the walk at once.
	Damage func(path string, err error) error
}

// Run walks what lies in tree.
func (w *Walk) Run(ctx context.Context, tree repository.ID) error {
	_, err := w.dir(ctx, tree, "/", 0)
	return err
}

// dir visits what a tree holds and reports whether all of it could be.
func (w *Walk) dir(ctx context.Context, id repository.ID, dir string, depth int) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if depth >= maxDepth {
		return false, w.damage(ctx, dir, fmt.Errorf("nested deeper than %d directories: %w", maxDepth, repository.ErrTooLarge))
	}
	t, err := w.Repo.LoadTree(ctx, id)
	if err != nil {
		return false, w.damage(ctx, dir, err)
	}
	whole := true
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if err := n.CheckName(); err != nil {
			whole = false
			if err := w.damage(ctx, dir, err); err != nil {
				return false, err
			}
			continue
		}
		ok, err := w.node(ctx, Entry{path.Join(dir, n.Name), n, id}, depth)
		if err != nil {
			return false, err
		}
		whole = whole && ok
	}
	return whole, nil
}

func (w *Walk) node(ctx context.Context, e Entry, depth int) (bool, error) {
	err := w.Visit(e)
	if errors.Is(err, ErrSkipDir) {
		return true, nil
	}
	if err != nil || e.Node.Type != repository.TypeDir {
		return true, err
	}
	if e.Node.Subtree == nil {
		return false, w.damage(ctx, e.Path, fmt.Errorf("directory names no tree: %w", repository.ErrUnreadable))
	}
	whole, err := w.dir(ctx, *e.Node.Subtree, e.Path, depth+1)
	if err == nil && whole && w.Leave != nil {
		err = w.Leave(e)
	}
	return whole, err
}

func (w *Walk) damage(ctx context.Context, at string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if w.Damage == nil {
		return fmt.Errorf("%q: %w", at, err)
	}
	return w.Damage(at, err)
}
