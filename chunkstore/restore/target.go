package restore

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/repository"
)

// tempPrefix starts the names of unfinished files; what a killed restore left can be recognised by it.
const tempPrefix = ".dengbei-restore-"

const maxOpenDirs = 256

// dirs keeps directories of the target open. They are opened through an [os.Root], which lets no link lead out of the
// target; what happens inside one goes by plain names relative to it.
type dirs struct {
	root *os.Root

	mu   sync.Mutex // guards open and the counts in it; held while a directory is opened
	open map[string]*openDir
}

type openDir struct {
	file *os.File
	uses int
}

func newDirs(root *os.Root) *dirs { return &dirs{root: root, open: make(map[string]*openDir)} }

// rel turns a path of the snapshot into one below the target.
func rel(p string) string {
	if p == "/" {
		return "."
	}
	return strings.TrimPrefix(p, "/")
}

func (d *dirs) mkdir(p string) error {
	err := d.root.Mkdir(rel(p), 0o700)
	if errors.Is(err, fs.ErrExist) {
		st, serr := d.root.Stat(rel(p))
		if serr == nil && !st.IsDir() {
			serr = fmt.Errorf("%s in the target: %w", p, unix.ENOTDIR)
		}
		return serr
	}
	return err
}

// in calls do with the directory at p.
func (d *dirs) in(p string, do func(fd int) error) error {
	d.mu.Lock()
	o := d.open[p]
	if o == nil {
		f, err := d.root.Open(rel(p))
		if err != nil {
			d.mu.Unlock()
			return err
		}
		if len(d.open) >= maxOpenDirs {
			for old, idle := range d.open {
				if idle.uses == 0 {
					idle.file.Close()
					delete(d.open, old)
					break
				}
			}
		}
		o = &openDir{file: f}
		d.open[p] = o
	}
	o.uses++
	d.mu.Unlock()
	err := do(int(o.file.Fd()))
	d.mu.Lock()
	o.uses--
	d.mu.Unlock()
	return err
}

// sync makes everything written to the target's file system durable.
func (d *dirs) sync() error {
	return d.in("/", func(fd int) error {
		if err := unix.Syncfs(fd); err != nil {
			return fmt.Errorf("sync target: %w", err)
		}
		return nil
	})
}

func (d *dirs) close() {
	for _, o := range d.open {
		o.file.Close()
	}
}

// state of a file.
type state uint8

const (
	writing state = iota // includes not begun
	written              // whole, in the batch
	failed
	done
)

// file is a file to restore.
type file struct {
	path string
	node *repository.Node

	mu    sync.Mutex // guards what follows; held while a piece is written
	left  int        // pieces to write
	temp  string     // name in the directory; "" before the first piece
	state state
}

// write puts one piece of f into its temporary file, and with the last one hands f to the batch.
func (r *restorer) write(f *file, content []byte, offset int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == failed {
		return nil
	}
	return r.dirs.in(path.Dir(f.path), func(dir int) error {
		flags := unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		if f.temp == "" {
			f.temp = tempPrefix + rand.Text()
			flags |= unix.O_CREAT | unix.O_EXCL
		}
		fd, err := unix.Openat(dir, f.temp, flags, 0o600)
		if err != nil {
			return fmt.Errorf("create: %w", err)
		}
		file := os.NewFile(uintptr(fd), f.temp)
		defer file.Close()
		if len(content) > 0 {
			if _, err := file.WriteAt(content, offset); err != nil {
				return err
			}
			f.left--
		}
		if f.left > 0 {
			return nil
		}
		if err := r.attributes(fd, dir, f.temp, f.node); err != nil {
			return err
		}
		f.state = written
		r.batch.add(f)
		return nil
	})
}

// removeTemp takes the unfinished file away. f.mu is held.
func (f *file) removeTemp(r *restorer) {
	if f.temp == "" {
		return
	}
	_ = r.dirs.in(path.Dir(f.path), func(dir int) error { return unix.Unlinkat(dir, f.temp, 0) })
	f.temp = ""
}

// discard ends a file of a restore that was broken off.
func (f *file) discard(r *restorer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != done {
		f.removeTemp(r)
	}
}

// attributes sets owner, mode, attributes and times of the open file fd, called name in dir.
func (r *restorer) attributes(fd, dir int, name string, n *repository.Node) error {
	mode := uint32(n.Mode.Perm())
	if r.options.Owner {
		if err := unix.Fchown(fd, int(n.UID), int(n.GID)); err != nil {
			return fmt.Errorf("set owner: %w", err)
		}
		for bit, m := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid} {
			if n.Mode&m != 0 {
				mode |= bit
			}
		}
	}
	if n.Mode&fs.ModeSticky != 0 {
		mode |= unix.S_ISVTX
	}
	for _, x := range n.Xattrs {
		// A file system without attributes, or ones only root may set, is no reason to withhold the file.
		if err := unix.Fsetxattr(fd, x.Name, x.Value, 0); err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set attribute %q: %w", x.Name, err)
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return setTimes(dir, name, n)
}

func setTimes(dir int, name string, n *repository.Node) error {
	a, err := unix.TimeToTimespec(n.AccessTime)
	if err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	m, err := unix.TimeToTimespec(n.ModTime)
	if err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	if err := unix.UtimesNanoAt(dir, name, []unix.Timespec{a, m}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

func (r *restorer) symlink(l entry) error {
	return r.dirs.in(path.Dir(l.path), func(dir int) error {
		temp := tempPrefix + rand.Text()
		if err := unix.Symlinkat(l.node.LinkTarget, dir, temp); err != nil {
			return fmt.Errorf("make link: %w", err)
		}
		var err error
		if r.options.Owner {
			err = unix.Fchownat(dir, temp, int(l.node.UID), int(l.node.GID), unix.AT_SYMLINK_NOFOLLOW)
		}
		if err == nil {
			err = setTimes(dir, temp, l.node)
		}
		if err == nil {
			err = unix.Renameat(dir, temp, dir, path.Base(l.path))
		}
		if err != nil {
			_ = unix.Unlinkat(dir, temp, 0)
			return fmt.Errorf("make link: %w", err)
		}
		return nil
	})
}

func (r *restorer) dirAttributes(d entry) error {
	return r.dirs.in(d.path, func(fd int) error { return r.attributes(fd, fd, ".", d.node) })
}
