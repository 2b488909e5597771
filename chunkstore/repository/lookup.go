package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore"
)

// With a table on disk, so many blobs are kept in memory beside it before it is written anew: a sixteenth of what it
// holds, within these bounds. A small repository never has a table.
const (
	minMemoryBlobs = 1 << 18
	maxMemoryBlobs = 1 << 19

	maxIndexReaders = 2 // each takes about 20 MiB, and with a file that somebody blew up some hundred
)

// index is what a repository knows of where its blobs lie: a table on disk, if there is one, and a table in memory of
// what is not in it.
type index struct {
	view atomic.Pointer[view] // what is searched; changed under mu only, its table grows

	mu         sync.Mutex          // serialises changes; look-ups do without
	repo       *Repository         // reads index files
	fresh      map[ID][]PackedBlob // packs of sessions that no index file names yet
	covered    map[ID]struct{}     // index files that view has the packs of
	unreadable []Unreadable        // index files
	damages    int                 // times that the table on disk turned out to be damaged while it was used
	tableErr   error               // why there is no table on disk although there should be
	lost       error               // why index files could not be read again after that
}

// view is one state of an index.
type view struct {
	file *tableFile // nil if there is none
	mem  *table
}

func newIndex() *index {
	x := &index{fresh: make(map[ID][]PackedBlob)}
	x.view.Store(&view{mem: newTable()})
	return x
}

// try calls f with the current view, and again with the next one if the table on disk turns out to be damaged.
func (x *index) try(f func(v *view) error) {
	for {
		v := x.view.Load()
		err := f(v)
		if err == nil {
			return
		}
		x.abandon(v.file, err)
	}
}

func (x *index) has(typ BlobType, id ID) (found bool) {
	x.try(func(v *view) (err error) {
		found = v.mem.has(typ, id)
		if !found && v.file != nil {
			found, err = v.file.has(typ, &id)
		}
		return err
	})
	return found
}

// lookup appends the places of a blob to dst.
func (x *index) lookup(dst []Location, typ BlobType, id ID) []Location {
	start := len(dst)
	x.try(func(v *view) (err error) {
		dst = v.mem.lookup(dst[:start], typ, id)
		if v.file == nil {
			return nil
		}
		n := len(dst)
		dst, err = v.file.lookup(dst, typ, &id)
		if n > start { // the same pack may be listed in several index files
			kept := n
			for _, l := range dst[n:] {
				if !slices.Contains(dst[start:n], l) {
					dst[kept] = l
					kept++
				}
			}
			dst = dst[:kept]
		}
		return err
	})
	return dst
}

// missing returns why a blob is not found.
func (x *index) missing() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.lost != nil {
		return fmt.Errorf("%w (the index could not be read again: %w)", ErrNoBlob, x.lost)
	}
	return ErrNoBlob
}

// indexed reports whether an index file names pack, be it to be deleted.
func (x *index) indexed(pack ID) (found bool) {
	x.try(func(v *view) (err error) {
		found = v.mem.indexed(pack)
		if !found && v.file != nil {
			found, _, _, err = v.file.pack(&pack)
		}
		return err
	})
	return found
}

func (x *index) markedSince(pack ID) (since time.Time, marked bool) {
	x.try(func(v *view) error {
		var live bool
		since, marked, live = v.mem.marks(pack)
		if live || v.file == nil {
			return nil
		}
		known, at, m, err := v.file.pack(&pack)
		switch {
		case known && !m:
			since, marked = time.Time{}, false
		case known && (!marked || at.After(since)):
			since, marked = at, true
		}
		return err
	})
	return since, marked
}

