package archive

import (
	"context"
	"slices"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func (a *archiver) checkpointing() bool { return a.options.Checkpoint > 0 && !a.options.DryRun }

// startCheckpoints leaves partial snapshots from time to time until the function it returns is called.
func (a *archiver) startCheckpoints(ctx context.Context, root *dir) (stop func()) {
	if !a.checkpointing() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(a.options.Checkpoint)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				a.checkpoint(context.WithoutCancel(ctx), root) // half of one would leave two snapshots
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// checkpoint leaves a snapshot of what is done, in place of the one before. What goes wrong with it is no failure of the
// backup: if it was the repository's, the session fails on its own.
func (a *archiver) checkpoint(ctx context.Context, root *dir) {
	tree, some, err := root.done(ctx)
	if err != nil || !some {
		return
	}
	sn := *a.snapshot
	sn.Tree = tree
	sn.Tags = append(slices.Clone(sn.Tags), repository.PartialTag)
	if _, err := a.session.SaveSnapshot(ctx, &sn); err != nil {
		return
	}
	before := a.last
	a.last = sn.ID
	if !before.IsZero() {
		a.remove(ctx, before)
	}
}

// done stores a tree of what is finished below d and reports whether there is anything.
func (d *dir) done(ctx context.Context) (repository.ID, bool, error) {
	d.mu.Lock()
	if !d.id.IsZero() {
		defer d.mu.Unlock()
		return d.id, true, nil
	}
	var nodes []repository.Node
	for _, n := range d.nodes {
		if n.Type != "" {
			nodes = append(nodes, n)
		}
	}
	open := make([]*dir, 0, len(d.open))
	for _, c := range d.open {
		open = append(open, c)
	}
	d.mu.Unlock()
	for _, c := range open {
		id, some, err := c.done(ctx)
		if err != nil {
			return id, false, err
		}
		if some {
			n := c.self
			n.Subtree = &id
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		return repository.ID{}, false, nil
	}
	slices.SortFunc(nodes, func(a, b repository.Node) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	id, err := d.archiver.session.SaveTree(ctx, &repository.Tree{Nodes: nodes})
	return id, true, err
}

// removePartial removes the partial snapshots that the complete one supersedes. The complete one is durable.
func (a *archiver) removePartial(ctx context.Context) {
	if !a.last.IsZero() {
		a.remove(ctx, a.last)
	}
	for _, id := range a.options.Partial {
		a.remove(ctx, id)
	}
}

// remove removes a partial snapshot. If that fails it is left for forget.
func (a *archiver) remove(ctx context.Context, id digest.Digest) {
	name := chunkstore.Name{Kind: chunkstore.Snapshot, ID: id}
	if err := a.repo.Files().Remove(ctx, name); err != nil {
		a.result.Unremoved = append(a.result.Unremoved, repository.Unreadable{Name: name, Err: err})
		return
	}
	a.removed = append(a.removed, name)
}
