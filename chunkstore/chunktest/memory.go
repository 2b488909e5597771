package chunktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math"
	"slices"
	"sync"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// Memory is a store of files in memory. It passes [TestFiles]. The zero Memory is empty and has room for everything.
type Memory struct {
	// Room is how many bytes the files may have together, staged ones too; 0 means any number.
	Room int64

	mu    sync.RWMutex // guards what follows
	used  int64
	files map[chunkstore.Name][]byte // contents are never changed; the config's ID is left out of its name
}

var _ repository.Files = (*Memory)(nil)

// where returns the key of name in files, or an error if it is no name.
func where(name chunkstore.Name) (chunkstore.Name, error) {
	switch {
	case name.Kind == chunkstore.Config && (name.ID.IsZero() || name.ID.Algorithm() == digest.SHA256):
		return chunkstore.Name{Kind: chunkstore.Config}, nil
	case name.Kind > chunkstore.Config && name.Kind <= chunkstore.Pack && name.ID.Algorithm() == digest.SHA256:
		return name, nil
	default:
		return chunkstore.Name{}, fmt.Errorf("%w: %s %s", chunkstore.ErrName, name.Kind, name.ID)
	}
}

// take reserves n bytes.
func (m *Memory) take(n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Room > 0 && m.used+n > m.Room {
		return chunkstore.ErrFull
	}
	m.used += n
	return nil
}

// get returns the content of name.
func (m *Memory) get(ctx context.Context, name chunkstore.Name) ([]byte, error) {
	key, err := where(name)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	b, ok := m.files[key]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return b, nil
}

// Put implements [repository.Files].
func (m *Memory) Put(ctx context.Context, name chunkstore.Name, r io.Reader) (int64, error) {
	if _, err := where(name); err != nil {
		return 0, err
	}
	if name.ID.IsZero() {
		return 0, fmt.Errorf("put config: %w: its digest is not given", chunkstore.ErrName)
	}
	s, err := m.Stage(name.Kind)
	if err != nil {
		return 0, err
	}
	defer s.Abort()
	if _, err := io.Copy(s, reader{ctx, r}); err != nil {
		return 0, fmt.Errorf("put %s: %w", name, err)
	}
	if s.Sum() != name.ID {
		return 0, fmt.Errorf("put %s: %w", name, digest.ErrMismatch)
	}
	e, err := s.Commit()
	return e.SizeBytes, err
}

// Stage implements [repository.Files].
func (m *Memory) Stage(kind chunkstore.Kind) (chunkstore.Staged, error) {
	if kind < chunkstore.Config || kind > chunkstore.Pack {
		return nil, fmt.Errorf("%w: stage %s", chunkstore.ErrName, kind)
	}
	return &memoryStaged{memory: m, kind: kind}, nil
}

// memoryStaged is a file that has no name yet.
type memoryStaged struct {
	memory *Memory
	kind   chunkstore.Kind
	b      []byte
	ended  bool
}

// Write implements [io.Writer].
func (s *memoryStaged) Write(b []byte) (int, error) {
	if s.ended {
		return 0, fs.ErrClosed
	}
	if err := s.memory.take(int64(len(b))); err != nil {
		return 0, err
	}
	s.b = append(s.b, b...)
	return len(b), nil
}

// Sum implements [chunkstore.Staged].
func (s *memoryStaged) Sum() digest.Digest { return digest.Of(s.b) }

// SizeBytes implements [chunkstore.Staged].
func (s *memoryStaged) SizeBytes() int64 { return int64(len(s.b)) }

// Commit implements [chunkstore.Staged].
func (s *memoryStaged) Commit() (chunkstore.Entry, error) {
	if s.ended {
		return chunkstore.Entry{}, fs.ErrClosed
	}
	defer s.Abort()
	e := chunkstore.Entry{Name: chunkstore.Name{Kind: s.kind, ID: s.Sum()}, SizeBytes: s.SizeBytes()}
	key, err := where(e.Name)
	if err != nil {
		return chunkstore.Entry{}, err
	}
	m := s.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	before, ok := m.files[key]
	if ok && s.kind == chunkstore.Config && !bytes.Equal(before, s.b) {
		return chunkstore.Entry{}, chunkstore.ErrConfigExists
	}
	if m.files == nil {
		m.files = make(map[chunkstore.Name][]byte)
	}
	m.files[key] = s.b
	m.used -= int64(len(before))
	s.ended = true
	return e, nil
}

// Abort implements [chunkstore.Staged].
func (s *memoryStaged) Abort() {
	if s.ended {
		return
	}
	s.ended = true
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	s.memory.used -= int64(len(s.b))
}

// Open implements [repository.Files].
func (m *Memory) Open(ctx context.Context, name chunkstore.Name) (io.ReadCloser, error) {
	b, err := m.get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	var end error = io.EOF
	if !name.ID.IsZero() && digest.Of(b) != name.ID {
		end = fmt.Errorf("read %s: %w", name, digest.ErrMismatch)
	}
	return io.NopCloser(reader{ctx, io.MultiReader(bytes.NewReader(b), errorReader{end})}), nil
}

// reader reads until the end of a context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// ReadRange implements [repository.Files].
func (m *Memory) ReadRange(ctx context.Context, name chunkstore.Name, off int64, buf []byte) error {
	b, err := m.get(ctx, name)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if off < 0 {
		return fmt.Errorf("read %s at %d: %w", name, off, fs.ErrInvalid)
	}
	if off > math.MaxInt64-int64(len(buf)) || off+int64(len(buf)) > int64(len(b)) {
		return fmt.Errorf("read %s at %d: %w", name, off, io.ErrUnexpectedEOF)
	}
	copy(buf, b[off:])
	return nil
}

// List implements [repository.Files].
func (m *Memory) List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error] {
	return func(yield func(chunkstore.Entry, error) bool) {
		if kind < chunkstore.Config || kind > chunkstore.Pack {
			yield(chunkstore.Entry{}, fmt.Errorf("%w: list %s", chunkstore.ErrName, kind))
			return
		}
		m.mu.RLock()
		files := maps.Clone(m.files)
		m.mu.RUnlock()
		names := slices.SortedFunc(maps.Keys(files), func(a, b chunkstore.Name) int { return a.ID.Compare(b.ID) })
		if err := ctx.Err(); err != nil {
			yield(chunkstore.Entry{}, err)
			return
		}
		for _, n := range names {
			if n.Kind != kind {
				continue
			}
			b := files[n]
			if kind == chunkstore.Config {
				n.ID = digest.Of(b)
			}
			if !yield(chunkstore.Entry{Name: n, SizeBytes: int64(len(b))}, nil) {
				return
			}
		}
	}
}

// Remove implements [repository.Files].
func (m *Memory) Remove(ctx context.Context, name chunkstore.Name) error {
	key, err := where(name)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= int64(len(m.files[key]))
	delete(m.files, key)
	return nil
}

// Rot flips one bit of a stored file.
func (m *Memory) Rot(name chunkstore.Name, at int) error {
	key, err := where(name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b := bytes.Clone(m.files[key])
	if at >= len(b) {
		return errors.New("rot past the end")
	}
	b[at] ^= 1
	m.files[key] = b
	return nil
}