// all yields every place of every blob. The index must not change meanwhile, but may be read anew.
func (x *index) all() iter.Seq[Location] {
	return func(yield func(Location) bool) {
		v := x.view.Load()
		for l := range v.mem.all() {
			if !yield(l) {
				return
			}
		}
		if v.file == nil {
			return
		}
		last, err := v.file.all(func(l Location) bool { return v.mem.contains(l) || yield(l) })
		if err == nil {
			return
		}
		x.abandon(v.file, err)
		for l := range x.all() {
			if compareLocations(l, last) > 0 && !v.mem.contains(l) && !yield(l) {
				return
			}
		}
	}
}

// addPack enters a pack that is durable and that no index file names yet.
func (x *index) addPack(p IndexedPack) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.fresh[p.ID] = p.Blobs
	t := x.view.Load().mem
	t.addPack(p.ID, p.Blobs)
	t.markLoose(p.ID, false)
}

// indexPacks writes the index file of packs that addPack entered.
func (r *Repository) indexPacks(ctx context.Context, packs []IndexedPack) (chunkstore.Entry, error) {
	x := r.index
	x.mu.Lock()
	defer x.mu.Unlock()
	e, err := r.SaveIndexFile(ctx, &IndexFile{Packs: packs})
	if err != nil {
		return e, err
	}
	for _, p := range packs {
		delete(x.fresh, p.ID)
	}
	if x.covered == nil {
		return e, nil // the index was never read
	}
	x.covered[IDOf(e.Name.ID)] = struct{}{}
	if v, dir := x.view.Load(), x.directory(); dir != "" && v.mem.size() > x.memoryBlobs(v.file) {
		x.moveToDisk(ctx, dir)
	}
	return e, nil
}

// memoryBlobs returns how many blobs may be in memory beside a table on disk. x.mu is held, as in what follows.
func (x *index) memoryBlobs(file *tableFile) int {
	if n := x.repo.options.memoryBlobs; n > 0 {
		return n
	}
	if file == nil {
		return minMemoryBlobs
	}
	return int(min(max(file.blobs.records/16, minMemoryBlobs), maxMemoryBlobs))
}

// directory returns where the table lies on disk; it is empty if there is to be none.
func (x *index) directory() string {
	if x.repo == nil || x.repo.options.CacheDir == "" || x.damages > 1 {
		return ""
	}
	return filepath.Join(x.repo.options.CacheDir, x.repo.config.ID.String())
}

// moveToDisk writes a table of what is on disk and of what is in memory and in index files. If that fails everything
// stays where it is.
func (x *index) moveToDisk(ctx context.Context, dir string) {
	v := x.view.Load()
	b := newTableBuilder(dir, x.repo.master, max(v.mem.size(), 1))
	defer b.close()
	stays := newTable()
	file, err := func() (*tableFile, error) {
		err := v.mem.eachPack(func(p *IndexedPack, loose bool) error {
			if _, fresh := x.fresh[p.ID]; fresh || loose {
				stays.addPack(p.ID, p.Blobs)
				stays.markLoose(p.ID, loose)
				return nil
			}
			return b.addPack(p)
		})
		if err != nil {
			return nil, err
		}
		for _, m := range v.mem.allMarked() {
			if err := b.mark(m.pack, m.at); err != nil {
				return nil, err
			}
		}
		return b.write(ctx, v.file, idsOf(x.covered))
	}()
	x.tableErr = err
	switch {
	case err == nil:
		x.view.Store(&view{file, stays})
	case errors.Is(err, errDamaged):
		x.recover(err)
	}
}

func idsOf(set map[ID]struct{}) []ID {
	all := make([]ID, 0, len(set))
	for id := range set {
		all = append(all, id)
	}
	return all
}

