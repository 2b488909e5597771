package boundary

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/restic/chunker"
)

const polynomial = chunker.Pol(0x3DA3358B4DC173)

// sizes are what a chunker may be set to.
type sizes struct {
	min, max uint
	bits     int
}

// cuts returns the sizes of the chunks of content, which is seen step bytes at a time.
func cuts(t testing.TB, s sizes, content []byte, step int) []int {
	t.Helper()
	f, err := New(polynomial, s.min, s.max, s.bits)
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for len(content) > 0 {
		seen := 0
		for {
			more := min(seen+step, len(content))
			n, ok := f.Cut(content[:more], seen)
			if !ok && more < len(content) {
				seen = more
				continue
			}
			if !ok {
				n = more
			}
			all, content = append(all, n), content[n:]
			break
		}
	}
	return all
}

// theirs returns what restic's chunker makes of content.
func theirs(t testing.TB, s sizes, content []byte) []int {
	t.Helper()
	c := chunker.NewWithBoundaries(bytes.NewReader(content), polynomial, s.min, s.max)
	c.SetAverageBits(s.bits)
	var all []int
	for {
		chunk, err := c.Next(nil)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, int(chunk.Length))
	}
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	s := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	s.Read(b)
	return b
}

func TestCutsAsResticsChunker(t *testing.T) {
	zeros := make([]byte, 300<<10)
	for _, tt := range []struct {
		name    string
		sizes   sizes
		content []byte
	}{
		{"the standard sizes", sizes{chunker.MinSize, chunker.MaxSize, 20}, random(1, 24<<20)},
		{"sizes for databases", sizes{32 << 10, 1 << 20, 16}, random(2, 6<<20)},
		{"cuts in every quarter of a block", sizes{4 << 10, 1 << 20, 12}, random(3, 3<<20)},
		{"several cuts in a quarter of a block", sizes{65, 1 << 20, 10}, random(4, 1<<20)},
		{"chunks that end for their size", sizes{40 << 10, 50 << 10, 20}, random(5, 1<<20)},
		{"zeros, which are cut at the smallest size", sizes{32 << 10, 1 << 20, 16}, zeros},
		{"one byte repeated, which is never cut", sizes{32 << 10, 1 << 20, 16}, bytes.Repeat([]byte{7}, 3<<20)},
		{"less than the smallest size", sizes{32 << 10, 1 << 20, 16}, random(6, 1000)},
		{"just the smallest size", sizes{32 << 10, 1 << 20, 16}, zeros[:32<<10]},
		{"just the largest size", sizes{32 << 10, 1 << 20, 23}, bytes.Repeat([]byte{7}, 1<<20)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := theirs(t, tt.sizes, tt.content)
			for _, step := range []int{len(tt.content), 256 << 10, 33333} {
				if got := cuts(t, tt.sizes, tt.content, step); !slices.Equal(got, want) {
					t.Errorf("%d bytes at a time: chunks of %v, want %v", step, got, want)
				}
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name       string
		polynomial chunker.Pol
		sizes      sizes
	}{
		{"a polynomial of another degree", 0x3DA3358B4DC1, sizes{chunker.MinSize, chunker.MaxSize, 20}},
		{"chunks not larger than what decides on a cut", polynomial, sizes{64, 1 << 20, 20}},
		{"a largest size below the smallest", polynomial, sizes{4096, 4095, 20}},
		{"an average that the hash cannot give", polynomial, sizes{4096, 1 << 20, 53}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.polynomial, tt.sizes.min, tt.sizes.max, tt.sizes.bits); err == nil {
				t.Error("no error")
			}
		})
	}
}

func FuzzCut(f *testing.F) {
	f.Add([]byte("seed"), uint16(65), uint16(40000), uint8(10), uint16(5000), uint8(40))
	f.Add(bytes.Repeat([]byte{0}, 300), uint16(4096), uint16(9000), uint8(14), uint16(33), uint8(200))
	f.Fuzz(func(t *testing.T, seed []byte, least, more uint16, bits uint8, step uint16, times uint8) {
		s := sizes{min: max(window+1, uint(least)), bits: int(bits % 20)}
		s.max = s.min + uint(more)
		seed = seed[:min(len(seed), 500)]
		noise, content := random(0, 1000), []byte(nil)
		for i := range int(times) { // the seed comes again and again between bytes that differ
			content = append(append(content, seed...), noise[i:]...)
		}
		if got, want := cuts(t, s, content, int(step)+500), theirs(t, s, content); !slices.Equal(got, want) {
			t.Errorf("%+v: chunks of %v, want %v", s, got, want)
		}
	})
}

func BenchmarkCut(b *testing.B) {
	s := sizes{chunker.MinSize, chunker.MaxSize, 20}
	content := random(7, 32<<20)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		for b.Loop() {
			cuts(b, s, content, 256<<10)
		}
	})
	b.Run("restic's chunker", func(b *testing.B) {
		b.SetBytes(int64(len(content)))
		c, data := chunker.New(nil, polynomial), make([]byte, 0, chunker.MaxSize)
		for b.Loop() {
			c.Reset(bytes.NewReader(content), polynomial)
			for {
				if _, err := c.Next(data); err != nil {
					break
				}
			}
		}
	})
}
