package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/bits"
)

// LeafBytes is the size of the leaves of a file that audits ask for.
const LeafBytes = 64 << 10

// Root is a Merkle tree hash of RFC 6962, section 2.1.
type Root [sha256.Size]byte

// String returns 64 lower-case hex digits.
func (r Root) String() string { return hex.EncodeToString(r[:]) }

// tree computes a Merkle tree hash leaf by leaf in memory logarithmic in the number of leaves. The zero tree is empty.
type tree struct {
	stack []Root // roots of the perfect subtrees that make up the leaves so far, the widest first
	n     uint64
}

// add appends a leaf by its hash.
func (t *tree) add(leaf Root) {
	for range bits.TrailingZeros64(^t.n) { // each trailing one bit is a finished subtree as wide as the new one
		leaf = node(t.stack[len(t.stack)-1], leaf)
		t.stack = t.stack[:len(t.stack)-1]
	}
	t.stack = append(t.stack, leaf)
	t.n++
}

func (t *tree) root() Root {
	if t.n == 0 {
		return sha256.Sum256(nil)
	}
	r := t.stack[len(t.stack)-1]
	for i := len(t.stack) - 2; i >= 0; i-- {
		r = node(t.stack[i], r)
	}
	return r
}

func node(left, right Root) Root {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// LeafHasher computes the leaf root of a file while it streams by. The zero LeafHasher is ready; it is an [io.Writer] for
// one goroutine and keeps one leaf in memory.
type LeafHasher struct {
	tree tree
	buf  []byte // 0x00 and the leaf that is being filled
	n    int64
}

// Write adds b to the file; it never fails.
func (h *LeafHasher) Write(b []byte) (int, error) {
	if h.buf == nil {
		h.buf = make([]byte, 1, 1+LeafBytes)
	}
	n := len(b)
	h.n += int64(n)
	for len(b) > 0 {
		k := min(len(b), cap(h.buf)-len(h.buf))
		h.buf = append(h.buf, b[:k]...)
		b = b[k:]
		if len(h.buf) == cap(h.buf) {
			h.tree.add(sha256.Sum256(h.buf))
			h.buf = h.buf[:1]
		}
	}
	return n, nil
}

// Size returns how many bytes were written.
func (h *LeafHasher) Size() int64 { return h.n }

// Root returns the leaf root of what was written. More may be written afterwards.
func (h *LeafHasher) Root() Root {
	t := tree{stack: append([]Root(nil), h.tree.stack...), n: h.tree.n}
	if len(h.buf) > 1 {
		t.add(sha256.Sum256(h.buf))
	}
	return t.root()
}

// Reset makes h ready for another file.
func (h *LeafHasher) Reset() {
	h.tree, h.n = tree{stack: h.tree.stack[:0]}, 0
	if h.buf != nil {
		h.buf = h.buf[:1]
	}
}

// LeafRoot returns the leaf root and the size of r, read to its end.
func LeafRoot(r io.Reader) (root Root, sizeBytes int64, err error) {
	var h LeafHasher
	if _, err := io.CopyBuffer(struct{ io.Writer }{&h}, struct{ io.Reader }{r}, make([]byte, 1+LeafBytes)); err != nil {
		return Root{}, h.n, fmt.Errorf("leaf root: %w", err)
	}
	return h.Root(), h.n, nil
}
