package restore

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// unfinishedPrefix starts the names of what is not whole yet.
const unfinishedPrefix = ".dengbei-restore-"

// unfinishedName is what an entry is called in its directory until it is whole and durable. It is the same in each run,
// so that the next one finds what a killed one left.
func unfinishedName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return unfinishedPrefix + hex.EncodeToString(sum[:10])
}

// maxOpenDirs bounds the file descriptors of directories.
const maxOpenDirs = 256

// dir is a directory of the target. The path to it is never held: ten thousand levels of long names would be gigabytes.
type dir struct {
	parent *dir // nil for the target itself
	name   string
	attrs  *attributes // to be set at the end; nil leaves them

	mu    sync.Mutex // guards ready and err; held while the directory is made
	ready bool
	err   error // why it could not be made
	told  bool  // err has been reported

	// Set once ready.
	fresh    bool // made by this run: there is nothing in it but what this run puts there
	shielded bool // has an unfinished name or lies below one: nobody takes what is in it for whole
	adopted  bool // left by an earlier run: content has to be proved, and what does not belong there goes
	absent   bool // a dry run would make it

	plain atomic.Int32 // whether new files get owner and mode as asked for: see restorer.isPlain

	// Guarded by dirs.mu.
	disk       string // its name in the target now
	fd         int    // -1 if not open
	uses       int
	prev, next *dir // in the list of open ones, the latest used first
}

func newDir(parent *dir, name string) *dir {
	return &dir{parent: parent, name: name, disk: name, fd: -1}
}

func (d *dir) isReady() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ready
}

func (d *dir) action() Action {
	if d.fresh || d.adopted {
		return Restored
	}
	return Unchanged
}

// path returns the path in the snapshot.
func (d *dir) path() string {
	if d.parent == nil {
		return "/"
	}
	n := 0
	var names []string
	for at := d; at.parent != nil; at = at.parent {
		names = append(names, at.name)
		n += len(at.name) + 1
	}
	var b strings.Builder
	b.Grow(n)
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(names[i])
	}
	return b.String()
}

// join returns the path of an entry of d.
func (d *dir) join(name string) string {
	if d.parent == nil {
		return "/" + name
	}
	return d.path() + "/" + name
}

// dirs keeps directories open. Each is opened by its plain name in its parent, and a symlink is never followed: nothing
// that lies in the target leads out of it.
type dirs struct {
	mu    sync.Mutex // guards what follows and the fields of dir said to be; held while directories are opened
	first *dir       // latest used
	last  *dir
	count int
}

// acquire returns the descriptor of d, which stays open until release. d must exist.
func (c *dirs) acquire(d *dir) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.fd < 0 {
		if err := c.open(d); err != nil {
			return -1, err
		}
	}
	d.uses++
	if c.first != d && d.parent != nil {
		c.unlink(d)
		c.push(d)
	}
	return d.fd, nil
}

func (c *dirs) release(d *dir) {
	c.mu.Lock()
	d.uses--
	c.mu.Unlock()
}

// in calls do with the directory d.
func (c *dirs) in(d *dir, do func(fd int) error) error {
	fd, err := c.acquire(d)
	if err != nil {
		return err
	}
	defer c.release(d)
	return do(fd)
}

// open opens d and, before it, those of its ancestors that are not open.
func (c *dirs) open(d *dir) error {
	var chain []*dir
	at := d
	for ; at.fd < 0; at = at.parent {
		if at.parent == nil {
			return fmt.Errorf("target: %w", unix.EBADF) // closed
		}
		chain = append(chain, at)
	}
	for i := len(chain) - 1; i >= 0; i-- {
		child := chain[i]
		fd, err := openDirAt(child.parent.fd, child.disk)
		if err != nil {
			return fmt.Errorf("open directory: %w", err)
		}
		child.parent.uses++ // not to be closed for its child
		if c.count >= maxOpenDirs {
			c.evict()
		}
		child.parent.uses--
		child.fd = fd
		c.push(child)
	}
	return nil
}

