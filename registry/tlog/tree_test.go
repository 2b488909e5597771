package tlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	xtlog "golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// slots is a Store in memory that keeps exactly what the contract asks for.
type slots struct {
	tiles map[[2]int64][]byte
	edges map[[2]int64]EdgeUpdate
}

func newSlots() *slots {
	return &slots{map[[2]int64][]byte{}, map[[2]int64]EdgeUpdate{}}
}

func (s *slots) Tile(level int, n int64) ([]byte, error) {
	if d, ok := s.tiles[[2]int64{int64(level), n}]; ok {
		return d, nil
	}
	return nil, ErrNotStored
}

func (s *slots) Edge(level int, index int64) (Hash, error) {
	e, ok := s.edges[[2]int64{int64(level), index % TileWidth}]
	if !ok || e.Index != index {
		return Hash{}, ErrNotStored
	}
	return e.Hash, nil
}

func (s *slots) write(up Update) {
	for _, t := range up.Tiles {
		s.tiles[[2]int64{int64(t.Level), t.N}] = t.Data
	}
	for _, e := range up.Edges {
		s.edges[[2]int64{int64(e.Level), e.Index % TileWidth}] = e
	}
}

func testLeaf(i int64) []byte {
	return Leaf(LeafRegistration, [32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), uint64(i))))
}

// grow appends the leaves [from, to) in one call.
func grow(t interface{ Fatalf(string, ...any) }, s *slots, from, to int64) {
	leaves := make([][]byte, 0, to-from)
	for i := from; i < to; i++ {
		leaves = append(leaves, testLeaf(i))
	}
	up, size, err := Append(s, from, leaves)
	if err != nil || size != to {
		t.Fatalf("Append(%d leaves at %d) = size %d, %v; want %d", len(leaves), from, size, err, to)
	}
	s.write(up)
}

// reference computes roots with an independent implementation.
type reference struct {
	r     *compact.Range
	roots map[int64][]byte
}

func newReference(upTo int64, sizes map[int64]bool) *reference {
	f := &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	ref := &reference{f.NewEmptyRange(0), map[int64][]byte{0: rfc6962.DefaultHasher.EmptyRoot()}}
	for i := range upTo {
		_ = ref.r.Append(rfc6962.DefaultHasher.HashLeaf(testLeaf(i)), nil)
		if sizes == nil || sizes[i+1] {
			root, _ := ref.r.GetRootHash(nil)
			ref.roots[i+1] = root
		}
	}
	return ref
}

func checkProofs(t interface{ Fatalf(string, ...any) }, s *slots, ref *reference, size, index, old int64) {
	root, err := Root(s, size)
	if err != nil || !bytes.Equal(root[:], ref.roots[size]) {
		t.Fatalf("Root(%d) = %v, %v; want %x", size, root, err, ref.roots[size])
	}
	p, err := ProveRecord(s, size, index)
	if err != nil {
		t.Fatalf("ProveRecord(%d, %d): %v", size, index, err)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(index), uint64(size),
		rfc6962.DefaultHasher.HashLeaf(testLeaf(index)), raw(p), root[:]); err != nil {
		t.Fatalf("inclusion of %d in %d: %v", index, size, err)
	}
	c, err := ProveTree(s, size, old)
	if err != nil {
		t.Fatalf("ProveTree(%d, %d): %v", size, old, err)
	}
	if old == 0 {
		return
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), uint64(size), raw(c), ref.roots[old], root[:]); err != nil {
		t.Fatalf("consistency of %d with %d: %v", size, old, err)
	}
}

func raw(p []Hash) [][]byte {
	out := make([][]byte, len(p))
	for i := range p {
		out[i] = p[i][:]
	}
	return out
}

func TestTreeAgainstReference(t *testing.T) {
	const upTo = 900
	ref := newReference(upTo, nil)
	rapid.Check(t, func(t *rapid.T) {
		s, size := newSlots(), int64(0)
		for size < 300 {
			to := min(upTo, size+rapid.Int64Range(1, 300).Draw(t, "leaves"))
			grow(t, s, size, to)
			size = to
		}
		at := rapid.Int64Range(1, size).Draw(t, "size") // older sizes are served too
		checkProofs(t, s, ref, at, rapid.Int64Range(0, at-1).Draw(t, "index"), rapid.Int64Range(0, at).Draw(t, "old"))
	})
}

