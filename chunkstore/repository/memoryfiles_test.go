package repository

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"sync"

	"dengbei/chunkstore"
)

// memoryFiles is a set of files for tests of what lies above it, where syncing files would take most of the time.
type memoryFiles struct {
	mu    sync.Mutex
	files map[chunkstore.Name][]byte
}

func newMemoryFiles() *memoryFiles { return &memoryFiles{files: make(map[chunkstore.Name][]byte)} }

func (m *memoryFiles) Put(_ context.Context, name chunkstore.Name, r io.Reader) (int64, error) {
	b, err := io.ReadAll(r)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = b
	return int64(len(b)), err
}

func (m *memoryFiles) Stage(chunkstore.Kind) (chunkstore.Staged, error) {
	return nil, fs.ErrPermission
}

func (m *memoryFiles) get(name chunkstore.Name) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (m *memoryFiles) Open(_ context.Context, name chunkstore.Name) (io.ReadCloser, error) {
	b, err := m.get(name)
	return io.NopCloser(bytes.NewReader(b)), err
}

func (m *memoryFiles) ReadRange(_ context.Context, name chunkstore.Name, off int64, buf []byte) error {
	b, err := m.get(name)
	if err != nil {
		return err
	}
	_, err = io.ReadFull(io.NewSectionReader(bytes.NewReader(b), off, int64(len(b))), buf)
	return err
}

func (m *memoryFiles) List(_ context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Collect(maps.Keys(m.files))
	return func(yield func(chunkstore.Entry, error) bool) {
		for _, n := range names {
			if n.Kind == kind && !yield(chunkstore.Entry{Name: n, SizeBytes: -1}, nil) {
				return
			}
		}
	}
}

func (m *memoryFiles) Remove(_ context.Context, name chunkstore.Name) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}
