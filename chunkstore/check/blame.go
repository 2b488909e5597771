package check

import (
	"context"
	"fmt"
	"path"

	"dengbei/chunkstore/repository"
)

// blame names the paths that suffer. It walks the trees once more, and only if something was wrong with one.
func (c *checker) blame(ctx context.Context) error {
	if !c.spoiled {
		return nil
	}
	b := &blamer{c: c, trees: newIDSet(), recent: make(map[repository.ID]*repository.Tree)}
	for _, sn := range c.snapshots {
		hurt, err := b.hurt(ctx, sn.Tree, 0)
		if err != nil {
			return err
		}
		if hurt {
			if err := b.walk(ctx, sn, sn.Tree, "/", 0); err != nil {
				return err
			}
		}
	}
	return nil
}

type blamer struct {
	c      *checker
	trees  *idSet
	over   bool
	recent map[repository.ID]*repository.Tree // a few small ones: the same tree often comes again soon
}

const (
	maxRecent      = 256
	maxRecentNodes = 500
)

// tree is [checker.tree], from memory for trees that were just there.
func (b *blamer) tree(ctx context.Context, id repository.ID) (*repository.Tree, *flaw, error) {
	if t := b.recent[id]; t != nil {
		return t, nil, nil
	}
	t, f, err := b.c.tree(ctx, id)
	if t != nil && len(t.Nodes) <= maxRecentNodes {
		if len(b.recent) == maxRecent {
			clear(b.recent)
		}
		b.recent[id] = t
	}
	return t, f, err
}

// spent counts work and reports whether there was enough of it; then what was counted is a lower bound.
func (b *blamer) spent(n int) bool {
	if b.over {
		return true
	}
	if b.c.blamed += n; b.c.blamed <= maxBlamed {
		return false
	}
	b.over = true
	for _, f := range b.c.findings {
		f.AtLeast = f.AtLeast || f.AffectedPaths() > 0
	}
	return true
}

// hurt reports whether something in or below a tree is bad. Each tree is read once, however many snapshots share it.
func (b *blamer) hurt(ctx context.Context, id repository.ID, depth int) (bool, error) {
	switch b.trees.get(id) {
	case treeSound:
		return false, nil
	case treeHurt:
		return true, nil
	}
	if depth > maxDepth {
		return true, nil // elsewhere it may lie less deep
	}
	t, _, err := b.c.tree(ctx, id)
	if err != nil {
		return false, err
	}
	hurt := t == nil
	var below []repository.ID
	if t != nil {
		for i := range t.Nodes {
			n := &t.Nodes[i]
			hurt = hurt || b.c.node(n) != nil
			if n.Type == repository.TypeDir && n.Subtree != nil {
				below = append(below, *n.Subtree)
			}
		}
	}
	t = nil // not kept while the trees below are read
	for _, sub := range below {
		h, err := b.hurt(ctx, sub, depth+1)
		if err != nil {
			return false, err
		}
		hurt = hurt || h
	}
	if hurt {
		b.trees.put(id, treeHurt)
	} else {
		b.trees.put(id, treeSound)
	}
	return hurt, nil
}

// walk enters the bad paths below dir into the findings. What no pack is to blame for is the snapshot's.
func (b *blamer) walk(ctx context.Context, sn *repository.Snapshot, tree repository.ID, dir string, depth int) error {
	if depth > maxDepth {
		b.enter(&flaw{err: ErrDepth}, sn, dir)
		return nil
	}
	if b.over {
		return nil
	}
	t, f, err := b.tree(ctx, tree)
	if err != nil {
		return err
	}
	if f != nil {
		b.enter(f, sn, dir)
		return nil
	}
	if b.spent(blameTree + len(t.Nodes)) {
		return nil
	}
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if f := b.c.node(n); f != nil {
			name := n.Name
			if n.CheckName() != nil {
				name = fmt.Sprintf("%q", name)
			}
			b.enter(f, sn, path.Join(dir, name))
			continue
		}
		if n.Type != repository.TypeDir {
			continue
		}
		if b.trees.get(*n.Subtree) != treeSound {
			if err := b.walk(ctx, sn, *n.Subtree, path.Join(dir, n.Name), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// enter blames the packs of a flaw, or the snapshot.
func (b *blamer) enter(f *flaw, sn *repository.Snapshot, at string) {
	if len(f.packs) == 0 {
		b.c.affect(b.c.find(sn.Name(), fmt.Errorf("%s: %w", at, f.err), false), sn.ID, at)
		return
	}
	for _, name := range f.packs {
		b.c.affect(b.c.find(name, f.err, false), sn.ID, at)
	}
}