// markedPacks returns the packs to be deleted, by ID.
func (x *index) markedPacks() (all []markedPack) {
	x.try(func(v *view) (err error) {
		all = v.mem.allMarked()
		if v.file == nil {
			return nil
		}
		beside := all
		all = nil
		add := func(m markedPack) error {
			known, since, marked, err := v.file.pack(&m.pack)
			if err == nil && (!known || marked) {
				if since.After(m.at) {
					m.at = since
				}
				all = append(all, m)
			}
			return err
		}
		for scan := v.file.scan(&v.file.packs, 0); ; {
			r, err := scan.next()
			if err != nil {
				return err
			}
			var m markedPack
			marked := false
			if r != nil {
				m.pack = *r.id()
				m.at, marked = r.markedSince()
			}
			for len(beside) > 0 && (r == nil || bytes.Compare(beside[0].pack[:], m.pack[:]) <= 0) {
				same := r != nil && beside[0].pack == m.pack
				if err := add(beside[0]); err != nil {
					return err
				}
				beside = beside[1:]
				marked = marked && !same
			}
			if r == nil {
				return nil
			}
			if _, _, live := v.mem.marks(m.pack); marked && !live {
				all = append(all, m)
			}
		}
	})
	return all
}

// abandon gives up a table on disk that was found to be damaged.
func (x *index) abandon(file *tableFile, cause error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if file != nil && x.view.Load().file == file { // else somebody else did it
		x.recover(cause)
	}
}

// recover gives up the table on disk and reads all index files again. A disk that damages it twice is not used any more.
func (x *index) recover(cause error) {
	if dir := x.directory(); dir != "" {
		os.Remove(filepath.Join(dir, tableName))
	}
	x.damages++
	x.view.Store(&view{mem: x.view.Load().mem})
	x.covered = nil
	x.lost = x.reload(context.Background()) // look-ups have no context
	if x.tableErr == nil && x.damages > 1 {
		x.tableErr = cause
	}
}

// maxReloads is how often index files are listed anew because one vanished before it was read: a prune puts others in its
// place, and what is in use must not be missed.
const maxReloads = 5

// reload reads the index files that the view does not have. If there are others that it has and that are gone, it reads
// all of them.
func (x *index) reload(ctx context.Context) error {
	var next *loaded
	for range maxReloads {
		var err error
		if next, err = x.read(ctx); err != nil {
			return fmt.Errorf("read index: %w", err)
		}
		if !slices.ContainsFunc(next.unreadable, func(u Unreadable) bool { return errors.Is(u.Err, fs.ErrNotExist) }) {
			break
		}
	}
	slices.SortFunc(next.unreadable, func(a, b Unreadable) int { return a.Name.ID.Compare(b.Name.ID) })
	x.view.Store(&next.view)
	x.covered, x.unreadable, x.lost = next.covered, next.unreadable, nil
	return nil
}

// read returns the next state of the index.
func (x *index) read(ctx context.Context) (*loaded, error) {
	var names []ID
	for e, err := range x.repo.files.List(ctx, chunkstore.Index) {
		if err != nil {
			return nil, err
		}
		names = append(names, IDOf(e.Name.ID))
	}
	x.tableErr = nil
	next, err := x.loadTable(ctx, x.directory(), names, false)
	if errors.Is(err, errDamaged) {
		next, err = x.loadTable(ctx, x.directory(), names, true)
	}
	if errors.Is(err, errTable) && ctx.Err() == nil { // memory has to do
		x.tableErr = err
		next, err = x.loadTable(ctx, "", names, true)
	}
	return next, err
}

// loaded is the next state of an index.
type loaded struct {
	view
	covered    map[ID]struct{}
	unreadable []Unreadable
}

// load reads index files, several at once, and gives those that can be read to add.
func (x *index) load(ctx context.Context, names []ID, to *loaded, add func(*IndexFile) error) error {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(min(runtime.GOMAXPROCS(0), maxIndexReaders))
	for _, id := range names {
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			name := chunkstore.Name{Kind: chunkstore.Index, ID: id.Digest()}
			f, err := x.repo.LoadIndexFile(gctx, name)
			if gctx.Err() != nil {
				return gctx.Err()
			}
			if err == nil {
				if err := add(f); err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				to.unreadable = append(to.unreadable, Unreadable{name, err})
			} else {
				to.covered[id] = struct{}{}
			}
			return nil
		})
	}
	return g.Wait()
}

