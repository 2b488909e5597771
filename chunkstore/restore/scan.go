package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"dengbei/chunkstore/repository"
)

// treeWork is a directory of the snapshot that is to be read.
type treeWork struct {
	dir      *dir
	tree     repository.ID
	selected bool // the directory itself, and so what is missing of it
}

// stack hands out directories, the latest found first: so few wait at once.
type stack struct {
	mu   sync.Mutex // guards what follows
	cond *sync.Cond
	todo []treeWork
	busy int // workers that may still push
	quit bool
}

func (s *stack) push(w []treeWork) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Reverse(w) // the first is to be taken first
	s.todo = append(s.todo, w...)
	s.cond.Broadcast()
}

// pop waits for the next directory and reports false when there will be none.
func (s *stack) pop() (treeWork, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	for len(s.todo) == 0 && s.busy > 0 && !s.quit {
		s.cond.Wait()
	}
	if len(s.todo) == 0 || s.quit {
		s.cond.Broadcast()
		return treeWork{}, false
	}
	last := len(s.todo) - 1
	w := s.todo[last]
	s.todo[last] = treeWork{}
	s.todo = s.todo[:last]
	s.busy++
	return w, true
}

func (s *stack) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quit = true
	s.cond.Broadcast()
}

// scan reads the trees, several at once, makes the directories and everything that has no content, and plans the files.
func (r *restorer) scan(ctx context.Context, tree repository.ID) error {
	s := &stack{busy: workers(), todo: []treeWork{{r.root, tree, true}}}
	s.cond = sync.NewCond(&s.mu)
	g, ctx := errgroup.WithContext(ctx)
	unhook := context.AfterFunc(ctx, s.stop)
	defer unhook()
	for range workers() {
		g.Go(func() error {
			for {
				w, ok := s.pop()
				if !ok {
					return ctx.Err()
				}
				if err := r.visit(ctx, w, s); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// visitor is the work on one directory.
type visitor struct {
	*restorer
	dir *dir

	listed  bool
	listing map[string]bool // what is in the target's directory, less what is restored
	keep    []string        // directories of the tree that are not selected themselves
}

// visit plans what is in one directory. Its error ends the restore; what is wrong with an entry is its outcome.
func (r *restorer) visit(ctx context.Context, w treeWork, s *stack) error {
	t, err := r.loadTree(ctx, w.tree)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if t == nil {
		if w.dir == r.root {
			return err // there is nothing to restore at all
		}
		// What cannot be read may hide selected entries, so the directory is named even if it is not selected.
		r.outcome(w.dir.path, repository.TypeDir, Failed, 0, err)
		return nil
	}
	if err != nil { // it can be read and breaks the format: what is sound in it is restored
		r.outcome(w.dir.path, repository.TypeDir, Failed, 0, err)
	}
	v := &visitor{restorer: r, dir: w.dir}
	var below []treeWork
	seen := make(map[string]bool)
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if nerr := n.CheckName(); nerr != nil {
			// Joining would resolve the dots: show the name where it stands, quoted.
			v.outcome(func() string { return v.dir.join(fmt.Sprintf("%q", n.Name)) }, n.Type, Failed, 0, nerr)
			continue
		}
		if err != nil { // names may come twice
			if seen[n.Name] {
				v.fail(n, fmt.Errorf("name comes twice in its directory: %w", repository.ErrUnreadable))
				continue
			}
			seen[n.Name] = true
		}
		if child := v.entry(n, t); child != nil {
			below = append(below, *child)
		}
	}
	if err == nil {
		if lerr := v.strangers(t); lerr != nil {
			v.outcome(w.dir.path, repository.TypeDir, Failed, 0, lerr)
		}
	}
	s.push(below)
	return nil
}

// loadTree returns a tree, with an error as well if it breaks the order of names.
func (r *restorer) loadTree(ctx context.Context, id repository.ID) (*repository.Tree, error) {
	b, err := r.repo.LoadBlob(ctx, repository.TreeBlob, id, nil)
	if err != nil {
		return nil, err
	}
	t, err := repository.DecodeTree(b)
	if err != nil {
		err = fmt.Errorf("tree %s: %w", id, err)
	}
	return t, err
}

func (v *visitor) fail(n *repository.Node, err error) {
	name := n.Name
	v.outcome(func() string { return v.dir.join(name) }, n.Type, Failed, 0, err)
}

func (v *visitor) done(n *repository.Node, a Action) {
	name := n.Name
	v.outcome(func() string { return v.dir.join(name) }, n.Type, a, 0, nil)
}

// entry plans one entry. It returns the directory to visit, if it is one.
func (v *visitor) entry(n *repository.Node, t *repository.Tree) *treeWork {
	isDir := n.Type == repository.TypeDir
	selected, below := true, true
	if v.options.Select != nil {
		selected, below = v.options.Select(v.dir.join(n.Name), isDir)
	}
	if !selected && !(isDir && below) {
		return nil
	}
	if selected {
		v.entriesTotal.Add(1)
	}
	if isDir && n.Subtree == nil {
		v.fail(n, fmt.Errorf("directory names no tree: %w", repository.ErrUnreadable))
		return nil
	}
	if !selected {
		v.keep = append(v.keep, n.Name)
		return &treeWork{newDir(v.dir, n.Name), *n.Subtree, false}
	}
	if err := v.ensure(v.dir); err != nil {
		v.tell(v.dir, err)
		return nil
	}
	if err := v.list(); err != nil {
		v.fail(n, err)
		return nil
	}
	delete(v.listing, n.Name)
	if isReserved(n.Name, t) {
		v.fail(n, ErrReserved)
		return nil
	}
	switch n.Type {
	case repository.TypeDir:
		d := newDir(v.dir, n.Name)
		a := v.attributesOf(n)
		d.attrs = &a
		if err := v.ensure(d); err != nil {
			v.fail(n, err)
			return nil
		}
		delete(v.listing, unfinishedName(n.Name))
		if v.options.DryRun {
			v.outcome(d.path, n.Type, d.action(), 0, nil)
		}
		if !below {
			return nil
		}
		return &treeWork{d, *n.Subtree, true}
	case repository.TypeFile:
		v.file(n)
	case repository.TypeSocket:
		// Nothing could be restored: a socket is there while its program listens.
		v.done(n, Unchanged)
	default:
		v.special(n)
	}
	return nil
}

// tell reports once that a directory that was not asked for itself cannot be made.
func (v *visitor) tell(d *dir, err error) {
	d.mu.Lock()
	told := d.told
	d.told = true
	d.mu.Unlock()
	if !told {
		v.outcome(d.path, repository.TypeDir, Failed, 0, err)
	}
}

// isReserved reports whether name is what a neighbour is called until it is whole.
func isReserved(name string, t *repository.Tree) bool {
	if len(name) < len(unfinishedPrefix) || name[:len(unfinishedPrefix)] != unfinishedPrefix {
		return false
	}
	return slices.ContainsFunc(t.Nodes, func(n repository.Node) bool { return unfinishedName(n.Name) == name })
}

// list reads what is in the target's directory, unless it is new.
func (v *visitor) list() error {
	if v.listed || v.dir.fresh {
		return nil
	}
	v.listing = make(map[string]bool)
	err := v.dirs.in(v.dir, func(fd int) error {
		// A descriptor of its own: reading moves the position.
		own, err := openDirAt(fd, ".")
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(own), v.dir.name)
		defer f.Close()
		for {
			names, err := f.Readdirnames(1024)
			for _, name := range names {
				v.listing[name] = true
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	v.listed = err == nil
	return err
}

// strangers decides about what is in the target's directory and not in the tree.
func (v *visitor) strangers(t *repository.Tree) error {
	if !v.dir.isReady() || v.dir.fresh {
		return nil
	}
	if !v.listed && !v.options.Delete && !v.dir.adopted {
		return nil
	}
	if err := v.list(); err != nil {
		return err
	}
	if !v.dir.adopted {
		for i := range t.Nodes {
			delete(v.listing, t.Nodes[i].Name)
		}
	}
	for _, name := range v.keep {
		delete(v.listing, name)
	}
	var doomed []extra
	for name := range v.listing {
		told := false
		switch {
		case v.dir.adopted, isUnfinished(name):
		case v.options.Delete:
			if v.options.Select != nil {
				if selected, _ := v.options.Select(v.dir.join(name), false); !selected {
					continue
				}
			}
			told = true
		default:
			continue
		}
		doomed = append(doomed, extra{v.dir, name, told})
	}
	v.plan.mu.Lock()
	defer v.plan.mu.Unlock()
	if len(doomed) > 0 {
		v.plan.doomed[v.dir] = doomed
	}
	return nil
}

func isUnfinished(name string) bool {
	return len(name) == len(unfinishedPrefix)+20 && name[:len(unfinishedPrefix)] == unfinishedPrefix
}

// stat returns what lies at name in the target's directory.
func (v *visitor) stat(name string) (st unix.Stat_t, found bool, err error) {
	if v.dir.fresh {
		return st, false, nil
	}
	err = v.dirs.in(v.dir, func(fd int) error {
		st, err = statAt(fd, name)
		return err
	})
	if errors.Is(err, unix.ENOENT) {
		return st, false, nil
	}
	return st, err == nil, err
}
