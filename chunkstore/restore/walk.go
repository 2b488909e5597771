package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// WalkFunc is called for each node with its path in the snapshot, which starts with a slash. A node that cannot be
// used, because its name is hostile or its directory cannot be read, comes with that error. An error it returns ends
// the walk; [fs.SkipDir] for a directory leaves out what is in it.
type WalkFunc func(path string, n *repository.Node, err error) error

// Walk visits everything below a tree, directories before what is in them, names ascending.
func Walk(ctx context.Context, repo *repository.Repository, tree repository.ID, fn WalkFunc) error {
	t, err := repo.LoadTree(ctx, tree)
	if err != nil {
		return fmt.Errorf("walk: %w", err)
	}
	return walk(ctx, repo, "/", t, fn)
}

func walk(ctx context.Context, repo *repository.Repository, dir string, t *repository.Tree, fn WalkFunc) error {
	for i := range t.Nodes {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := &t.Nodes[i]
		if err := n.CheckName(); err != nil {
			// Joining would resolve the dots: show the name where it stands, quoted.
			if err := fn(strings.TrimSuffix(dir, "/")+"/"+fmt.Sprintf("%q", n.Name), n, err); err != nil && !errors.Is(err, fs.SkipDir) {
				return err
			}
			continue
		}
		at := path.Join(dir, n.Name)
		if n.Type != repository.TypeDir {
			if err := fn(at, n, nil); err != nil && !errors.Is(err, fs.SkipDir) {
				return err
			}
			continue
		}
		below, err := subtree(ctx, repo, n)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch ferr := fn(at, n, err); {
		case errors.Is(ferr, fs.SkipDir) || ferr == nil && err != nil:
			continue
		case ferr != nil:
			return ferr
		}
		if err := walk(ctx, repo, at, below, fn); err != nil {
			return err
		}
	}
	return nil
}

func subtree(ctx context.Context, repo *repository.Repository, n *repository.Node) (*repository.Tree, error) {
	if n.Subtree == nil {
		return nil, fmt.Errorf("directory %q names no tree: %w", n.Name, repository.ErrUnreadable)
	}
	return repo.LoadTree(ctx, *n.Subtree)
}

// Find returns the node at a path of a snapshot, or an error matching [fs.ErrNotExist].
func Find(ctx context.Context, repo *repository.Repository, snapshot digest.Digest, name string) (*repository.Node, error) {
	sn, err := repo.LoadSnapshot(ctx, snapshot)
	if err != nil {
		return nil, err
	}
	at := sn.Tree
	var found *repository.Node
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+name), "/"), "/") {
		if found != nil {
			if found.Type != repository.TypeDir || found.Subtree == nil {
				return nil, fmt.Errorf("%s in snapshot %s: %w", name, snapshot.Hex(), fs.ErrNotExist)
			}
			at = *found.Subtree
		}
		t, err := repo.LoadTree(ctx, at)
		if err != nil {
			return nil, fmt.Errorf("%s in snapshot %s: %w", name, snapshot.Hex(), err)
		}
		if found = t.Find(part); found == nil {
			return nil, fmt.Errorf("%s in snapshot %s: %w", name, snapshot.Hex(), fs.ErrNotExist)
		}
	}
	return found, nil
}
