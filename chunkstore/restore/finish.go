package restore

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/repository"
)

// Entries get their names in batches, after one sync of the file system for all of them: a sync for each of many small
// files would take most of the time.
const (
	batchEntries = 8192
	batchBytes   = 1 << 30
)

// naming is an entry that is whole and waits for its name.
type naming struct {
	dir  *dir
	name string

	// One of these: a file; a directory; something else, of which nothing more is to be known.
	file *file
	sub  *dir
	node specialNode
}

// specialNode is what remains to be told of an entry without content.
type specialNode struct {
	typ      string
	replaces bool
}

// names collects what waits for its name.
type names struct {
	mu    sync.Mutex // guards what follows
	list  []naming
	bytes int64
}

func (n *names) add(e naming, bytes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, e)
	n.bytes += bytes
}

func (n *names) take(least int, leastBytes int64) []naming {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.list) < least && n.bytes < leastBytes {
		return nil
	}
	list := n.list
	n.list, n.bytes = nil, 0
	return list
}

// commitDue gives names if enough wait for them.
func (r *restorer) commitDue() error {
	list := r.named.take(batchEntries, batchBytes)
	if len(list) == 0 {
		return nil
	}
	if err := r.sync(); err != nil {
		return err
	}
	r.giveNames(list)
	return nil
}

// sync makes everything written durable, on each file system that is mounted in the target.
func (r *restorer) sync() error {
	if err := unix.Syncfs(r.root.fd); err != nil {
		return fmt.Errorf("sync target: %w", err)
	}
	for _, d := range r.mounts() {
		if err := r.dirs.in(d, unix.Syncfs); err != nil {
			return fmt.Errorf("sync %s in the target: %w", d.path(), err)
		}
	}
	return nil
}

// mounts returns a directory of each further file system.
func (r *restorer) mounts() []*dir {
	r.plan.mu.Lock()
	defer r.plan.mu.Unlock()
	return slices.Collect(maps.Values(r.plan.mounts))
}

// giveNames names what is whole and durable. The names are durable at the end of the restore.
func (r *restorer) giveNames(list []naming) {
	for _, e := range list {
		err := r.dirs.in(e.dir, func(dir int) error { return r.giveName(dir, e) })
		switch {
		case e.file != nil && err != nil:
			r.fail(e.file, fmt.Errorf("name file: %w", err))
		case e.file != nil:
			r.fileOutcome(e.file, e.file.action(), nil)
		case e.sub != nil && err != nil:
			r.outcome(e.sub.path, repository.TypeDir, Failed, 0, fmt.Errorf("name directory, which is whole as %s: %w", unfinishedName(e.name), err))
			e.sub.attrs = nil // it has its one outcome
		case e.sub != nil:
			r.dirs.renamed(e.sub, e.name)
		default:
			a := Restored
			if e.node.replaces {
				a = Updated
			}
			r.outcome(func() string { return e.dir.join(e.name) }, e.node.typ, a, 0, err)
		}
	}
}

func (r *restorer) giveName(dir int, e naming) error {
	temp := unfinishedName(e.name)
	err := unix.Renameat(dir, temp, dir, e.name)
	switch {
	case errors.Is(err, unix.ENOTDIR): // a directory takes the place of something else
		if err = unix.Unlinkat(dir, e.name, 0); err == nil {
			err = unix.Renameat(dir, temp, dir, e.name)
		}
	case errors.Is(err, unix.EISDIR): // the other way round
		if r.options.Delete {
			err = removeAll(dir, e.name)
		} else if err = unix.Unlinkat(dir, e.name, unix.AT_REMOVEDIR); errors.Is(err, unix.ENOTEMPTY) {
			err = fmt.Errorf("a directory with content: %w", ErrInTheWay)
		}
		if err == nil {
			err = unix.Renameat(dir, temp, dir, e.name)
		}
	}
	return err
}

// finish makes what was written durable and gives it its names. all says that the restore was not broken off.
func (r *restorer) finish(all bool) error {
	if all {
		r.linkAll()
	}
	made := r.plan.made
	// Children before parents: nothing is done in a directory once it has its own mode.
	for _, d := range slices.Backward(made) {
		if d.shielded {
			r.finishDir(d)
		}
	}
	if err := r.sync(); err != nil {
		return err
	}
	for _, d := range slices.Backward(made) {
		// What an earlier run left is proved when all is done: until then it keeps its unfinished name.
		if d.shielded && !d.parent.shielded && (all || !d.adopted) {
			r.named.add(naming{dir: d.parent, name: d.name, sub: d}, 0)
		}
	}
	r.giveNames(r.named.take(0, 0))
	if all {
		r.removeDoomed()
	}
	for _, d := range slices.Backward(made) {
		if !d.shielded {
			r.finishDir(d)
		}
	}
	for _, d := range made {
		if d.attrs != nil && (all || !d.adopted) {
			r.outcome(d.path, repository.TypeDir, d.action(), 0, nil)
		}
	}
	return r.sync()
}

// finishDir sets what a directory has besides its content, as far as it was asked for.
func (r *restorer) finishDir(d *dir) {
	if d.adopted {
		for _, e := range r.plan.doomed[d] {
			r.removeExtra(e)
		}
		delete(r.plan.doomed, d)
	}
	if d.attrs == nil {
		return
	}
	err := r.dirs.in(d, func(fd int) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		return r.set(fd, d.attrs, &st, !d.fresh)
	})
	if err != nil {
		d.attrs = nil
		r.outcome(d.path, repository.TypeDir, Failed, 0, err)
	}
}

// removeDoomed removes what is in the target and not in the snapshot, and leftovers.
func (r *restorer) removeDoomed() {
	for _, list := range r.plan.doomed {
		for _, e := range list {
			r.removeExtra(e)
		}
	}
}

func (r *restorer) removeExtra(e extra) {
	err := r.dirs.in(e.dir, func(dir int) error { return removeAll(dir, e.name) })
	switch {
	case err != nil:
		r.outcome(func() string { return e.dir.join(e.name) }, "", Failed, 0, fmt.Errorf("remove: %w", err))
	case e.told:
		r.outcome(func() string { return e.dir.join(e.name) }, "", Deleted, 0, nil)
	}
}

// removeAll removes an entry of a directory and all that is in it. No symlink is followed.
func removeAll(dir int, name string) error {
	err := unix.Unlinkat(dir, name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	fd, oerr := openDirAt(dir, name)
	if oerr != nil {
		return errors.Join(err, oerr)
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	err = errors.Join(removeContent(root), root.Close(), unix.Close(fd))
	if err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

func removeContent(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := root.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}

// pretend tells what a dry run would have done.
func (r *restorer) pretend() {
	for _, f := range r.plan.files {
		if f.state != pending {
			continue
		}
		r.fileOutcome(f, f.action(), nil)
	}
	for _, p := range r.plan.pieces {
		r.bytes.Add(r.plan.blob(p).PlainBytes())
	}
	for _, l := range r.plan.links {
		r.outcome(func() string { return l.dir.join(l.name) }, repository.TypeFile, Restored, l.to.size, nil)
	}
	for _, list := range r.plan.doomed {
		for _, e := range list {
			if e.told {
				r.outcome(func() string { return e.dir.join(e.name) }, "", Deleted, 0, nil)
			}
		}
	}
}
