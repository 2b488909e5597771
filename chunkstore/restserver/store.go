package restserver

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// Store is the files of one repository as its clients see them. Methods may be called concurrently. Errors are those of
// [chunkstore.Files], and [ErrRefused] and [ErrQuota].
type Store interface {
	// List yields the files of a kind; after an error it ends.
	List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error]

	// Open opens name for reading. The ID of the config is zero: there is one.
	Open(ctx context.Context, name chunkstore.Name) (Content, error)

	// Put stores the bytes of r, sizeBytes or, if that is negative, as many as there are, under name. Storing a stored
	// file again is no error.
	Put(ctx context.Context, name chunkstore.Name, r io.Reader, sizeBytes int64) error

	// Remove deletes name. Removing what is not there is no error.
	Remove(ctx context.Context, name chunkstore.Name) error
}

// Content is an open file.
type Content interface {
	chunkstore.RangeReader
	SizeBytes() int64
}

// content is a [Content] of known size.
type content struct {
	chunkstore.RangeReader
	size int64
}

func (c content) SizeBytes() int64 { return c.size }

// The most that a body of each kind may have. Stock restic's packs end at 128 MiB and one blob.
const (
	maxPackBytes  = 512 << 20
	maxIndexBytes = 256 << 20 // and of a snapshot, which lists what was asked for
	maxSmallBytes = 64 << 10  // config, keys, locks

	// maxLocks bounds the lock files of a repository: they count against no quota, so that a full repository can be
	// worked on.
	maxLocks = 1000
)

func maxBytes(k chunkstore.Kind) int64 {
	switch k {
	case chunkstore.Pack:
		return maxPackBytes
	case chunkstore.Index, chunkstore.Snapshot:
		return maxIndexBytes
	default:
		return maxSmallBytes
	}
}

// local is the [Store] of a directory.
type local struct {
	files      *chunkstore.Files
	quota      *quota
	appendOnly bool

	names nameLocks

	mu    sync.Mutex // guards locks; held while one is stored
	locks int        // stored since the last count
}

func newLocal(files *chunkstore.Files, limitBytes int64, appendOnly bool) *local {
	l := &local{files: files, appendOnly: appendOnly}
	l.quota = newQuota(limitBytes, func(ctx context.Context) (int64, error) { return usage(ctx, files) })
	return l
}

// usage adds up the files that count: all but locks.
func usage(ctx context.Context, files *chunkstore.Files) (int64, error) {
	var sum int64
	for _, kind := range chunkstore.Kinds() {
		if kind == chunkstore.Lock {
			continue
		}
		for e, err := range files.List(ctx, kind) {
			if err != nil {
				return 0, err
			}
			sum += e.SizeBytes
		}
	}
	return sum, nil
}

// List implements [Store].
func (l *local) List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error] {
	return l.files.List(ctx, kind)
}

// Open implements [Store].
func (l *local) Open(ctx context.Context, name chunkstore.Name) (Content, error) {
	size, err := l.files.Stat(name)
	if err != nil {
		return nil, err
	}
	r, err := l.files.OpenRanges(ctx, name)
	if err != nil {
		return nil, err
	}
	return content{r, size}, nil
}

// Put implements [Store].
func (l *local) Put(ctx context.Context, name chunkstore.Name, r io.Reader, sizeBytes int64) error {
	switch name.Kind {
	case chunkstore.Lock:
		return l.putLock(ctx, name, r)
	case chunkstore.Config:
		b, err := io.ReadAll(r) // bounded by the caller
		if err != nil {
			return err
		}
		defer l.names.lock(name)()
		name.ID = digest.Of(b)
		return l.quota.spend(ctx, int64(len(b)), l.sizeOf(chunkstore.Name{Kind: chunkstore.Config}), func(func(int64) error) error {
			return l.files.PutBytes(ctx, name, b)
		})
	}
	defer l.names.lock(name)()
	return l.quota.spend(ctx, sizeBytes, l.sizeOf(name), func(more func(int64) error) error {
		_, err := l.files.Put(ctx, name, &metered{r: r, more: more, granted: max(sizeBytes, 0)})
		return err
	})
}

func (l *local) sizeOf(name chunkstore.Name) func() int64 {
	return func() int64 {
		n, err := l.files.Stat(name)
		if err != nil {
			return 0
		}
		return n
	}
}

func (l *local) putLock(ctx context.Context, name chunkstore.Name, r io.Reader) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.locks >= maxLocks {
		l.locks = 0
		for _, err := range l.files.List(ctx, chunkstore.Lock) {
			if err != nil {
				return err
			}
			l.locks++
		}
		if l.locks >= maxLocks {
			return fmt.Errorf("%d locks: %w", l.locks, ErrQuota)
		}
	}
	_, err := l.files.Put(ctx, name, r)
	if err == nil {
		l.locks++
	}
	return err
}

// Remove implements [Store].
func (l *local) Remove(ctx context.Context, name chunkstore.Name) error {
	if name.Kind == chunkstore.Lock {
		return l.files.Remove(ctx, name)
	}
	if l.appendOnly {
		return fmt.Errorf("remove %s: append-only: %w", name, ErrRefused)
	}
	defer l.names.lock(name)()
	return l.quota.spend(ctx, 0, l.sizeOf(name), func(func(int64) error) error { return l.files.Remove(ctx, name) })
}

// nameLocks lets one at a time change a name, so that its size before and after is right. The zero nameLocks is ready.
type nameLocks struct {
	mu   sync.Mutex // guards held, never held while waiting
	held map[chunkstore.Name]*nameLock
}

type nameLock struct {
	sync.Mutex
	users int
}

// lock waits for name and returns what gives it back.
func (n *nameLocks) lock(name chunkstore.Name) (unlock func()) {
	n.mu.Lock()
	if n.held == nil {
		n.held = map[chunkstore.Name]*nameLock{}
	}
	l := n.held[name]
	if l == nil {
		l = &nameLock{}
		n.held[name] = l
	}
	l.users++
	n.mu.Unlock()
	l.Lock()
	return func() {
		l.Unlock()
		n.mu.Lock()
		defer n.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(n.held, name)
		}
	}
}
