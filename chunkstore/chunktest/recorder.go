package chunktest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"dengbei/chunkstore"
)

// Recorder is a [chunkstore.Disk] that really does everything, without waiting for the device, and writes down each
// step with its bytes. From what it wrote down [Recorder.Crashes] tells what a power cut might have left.
type Recorder struct {
	LazyDisk
	root string

	mu    sync.Mutex // guards what follows, and is held during each step: the log is in the order of what happened
	base  *volume
	live  map[string]int // paths below root and the nodes they name now
	nodes int            // numbers given away
	log   []step
}

// LazyDisk is a local disk whose syncs do nothing. It is for tests that ask for much and keep nothing.
type LazyDisk struct{ chunkstore.LocalDisk }

// SyncDir implements [chunkstore.Disk].
func (LazyDisk) SyncDir(path string) error {
	_, err := os.Stat(path)
	return err
}

// OpenFile implements [chunkstore.Disk].
func (d LazyDisk) OpenFile(path string, flag int, perm fs.FileMode) (chunkstore.DiskFile, error) {
	f, err := d.LocalDisk.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return lazyFile{f}, nil
}

type lazyFile struct{ chunkstore.DiskFile }

func (lazyFile) Sync() error { return nil }

// action is what a step did.
type action string

const (
	mkdir    action = "mkdir"
	create   action = "create"
	write    action = "write"
	truncate action = "truncate"
	syncFile action = "sync"
	rename   action = "rename"
	link     action = "link"
	remove   action = "remove"
	syncDir  action = "sync directory"
)

// step is one change of a disk.
type step struct {
	action   action
	path, to string // below the root
	node     int    // of the file or directory that was made or written
	off      int64
	data     []byte
}

// String tells the step in a line.
func (s step) String() string {
	switch s.action {
	case rename, link:
		return fmt.Sprintf("%s %s to %s", s.action, s.path, s.to)
	case write, truncate:
		return fmt.Sprintf("%s %s, %d bytes at %d", s.action, s.path, len(s.data), s.off)
	default:
		return fmt.Sprintf("%s %s", s.action, s.path)
	}
}

// NewRecorder returns a recorder of what happens below root. What is there now counts as durable.
func NewRecorder(t testing.TB, root string) *Recorder {
	t.Helper()
	r := &Recorder{root: root, live: map[string]int{".": 0}, base: newVolume()}
	Must(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil || name == "." {
			return err
		}
		r.nodes++
		r.live[name] = r.nodes
		if d.IsDir() {
			r.base.apply(step{action: mkdir, path: name, node: r.nodes})
			return nil
		}
		b, err := os.ReadFile(p)
		r.base.apply(step{action: create, path: name, node: r.nodes})
		r.base.apply(step{action: write, path: name, node: r.nodes, data: b})
		return err
	}))
	r.base.syncAll()
	return r
}

// Len returns how many steps were written down.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.log)
}

// below returns path as it stands in the log.
func (r *Recorder) below(path string) string {
	name, err := filepath.Rel(r.root, path)
	if err != nil {
		panic(fmt.Sprintf("chunktest: %s is not below %s", path, r.root))
	}
	return name
}

// Mkdir implements [chunkstore.Disk].
func (r *Recorder) Mkdir(path string, perm fs.FileMode) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.LazyDisk.Mkdir(path, perm); err != nil {
		return err
	}
	r.nodes++
	name := r.below(path)
	r.live[name] = r.nodes
	r.log = append(r.log, step{action: mkdir, path: name, node: r.nodes})
	return nil
}

// OpenFile implements [chunkstore.Disk].
func (r *Recorder) OpenFile(path string, flag int, perm fs.FileMode) (chunkstore.DiskFile, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.LazyDisk.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	name := r.below(path)
	node, ok := r.live[name]
	if !ok {
		r.nodes++
		node = r.nodes
		r.live[name] = node
		r.log = append(r.log, step{action: create, path: name, node: node})
	} else if flag&os.O_TRUNC != 0 {
		r.log = append(r.log, step{action: truncate, path: name, node: node})
	}
	return &recordedFile{DiskFile: f, recorder: r, name: name, node: node}, nil
}

// Rename implements [chunkstore.Disk].
func (r *Recorder) Rename(from, to string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.LazyDisk.Rename(from, to); err != nil {
		return err
	}
	from, to = r.below(from), r.below(to)
	r.live[to] = r.live[from]
	delete(r.live, from)
	r.log = append(r.log, step{action: rename, path: from, to: to})
	return nil
}

// Link implements [chunkstore.Disk].
func (r *Recorder) Link(from, to string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.LazyDisk.Link(from, to); err != nil {
		return err
	}
	from, to = r.below(from), r.below(to)
	r.live[to] = r.live[from]
	r.log = append(r.log, step{action: link, path: from, to: to})
	return nil
}

// Remove implements [chunkstore.Disk].
func (r *Recorder) Remove(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.LazyDisk.Remove(path); err != nil {
		return err
	}
	name := r.below(path)
	delete(r.live, name)
	r.log = append(r.log, step{action: remove, path: name})
	return nil
}

// SyncDir implements [chunkstore.Disk].
func (r *Recorder) SyncDir(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.LazyDisk.SyncDir(path); err != nil {
		return err
	}
	name := r.below(path)
	if _, ok := r.live[name]; !ok {
		return nil // above the root, where nothing changes
	}
	r.log = append(r.log, step{action: syncDir, path: name})
	return nil
}

// recordedFile writes down what is written.
type recordedFile struct {
	chunkstore.DiskFile
	recorder *Recorder
	name     string
	node     int
	end      int64 // where the next Write goes
}

func (f *recordedFile) note(a action, off int64, data []byte) {
	f.recorder.log = append(f.recorder.log, step{action: a, path: f.name, node: f.node, off: off, data: append([]byte(nil), data...)})
}

func (f *recordedFile) Write(b []byte) (int, error) {
	f.recorder.mu.Lock()
	defer f.recorder.mu.Unlock()
	n, err := f.DiskFile.Write(b)
	if n > 0 {
		f.note(write, f.end, b[:n])
	}
	f.end += int64(n)
	return n, err
}

func (f *recordedFile) WriteAt(b []byte, off int64) (int, error) {
	f.recorder.mu.Lock()
	defer f.recorder.mu.Unlock()
	n, err := f.DiskFile.WriteAt(b, off)
	if n > 0 {
		f.note(write, off, b[:n])
	}
	return n, err
}

func (f *recordedFile) Truncate(size int64) error {
	f.recorder.mu.Lock()
	defer f.recorder.mu.Unlock()
	err := f.DiskFile.Truncate(size)
	if err == nil {
		f.note(truncate, size, nil)
	}
	return err
}

func (f *recordedFile) Sync() error {
	f.recorder.mu.Lock()
	defer f.recorder.mu.Unlock()
	err := f.DiskFile.Sync()
	if err == nil {
		f.note(syncFile, 0, nil)
	}
	return err
}