func TestTreeAroundBoundaries(t *testing.T) {
	sizes := []int64{1, 2, 255, 256, 257, 511, 512, 513, 65535, 65536, 65537, 65791, 65792, 65793}
	set := map[int64]bool{}
	for _, n := range sizes {
		set[n] = true
	}
	ref := newReference(sizes[len(sizes)-1], set)
	s, at := newSlots(), int64(0)
	for _, n := range sizes {
		grow(t, s, at, n)
		at = n
		for i, old := range append([]int64{0}, sizes...) {
			if old > n {
				break
			}
			checkProofs(t, s, ref, n, (n-1)*int64(i)/int64(len(sizes)), old)
			if old > 0 {
				checkProofs(t, s, ref, old, old-1, 1)
			}
		}
	}
	if len(s.tiles) != 257+1 {
		t.Errorf("%d tiles stored at size %d; want 258", len(s.tiles), at)
	}
}

func TestAppendIsIndependentOfGrouping(t *testing.T) {
	one, many := newSlots(), newSlots()
	grow(t, one, 0, 1300)
	for i := int64(0); i < 1300; i++ {
		grow(t, many, i, i+1)
	}
	if fmt.Sprint(one) != fmt.Sprint(many) {
		t.Error("stores differ between one append of 1300 leaves and 1300 appends")
	}
}

func TestTileData(t *testing.T) {
	s := newSlots()
	grow(t, s, 0, 70_000)
	hashes := make([]byte, 0, TileSize)
	for i := int64(512); i < 768; i++ {
		h := xtlog.RecordHash(testLeaf(i))
		hashes = append(hashes, h[:]...)
	}
	for _, tt := range []struct {
		name string
		size int64
		tile xtlog.Tile
		want []byte
		err  error
	}{
		{"full tile", 70_000, xtlog.Tile{H: 8, L: 0, N: 2, W: 256}, hashes, nil},
		{"partial tile of an older size", 600, xtlog.Tile{H: 8, L: 0, N: 2, W: 88}, hashes[:88*32], nil},
		{"partial path of a full tile", 70_000, xtlog.Tile{H: 8, L: 0, N: 2, W: 3}, hashes[:96], nil},
		{"wider than the size", 600, xtlog.Tile{H: 8, L: 0, N: 2, W: 89}, nil, ErrOutOfRange},
		{"negative place", 600, xtlog.Tile{H: 8, L: 0, N: -1, W: 1}, nil, ErrOutOfRange},
		{"place that overflows", 600, xtlog.Tile{H: 8, L: 0, N: 1 << 62, W: 1}, nil, ErrOutOfRange},
		{"other height", 600, xtlog.Tile{H: 9, L: 0, N: 0, W: 1}, nil, ErrOutOfRange},
		{"entries", 600, xtlog.Tile{H: 8, L: -1, N: 0, W: 1}, nil, ErrOutOfRange},
		{"no width", 600, xtlog.Tile{H: 8, L: 0, N: 0, W: 0}, nil, ErrOutOfRange},
		{"level without hashes", 600, xtlog.Tile{H: 8, L: 2, N: 0, W: 1}, nil, ErrOutOfRange},
		{"absurd level", 600, xtlog.Tile{H: 8, L: 63, N: 0, W: 1}, nil, ErrOutOfRange},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := TileData(s, tt.size, tt.tile)
			if !errors.Is(err, tt.err) || !bytes.Equal(got, tt.want) {
				t.Errorf("TileData(%d, %+v) = %d bytes, %v; want %d, %v", tt.size, tt.tile, len(got), err, len(tt.want), tt.err)
			}
		})
	}
	edge, err := TileData(s, 70_000, xtlog.Tile{H: 8, L: 0, N: 273, W: 112})
	last := xtlog.RecordHash(testLeaf(69_999))
	if err != nil || !bytes.Equal(edge[111*32:], last[:]) {
		t.Errorf("TileData of the ragged edge = %d bytes, %v; want the last leaf's hash at its end", len(edge), err)
	}
	top, err := TileData(s, 70_000, xtlog.Tile{H: 8, L: 2, N: 0, W: 1})
	root, _ := Root(s, 65_536)
	if err != nil || !bytes.Equal(top, root[:]) {
		t.Errorf("TileData(level 2) = %x, %v; want the root at 65536", top, err)
	}
}

func TestStoreErrorsAreReported(t *testing.T) {
	s := newSlots()
	grow(t, s, 0, 300)
	s.tiles[[2]int64{0, 0}] = []byte("short")
	if _, err := ProveRecord(s, 300, 5); !errors.Is(err, ErrMalformed) {
		t.Errorf("ProveRecord(300, 5) with a short tile: %v; want ErrMalformed", err)
	}
	delete(s.tiles, [2]int64{0, 0})
	if _, err := ProveRecord(s, 300, 5); !errors.Is(err, ErrNotStored) {
		t.Errorf("ProveRecord(300, 5) without its tile: %v; want ErrNotStored", err)
	}
	if _, err := Root(s, 301); !errors.Is(err, ErrNotStored) {
		t.Errorf("Root(301) of 300 leaves: %v; want ErrNotStored", err)
	}
}