func (c *dirs) push(d *dir) {
	d.prev, d.next = nil, c.first
	if c.first != nil {
		c.first.prev = d
	} else {
		c.last = d
	}
	c.first = d
	c.count++
}

func (c *dirs) unlink(d *dir) {
	if d.prev != nil {
		d.prev.next = d.next
	} else {
		c.first = d.next
	}
	if d.next != nil {
		d.next.prev = d.prev
	} else {
		c.last = d.prev
	}
	d.prev, d.next = nil, nil
	c.count--
}

// evict closes the directory that was not used for the longest time.
func (c *dirs) evict() {
	for d := c.last; d != nil; d = d.prev {
		if d.uses == 0 {
			_ = unix.Close(d.fd)
			d.fd = -1
			c.unlink(d)
			return
		}
	}
}

// renamed notes that d got another name in the target.
func (c *dirs) renamed(d *dir, disk string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d.disk = disk
}

func (c *dirs) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for d := c.first; d != nil; d = c.first {
		_ = unix.Close(d.fd)
		d.fd = -1
		c.unlink(d)
	}
}

func openDirAt(dir int, name string) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

func statAt(dir int, name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func kind(st *unix.Stat_t) uint32 { return st.Mode & unix.S_IFMT }

// ensure makes d in the target, with the directories above it, or finds it there.
func (r *restorer) ensure(d *dir) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready || d.err != nil {
		return d.err
	}
	p := d.parent
	if d.err = r.ensure(p); d.err != nil {
		return d.err
	}
	if p.absent {
		d.fresh, d.absent, d.ready = true, true, true
		return nil
	}
	d.err = r.dirs.in(p, func(fd int) error { return r.place(d, fd) })
	d.ready = d.err == nil
	if d.ready && !d.absent {
		r.plan.mu.Lock()
		r.plan.made = append(r.plan.made, d)
		r.plan.mu.Unlock()
	}
	return d.err
}

// place makes d in its parent, open as fd. Where nothing of its name lies, it gets an unfinished name, unless it is
// below one already.
func (r *restorer) place(d *dir, fd int) error {
	p := d.parent
	d.shielded, d.adopted = p.shielded, p.adopted
	exists := false
	if !p.fresh {
		st, err := statAt(fd, d.name)
		switch {
		case err == nil && kind(&st) == unix.S_IFDIR:
			if st.Dev != r.device {
				r.plan.mu.Lock()
				r.plan.mounts[st.Dev] = d
				r.plan.mu.Unlock()
			}
			return nil
		case err == nil && kind(&st) == unix.S_IFLNK && !p.adopted:
			return fmt.Errorf("a symlink where a directory belongs: %w", ErrInTheWay)
		case err == nil:
			if r.options.Overwrite == OverwriteNever && !p.adopted {
				return fmt.Errorf("a file where a directory belongs: %w", ErrInTheWay)
			}
			exists = true
		case !errors.Is(err, unix.ENOENT):
			return err
		}
	}
	if r.options.DryRun {
		d.fresh, d.absent = true, true
		return nil
	}
	if p.shielded {
		if exists {
			if err := unix.Unlinkat(fd, d.name, 0); err != nil {
				return err
			}
		}
		d.fresh = true
		return mkdirAt(fd, d.name)
	}
	temp := unfinishedName(d.name)
	err := mkdirAt(fd, temp)
	d.fresh = err == nil
	if errors.Is(err, unix.EEXIST) {
		err = unix.Unlinkat(fd, temp, 0)
		switch {
		case err == nil:
			err = mkdirAt(fd, temp)
			d.fresh = err == nil
		case errors.Is(err, unix.EISDIR), errors.Is(err, unix.EPERM):
			st, serr := statAt(fd, temp)
			if serr != nil || kind(&st) != unix.S_IFDIR {
				return errors.Join(err, serr)
			}
			d.adopted, err = true, nil
		}
	}
	if err != nil {
		return err
	}
	d.shielded = true
	r.dirs.renamed(d, temp)
	return nil
}

func mkdirAt(dir int, name string) error {
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}
