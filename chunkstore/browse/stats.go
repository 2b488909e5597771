package browse

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/bits"
	"path"

	"dengbei/chunkstore/repository"
)

// Mode says what is counted. Values are stock restic's.
type Mode string

// The modes.
const (
	// RestoreSize counts what a restore of each snapshot would write: every node, and the bytes of every file, hard links
	// once. It is the default.
	RestoreSize Mode = "restore-size"

	// FilesByContents counts every content once, however many files have it.
	FilesByContents Mode = "files-by-contents"

	// BlobsPerFile counts each content once, and the blobs of it once for each path.
	BlobsPerFile Mode = "blobs-per-file"

	// RawData counts the blobs that the snapshots need, as stored.
	RawData Mode = "raw-data"
)

// Modes lists every Mode.
func Modes() []Mode { return []Mode{RestoreSize, FilesByContents, BlobsPerFile, RawData} }

// Stats is what was counted. What a mode does not count is 0. Sums stop at the largest number there is.
type Stats struct {
	Snapshots int
	Files     uint64
	Blobs     uint64
	Bytes     uint64

	// PlainBytes is the content of the blobs before compression, in mode RawData.
	PlainBytes uint64
}

// Measure counts what the snapshots hold. Damage is called for what cannot be read, as in [Walk]; nil ends the count there.
//
// A tree that was read is not read again, unless hard links in it must be counted for another snapshot. Memory holds 32
// bytes and some sums for each tree, and 32 bytes for each content or blob that is counted once.
func Measure(ctx context.Context, repo *repository.Repository, snapshots []*repository.Snapshot, mode Mode, damage func(sn *repository.Snapshot, path string, err error) error) (*Stats, error) {
	m := &meter{repo: repo, trees: make(map[repository.ID]weight), once: make(map[[sha256.Size]byte]struct{})}
	visit := map[Mode]func(Entry) error{RestoreSize: nil, FilesByContents: m.byContents, BlobsPerFile: m.byBlobs, RawData: m.raw}
	look, ok := visit[mode]
	if !ok {
		return nil, fmt.Errorf("count by %q: want one of %v", mode, Modes())
	}
	for _, sn := range snapshots {
		m.stats.Snapshots++
		fail := func(at string, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err = fmt.Errorf("snapshot %s, %q: %w", Short(sn.ID), at, err)
			if damage == nil {
				return err
			}
			return damage(sn, at, err)
		}
		m.damage, m.links = fail, make(map[link]struct{})
		if mode == RestoreSize {
			w, err := m.weigh(ctx, sn.Tree, "/", 0)
			if err != nil {
				return nil, err
			}
			m.stats.Files, m.stats.Bytes = sum(m.stats.Files, w.nodes), sum(m.stats.Bytes, w.bytes)
			continue
		}
		if m.seen(sn.Tree) {
			continue
		}
		if mode == RawData {
			_ = m.blob(repository.TreeBlob, sn.Tree) // whether it is there, the walk will tell
		}
		w := Walk{Repo: repo, Damage: fail, Visit: look}
		if err := w.Run(ctx, sn.Tree); err != nil {
			return nil, err
		}
	}
	return &m.stats, nil
}

// meter is one count.
type meter struct {
	repo   *repository.Repository
	stats  Stats
	damage func(path string, err error) error

	trees map[repository.ID]weight
	once  map[[sha256.Size]byte]struct{}
	links map[link]struct{} // hard links that the present snapshot has counted
}

type link struct{ inode, device uint64 }

// weight is what a tree and all below it count for.
type weight struct {
	nodes, bytes uint64 // without files that have several names
	linked       int    // the number of the snapshot, from 1, that counted those last; 0 if there are none
}

// sum adds without running over: a hostile tree may name itself in thousands of places, level by level.
func sum(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return 1<<64 - 1
	}
	return s
}

