package prune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

// newSnapshots reads the snapshots that were not walked yet.
func (p *pruner) newSnapshots(ctx context.Context) ([]*repository.Snapshot, error) {
	var names []chunkstore.Name
	for e, err := range p.repo.Files().List(ctx, chunkstore.Snapshot) {
		if err != nil {
			return nil, err
		}
		if !p.walked[e.Name.ID] {
			names = append(names, e.Name)
		}
	}
	var snapshots []*repository.Snapshot
	var bad []string
	for _, n := range names {
		sn, err := p.repo.LoadSnapshot(ctx, n.ID)
		switch {
		case err == nil:
			snapshots = append(snapshots, sn)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, fs.ErrNotExist): // forgotten since; if its tags were changed, its successor is seen below
			return p.newSnapshots(ctx)
		default:
			bad = append(bad, err.Error())
		}
	}
	if len(bad) > 0 {
		return nil, unsafe("bring them back from another copy, or remove these files if they are none of yours, then prune again",
			"snapshots cannot be read, so what they need is not known", bad)
	}
	return snapshots, nil
}

// references is what a tree names. Whatever else is wrong with a tree is no matter here.
type references struct {
	Nodes []struct {
		Content []repository.ID `json:"content"`
		Subtree *repository.ID  `json:"subtree"`
	} `json:"nodes"`
}

// place is a tree to be read and the snapshot that led to it.
type place struct {
	tree     repository.ID
	snapshot int32
}

// walker reads trees, each once, with several workers.
type walker struct {
	load  func(ctx context.Context, id repository.ID) ([]byte, error)
	visit func(place, *references) []place // called by one worker at a time

	mu    sync.Mutex // guards the rest
	wake  *sync.Cond
	stack []place
	busy  int
	ended bool
}

func (w *walker) run(ctx context.Context, roots []place) error {
	w.wake, w.stack = sync.NewCond(&w.mu), roots
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, w.end)
	defer stop()
	for range 2 * runtime.GOMAXPROCS(0) { // half of them wait for the disk
		g.Go(func() error {
			defer w.end()
			for {
				at, ok := w.next()
				if !ok {
					return ctx.Err()
				}
				b, err := w.load(ctx, at.tree)
				var r references
				if err == nil {
					if err = json.Unmarshal(b, &r); err != nil {
						err = fmt.Errorf("tree blob %s: %w: %w", at.tree, repository.ErrUnreadable, err)
					}
				}
				if err != nil {
					return &treeError{at, err}
				}
				w.done(w.visit, at, &r)
			}
		})
	}
	return g.Wait()
}

// next waits for a tree to read; false means that there are no more.
func (w *walker) next() (place, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.stack) == 0 && w.busy > 0 && !w.ended {
		w.wake.Wait()
	}
	if len(w.stack) == 0 || w.ended {
		return place{}, false
	}
	at := w.stack[len(w.stack)-1]
	w.stack = w.stack[:len(w.stack)-1]
	w.busy++
	return at, true
}

func (w *walker) done(visit func(place, *references) []place, at place, r *references) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stack = append(w.stack, visit(at, r)...)
	w.busy--
	w.wake.Broadcast()
}

func (w *walker) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.wake.Broadcast()
}

// treeError is a tree that cannot be read.
type treeError struct {
	at  place
	err error
}

func (e *treeError) Error() string { return e.err.Error() }
func (e *treeError) Unwrap() error { return e.err }

// walk adds what the snapshots need to used.
func (p *pruner) walk(ctx context.Context, snapshots []*repository.Snapshot) error {
	var roots []place
	for i, sn := range snapshots {
		if p.used.add(repository.TreeBlob, &sn.Tree) {
			roots = append(roots, place{sn.Tree, int32(i)})
		}
	}
	w := walker{load: p.loadTree, visit: func(at place, r *references) []place {
		p.report.Trees++
		p.options.Progress(Progress{Step: "reading trees", Done: int64(p.report.Trees)})
		var below []place
		for i := range r.Nodes {
			n := &r.Nodes[i]
			for j := range n.Content {
				p.used.add(repository.DataBlob, &n.Content[j])
			}
			if n.Subtree != nil && p.used.add(repository.TreeBlob, n.Subtree) {
				below = append(below, place{*n.Subtree, at.snapshot})
			}
		}
		return below
	}}
	err := w.run(ctx, roots)
	var bad *treeError
	if errors.As(err, &bad) && ctx.Err() == nil {
		sn := snapshots[bad.at.snapshot]
		return unsafe("check and repair the repository, or forget the snapshot, then prune again", "a directory cannot be read, so what it needs is not known",
			[]string{fmt.Sprintf("%s: %v", sn.Name(), bad.err)})
	}
	if err != nil {
		return err
	}
	for _, sn := range snapshots {
		p.walked[sn.ID] = true
	}
	p.report.Snapshots, p.report.Blobs = len(p.walked), p.used.count
	return nil
}

// loadTree reads a tree, from a marked pack if there is no other.
func (p *pruner) loadTree(ctx context.Context, id repository.ID) ([]byte, error) {
	b, err := p.repo.LoadBlob(ctx, repository.TreeBlob, id, nil)
	if err == nil || ctx.Err() != nil {
		return b, err
	}
	at, ok := p.survey.trees[id]
	if !ok {
		return nil, err
	}
	env := make([]byte, at.blob.Length)
	k := pack{id: at.pack}
	if rerr := p.repo.Files().ReadRange(ctx, k.name(), int64(at.blob.Offset), env); rerr != nil {
		return nil, fmt.Errorf("%w; %w", err, rerr)
	}
	return p.repo.DecodeBlob(nil, env, at.blob)
}

// unlisted names some of the blobs that are needed and in no index, and the snapshots that need them.
func (p *pruner) unlisted(ctx context.Context) ([]string, error) {
	snapshots, _, err := p.repo.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	seen := newSet(p.used.count)
	var roots []place
	name := func(at place, typ repository.BlobType, id *repository.ID) {
		if note := p.used.note(typ, id); note != nil && *note&(maxCopies|inMarked) == 0 && len(names) <= maxNamed {
			names = append(names, fmt.Sprintf("%s blob %s of %s", typ, id, snapshots[at.snapshot].Name()))
		}
	}
	for i, sn := range snapshots {
		if seen.add(repository.TreeBlob, &sn.Tree) {
			roots = append(roots, place{sn.Tree, int32(i)})
			name(roots[len(roots)-1], repository.TreeBlob, &sn.Tree)
		}
	}
	w := walker{load: p.loadTree, visit: func(at place, r *references) []place {
		var below []place
		for _, n := range r.Nodes {
			for _, id := range n.Content {
				if seen.add(repository.DataBlob, &id) {
					name(at, repository.DataBlob, &id)
				}
			}
			if n.Subtree != nil && seen.add(repository.TreeBlob, n.Subtree) {
				name(at, repository.TreeBlob, n.Subtree)
				below = append(below, place{*n.Subtree, at.snapshot})
			}
		}
		if len(names) > maxNamed {
			return nil
		}
		return below
	}}
	err = w.run(ctx, roots)
	slices.Sort(names)
	return names, err
}
