package archive

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync/atomic"

	"dengbei/chunkstore/repository"
)

// dir is a directory whose entries are being stored. The last of them to finish stores its tree.
type dir struct {
	archiver   *archiver
	above      *dir // nil for the root
	slot       int  // in above.nodes
	path       string
	source     string      // "" above the roots
	listed     fs.FileInfo // of source when it was listed
	parentTree *repository.Tree

	nodes []repository.Node
	left  atomic.Int64 // entries not finished, and one for the walker itself
	id    repository.ID
}

// fileJob is a file to read.
type fileJob struct {
	dir  *dir
	slot int
	path string
	info fs.FileInfo
}

func (d *dir) start(entries int) {
	d.nodes = make([]repository.Node, entries)
	d.left.Store(int64(entries) + 1)
}

// finish is called once for each entry and once by the walker. The call that ends the directory saves the tree.
func (d *dir) finish(ctx context.Context) error {
	if d.left.Add(-1) > 0 {
		return nil
	}
	if d.source != "" {
		now, err := os.Lstat(d.source)
		if err != nil {
			return err
		}
		if !now.ModTime().Equal(d.listed.ModTime()) || !os.SameFile(now, d.listed) {
			return fmt.Errorf("directory %s: %w", d.source, ErrChanged)
		}
	}
	id, err := d.archiver.session.SaveTree(ctx, &repository.Tree{Nodes: d.nodes})
	if err != nil {
		return fmt.Errorf("directory %s: %w", d.path, err)
	}
	d.nodes, d.parentTree = nil, nil // the rest of the walk does not need them
	d.id = id
	if d.above == nil {
		return nil
	}
	d.archiver.count(d.path, true, false, 0)
	d.above.nodes[d.slot].Subtree = &d.id
	return d.above.finish(ctx)
}

// child prepares the directory at d.nodes[slot], which has its name.
func (d *dir) child(ctx context.Context, slot int, source string, info fs.FileInfo) (*dir, error) {
	name := d.nodes[slot].Name
	c := &dir{archiver: d.archiver, above: d, slot: slot, path: path.Join(d.path, name), source: source, listed: info}
	if n := d.inParent(name); n != nil && n.Type == repository.TypeDir && n.Subtree != nil {
		t, err := d.archiver.repo.LoadTree(ctx, *n.Subtree)
		if err != nil {
			return nil, fmt.Errorf("parent snapshot's %s: %w", c.path, err)
		}
		c.parentTree = t
	}
	return c, nil
}

// inParent returns what the parent snapshot has under name, or nil.
func (d *dir) inParent(name string) *repository.Node {
	if d.parentTree == nil {
		return nil
	}
	return d.parentTree.Find(name)
}

// walkTop walks the directories above the roots, and from the roots on the disk.
func (a *archiver) walkTop(ctx context.Context, d *dir, p *place) error {
	if p.source != "" { // "/" itself is a root
		info, err := os.Stat(p.source)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf(`%s cannot be "/": not a directory: %w`, p.source, ErrRoots)
		}
		// A symlink given as the root is followed, once.
		if d.source, err = filepath.EvalSymlinks(p.source); err != nil {
			return err
		}
		d.listed = info
		return a.walkDir(ctx, d)
	}
	names := p.names()
	d.start(len(names))
	for i, name := range names {
		below := p.below[name]
		if below.source != "" {
			if err := a.entry(ctx, d, i, name, below.source); err != nil {
				return err
			}
			continue
		}
		at := a.options.Time
		d.nodes[i] = repository.Node{
			Name: name, Type: repository.TypeDir, Mode: fs.ModeDir | 0o755, ModTime: at, AccessTime: at, ChangeTime: at,
			UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
		}
		c, err := d.child(ctx, i, "", nil)
		if err != nil {
			return err
		}
		if err := a.walkTop(ctx, c, below); err != nil {
			return err
		}
	}
	return d.finish(ctx)
}

// walkDir stores the entries of d.source.
func (a *archiver) walkDir(ctx context.Context, d *dir) error {
	f, err := os.Open(d.source)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	d.start(len(names))
	for i, name := range names {
		if err := a.entry(ctx, d, i, name, filepath.Join(d.source, name)); err != nil {
			return err
		}
	}
	return d.finish(ctx)
}

// entry stores what lies at source as name, the i-th entry of d. Files are left to the readers.
func (a *archiver) entry(ctx context.Context, d *dir, i int, name, source string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := os.Lstat(source)
	if err != nil {
		return err
	}
	n, err := a.node(source, name, info)
	if err != nil {
		return err
	}
	d.nodes[i] = n
	switch n.Type {
	case repository.TypeDir:
		c, err := d.child(ctx, i, source, info)
		if err != nil {
			return err
		}
		return a.walkDir(ctx, c)
	case repository.TypeFile:
		select {
		case a.jobs <- fileJob{d, i, source, info}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	default:
		a.count(path.Join(d.path, name), false, false, 0)
		return d.finish(ctx)
	}
}