// weigh counts a tree for [RestoreSize]. Each is read once, however many directories share it.
func (m *meter) weigh(ctx context.Context, id repository.ID, dir string, depth int) (weight, error) {
	now := m.stats.Snapshots
	if w, ok := m.trees[id]; ok && (w.linked == 0 || w.linked == now) {
		return w, nil
	}
	if err := ctx.Err(); err != nil {
		return weight{}, err
	}
	if depth >= maxDepth {
		return weight{}, m.damage(dir, fmt.Errorf("nested deeper than %d directories: %w", maxDepth, repository.ErrTooLarge))
	}
	t, err := m.repo.LoadTree(ctx, id)
	if err != nil {
		return weight{}, m.damage(dir, err)
	}
	var w weight
	var linked uint64 // bytes that count in this place only
	for i := range t.Nodes {
		n := &t.Nodes[i]
		w.nodes = sum(w.nodes, 1)
		switch {
		case n.Type == repository.TypeDir && n.Subtree != nil:
			below, err := m.weigh(ctx, *n.Subtree, path.Join(dir, n.Name), depth+1)
			if err != nil {
				return weight{}, err
			}
			w.nodes, w.bytes = sum(w.nodes, below.nodes), sum(w.bytes, below.bytes)
			w.linked = max(w.linked, below.linked)
		case n.Type == repository.TypeFile && n.Links > 1 && n.Inode != 0:
			w.linked = now
			l := link{n.Inode, n.DeviceID}
			if _, ok := m.links[l]; !ok {
				m.links[l] = struct{}{}
				linked = sum(linked, n.SizeBytes)
			}
		default:
			w.bytes = sum(w.bytes, n.SizeBytes)
		}
	}
	m.stats.Bytes = sum(m.stats.Bytes, linked)
	m.trees[id] = w
	return w, nil
}

// seen reports whether a tree was walked already, and remembers it.
func (m *meter) seen(id repository.ID) bool {
	_, ok := m.trees[id]
	m.trees[id] = weight{}
	return ok
}

// first reports whether it is the first time that key is asked for.
func (m *meter) first(key [sha256.Size]byte) bool {
	if _, ok := m.once[key]; ok {
		return false
	}
	m.once[key] = struct{}{}
	return true
}

// content names what a node holds. All that hold nothing are alike.
func content(n *repository.Node) [sha256.Size]byte {
	h := sha256.New()
	for _, id := range n.Content {
		h.Write(id[:])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// into leaves out a directory that was walked already: all its contents are counted.
func (m *meter) into(n *repository.Node) error {
	if n.Type == repository.TypeDir && n.Subtree != nil && m.seen(*n.Subtree) {
		return ErrSkipDir
	}
	return nil
}

func (m *meter) byContents(e Entry) error {
	if m.first(content(e.Node)) {
		m.stats.Files = sum(m.stats.Files, 1)
		m.stats.Bytes = sum(m.stats.Bytes, e.Node.SizeBytes)
	}
	return m.into(e.Node)
}

func (m *meter) byBlobs(e Entry) error {
	if m.first(content(e.Node)) {
		at := sha256.Sum256([]byte("path " + e.Path))
		for i, id := range e.Node.Content {
			if i == 0 && m.first(at) {
				m.stats.Files = sum(m.stats.Files, 1)
			}
			if !m.first(sha256.Sum256(append(at[:], id[:]...))) {
				continue
			}
			m.stats.Blobs = sum(m.stats.Blobs, 1)
			b, err := m.locate(repository.DataBlob, id)
			if err != nil {
				if err := m.damage(e.Path, err); err != nil {
					return err
				}
				continue
			}
			m.stats.Bytes = sum(m.stats.Bytes, uint64(b.PlainBytes()))
		}
	}
	return m.into(e.Node)
}

func (m *meter) raw(e Entry) error {
	for _, id := range e.Node.Content {
		if err := m.blob(repository.DataBlob, id); err != nil {
			if err := m.damage(e.Path, err); err != nil {
				return err
			}
		}
	}
	if e.Node.Type == repository.TypeDir && e.Node.Subtree != nil {
		if m.seen(*e.Node.Subtree) {
			return ErrSkipDir
		}
		_ = m.blob(repository.TreeBlob, *e.Node.Subtree) // as above
	}
	return nil
}

// blob counts a blob as stored, once.
func (m *meter) blob(typ repository.BlobType, id repository.ID) error {
	if typ == repository.DataBlob && !m.first(id) { // trees are told apart by seen
		return nil
	}
	b, err := m.locate(typ, id)
	if err != nil {
		return err
	}
	m.stats.Blobs = sum(m.stats.Blobs, 1)
	m.stats.Bytes = sum(m.stats.Bytes, uint64(b.Length))
	m.stats.PlainBytes = sum(m.stats.PlainBytes, uint64(b.PlainBytes()))
	return nil
}

// locate returns where a blob lies.
func (m *meter) locate(typ repository.BlobType, id repository.ID) (repository.PackedBlob, error) {
	at := m.repo.Locate(typ, id)
	if len(at) == 0 {
		return repository.PackedBlob{}, fmt.Errorf("%s blob %s: %w", typ, id, repository.ErrNoBlob)
	}
	return at[0].Blob, nil
}
