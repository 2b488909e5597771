package repair

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// RepairedTag marks the snapshots that [Snapshots] writes, as stock restic does.
const RepairedTag = "repaired"

const (
	maxChanges = 1000 // listed for one snapshot; the rest is counted

	// maxDepth bounds how deep directories are followed. A path of 4096 bytes, the most that Linux takes, has 2048.
	maxDepth = 4096
)

// SnapshotsOptions says how [Snapshots] goes about it.
type SnapshotsOptions struct {
	// Forget has the snapshots removed that were replaced, and those of which nothing can be restored.
	Forget bool

	// DryRun has nothing changed.
	DryRun bool
}

// SnapshotResult is what became of one snapshot.
type SnapshotResult struct {
	Snapshot digest.Digest
	Repaired digest.Digest // the new snapshot; zero if none was needed, none was possible, or with DryRun
	Changes  []Change      // what the new one lacks; at the first snapshot of those that share it
	More     int           // changes that are not listed
	Lost     bool          // its root directory cannot be read: nothing of it can be restored
	Removed  bool          // or would be
}

// Sound reports whether nothing had to be done.
func (r SnapshotResult) Sound() bool { return !r.Lost && len(r.Changes) == 0 }

// Change is something that a repaired snapshot does not have any more.
type Change struct {
	Path string `json:"path"`
	What string `json:"what"`
}

// Snapshots writes a new snapshot, with the tag [RepairedTag], for each of list that cannot be restored whole: files
// without what is lost of them, directories that cannot be read as empty ones. Whether the index lists a blob and its
// pack is there decides; mend index and packs first. The old snapshots stay unless the options say otherwise.
func Snapshots(ctx context.Context, repo *repository.Repository, list []*repository.Snapshot, o SnapshotsOptions) ([]SnapshotResult, error) {
	packs, err := listPacks(ctx, repo.Files())
	if err != nil {
		return nil, fmt.Errorf("repair snapshots: %w", err)
	}
	m := &mender{repo: repo, packs: packs, options: o, session: repo.NewSession(), fixed: make(map[repository.ID]repository.ID)}
	defer m.session.Close()
	var results []SnapshotResult
	for _, sn := range list {
		r, err := m.snapshot(ctx, sn)
		if err != nil {
			return results, fmt.Errorf("repair snapshot %s: %w", sn.ID.Hex()[:8], err)
		}
		results = append(results, r)
	}
	return results, nil
}

type mender struct {
	repo    *repository.Repository
	packs   packList
	options SnapshotsOptions
	session *repository.Session
	fixed   map[repository.ID]repository.ID // trees seen: what takes their place, themselves if they are sound
	current *SnapshotResult
}

func (m *mender) snapshot(ctx context.Context, sn *repository.Snapshot) (SnapshotResult, error) {
	r := SnapshotResult{Snapshot: sn.ID}
	m.current = &r
	root, err := m.load(ctx, sn.Tree)
	if err != nil {
		return r, err
	}
	if root == nil {
		r.Lost, r.Removed = true, m.options.Forget
		if m.options.Forget && !m.options.DryRun {
			return r, m.repo.SetAside(ctx, sn.Name())
		}
		return r, nil
	}
	tree, err := m.tree(ctx, sn.Tree, "/", 0)
	if err != nil || tree == sn.Tree {
		return r, err
	}
	if len(r.Changes) == 0 { // all of it stands with an earlier snapshot
		m.change("/", "shares what an earlier snapshot lost")
	}
	r.Removed = m.options.Forget
	if m.options.DryRun {
		return r, nil
	}
	repaired := *sn
	repaired.Tree = tree
	if repaired.Original == nil {
		id := repository.IDOf(sn.ID)
		repaired.Original = &id
	}
	if !slices.Contains(repaired.Tags, RepairedTag) {
		repaired.Tags = append(slices.Clone(repaired.Tags), RepairedTag)
	}
	name, err := m.session.SaveSnapshot(ctx, &repaired)
	if err != nil {
		return r, err
	}
	r.Repaired = name.ID
	if m.options.Forget && name.ID != sn.ID {
		return r, m.repo.Files().Remove(ctx, sn.Name())
	}
	return r, nil
}

func (m *mender) change(at, what string) {
	if len(m.current.Changes) == maxChanges {
		m.current.More++
		return
	}
	m.current.Changes = append(m.current.Changes, Change{at, what})
}

// load returns a tree, as far as it can be read; nil if not at all.
func (m *mender) load(ctx context.Context, id repository.ID) (*repository.Tree, error) {
	for range 2 {
		b, err := m.repo.LoadBlob(ctx, repository.TreeBlob, id, nil)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			continue
		}
		if t, _ := repository.DecodeTree(b); t != nil { // in the wrong order perhaps
			return t, nil
		}
		return nil, nil
	}
	return nil, nil
}

