package repository

import (
	"runtime"
	"sync"
)

const (
	smallBufferBytes = 256 << 10

	// maxKeptBytes keeps one huge tree from staying in memory for good; a chunk is at most 8 MiB.
	maxKeptBytes = 9 << 20

	// Large buffers come in steps, so that one fits the next blob as well.
	bufferStep = 1 << 20
)

// buffers lends memory for blobs. Large buffers are kept in a list of fixed length: left to the garbage collector, they
// would take several times the memory that is in use.
type buffers struct {
	small sync.Pool
	large chan *[]byte
}

func newBuffers() *buffers {
	return &buffers{large: make(chan *[]byte, 2*(runtime.GOMAXPROCS(0)+1))}
}

// borrow returns an empty buffer with room for n bytes.
func (p *buffers) borrow(n int) *[]byte {
	if n <= smallBufferBytes {
		b, _ := p.small.Get().(*[]byte)
		if b == nil {
			b = new([]byte)
		}
		return room(b, n)
	}
	select {
	case b := <-p.large:
		return room(b, n)
	default:
		return room(new([]byte), n)
	}
}

// room empties b and sees to it that it holds n bytes.
func room(b *[]byte, n int) *[]byte {
	if cap(*b) < n {
		if n > smallBufferBytes {
			n = (n + bufferStep - 1) / bufferStep * bufferStep
		}
		*b = make([]byte, 0, n)
	}
	*b = (*b)[:0]
	return b
}

func (p *buffers) giveBack(b *[]byte) {
	switch {
	case cap(*b) > maxKeptBytes:
	case cap(*b) > smallBufferBytes:
		select {
		case p.large <- b:
		default: // there are enough
		}
	default:
		p.small.Put(b)
	}
}
