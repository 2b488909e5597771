package archive

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"dengbei/chunkstore/repository"
)

// dir is a directory whose entries are being stored. The last of them to finish stores its tree.
type dir struct {
	archiver *archiver
	above    *dir // nil for the root
	slot     int  // in above
	path     string
	source   string             // "" above the roots
	listed   *stat              // of source when it was listed; nil above the roots
	device   uint64             // of the root on disk
	self     repository.Node    // the directory itself, without subtree
	parents  []*repository.Tree // what earlier snapshots have here
	names    []string           // of the entries, ascending

	mu    sync.Mutex        // guards what follows; never held during I/O
	nodes []repository.Node // by slot; without type while not finished, and if left out
	open  map[int]*dir      // directories below that are being stored
	left  int               // entries not finished, and one for the walker itself
	id    repository.ID     // once it is stored
}

// job is some entries of a directory, none of them a directory, to be stored.
type job struct {
	dir      *dir
	from, to int    // slots
	source   string // of the only entry, if it does not lie in dir.source
}

// jobEntries is how many entries go into a job at most.
const jobEntries = 32

func (d *dir) start(names []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names, d.nodes, d.left = names, make([]repository.Node, len(names)), len(names)+1
}

// put enters a finished entry.
func (d *dir) put(slot int, n repository.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes[slot] = n
}

// finish is called with the number of entries that have ended, stored or left out, and once by the walker. The call that
// ends the directory saves the tree.
func (d *dir) finish(ctx context.Context, entries int) error {
	for {
		d.mu.Lock()
		d.left -= entries
		last := d.left == 0
		d.mu.Unlock()
		if !last {
			return nil
		}
		if err := d.save(ctx); err != nil {
			return err
		}
		if d.above == nil {
			return nil
		}
		d, entries = d.above, 1
	}
}

// save stores the tree of a directory that has ended and enters it above.
func (d *dir) save(ctx context.Context) error {
	a := d.archiver
	if d.listed != nil && a.strict() {
		now, err := lstat(d.source)
		if err != nil {
			return err
		}
		if err := d.listed.unchanged(now); err != nil {
			return fmt.Errorf("directory %s: %w", d.source, err)
		}
	}
	d.mu.Lock()
	d.nodes = slices.DeleteFunc(d.nodes, func(n repository.Node) bool { return n.Type == "" })
	tree := &repository.Tree{Nodes: d.nodes}
	d.mu.Unlock()
	id, err := a.session.SaveTree(ctx, tree)
	if err != nil {
		return fmt.Errorf("directory %s: %w", d.path, err)
	}
	old := d.oldSelf()
	d.mu.Lock()
	d.id = id
	d.nodes, d.names, d.parents = nil, nil, nil // the rest of the walk does not need them
	d.mu.Unlock()
	if d.above == nil {
		return nil
	}
	self := d.self
	self.Subtree = &d.id
	d.above.mu.Lock()
	d.above.nodes[d.slot] = self
	delete(d.above.open, d.slot)
	d.above.mu.Unlock()
	a.countDir(&self, old)
	return nil
}

// oldSelf returns what the newest of the parents that has it says of the directory.
func (d *dir) oldSelf() *repository.Node {
	if d.above == nil {
		return nil
	}
	if old := d.above.inParents(d.self.Name); old != nil && old.Type == repository.TypeDir {
		return old
	}
	return nil
}

// child prepares the directory at a slot.
func (d *dir) child(ctx context.Context, slot int, source string, st *stat, self repository.Node) (*dir, error) {
	c := &dir{
		archiver: d.archiver, above: d, slot: slot, path: path.Join(d.path, self.Name), source: source, listed: st,
		device: d.device, self: self,
	}
	for _, p := range d.parents {
		n := p.Find(self.Name)
		if n == nil || n.Type != repository.TypeDir || n.Subtree == nil {
			continue
		}
		t, err := d.archiver.repo.LoadTree(ctx, *n.Subtree)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			// The parent only saves time.
			if err := d.archiver.problems.note(c.path, fmt.Errorf("parent snapshot: %w", err)); err != nil {
				return nil, fmt.Errorf("parent snapshot's %s: %w", c.path, err)
			}
			continue
		}
		c.parents = append(c.parents, t)
	}
	d.mu.Lock()
	if d.open == nil {
		d.open = make(map[int]*dir)
	}
	d.open[slot] = c
	d.mu.Unlock()
	return c, nil
}

// drop gives up a directory that could not be listed.
func (d *dir) drop(ctx context.Context) error {
	d.above.mu.Lock()
	delete(d.above.open, d.slot)
	d.above.mu.Unlock()
	return d.above.finish(ctx, 1)
}

// inParents returns what the first of the parents that knows the name has under it, or nil.
func (d *dir) inParents(name string) *repository.Node {
	for _, p := range d.parents {
		if n := p.Find(name); n != nil {
			return n
		}
	}
	return nil
}

