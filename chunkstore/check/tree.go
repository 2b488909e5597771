package check

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

// maxDepth bounds how deep directories are followed. A path of 4096 bytes, the most that Linux takes, has 2048 of them.
const maxDepth = 4096

// What is known of a tree, in an idSet.
const (
	treeSeen = iota + 1 // to be loaded or loaded
	treeSound
	treeHurt // it, or something in or below it, is bad
)

// forest follows the trees of all snapshots, each once however many share it, several at a time.
type forest struct {
	c *checker

	mu     sync.Mutex // guards what follows; not held while a tree is loaded
	more   *sync.Cond // something was pushed, or nothing is left
	stack  []nested
	active int // trees being loaded
	seen   *idSet
	trees  int
	hurt   bool
	ended  bool
}

// nested is a tree and how deep it lies where it was met first.
type nested struct {
	id    repository.ID
	depth int
}

// references follows every snapshot to the last blob, without asking yet which paths suffer.
func (c *checker) references(ctx context.Context) error {
	f := &forest{c: c, seen: newIDSet()}
	f.more = sync.NewCond(&f.mu)
	for _, sn := range c.snapshots {
		f.push([]repository.ID{sn.Tree}, 0)
	}
	g, gctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(gctx, f.end)
	defer stop()
	for range workers() {
		g.Go(func() error {
			for {
				t, ok := f.pop()
				if !ok {
					return gctx.Err()
				}
				if err := f.visit(gctx, t); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	c.report.Trees, c.spoiled = f.trees, f.hurt
	return nil
}

// push enters trees that were not seen yet.
func (f *forest) push(ids []repository.ID, depth int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if f.seen.get(id) != 0 {
			continue
		}
		f.seen.put(id, treeSeen)
		f.stack = append(f.stack, nested{id, depth})
	}
	f.more.Broadcast()
}

// pop waits for a tree to visit; there is none any more when it returns false.
func (f *forest) pop() (nested, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.stack) == 0 && f.active > 0 && !f.ended {
		f.more.Wait()
	}
	if len(f.stack) == 0 || f.ended {
		return nested{}, false
	}
	t := f.stack[len(f.stack)-1]
	f.stack = f.stack[:len(f.stack)-1]
	f.active++
	return t, true
}

// end has everybody stop.
func (f *forest) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.more.Broadcast()
}

// done counts a visited tree.
func (f *forest) done(hurt bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active--
	f.trees++
	f.hurt = f.hurt || hurt
	if f.active == 0 {
		f.more.Broadcast()
	}
}

func (f *forest) visit(ctx context.Context, at nested) error {
	hurt := true
	defer func() { f.done(hurt) }()
	if at.depth > maxDepth {
		return nil
	}
	t, err := f.c.load(ctx, at.id)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return nil
	}
	hurt = false
	var below []repository.ID
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if n.Type == repository.TypeDir && n.Subtree != nil {
			below = append(below, *n.Subtree)
		}
		hurt = hurt || f.c.node(n) != nil
	}
	f.push(below, at.depth+1)
	return nil
}

// load returns a tree. One that none of its packs yields at the second attempt either is entered as bad, and the packs
// are found.
func (c *checker) load(ctx context.Context, id repository.ID) (*repository.Tree, error) {
	at := c.repo.Locate(repository.TreeBlob, id)
	t, first := c.repo.LoadTree(ctx, id)
	if first == nil || ctx.Err() != nil || len(at) == 0 {
		return t, first
	}
	t, err := c.repo.LoadTree(ctx, id)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		c.find(at[0].Pack, fmt.Errorf("%w (%w)", ErrUnsteady, first), true)
		return t, nil
	}
	for _, l := range at {
		c.find(l.Pack, err, false)
		if p := c.pack(repository.IDOf(l.Pack.ID)); p != nil {
			c.spoil(p, []repository.PackedBlob{l.Blob})
		}
	}
	return nil, err
}

// flaw is why a node or tree cannot be restored. Without packs it is its snapshot's.
type flaw struct {
	packs []chunkstore.Name
	err   error
}

// node returns what is wrong with a node itself, nil if nothing is.
func (c *checker) node(n *repository.Node) *flaw {
	if err := n.CheckName(); err != nil {
		return &flaw{err: err}
	}
	switch n.Type {
	case repository.TypeDir:
		if n.Subtree == nil {
			return &flaw{err: fmt.Errorf("directory names no tree: %w", repository.ErrUnreadable)}
		}
	case repository.TypeFile:
		if n.Content == nil { // an empty file has an empty list
			return &flaw{err: fmt.Errorf("file has no list of blobs: %w", repository.ErrUnreadable)}
		}
		var size uint64
		for _, id := range n.Content {
			at := c.repo.Locate(repository.DataBlob, id)
			if f := c.blob(id, at); f != nil {
				return f
			}
			size += uint64(at[0].Blob.PlainBytes())
		}
		if size != n.SizeBytes {
			return &flaw{err: fmt.Errorf("%d bytes of content, want %d: %w", size, n.SizeBytes, ErrSize)}
		}
	}
	return nil
}

// blob returns why a blob cannot be had, nil if it can.
func (c *checker) blob(id repository.ID, at []repository.Location) *flaw {
	if len(at) == 0 {
		return &flaw{err: fmt.Errorf("blob %s: %w", id, repository.ErrNoBlob)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.bad) == 0 && !c.lost || c.sound(at) {
		return nil
	}
	f := &flaw{err: fmt.Errorf("blob %s: %w", id, repository.ErrDamaged)}
	for _, l := range at {
		f.packs = append(f.packs, l.Pack)
	}
	return f
}

// tree returns why a tree cannot be had, nil if it can.
func (c *checker) tree(ctx context.Context, id repository.ID) (*repository.Tree, *flaw, error) {
	at := c.repo.Locate(repository.TreeBlob, id)
	if f := c.blob(id, at); f != nil {
		return nil, f, nil
	}
	t, err := c.repo.LoadTree(ctx, id)
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case err == nil:
		return t, nil, nil
	case errors.Is(err, repository.ErrDamaged):
		f := &flaw{err: err}
		for _, l := range at {
			f.packs = append(f.packs, l.Pack)
		}
		return nil, f, nil
	}
	return nil, &flaw{err: err}, nil // sound bytes that are no tree: whoever wrote them is to blame
}
