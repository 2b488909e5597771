package browse

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"dengbei/chunkstore/repository"
)

// Change is one difference. Its path is absolute below the directories that are compared; directories end in a slash.
type Change struct {
	Path string

	// Modifier is restic's: "+" added, "-" removed, "M" content of a file modified, "T" type changed, "U" metadata only.
	// T may stand with M or U.
	Modifier string
}

// Count is what only one side has.
type Count struct {
	Files, Dirs, Others  int // others are symlinks, devices and the like
	DataBlobs, TreeBlobs int
	Bytes                uint64 // content of the blobs, before compression
}

// Difference sums up a comparison.
type Difference struct {
	ChangedFiles   int
	Added, Removed Count
}

// DiffOptions says what to compare and whom to tell.
type DiffOptions struct {
	// Metadata reports nodes as well that differ in nothing but what is said about them.
	Metadata bool

	// Change is called for each difference, in the order of paths. An error ends the comparison.
	Change func(Change) error

	// Damage is called for what cannot be compared, as in [Walk]; nil ends the comparison there.
	Damage func(path string, err error) error
}

// Diff compares two directories. Trees with the same ID are the same and are not looked into, but for one purpose: a blob
// counts as added or removed only if the other side has it nowhere, so when something remains to be counted, the common
// trees are read until it is clear.
//
// What lies below a node that was a directory and is none any more, or the reverse, is listed as removed or added.
func Diff(ctx context.Context, repo *repository.Repository, before, after repository.ID, o DiffOptions) (*Difference, error) {
	d := &differ{
		repo: repo, options: o,
		before: make(map[blob]struct{}), after: make(map[blob]struct{}), common: make(map[repository.ID]struct{}),
	}
	if before != after {
		if err := d.dirs(ctx, before, after, "/", 0); err != nil {
			return nil, err
		}
	}
	if err := d.count(ctx); err != nil {
		return nil, err
	}
	return &d.result, nil
}

// blob names a blob.
type blob struct {
	typ repository.BlobType
	id  repository.ID
}

// differ is one comparison.
type differ struct {
	repo    *repository.Repository
	options DiffOptions
	result  Difference

	before, after map[blob]struct{}          // in directories that are not the same
	common        map[repository.ID]struct{} // trees that both sides hold
}

