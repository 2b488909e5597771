package repository

import "sync"

const (
	// maxPooledBytes keeps one huge tree from staying in memory for good; a chunk is at most 8 MiB.
	maxPooledBytes = 20 << 20

	smallBufferBytes = 256 << 10
)

// buffers lends memory for blobs, from two pools, so that small blobs do not pin large buffers.
type buffers struct{ small, large sync.Pool }

// borrow returns an empty buffer with room for n bytes.
func (p *buffers) borrow(n int) *[]byte {
	pool := &p.large
	if n <= smallBufferBytes {
		pool = &p.small
	}
	b, _ := pool.Get().(*[]byte)
	if b == nil {
		b = new([]byte)
	}
	if cap(*b) < n {
		*b = make([]byte, 0, n)
	}
	*b = (*b)[:0]
	return b
}

func (p *buffers) giveBack(b *[]byte) {
	switch {
	case cap(*b) > maxPooledBytes:
	case cap(*b) > smallBufferBytes:
		p.large.Put(b)
	default:
		p.small.Put(b)
	}
}
