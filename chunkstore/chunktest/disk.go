package chunktest

import (
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"

	"dengbei/chunkstore"
)

// SmallDisk is a local disk on which files have room for so many bytes and then get what a full file system gives.
// Removing a file frees nothing but what was written to it by way of the same SmallDisk.
type SmallDisk struct {
	chunkstore.LocalDisk
	Room int64

	mu    sync.Mutex // guards what follows
	sizes map[string]int64
	used  int64
}

// OpenFile implements [chunkstore.Disk].
func (d *SmallDisk) OpenFile(path string, flag int, perm fs.FileMode) (chunkstore.DiskFile, error) {
	f, err := d.LocalDisk.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return &smallFile{f, d}, nil
}

// Rename implements [chunkstore.Disk].
func (d *SmallDisk) Rename(from, to string) error {
	err := d.LocalDisk.Rename(from, to)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if size, ok := d.sizes[from]; ok {
		d.used -= d.sizes[to]
		d.sizes[to] = size
		delete(d.sizes, from)
	}
	return nil
}

// Remove implements [chunkstore.Disk].
func (d *SmallDisk) Remove(path string) error {
	err := d.LocalDisk.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.used -= d.sizes[path]
		delete(d.sizes, path)
	}
	return err
}

// smallFile appends as long as there is room.
type smallFile struct {
	chunkstore.DiskFile
	disk *SmallDisk
}

// take reserves room for up to n bytes and returns for how many there is.
func (f *smallFile) take(n int) int {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sizes == nil {
		d.sizes = make(map[string]int64)
	}
	n = int(min(int64(n), d.Room-d.used))
	d.sizes[f.Name()] += int64(n)
	d.used += int64(n)
	return n
}

func (f *smallFile) Write(b []byte) (int, error) {
	n, err := f.DiskFile.Write(b[:f.take(len(b))])
	if err == nil && n < len(b) {
		err = &fs.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return n, err
}

func (f *smallFile) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.DiskFile.WriteAt(b[:f.take(len(b))], off)
	if err == nil && n < len(b) {
		err = &fs.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return n, err
}

// FailingDisk is a local disk whose calls fail when they are told to.
type FailingDisk struct {
	chunkstore.LocalDisk

	// Fail returns what the n-th call gives without being carried out, the first being 0; nil lets it be. Closing files
	// always succeeds.
	Fail func(n int, call string) error

	calls atomic.Int64
}

func (d *FailingDisk) fail(call, path string) error {
	if err := d.Fail(int(d.calls.Add(1))-1, call); err != nil {
		return &fs.PathError{Op: call, Path: path, Err: err}
	}
	return nil
}

// Mkdir implements [chunkstore.Disk].
func (d *FailingDisk) Mkdir(path string, perm fs.FileMode) error {
	if err := d.fail("mkdir", path); err != nil {
		return err
	}
	return d.LocalDisk.Mkdir(path, perm)
}

// OpenFile implements [chunkstore.Disk].
func (d *FailingDisk) OpenFile(path string, flag int, perm fs.FileMode) (chunkstore.DiskFile, error) {
	if err := d.fail("open", path); err != nil {
		return nil, err
	}
	f, err := d.LocalDisk.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err
	}
	return failingFile{f, d}, nil
}

// Rename implements [chunkstore.Disk].
func (d *FailingDisk) Rename(from, to string) error {
	if err := d.fail("rename", to); err != nil {
		return err
	}
	return d.LocalDisk.Rename(from, to)
}

// Link implements [chunkstore.Disk].
func (d *FailingDisk) Link(from, to string) error {
	if err := d.fail("link", to); err != nil {
		return err
	}
	return d.LocalDisk.Link(from, to)
}

// Remove implements [chunkstore.Disk].
func (d *FailingDisk) Remove(path string) error {
	if err := d.fail("remove", path); err != nil {
		return err
	}
	return d.LocalDisk.Remove(path)
}

// SyncDir implements [chunkstore.Disk].
func (d *FailingDisk) SyncDir(path string) error {
	if err := d.fail("sync directory", path); err != nil {
		return err
	}
	return d.LocalDisk.SyncDir(path)
}

type failingFile struct {
	chunkstore.DiskFile
	disk *FailingDisk
}

func (f failingFile) Write(b []byte) (int, error) {
	if err := f.disk.fail("write", f.Name()); err != nil {
		n, _ := f.DiskFile.Write(b[:len(b)/2]) // as far as it went
		return n, err
	}
	return f.DiskFile.Write(b)
}

func (f failingFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.disk.fail("write", f.Name()); err != nil {
		n, _ := f.DiskFile.WriteAt(b[:len(b)/2], off)
		return n, err
	}
	return f.DiskFile.WriteAt(b, off)
}

func (f failingFile) Sync() error {
	if err := f.disk.fail("sync", f.Name()); err != nil {
		return err
	}
	return f.DiskFile.Sync()
}

func (f failingFile) Truncate(size int64) error {
	if err := f.disk.fail("truncate", f.Name()); err != nil {
		return err
	}
	return f.DiskFile.Truncate(size)
}

func (f failingFile) Chmod(perm fs.FileMode) error {
	if err := f.disk.fail("chmod", f.Name()); err != nil {
		return err
	}
	return f.DiskFile.Chmod(perm)
}
