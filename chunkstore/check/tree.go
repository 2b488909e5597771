package check

import (
	"context"
	"fmt"
	"path"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// snapshots follows every snapshot to the last blob and names the paths that suffer.
func (c *checker) snapshots(ctx context.Context) error {
	all, unreadable, err := c.repo.Snapshots(ctx)
	if err != nil {
		return err
	}
	for _, u := range unreadable {
		c.find(u.Name, u.Err)
	}
	for _, sn := range all {
		hurt, err := c.tree(ctx, sn.Tree)
		if err != nil {
			return err
		}
		if hurt {
			if err := c.blame(ctx, sn, sn.Tree, "/"); err != nil {
				return err
			}
		}
	}
	return nil
}

// tree reports whether something in or below a tree is bad. Each tree is read once, however many snapshots share it.
func (c *checker) tree(ctx context.Context, id repository.ID) (bool, error) {
	if hurt, seen := c.trees[id]; seen {
		return hurt, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	t, err := c.load(ctx, id)
	if err != nil {
		return false, err
	}
	hurt := t == nil
	if t != nil {
		for i := range t.Nodes {
			n := &t.Nodes[i]
			below := false
			if n.Type == repository.TypeDir && n.Subtree != nil {
				if below, err = c.tree(ctx, *n.Subtree); err != nil {
					return false, err
				}
			}
			hurt = hurt || below || c.node(n) != nil
		}
	}
	c.trees[id] = hurt
	return hurt, nil
}

// load returns a tree, or nil after noting why it cannot be read.
func (c *checker) load(ctx context.Context, id repository.ID) (*repository.Tree, error) {
	key := blobKey{repository.TreeBlob, id}
	if _, known := c.bad[key]; known {
		return nil, nil
	}
	t, err := c.repo.LoadTree(ctx, id)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		return t, nil
	}
	b := badBlob{err: err}
	for _, l := range c.repo.Locate(repository.TreeBlob, id) {
		c.find(l.Pack, err)
		b.packs = append(b.packs, l.Pack)
	}
	c.bad[key] = b
	return nil, nil
}

// node returns what is wrong with a node itself, nil if nothing is.
func (c *checker) node(n *repository.Node) *badBlob {
	if err := n.CheckName(); err != nil {
		return &badBlob{err: err}
	}
	switch n.Type {
	case repository.TypeDir:
		if n.Subtree == nil {
			return &badBlob{err: fmt.Errorf("directory names no tree: %w", repository.ErrUnreadable)}
		}
	case repository.TypeFile:
		var size int64
		for _, id := range n.Content {
			if b, ok := c.bad[blobKey{repository.DataBlob, id}]; ok {
				return &b
			}
			at := c.repo.Locate(repository.DataBlob, id)
			if len(at) == 0 {
				return &badBlob{err: fmt.Errorf("blob %s: %w", id, repository.ErrNoBlob)}
			}
			size += at[0].Blob.PlainBytes()
		}
		if uint64(size) != n.SizeBytes {
			return &badBlob{err: fmt.Errorf("%d bytes of content, want %d: %w", size, n.SizeBytes, ErrSize)}
		}
	}
	return nil
}

// blame enters the bad paths below dir into the findings. What no pack is to blame for is the snapshot's.
func (c *checker) blame(ctx context.Context, sn *repository.Snapshot, tree repository.ID, dir string) error {
	if b, ok := c.bad[blobKey{repository.TreeBlob, tree}]; ok {
		c.affect(&b, sn, dir)
		return nil
	}
	t, err := c.load(ctx, tree)
	if err != nil || t == nil {
		return err
	}
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if b := c.node(n); b != nil {
			name := n.Name
			if n.CheckName() != nil {
				name = fmt.Sprintf("%q", name)
			}
			c.affect(b, sn, path.Join(dir, name))
			continue
		}
		if n.Type == repository.TypeDir && c.trees[*n.Subtree] {
			if err := c.blame(ctx, sn, *n.Subtree, path.Join(dir, n.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) affect(b *badBlob, sn *repository.Snapshot, at string) {
	if len(b.packs) == 0 {
		c.find(sn.Name(), fmt.Errorf("%s: %w", at, b.err)).add(sn.ID, at)
		return
	}
	for _, name := range b.packs {
		c.find(name, b.err).add(sn.ID, at)
	}
}

func (f *Finding) add(snapshot digest.Digest, at string) {
	if len(f.Affects) == MaxAffected {
		f.More++
		return
	}
	f.Affects = append(f.Affects, Affected{snapshot, at})
}
