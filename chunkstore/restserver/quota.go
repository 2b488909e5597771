package restserver

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// grantBytes is how much is reserved at a time for a body of unknown length.
	grantBytes = 64 << 10

	// recountEvery is how often at most a repository that seems full is counted again: its owner may have removed files
	// without this server.
	recountEvery = time.Minute
)

// quota keeps a repository from growing over its limit. What is being stored is reserved first, so that uploads at the
// same time do not overshoot together; what is not stored in the end is given back.
type quota struct {
	limit int64 // zero for none
	count func(ctx context.Context) (int64, error)

	mu       sync.Mutex // guards the rest; held while the repository is counted
	counted  time.Time  // zero: used is not known yet
	used     int64
	reserved int64
}

func newQuota(limit int64, count func(ctx context.Context) (int64, error)) *quota {
	return &quota{limit: limit, count: count}
}

// spend runs store with sizeBytes reserved, or none if that is negative; store asks for more with the function it gets.
// size tells what the file takes on disk, before and after.
func (q *quota) spend(ctx context.Context, sizeBytes int64, size func() int64, store func(more func(int64) error) error) error {
	if q.limit == 0 {
		return store(func(int64) error { return nil })
	}
	var reserved int64
	more := func(n int64) error {
		if err := q.reserve(ctx, n); err != nil {
			return err
		}
		reserved += n
		return nil
	}
	if err := more(max(sizeBytes, 0)); err != nil {
		return err
	}
	before := size()
	err := store(more)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reserved -= reserved
	q.used += size() - before
	return err
}

func (q *quota) reserve(ctx context.Context, n int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.counted.IsZero() {
		if err := q.recount(ctx); err != nil {
			return err
		}
	}
	if q.used+q.reserved+n > q.limit && n > 0 {
		if time.Since(q.counted) > recountEvery {
			if err := q.recount(ctx); err != nil {
				return err
			}
		}
		if q.used+q.reserved+n > q.limit {
			return fmt.Errorf("%d of %d bytes are used, %d more are on their way: %w", q.used, q.limit, q.reserved, ErrQuota)
		}
	}
	q.reserved += n
	return nil
}

func (q *quota) recount(ctx context.Context) error {
	n, err := q.count(ctx)
	if err != nil {
		return fmt.Errorf("count the repository's bytes: %w", err)
	}
	q.used, q.counted = n, time.Now()
	return nil
}

// metered reads a body and has what it yields granted first.
type metered struct {
	r       io.Reader
	more    func(int64) error
	granted int64
}

func (m *metered) Read(b []byte) (int, error) {
	if m.granted == 0 {
		// One byte tells whether the body is at its end, before anything more is asked for.
		n, err := m.r.Read(b[:min(1, len(b))])
		if n == 0 {
			return 0, err
		}
		if err := m.more(grantBytes); err != nil {
			return 0, err
		}
		m.granted = grantBytes - int64(n)
		return n, err
	}
	n, err := m.r.Read(b[:min(int64(len(b)), m.granted)])
	m.granted -= int64(n)
	return n, err
}
