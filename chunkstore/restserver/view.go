package restserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// View says which files of a repository are vouched for. Methods may be called concurrently.
type View interface {
	// List yields the files of a kind with their sizes; after an error it ends.
	List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error]

	// File returns one file, with the digest of its bytes also for the config, or an error matching [fs.ErrNotExist].
	File(ctx context.Context, name chunkstore.Name) (chunkstore.Entry, error)
}

// Files is where a view's files lie: [chunkstore.Files], or what can fetch them elsewhere.
type Files interface {
	Open(ctx context.Context, name chunkstore.Name) (io.ReadCloser, error)
	OpenRanges(ctx context.Context, name chunkstore.Name) (chunkstore.RangeReader, error)
}

// maxVerifiedBytes is how large a file is read into memory and verified before its first byte is sent. Packs are larger
// and are sent as they lie on disk: each blob in them proves itself.
const maxVerifiedBytes = 16 << 20

// RegisteredOnly returns the files that v vouches for, for reading: others in the directory do not exist for clients, and a
// registered one that has other bytes than registered cannot be read. Nothing is written: locks are taken and kept in
// memory, each client's apart from the others', and every other change gives [ErrRefused].
//
// exclusive tells of the bytes of a lock file whether the lock is exclusive; such a one is refused. It may be nil: the
// files of a repository tell nothing without its key, and then all locks are taken.
func RegisteredOnly(files Files, v View, exclusive func(lock []byte) bool) Store {
	return &readOnly{Store: &registered{files, v}, locks: newMemoryLocks(exclusive)}
}

// Registered is the [View] of a fixed list of files.
type Registered struct {
	files map[chunkstore.Name]chunkstore.Entry
	kinds map[chunkstore.Kind][]chunkstore.Entry
}

// NewRegistered returns the view of entries. The config among them has the digest of its bytes.
func NewRegistered(entries iter.Seq[chunkstore.Entry]) *Registered {
	v := &Registered{map[chunkstore.Name]chunkstore.Entry{}, map[chunkstore.Kind][]chunkstore.Entry{}}
	for e := range entries {
		key := e.Name
		if key.Kind == chunkstore.Config {
			key.ID = digest.Digest{}
		}
		if _, ok := v.files[key]; ok {
			continue
		}
		v.files[key] = e
		v.kinds[key.Kind] = append(v.kinds[key.Kind], e)
	}
	for _, list := range v.kinds {
		slices.SortFunc(list, func(a, b chunkstore.Entry) int { return bytes.Compare(a.Name.ID.Bytes(), b.Name.ID.Bytes()) })
	}
	return v
}

