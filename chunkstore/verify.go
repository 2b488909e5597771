package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/digest"
)

// verifying reads a file and holds it to its name at the end.
type verifying struct {
	ctx  context.Context
	file *os.File
	name Name
	hash hash.Hash
	err  error // sticky
}

func (v *verifying) Read(b []byte) (int, error) {
	if v.err == nil {
		v.err = v.ctx.Err()
	}
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.file.Read(b)
	v.hash.Write(b[:n])
	if errors.Is(err, io.EOF) {
		if digest.FromHash(digest.SHA256, v.hash) != v.name.ID {
			err = fmt.Errorf("read %s: %w", v.name, digest.ErrMismatch)
		}
	} else if err != nil {
		err = fmt.Errorf("read %s: %w", v.name, err)
	}
	v.err = err
	return n, err
}

func (v *verifying) Close() error { return v.file.Close() }

// dropCache lets the kernel forget the synced pages of file, so that reading asks the disk and not the memory. It is
// advice: where it is not taken a hash still covers what the kernel believes to be on disk.
func dropCache(file interface{ Fd() uintptr }) {
	_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// copyContext copies r to w until the end of r or of ctx.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) error {
	size := copyBytes
	if l, ok := r.(interface{ Len() int }); ok { // of snapshots, index files and locks there are many, and they are short
		size = max(512, min(size, l.Len()))
	}
	buf := make([]byte, size)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
