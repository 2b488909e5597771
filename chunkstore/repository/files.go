package repository

import (
	"context"
	"io"
	"iter"

	"dengbei/chunkstore"
)

// Files is where a repository's files lie. [chunkstore.Files] is one; a wrapper may add a remote fallback or show only
// registered files. Methods may be called concurrently.
type Files interface {
	// Put stores the bytes of r under name, durably, or leaves no trace. Storing a stored file again is no error. Every List
	// that begins after Put has returned gives the file, in whatever process: locks rest on it.
	Put(ctx context.Context, name chunkstore.Name, r io.Reader) (sizeBytes int64, err error)

	// Stage starts a file whose name is known only at its end.
	Stage(kind chunkstore.Kind) (chunkstore.Staged, error)

	// Open returns the content of name, or an error matching [fs.ErrNotExist]. The last Read fails with
	// digest.ErrMismatch in place of [io.EOF] if the bytes do not hash to the name.
	Open(ctx context.Context, name chunkstore.Name) (io.ReadCloser, error)

	// ReadRange fills buf from offset off of name, or fails. It verifies nothing.
	ReadRange(ctx context.Context, name chunkstore.Name, off int64, buf []byte) error

	// List yields the files of a kind; after an error it ends.
	List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error]

	// Remove deletes name durably. Removing what is not there is no error.
	Remove(ctx context.Context, name chunkstore.Name) error
}

// Healer is implemented by Files that can replace a missing or damaged file by a sound copy from elsewhere.
type Healer interface {
	// Heal is told that name could not be read and why. After nil the caller reads once more. It must check that the
	// file is damaged at all: the cause may be a planted file that is exactly what its name says.
	Heal(ctx context.Context, name chunkstore.Name, cause error) error
}

var _ Files = (*chunkstore.Files)(nil)
