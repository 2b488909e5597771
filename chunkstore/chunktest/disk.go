package chunktest

import (
	"errors"
	"io/fs"
	"sync"
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