// tree returns what takes the place of a tree: itself if it is sound.
func (m *mender) tree(ctx context.Context, id repository.ID, dir string, depth int) (repository.ID, error) {
	if to, seen := m.fixed[id]; seen {
		return to, nil
	}
	t, err := m.load(ctx, id)
	if err != nil {
		return id, err
	}
	changed := false
	if t == nil || depth >= maxDepth {
		m.change(dir, "directory cannot be read: replaced by an empty one")
		t, changed = &repository.Tree{}, true
	}
	if order(t) {
		m.change(dir, "entries brought into order")
		changed = true
	}
	kept := t.Nodes[:0]
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if n.CheckName() != nil || len(kept) > 0 && kept[len(kept)-1].Name == n.Name {
			m.change(path.Join(dir, fmt.Sprintf("%q", n.Name)), "entry without a usable name of its own: removed")
			changed = true
			continue
		}
		c, err := m.node(ctx, n, path.Join(dir, n.Name), depth)
		if err != nil {
			return id, err
		}
		changed = changed || c
		kept = append(kept, *n)
	}
	t.Nodes = kept
	to := id
	if changed {
		if to, err = m.save(ctx, t); err != nil {
			return id, err
		}
	}
	if depth < maxDepth { // elsewhere it may lie less deep
		m.fixed[id] = to
	}
	return to, nil
}

func (m *mender) save(ctx context.Context, t *repository.Tree) (repository.ID, error) {
	if !m.options.DryRun {
		return m.session.SaveTree(ctx, t)
	}
	b, err := t.Encode()
	if err != nil {
		return repository.ID{}, err
	}
	return repository.IDOf(digest.Of(b)), nil
}

// order brings nodes into the format's order and reports whether they were not.
func order(t *repository.Tree) bool {
	by := func(a, b repository.Node) int { return strings.Compare(a.Name, b.Name) }
	if slices.IsSortedFunc(t.Nodes, by) {
		return false
	}
	slices.SortStableFunc(t.Nodes, by)
	return true
}

// node mends one entry and reports whether that changed it.
func (m *mender) node(ctx context.Context, n *repository.Node, at string, depth int) (bool, error) {
	switch n.Type {
	case repository.TypeDir:
		var sub repository.ID
		if n.Subtree == nil {
			m.change(at, "directory names no tree: replaced by an empty one")
			id, err := m.save(ctx, &repository.Tree{})
			n.Subtree = &id
			return true, err
		}
		sub, err := m.tree(ctx, *n.Subtree, at, depth+1)
		if err != nil || sub == *n.Subtree {
			return false, err
		}
		n.Subtree = &sub
		return true, nil
	case repository.TypeFile:
		return m.file(n, at), nil
	}
	return false, nil
}

// file leaves out of a file what cannot be had.
func (m *mender) file(n *repository.Node, at string) bool {
	kept := make([]repository.ID, 0, len(n.Content))
	var size uint64
	for _, id := range n.Content {
		places := m.repo.Locate(repository.DataBlob, id)
		if !m.packs.present(places) {
			continue
		}
		kept = append(kept, id)
		size += uint64(places[0].Blob.PlainBytes())
	}
	if len(kept) == len(n.Content) && size == n.SizeBytes && n.Content != nil {
		return false
	}
	switch lost := len(n.Content) - len(kept); {
	case lost > 0:
		m.change(at, fmt.Sprintf("%d of %d pieces of the file are lost: %d of %d bytes stay", lost, len(n.Content), size, n.SizeBytes))
	case size != n.SizeBytes:
		m.change(at, fmt.Sprintf("size corrected from %d to %d bytes", n.SizeBytes, size))
	default:
		m.change(at, "file without a list of blobs: now an empty one")
	}
	n.Content, n.SizeBytes = kept, size
	return true
}

// Unreadable sets aside the snapshot files that cannot be read at the second attempt either, and returns them. Stock
// restic stops at such files.
func Unreadable(ctx context.Context, repo *repository.Repository, dryRun bool) ([]repository.Unreadable, error) {
	_, bad, err := repo.Snapshots(ctx)
	if err != nil {
		return nil, fmt.Errorf("repair snapshots: %w", err)
	}
	var all []repository.Unreadable
	for _, u := range bad {
		_ = repo.Reread(ctx, u.Name)
		_, err := repo.LoadSnapshot(ctx, u.Name.ID)
		if ctx.Err() != nil {
			return all, ctx.Err()
		}
		if err == nil {
			continue
		}
		all = append(all, repository.Unreadable{Name: chunkstore.Name(u.Name), Err: err})
		if !dryRun {
			if err := repo.SetAside(ctx, u.Name); err != nil {
				return all, fmt.Errorf("repair snapshots: %w", err)
			}
		}
	}
	return all, nil
}
