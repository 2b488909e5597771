package chunkstore

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// LeafBytes is the size of the leaves that audits ask for; the last leaf of a file may be shorter.
const LeafBytes = 64 << 10

// LeafRoot returns the Merkle root over the 64 KiB leaves of r and the size of r. Hashing is that of RFC 6962, section
// 2.1: a leaf is SHA-256(0x00 ‖ bytes), a node SHA-256(0x01 ‖ left ‖ right); the root of nothing is SHA-256 of nothing.
func LeafRoot(r io.Reader) (root [32]byte, sizeBytes int64, err error) {
	// stack holds the roots of the perfect subtrees that make up the leaves so far, the widest first.
	var stack [][32]byte
	var leaves uint64
	leaf := make([]byte, 1+LeafBytes)
	for {
		n, err := io.ReadFull(r, leaf[1:])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return [32]byte{}, sizeBytes, fmt.Errorf("leaf root: %w", err)
		}
		if n > 0 {
			h := sha256.Sum256(leaf[:1+n])
			// Each trailing one bit of the count is a finished subtree of the size of the new one.
			for range bits.TrailingZeros64(^leaves) {
				h = leafNode(stack[len(stack)-1], h)
				stack = stack[:len(stack)-1]
			}
			stack = append(stack, h)
			leaves++
			sizeBytes += int64(n)
		}
		if end {
			break
		}
	}
	if leaves == 0 {
		return sha256.Sum256(nil), 0, nil
	}
	root = stack[len(stack)-1]
	for i := len(stack) - 2; i >= 0; i-- {
		root = leafNode(stack[i], root)
	}
	return root, sizeBytes, nil
}

func leafNode(l, r [32]byte) [32]byte {
	b := make([]byte, 0, 65)
	b = append(append(append(b, 1), l[:]...), r[:]...)
	return sha256.Sum256(b)
}