// loadTable reads the index files names. With a directory it takes up the table there as far as it covers names and
// nothing else, unless it is to begin anew, and puts the rest beside it in memory, or into a new table if that is too much.
func (x *index) loadTable(ctx context.Context, dir string, names []ID, anew bool) (*loaded, error) {
	next := &loaded{view: view{mem: newTable()}, covered: make(map[ID]struct{})}
	var err error
	if dir == "" {
		err = x.load(ctx, names, next, func(f *IndexFile) error {
			next.mem.addFile(f)
			return nil
		})
	} else {
		err = x.loadOntoTable(ctx, dir, names, next, anew)
	}
	if err != nil {
		return nil, err
	}
	for id, blobs := range x.fresh {
		next.mem.addPack(id, blobs)
	}
	if x.repo.options.ReadHeaders {
		err = x.readHeaders(ctx, next)
	}
	return next, err
}

func (x *index) loadOntoTable(ctx context.Context, dir string, names []ID, next *loaded, anew bool) error {
	removeStale(dir)
	var old *tableFile
	if !anew {
		old = x.usableTable(dir, names)
	}
	if old != nil {
		next.file = old
		for _, id := range old.covers {
			next.covered[id] = struct{}{}
		}
	}
	names = slices.DeleteFunc(slices.Clone(names), func(id ID) bool { _, ok := next.covered[id]; return ok })
	b := newTableBuilder(dir, x.repo.master, x.memoryBlobs(old))
	defer b.close()
	if err := x.load(ctx, names, next, b.addFile); err != nil {
		return err
	}
	if !b.spilled() {
		b.moveTo(next.mem)
		return nil
	}
	var err error
	next.file, err = b.write(ctx, old, idsOf(next.covered))
	return err
}

// usableTable returns the table in use, or the one in dir, if it covers none but the index files names. A table that is
// of no use is removed.
func (x *index) usableTable(dir string, names []ID) *tableFile {
	there := make(map[ID]struct{}, len(names))
	for _, id := range names {
		there[id] = struct{}{}
	}
	usable := func(t *tableFile) bool {
		return !slices.ContainsFunc(t.covers, func(id ID) bool { _, ok := there[id]; return !ok })
	}
	if now := x.view.Load().file; now != nil && usable(now) {
		return now
	}
	path := filepath.Join(dir, tableName)
	t, err := openTable(path, x.repo.master)
	if err == nil && usable(t) {
		return t
	}
	if err == nil {
		t.close()
	}
	os.Remove(path)
	return nil
}

// readHeaders enters packs that no index file names, by their headers.
func (x *index) readHeaders(ctx context.Context, next *loaded) error {
	var failed error
	known := func(pack ID) bool {
		if next.file == nil || next.mem.indexed(pack) {
			return next.mem.indexed(pack)
		}
		known, _, _, err := next.file.pack(&pack)
		failed = errors.Join(failed, err)
		return known
	}
	_, err := x.repo.unindexed(ctx, known, func(e chunkstore.Entry, blobs []PackedBlob) {
		next.mem.addPack(IDOf(e.Name.ID), blobs)
		next.mem.markLoose(IDOf(e.Name.ID), true)
	})
	return errors.Join(err, failed)
}

// compareLocations orders locations as table files do.
func compareLocations(a, b Location) int {
	if c := bytes.Compare(a.Blob.ID[:], b.Blob.ID[:]); c != 0 {
		return c
	}
	if a.Blob.Type != b.Blob.Type {
		return int(a.Blob.Type) - int(b.Blob.Type)
	}
	if c := a.Pack.ID.Compare(b.Pack.ID); c != 0 {
		return c
	}
	ra, rb := blobRecord(&a.Blob, 0), blobRecord(&b.Blob, 0)
	return bytes.Compare(ra[:], rb[:])
}
