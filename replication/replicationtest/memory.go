package replicationtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"dengbei/chunkstore/digest"
	"dengbei/replication"
	"dengbei/replication/manifest"
)

// Memory is a [replication.Store] whose parts survive as long as the value. The zero Memory is empty and has no limit.
type Memory struct {
	mu      sync.Mutex // guards all below
	files   map[string]entry
	parts   map[string][]byte
	busy    map[string]bool
	aside   []string
	room    int64
	limited bool
}

type entry struct {
	sum     digest.Digest
	content []byte
}

// SetRoom limits what may still be written to sizeBytes; writes beyond it give [replication.ErrFull].
func (m *Memory) SetRoom(sizeBytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.room, m.limited = sizeBytes, true
}

// Put stores content under name without any check. The file is the right one if content hashes to sum.
func (m *Memory) Put(name string, sum digest.Digest, content []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files == nil {
		m.files = make(map[string]entry)
	}
	m.files[name] = entry{sum, content}
}

// Drop removes name.
func (m *Memory) Drop(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
}

// Content returns the stored bytes of name.
func (m *Memory) Content(name string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.files[name]
	return e.content, ok
}

// Names returns the stored names, sorted.
func (m *Memory) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.files))
}

// Held returns how many bytes lie in files and in parts.
func (m *Memory) Held() (files, parts int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.files {
		files += int64(len(e.content))
	}
	for _, b := range m.parts {
		parts += int64(len(b))
	}
	return files, parts
}

// Quarantined returns the names that were moved aside, in order.
func (m *Memory) Quarantined() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.aside)
}

// Has implements [replication.Store].
func (m *Memory) Has(_ context.Context, name string) (int64, bool, error) {
	b, ok := m.Content(name)
	return int64(len(b)), ok, nil
}

// Receive implements [replication.Store].
func (m *Memory) Receive(_ context.Context, f manifest.File) (replication.Incoming, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy[f.Name] {
		return nil, replication.ErrBusy
	}
	if _, ok := m.files[f.Name]; ok {
		return nil, fs.ErrExist
	}
	if m.busy == nil {
		m.busy, m.parts = make(map[string]bool), make(map[string][]byte)
	}
	m.busy[f.Name] = true
	return &incoming{m: m, f: f}, nil
}

// Open implements [replication.Store].
func (m *Memory) Open(_ context.Context, name string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.files[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return io.NopCloser(&verifying{bytes.NewReader(e.content), digest.Of(e.content) == e.sum}), nil
}

// verifying gives digest.ErrMismatch in place of io.EOF unless good.
type verifying struct {
	r    io.Reader
	good bool
}

func (v *verifying) Read(b []byte) (int, error) {
	n, err := v.r.Read(b)
	if err == io.EOF && !v.good {
		err = digest.ErrMismatch
	}
	return n, err
}

// Quarantine implements [replication.Store].
func (m *Memory) Quarantine(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	m.aside = append(m.aside, name)
	return nil
}

type incoming struct {
	m    *Memory
	f    manifest.File
	done bool
}

func (in *incoming) Offset() int64 {
	in.m.mu.Lock()
	defer in.m.mu.Unlock()
	return int64(len(in.m.parts[in.f.Name]))
}

func (in *incoming) Write(b []byte) (int, error) {
	in.m.mu.Lock()
	defer in.m.mu.Unlock()
	if in.m.limited {
		if in.m.room < int64(len(b)) {
			return 0, fmt.Errorf("write %s: %w", in.f.Name, replication.ErrFull)
		}
		in.m.room -= int64(len(b))
	}
	in.m.parts[in.f.Name] = append(in.m.parts[in.f.Name], b...)
	return len(b), nil
}

func (in *incoming) Commit(ctx context.Context) error {
	in.m.mu.Lock()
	defer in.m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	content := in.m.parts[in.f.Name]
	if int64(len(content)) != in.f.SizeBytes {
		return fmt.Errorf("commit %s: %d of %d bytes", in.f.Name, len(content), in.f.SizeBytes)
	}
	in.end()
	delete(in.m.parts, in.f.Name)
	if digest.Of(content) != in.f.SHA256 {
		return fmt.Errorf("commit %s: %w", in.f.Name, digest.ErrMismatch)
	}
	if in.m.files == nil {
		in.m.files = make(map[string]entry)
	}
	in.m.files[in.f.Name] = entry{in.f.SHA256, content}
	return nil
}

// end gives the name free. The lock is held.
func (in *incoming) end() {
	if !in.done {
		in.done = true
		delete(in.m.busy, in.f.Name)
	}
}

func (in *incoming) Close() error {
	in.m.mu.Lock()
	defer in.m.mu.Unlock()
	in.end()
	return nil
}

func (in *incoming) Discard() error {
	in.m.mu.Lock()
	defer in.m.mu.Unlock()
	if !in.done {
		delete(in.m.parts, in.f.Name)
	}
	in.end()
	return nil
}

// Documents is a [replication.Documents] in memory. The zero Documents is empty.
type Documents struct {
	mu   sync.Mutex // guards docs
	docs map[digest.Digest][]byte
}

// Open implements [replication.Documents].
func (d *Documents) Open(_ context.Context, sum digest.Digest) (io.ReadCloser, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, ok := d.docs[sum]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// Put implements [replication.Documents].
func (d *Documents) Put(_ context.Context, sum digest.Digest, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if digest.Of(b) != sum {
		return digest.ErrMismatch
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.docs == nil {
		d.docs = make(map[digest.Digest][]byte)
	}
	d.docs[sum] = b
	return nil
}
