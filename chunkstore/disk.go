package chunkstore

import (
	"io"
	"io/fs"
	"os"
)

// Disk is every call with which a [Files] changes a file system, so that a test can write down what is done in which
// order, or have it fail. Reading goes to the file system without it. Methods do what those of package os of the same
// name do and return such errors.
type Disk interface {
	Mkdir(path string, perm fs.FileMode) error
	OpenFile(path string, flag int, perm fs.FileMode) (DiskFile, error)
	Rename(from, to string) error
	Link(from, to string) error
	Remove(path string) error

	// SyncDir makes the names in a directory durable: those that came and those that went.
	SyncDir(path string) error
}

// DiskFile is a file opened for writing; [*os.File] is one.
type DiskFile interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Chmod(perm fs.FileMode) error
	Sync() error
	Stat() (fs.FileInfo, error)
	Name() string
	Fd() uintptr
}

// LocalDisk is the [Disk] of the operating system.
type LocalDisk struct{}

var _ Disk = LocalDisk{}

// Mkdir implements [Disk].
func (LocalDisk) Mkdir(path string, perm fs.FileMode) error { return os.Mkdir(path, perm) }

// OpenFile implements [Disk].
func (LocalDisk) OpenFile(path string, flag int, perm fs.FileMode) (DiskFile, error) {
	f, err := os.OpenFile(path, flag, perm)
	if err != nil {
		return nil, err // not a nil file in a DiskFile
	}
	return f, nil
}

// Rename implements [Disk].
func (LocalDisk) Rename(from, to string) error { return os.Rename(from, to) }

// Link implements [Disk].
func (LocalDisk) Link(from, to string) error { return os.Link(from, to) }

// Remove implements [Disk].
func (LocalDisk) Remove(path string) error { return os.Remove(path) }

// SyncDir implements [Disk].
func (LocalDisk) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