// walkTop walks the directories above the roots, and from the roots on the disk.
func (a *archiver) walkTop(ctx context.Context, d *dir, p *place) error {
	if p.root != nil { // "/" itself is a root
		source := p.root.Source
		st, err := follow(source)
		if err != nil {
			return err
		}
		if !st.isDir() {
			return fmt.Errorf(`%s cannot be "/": not a directory: %w`, source, ErrRoots)
		}
		// A symlink given as the root is followed, once.
		if d.source, err = filepath.EvalSymlinks(source); err != nil {
			return err
		}
		d.listed, d.device = st, uint64(st.Dev)
		entries, err := listDir(d.source)
		if err != nil {
			return err
		}
		return a.walkDir(ctx, d, entries)
	}
	names := p.names()
	d.start(names)
	for i, name := range names {
		below := p.below[name]
		if below.root != nil {
			if err := a.walkRoot(ctx, d, i, below.root); err != nil {
				return err
			}
			continue
		}
		a.aboves++
		self, err := a.above(name, below)
		if err != nil {
			return err
		}
		c, err := d.child(ctx, i, "", nil, self)
		if err != nil {
			return err
		}
		if err := a.walkTop(ctx, c, below); err != nil {
			return err
		}
	}
	return d.finish(ctx, 1)
}

// walkRoot stores a root as the i-th entry of d.
func (a *archiver) walkRoot(ctx context.Context, d *dir, i int, r *Root) error {
	if r.Content != nil {
		n, err := a.stream(ctx, d.names[i], r.Content)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Path, err)
		}
		d.put(i, n)
		return d.finish(ctx, 1)
	}
	st, err := lstat(r.Source)
	if err != nil {
		if err := a.problems.note(r.Source, err); err != nil {
			return err
		}
		return d.finish(ctx, 1)
	}
	if a.options.Select.byName(r.Source) {
		return d.finish(ctx, 1)
	}
	if st.isDir() {
		return a.enter(ctx, d, i, r.Source, st)
	}
	select {
	case a.jobs <- job{d, i, i + 1, r.Source}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// above describes a directory above the roots.
func (a *archiver) above(name string, p *place) (repository.Node, error) {
	if p.about != "" {
		st, err := follow(p.about)
		if err == nil && !st.isDir() {
			err = fmt.Errorf("%s is no directory: %w", p.about, ErrRoots)
		}
		if err == nil {
			n, err := a.node(p.about, name, st, nil)
			if err != nil {
				err = a.problems.note(p.about, err)
			}
			return n, err
		}
		if err := a.problems.note(p.about, err); err != nil {
			return repository.Node{}, err
		}
	}
	at := a.options.Time
	return repository.Node{
		Name: name, Type: repository.TypeDir, Mode: fs.ModeDir | 0o755, ModTime: at, AccessTime: at, ChangeTime: at,
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
	}, nil
}

// listing is a directory's entries, ascending by name.
type listing struct {
	names []string
	dirs  []bool
}

// listDir reads a directory.
func listDir(source string) (*listing, error) {
	f, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	l := &listing{make([]string, len(entries)), make([]bool, len(entries))}
	for i, e := range entries {
		l.names[i], l.dirs[i] = e.Name(), e.IsDir()
	}
	return l, nil
}

// walkDir stores what is listed in d.source: directories here, the rest by the workers.
func (a *archiver) walkDir(ctx context.Context, d *dir, l *listing) error {
	d.start(l.names)
	tag, tagged := "", false
	if len(a.options.Select.Tags) > 0 {
		tag, tagged = a.options.Select.tagged(d.source)
	}
	from := 0
	send := func(to int) error {
		if from == to {
			return nil
		}
		select {
		case a.jobs <- job{d, from, to, ""}:
			from = to
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for i, name := range l.names {
		var err error
		leave := tagged && name != tag
		switch {
		case !l.dirs[i] && !leave:
			if i-from == jobEntries {
				err = send(i)
			}
		default:
			if err = send(i); err != nil {
				return err
			}
			from = i + 1
			if source := filepath.Join(d.source, name); leave || a.options.Select.byName(source) {
				err = d.finish(ctx, 1)
			} else {
				err = a.enterListed(ctx, d, i, source)
			}
		}
		if err != nil {
			return err
		}
	}
	if err := send(len(l.names)); err != nil {
		return err
	}
	return d.finish(ctx, 1)
}

// enterListed stores the directory at source as the i-th entry of d.
func (a *archiver) enterListed(ctx context.Context, d *dir, i int, source string) error {
	st, err := lstat(source)
	if err == nil && !st.isDir() {
		err = fmt.Errorf("directory %s: %w", source, ErrChanged)
	}
	if err != nil {
		if err := a.problems.note(source, err); err != nil {
			return err
		}
		return d.finish(ctx, 1)
	}
	return a.enter(ctx, d, i, source, st)
}

// enter stores the directory at source, which st describes, as the i-th entry of d.
func (a *archiver) enter(ctx context.Context, d *dir, i int, source string, st *stat) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	self, err := a.node(source, d.names[i], st, d.inParents(d.names[i]))
	if err != nil {
		if err := a.problems.note(source, err); err != nil {
			return err
		}
	}
	c, err := d.child(ctx, i, source, st, self)
	if err != nil {
		return err
	}
	entries := &listing{}
	if d.device == 0 { // the directory is a root
		c.device = uint64(st.Dev)
	}
	if !a.options.Select.OneFileSystem || c.device == uint64(st.Dev) {
		if entries, err = listDir(source); err != nil {
			if err := a.problems.note(source, err); err != nil {
				return err
			}
			return c.drop(ctx)
		}
	}
	return a.walkDir(ctx, c, entries)
}
