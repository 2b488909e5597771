package restore

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// File streams the content of one file. One goroutine at a time may use it.
type File struct {
	// Node describes the file.
	Node repository.Node

	ctx  context.Context
	repo *repository.Repository
	next int
	buf  []byte // memory of the current blob
	rest []byte // of it, what is not read yet
	size int64
	err  error // sticky
}

// OpenFile opens the file at a path of a snapshot. Each blob is verified before a byte of it is read; a blob that is
// missing or damaged is an error of Read. An error matching [fs.ErrNotExist] says that there is no such file.
func OpenFile(ctx context.Context, repo *repository.Repository, snapshot digest.Digest, name string) (*File, error) {
	n, err := Find(ctx, repo, snapshot, name)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if n.Type != repository.TypeFile {
		return nil, fmt.Errorf("open %s: is a %s: %w", name, n.Type, fs.ErrInvalid)
	}
	return &File{Node: *n, ctx: ctx, repo: repo}, nil
}

// Read implements [io.Reader].
func (f *File) Read(b []byte) (int, error) {
	for len(f.rest) == 0 && f.err == nil {
		f.err = f.load()
	}
	if len(f.rest) == 0 {
		return 0, f.err
	}
	n := copy(b, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *File) load() error {
	if f.next == len(f.Node.Content) {
		if uint64(f.size) != f.Node.SizeBytes {
			return fmt.Errorf("read %q: %w", f.Node.Name, ErrSize)
		}
		return io.EOF
	}
	b, err := f.repo.LoadBlob(f.ctx, repository.DataBlob, f.Node.Content[f.next], f.buf)
	if err != nil {
		return fmt.Errorf("read %q at %d: %w", f.Node.Name, f.size, err)
	}
	f.next++
	f.size += int64(len(b))
	f.buf, f.rest = b, b
	return nil
}

// Close releases the file's memory.
func (f *File) Close() error {
	f.buf, f.rest, f.err = nil, nil, fs.ErrClosed
	return nil
}
