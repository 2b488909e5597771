package repository

import (
	"context"
	"errors"
	"io"

	"dengbei/chunkstore"
)

// quarantiner is implemented by Files that can keep a damaged file out of the way.
type quarantiner interface {
	Quarantine(name chunkstore.Name) error
}

// rereader is implemented by Files that can read past the system's cache.
type rereader interface {
	Verify(ctx context.Context, name chunkstore.Name) error
}

// plainFiles returns the files below the lock's guard.
func (r *Repository) plainFiles() Files {
	switch f := r.files.(type) {
	case guarded:
		return f.Files
	case guardedHealer:
		return f.guarded.Files
	}
	return r.files
}

// SetAside takes a file out of the repository: it is kept beside it where the files can do that, and removed otherwise.
func (r *Repository) SetAside(ctx context.Context, name chunkstore.Name) error {
	q, ok := r.plainFiles().(quarantiner)
	if !ok {
		return r.files.Remove(ctx, name)
	}
	return errors.Join(r.lock.Err(), ctx.Err(), q.Quarantine(name))
}

// Reread reads a file again, from the disk where the files can do that, and holds it to its name.
func (r *Repository) Reread(ctx context.Context, name chunkstore.Name) error {
	if v, ok := r.plainFiles().(rereader); ok {
		return v.Verify(ctx, name)
	}
	f, err := r.files.Open(ctx, name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}