// List implements [View].
func (v *Registered) List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error] {
	return func(yield func(chunkstore.Entry, error) bool) {
		for _, e := range v.kinds[kind] {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// File implements [View].
func (v *Registered) File(_ context.Context, name chunkstore.Name) (chunkstore.Entry, error) {
	if name.Kind == chunkstore.Config {
		name.ID = digest.Digest{}
	}
	e, ok := v.files[name]
	if !ok {
		return chunkstore.Entry{}, fmt.Errorf("%s is not registered: %w", name, fs.ErrNotExist)
	}
	return e, nil
}

// registered reads what a view vouches for.
type registered struct {
	files Files
	view  View
}

// List implements [Store].
func (r *registered) List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error] {
	return r.view.List(ctx, kind)
}

// Open implements [Store].
func (r *registered) Open(ctx context.Context, name chunkstore.Name) (Content, error) {
	e, err := r.view.File(ctx, name)
	if err != nil {
		return nil, err
	}
	if name.Kind == chunkstore.Pack || e.SizeBytes > maxVerifiedBytes {
		ranges, err := r.files.OpenRanges(ctx, e.Name)
		if err != nil {
			return nil, err
		}
		return content{ranges, e.SizeBytes}, nil
	}
	f, err := r.files.Open(ctx, e.Name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, e.SizeBytes+1))
	if err != nil {
		return nil, rotten(e.Name, err)
	}
	if int64(len(b)) != e.SizeBytes || digest.Of(b) != e.Name.ID {
		return nil, rotten(e.Name, digest.ErrMismatch)
	}
	return content{memory(b), e.SizeBytes}, nil
}

// rotten is an error about our own bytes; the client did nothing wrong.
func rotten(name chunkstore.Name, err error) error {
	return fmt.Errorf("registered file %s cannot be read: %v", name, err)
}

// Put implements [Store].
func (r *registered) Put(context.Context, chunkstore.Name, io.Reader, int64) error { return ErrRefused }

// Remove implements [Store].
func (r *registered) Remove(context.Context, chunkstore.Name) error { return ErrRefused }

// memory is the content of a small file.
type memory []byte

// ReadRange implements [chunkstore.RangeReader].
func (m memory) ReadRange(_ context.Context, off int64, buf []byte) error {
	if off < 0 || off > int64(len(m)) || copy(buf, m[off:]) != len(buf) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Close implements [chunkstore.RangeReader].
func (m memory) Close() error { return nil }

// readOnly takes no writes; locks are kept in memory.
type readOnly struct {
	Store
	locks *memoryLocks
}

// List implements [Store].
func (r *readOnly) List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error] {
	if kind == chunkstore.Lock {
		return r.locks.list(ctx)
	}
	return r.Store.List(ctx, kind)
}

// Open implements [Store].
func (r *readOnly) Open(ctx context.Context, name chunkstore.Name) (Content, error) {
	if name.Kind == chunkstore.Lock {
		return r.locks.open(ctx, name)
	}
	return r.Store.Open(ctx, name)
}

// Put implements [Store].
func (r *readOnly) Put(ctx context.Context, name chunkstore.Name, body io.Reader, _ int64) error {
	if name.Kind == chunkstore.Lock {
		return r.locks.put(ctx, name, body)
	}
	return fmt.Errorf("store %s: read-only: %w", name, ErrRefused)
}

// Remove implements [Store].
func (r *readOnly) Remove(ctx context.Context, name chunkstore.Name) error {
	if name.Kind == chunkstore.Lock {
		r.locks.remove(ctx, name)
		return nil
	}
	return fmt.Errorf("remove %s: read-only: %w", name, ErrRefused)
}

const (
	maxMemoryLocks = 16               // of one user
	maxLockUsers   = 256              // in one repository
	lockLifetime   = 30 * time.Minute // restic refreshes its locks every five
)

// memoryLocks are locks that lock nothing: nothing they could guard against is possible here. Each user sees his own, so
// that none can shut others out.
type memoryLocks struct {
	exclusive func(lock []byte) bool

	mu    sync.Mutex // guards users; never held during I/O
	users map[string][]memoryLock
}

type memoryLock struct {
	name  chunkstore.Name
	bytes []byte
	at    time.Time
}

func newMemoryLocks(exclusive func([]byte) bool) *memoryLocks {
	return &memoryLocks{exclusive: exclusive, users: map[string][]memoryLock{}}
}

// sweep drops what nobody refreshed. m.mu is held.
func (m *memoryLocks) sweep() {
	for user, locks := range m.users {
		locks = slices.DeleteFunc(locks, func(l memoryLock) bool { return time.Since(l.at) > lockLifetime })
		if m.users[user] = locks; len(locks) == 0 {
			delete(m.users, user)
		}
	}
}

func (m *memoryLocks) put(ctx context.Context, name chunkstore.Name, body io.Reader) error {
	b, err := io.ReadAll(body) // bounded by the caller
	if err != nil {
		return err
	}
	if digest.Of(b) != name.ID {
		return fmt.Errorf("store %s: %w", name, digest.ErrMismatch)
	}
	if m.exclusive != nil && m.exclusive(b) {
		return fmt.Errorf("store %s: exclusive lock of a read-only repository: %w", name, ErrRefused)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep()
	user := userOf(ctx)
	locks, ok := m.users[user]
	if slices.ContainsFunc(locks, func(l memoryLock) bool { return l.name == name }) {
		return nil
	}
	if len(locks) >= maxMemoryLocks || !ok && len(m.users) >= maxLockUsers {
		return fmt.Errorf("store %s: too many locks: %w", name, ErrQuota)
	}
	m.users[user] = append(locks, memoryLock{name, b, time.Now()})
	return nil
}

func (m *memoryLocks) list(ctx context.Context) iter.Seq2[chunkstore.Entry, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweep()
	locks := slices.Clone(m.users[userOf(ctx)])
	return func(yield func(chunkstore.Entry, error) bool) {
		for _, l := range locks {
			if !yield(chunkstore.Entry{Name: l.name, SizeBytes: int64(len(l.bytes))}, nil) {
				return
			}
		}
	}
}

func (m *memoryLocks) open(ctx context.Context, name chunkstore.Name) (Content, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.users[userOf(ctx)] {
		if l.name == name {
			return content{memory(l.bytes), int64(len(l.bytes))}, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

func (m *memoryLocks) remove(ctx context.Context, name chunkstore.Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	user := userOf(ctx)
	m.users[user] = slices.DeleteFunc(m.users[user], func(l memoryLock) bool { return l.name == name })
	if len(m.users[user]) == 0 {
		delete(m.users, user)
	}
}

// userKey is where a request's context keeps who is asking.
type userKey struct{}

func withUser(ctx context.Context, user string) context.Context {
	return context.WithValue(ctx, userKey{}, user)
}

// userOf returns who is asking, empty where nobody is asked.
func userOf(ctx context.Context) string {
	user, _ := ctx.Value(userKey{}).(string)
	return user
}
