package repository

import (
	"context"
	"io"

	"dengbei/chunkstore"
)

// guarded is files that are written to only while a lock holds.
type guarded struct {
	Files
	lock *Lock
}

var (
	_ Files       = guarded{}
	_ RangeOpener = guarded{}
	_ Healer      = guardedHealer{}
)

// guard returns files that are written to only while l holds.
func guard(files Files, l *Lock) Files {
	if l == nil {
		return files
	}
	g := guarded{files, l}
	if h, ok := files.(Healer); ok {
		return guardedHealer{g, h}
	}
	return g
}

// guardedHealer is guarded files that can heal.
type guardedHealer struct {
	guarded
	Healer
}

// Put implements [Files].
func (g guarded) Put(ctx context.Context, name chunkstore.Name, r io.Reader) (int64, error) {
	if err := g.lock.Err(); err != nil {
		return 0, err
	}
	return g.Files.Put(ctx, name, r)
}

// Stage implements [Files].
func (g guarded) Stage(kind chunkstore.Kind) (chunkstore.Staged, error) {
	if err := g.lock.Err(); err != nil {
		return nil, err
	}
	s, err := g.Files.Stage(kind)
	if err != nil {
		return nil, err
	}
	return guardedStage{s, g.lock}, nil
}

// Remove implements [Files].
func (g guarded) Remove(ctx context.Context, name chunkstore.Name) error {
	if err := g.lock.Err(); err != nil {
		return err
	}
	return g.Files.Remove(ctx, name)
}

// OpenRanges implements [RangeOpener].
func (g guarded) OpenRanges(ctx context.Context, name chunkstore.Name) (chunkstore.RangeReader, error) {
	return OpenRanges(ctx, g.Files, name)
}

// guardedStage is a staged file that is committed only while a lock holds.
type guardedStage struct {
	chunkstore.Staged
	lock *Lock
}

// Commit implements [chunkstore.Staged].
func (s guardedStage) Commit() (chunkstore.Entry, error) {
	if err := s.lock.Err(); err != nil {
		return chunkstore.Entry{}, err
	}
	return s.Staged.Commit()
}
