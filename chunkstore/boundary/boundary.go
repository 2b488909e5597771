// Package boundary finds where restic's chunker cuts: the same places as [chunker.Chunker] with the same polynomial and
// sizes, but in bytes that lie in memory, and at several places of them at once.
//
// A cut depends on the 64 bytes before it alone, so a search may begin anywhere. One rolling hash waits for its own last
// step most of the time; four of them, each in its own quarter of a block, do not wait for one another.
package boundary

import (
	"fmt"

	"github.com/restic/chunker"
)

const (
	window = 64 // bytes that decide on a cut
	degree = 53 // of the polynomial

	laneBytes  = 8 << 10
	blockBytes = 4 * laneBytes
)

// Finder finds cuts. It may be used by several goroutines at once.
type Finder struct {
	out, mod           [256]uint64
	mask               uint64
	minBytes, maxBytes int
}

// New returns a finder for chunks of minBytes to maxBytes, cut every 2^averageBits bytes on average after minBytes. The
// polynomial must be irreducible and of degree 53, and minBytes more than 64.
func New(polynomial chunker.Pol, minBytes, maxBytes uint, averageBits int) (*Finder, error) {
	if polynomial.Deg() != degree || minBytes <= window || maxBytes < minBytes || averageBits < 0 || averageBits >= degree {
		return nil, fmt.Errorf("chunker: polynomial %v of degree %d, sizes %d to %d, 2^%d: the degree must be %d and the smallest size more than %d",
			polynomial, polynomial.Deg(), minBytes, maxBytes, averageBits, degree, window)
	}
	f := &Finder{mask: 1<<averageBits - 1, minBytes: int(minBytes), maxBytes: int(maxBytes)}
	for b := range chunker.Pol(256) {
		f.mod[b] = uint64((b << degree).Mod(polynomial) | b<<degree)
	}
	for b := range 256 {
		f.out[b] = f.hash(append([]byte{byte(b)}, make([]byte, window-1)...))
	}
	return f, nil
}

// Cut returns the size of the first chunk of b, which begins where a chunk begins, or false if b ends before the chunk
// does. A caller that has seen false adds bytes and names in from how many there were, which are not searched again; at the
// end of the content the chunk is all of b.
func (f *Finder) Cut(b []byte, from int) (int, bool) {
	b = b[:min(len(b), f.maxBytes)]
	at := max(from, f.minBytes-1)
	for len(b)-at >= blockBytes {
		if n := f.block((*[window + blockBytes]byte)(b[at-window:])); n >= 0 {
			return at + n + 1, true
		}
		at += blockBytes
	}
	if at < len(b) {
		if n := f.roll(f.hash(b[at-window:at]), b[at-window:]); n >= 0 {
			return at + n + 1, true
		}
	}
	return f.maxBytes, len(b) == f.maxBytes
}

// hash returns the hash of the bytes of a window.
func (f *Finder) hash(b []byte) uint64 {
	var h uint64
	for _, c := range b {
		h = (h<<8 | uint64(c)) ^ f.mod[byte(h>>(degree-8))]
	}
	return h
}

// roll searches from the byte after the first window of b on, whose hash is h, and returns how far after that window the
// byte is that ends a chunk, or -1.
func (f *Finder) roll(h uint64, b []byte) int {
	in := b[window:]
	for i, old := range b[:len(in)] {
		h ^= f.out[old]
		h = (h<<8 | uint64(in[i])) ^ f.mod[byte(h>>(degree-8))]
		if h&f.mask == 0 {
			return i
		}
	}
	return -1
}

// block is roll for a whole block, all its quarters at the same time.
func (f *Finder) block(b *[window + blockBytes]byte) int {
	const (
		shift = degree - 8
		one   = laneBytes
		two   = 2 * laneBytes
		three = 3 * laneBytes
	)
	var h [4]uint64
	for lane := range h {
		h[lane] = f.hash(b[lane*laneBytes:][:window])
	}
	h0, h1, h2, h3 := h[0], h[1], h[2], h[3]
	out, mod, mask := &f.out, &f.mod, f.mask
	for i := range laneBytes {
		h0 ^= out[b[i]]
		h1 ^= out[b[i+one]]
		h2 ^= out[b[i+two]]
		h3 ^= out[b[i+three]]
		h0 = (h0<<8 | uint64(b[i+window])) ^ mod[byte(h0>>shift)]
		h1 = (h1<<8 | uint64(b[i+window+one])) ^ mod[byte(h1>>shift)]
		h2 = (h2<<8 | uint64(b[i+window+two])) ^ mod[byte(h2>>shift)]
		h3 = (h3<<8 | uint64(b[i+window+three])) ^ mod[byte(h3>>shift)]
		if h0&mask == 0 {
			return i
		}
		if h1&mask == 0 || h2&mask == 0 || h3&mask == 0 {
			return f.first(b, i, [4]uint64{h0, h1, h2, h3})
		}
	}
	return -1
}

// first returns the first cut of a block, one of whose quarters has one at its byte i, where all have the hashes h.
func (f *Finder) first(b *[window + blockBytes]byte, i int, h [4]uint64) int {
	for lane, sum := range h {
		begin := lane * laneBytes
		if sum&f.mask == 0 {
			return begin + i
		}
		next := begin + i + 1
		if n := f.roll(sum, b[next:begin+laneBytes+window]); n >= 0 {
			return next + n
		}
	}
	return -1 // not reached: one quarter has a cut
}