// dirs compares two trees that differ.
func (d *differ) dirs(ctx context.Context, before, after repository.ID, dir string, depth int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if depth >= maxDepth {
		return d.damage(ctx, dir, fmt.Errorf("nested deeper than %d directories: %w", maxDepth, repository.ErrTooLarge))
	}
	old, err := d.repo.LoadTree(ctx, before)
	if err != nil {
		return d.damage(ctx, dir, err)
	}
	current, err := d.repo.LoadTree(ctx, after)
	if err != nil {
		return d.damage(ctx, dir, err)
	}
	d.before[blob{repository.TreeBlob, before}] = struct{}{}
	d.after[blob{repository.TreeBlob, after}] = struct{}{}
	a, b := old.Nodes, current.Nodes
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			err, a = d.one(ctx, before, &a[0], dir, "-", depth), a[1:]
		case len(a) == 0 || b[0].Name < a[0].Name:
			err, b = d.one(ctx, after, &b[0], dir, "+", depth), b[1:]
		default:
			err = d.both(ctx, pair{&a[0], &b[0], before, after}, dir, depth)
			a, b = a[1:], b[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pair is the nodes of one name, each with the tree that holds it.
type pair struct {
	old, current             *repository.Node
	oldParent, currentParent repository.ID
}

// both compares two nodes of one name.
func (d *differ) both(ctx context.Context, p pair, dir string, depth int) error {
	if err := p.old.CheckName(); err != nil {
		return d.damage(ctx, dir, err)
	}
	d.note(d.before, p.old)
	d.note(d.after, p.current)
	isDir := func(n *repository.Node) bool { return n.Type == repository.TypeDir && n.Subtree != nil }
	at := path.Join(dir, p.current.Name)
	modifier := ""
	if p.old.Type != p.current.Type {
		modifier = "T"
	}
	switch {
	case p.old.Type == repository.TypeFile && p.current.Type == repository.TypeFile && !slices.Equal(p.old.Content, p.current.Content):
		modifier += "M"
		d.result.ChangedFiles++
	case d.options.Metadata && !sameNode(p.old, p.current):
		modifier += "U"
	}
	if modifier != "" {
		if err := d.change(at, p.current.Type, modifier); err != nil {
			return err
		}
	}
	switch {
	case isDir(p.old) && isDir(p.current):
		if *p.old.Subtree == *p.current.Subtree {
			d.common[*p.old.Subtree] = struct{}{}
			return nil
		}
		return d.dirs(ctx, *p.old.Subtree, *p.current.Subtree, at, depth+1)
	case isDir(p.old):
		return d.below(ctx, p.old, at, "-", depth+1)
	case isDir(p.current):
		return d.below(ctx, p.current, at, "+", depth+1)
	}
	return nil
}

// one lists a node that only one side has, and what lies below it.
func (d *differ) one(ctx context.Context, parent repository.ID, n *repository.Node, dir, modifier string, depth int) error {
	if err := n.CheckName(); err != nil {
		return d.damage(ctx, dir, err)
	}
	if err := d.only(Entry{path.Join(dir, n.Name), n, parent}, modifier); err != nil {
		return err
	}
	if n.Type != repository.TypeDir {
		return nil
	}
	return d.below(ctx, n, path.Join(dir, n.Name), modifier, depth+1)
}

// below lists what lies in a directory that only one side has.
func (d *differ) below(ctx context.Context, n *repository.Node, at, modifier string, depth int) error {
	if n.Subtree == nil {
		return d.damage(ctx, at, fmt.Errorf("directory names no tree: %w", repository.ErrUnreadable))
	}
	w := Walk{Repo: d.repo, Damage: func(p string, err error) error { return d.damage(ctx, path.Join(at, p), err) },
		Visit: func(e Entry) error {
			e.Path = path.Join(at, e.Path)
			return d.only(e, modifier)
		}}
	_, err := w.dir(ctx, *n.Subtree, "/", depth)
	return err
}

// only counts and reports a node that only one side has.
func (d *differ) only(e Entry, modifier string) error {
	c, set := &d.result.Added, d.after
	if modifier == "-" {
		c, set = &d.result.Removed, d.before
	}
	switch e.Node.Type {
	case repository.TypeFile:
		c.Files++
	case repository.TypeDir:
		c.Dirs++
	default:
		c.Others++
	}
	d.note(set, e.Node)
	return d.change(e.Path, e.Node.Type, modifier)
}

// note enters the blobs that a node names.
func (d *differ) note(set map[blob]struct{}, n *repository.Node) {
	for _, id := range n.Content {
		set[blob{repository.DataBlob, id}] = struct{}{}
	}
	if n.Type == repository.TypeDir && n.Subtree != nil {
		set[blob{repository.TreeBlob, *n.Subtree}] = struct{}{}
	}
}

func (d *differ) change(at, typ, modifier string) error {
	if d.options.Change == nil {
		return nil
	}
	if typ == repository.TypeDir && !strings.HasSuffix(at, "/") {
		at += "/"
	}
	return d.options.Change(Change{at, modifier})
}

func (d *differ) damage(ctx context.Context, at string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if d.options.Damage == nil {
		return fmt.Errorf("%q: %w", at, err)
	}
	return d.options.Damage(at, err)
}

// errSettled ends the reading of common trees.
var errSettled = errors.New("nothing is left to be counted")

// count enters the blobs that one side alone has into the result.
func (d *differ) count(ctx context.Context) error {
	for b := range d.before {
		if _, ok := d.after[b]; ok {
			delete(d.before, b)
			delete(d.after, b)
		}
	}
	forget := func(b blob) {
		delete(d.before, b)
		delete(d.after, b)
	}
	settled := func() error {
		if len(d.before)+len(d.after) == 0 {
			return errSettled
		}
		return nil
	}
	// What both sides hold in a tree that is the same was moved or copied, not added.
	seen := make(map[repository.ID]struct{})
	w := Walk{Repo: d.repo, Damage: d.options.Damage, Visit: func(e Entry) error {
		for _, id := range e.Node.Content {
			forget(blob{repository.DataBlob, id})
		}
		if e.Node.Type == repository.TypeDir && e.Node.Subtree != nil {
			forget(blob{repository.TreeBlob, *e.Node.Subtree})
			if _, ok := seen[*e.Node.Subtree]; ok {
				return ErrSkipDir
			}
			seen[*e.Node.Subtree] = struct{}{}
		}
		return settled()
	}}
	for id := range d.common {
		if settled() != nil {
			break
		}
		forget(blob{repository.TreeBlob, id})
		if _, ok := seen[id]; ok {
			continue
		}
		seen[id] = struct{}{}
		if err := w.Run(ctx, id); err != nil && !errors.Is(err, errSettled) {
			return err
		}
	}
	d.sum(d.before, &d.result.Removed)
	d.sum(d.after, &d.result.Added)
	return nil
}

// sum counts blobs. One that the index does not list has no size; check finds it.
func (d *differ) sum(set map[blob]struct{}, c *Count) {
	for b := range set {
		if b.typ == repository.TreeBlob {
			c.TreeBlobs++
		} else {
			c.DataBlobs++
		}
		if at := d.repo.Locate(b.typ, b.id); len(at) > 0 {
			c.Bytes += uint64(at[0].Blob.PlainBytes())
		}
	}
}
