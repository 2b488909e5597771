package fournature

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

func TestWindowShowsTheFile(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	c := new(capture) // reused, as a worker does
	for _, size := range []int{1, 100, edgeBytes - 1, edgeBytes, edgeBytes + 1, 2*edgeBytes - 1, 2 * edgeBytes, 2*edgeBytes + 1, 3*edgeBytes + 17, 5 * edgeBytes} {
		content := make([]byte, size)
		rand.NewChaCha8([32]byte{byte(size)}).Read(content)
		for _, step := range []int{7777, 256 << 10, 3 * edgeBytes} {
			c.reset()
			for b := content; len(b) > 0; {
				n, err := c.Write(b[:min(step, len(b))])
				if err != nil {
					t.Fatal(err)
				}
				b = b[n:]
			}
			t.Run(fmt.Sprintf("%d bytes in steps of %d", size, step), func(t *testing.T) {
				whole, edges := c.window(bytes.NewReader(content)), c.window(nil)
				if whole.Size() != int64(size) {
					t.Fatalf("Size = %d", whole.Size())
				}
				for range 100 {
					off, l := rnd.IntN(size+2), rnd.IntN(10_000)
					if rnd.IntN(2) == 0 { // near an edge
						off = max(0, min(size+1, []int{0, edgeBytes, size - edgeBytes, size}[rnd.IntN(4)]-rnd.IntN(12_000)))
					}
					checkSlice(t, whole, edges, content, off, l)
				}
			})
		}
	}
}

// checkSlice compares both windows with the content at one place.
func checkSlice(t *testing.T, whole, edges *window, content []byte, off, l int) {
	t.Helper()
	var want, wantEOF []byte
	if off < len(content) {
		want = content[off:min(len(content), off+l)]
		wantEOF = content[max(0, len(content)-off-l) : len(content)-off]
	}
	got, err := whole.Slice(int64(off), l)
	if !bytes.Equal(got, want) || (len(want) < l) != errors.Is(err, io.EOF) {
		t.Fatalf("Slice(%d, %d) = %d bytes, %v; want %d", off, l, len(got), err, len(want))
	}
	got, err = whole.EofSlice(int64(off), l)
	if !bytes.Equal(got, wantEOF) || (len(wantEOF) < l) != errors.Is(err, io.EOF) {
		t.Fatalf("EofSlice(%d, %d) = %d bytes, %v; want %d", off, l, len(got), err, len(wantEOF))
	}
	if got, err = edges.Slice(int64(off), l); !bytes.HasPrefix(want, got) || len(got) < l && err == nil {
		t.Fatalf("Slice(%d, %d) of the edges = %d bytes, %v; not the content", off, l, len(got), err)
	}
	if got, err = edges.EofSlice(int64(off), l); !bytes.HasSuffix(wantEOF, got) || len(got) < l && err == nil {
		t.Fatalf("EofSlice(%d, %d) of the edges = %d bytes, %v; not the content", off, l, len(got), err)
	}
}
