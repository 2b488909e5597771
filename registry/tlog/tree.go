package tlog

import (
	"errors"
	"fmt"
	"slices"

	xtlog "golang.org/x/mod/sumdb/tlog"
)

// Hash is a node of the Merkle tree, hashed as RFC 6962 section 2.1 says.
type Hash = xtlog.Hash

// HashSize is the length of a [Hash] in bytes.
const HashSize = xtlog.HashSize

// tileHeight is the height of a tile; C2SP tlog-tiles fixes it to 8.
const tileHeight = 8

// TileWidth is the number of hashes in a full tile.
const TileWidth = 1 << tileHeight

// TileSize is the length of a full tile in bytes.
const TileSize = TileWidth * HashSize

// ErrNotStored is returned by a [Store] for a tile that is not full yet and for an edge hash that is no longer kept.
var ErrNotStored = errors.New("not stored")

// ErrOutOfRange is returned for a record, size or tile that the tree does not have.
var ErrOutOfRange = errors.New("beyond the size of the log")

// Store holds the hashes of a growing tree. Levels are levels of tiles: the hashes of level l stand at height 8·l of
// the tree, so that one of them covers 256^l leaves.
//
// Only full tiles are stored. Beside them the newest 256 hashes of every level are kept singly, each in the slot
// "index mod 256", where the hash 256 places later replaces it. What is stored is thus a function of the leaves alone
// and not of how they were grouped into calls of [Append]; and whatever slot was replaced already stands in a tile.
type Store interface {
	// Tile returns the 8,192 bytes of full tile n of a level, or an error matching [ErrNotStored].
	Tile(level int, n int64) ([]byte, error)

	// Edge returns the hash at index of a level, or an error matching [ErrNotStored] if its slot holds another.
	Edge(level int, index int64) (Hash, error)
}

// Update is what a [Store] has to write so that it holds a longer tree.
type Update struct {
	Tiles []TileUpdate
	Edges []EdgeUpdate
}

// TileUpdate is a tile that became full.
type TileUpdate struct {
	Level int
	N     int64
	Data  []byte
}

// EdgeUpdate is a hash to put into slot Index mod 256 of its level.
type EdgeUpdate struct {
	Level int
	Index int64
	Hash  Hash
}

// Append computes the update by which the tree of the given size in st grows by leaves. It writes nothing.
func Append(st Store, size int64, leaves [][]byte) (Update, int64, error) {
	var up Update
	if size < 0 {
		return up, size, fmt.Errorf("append to a log of size %d: %w", size, ErrOutOfRange)
	}
	hashes := make([]Hash, len(leaves))
	for i, leaf := range leaves {
		hashes[i] = xtlog.RecordHash(leaf)
	}
	start := size
	for level := 0; len(hashes) > 0; level++ {
		end := start + int64(len(hashes))
		for i := max(start, end-TileWidth); i < end; i++ {
			up.Edges = append(up.Edges, EdgeUpdate{level, i, hashes[i-start]})
		}
		var above []Hash
		for n := start / TileWidth; (n+1)*TileWidth <= end; n++ {
			data := make([]byte, 0, TileSize)
			for i := n * TileWidth; i < (n+1)*TileWidth; i++ {
				h, err := pick(st, level, i, start, hashes)
				if err != nil {
					return Update{}, size, fmt.Errorf("append to a log of size %d: %w", size, err)
				}
				data = append(data, h[:]...)
			}
			up.Tiles = append(up.Tiles, TileUpdate{level, n, data})
			above = append(above, subtree(data))
		}
		start, hashes = start/TileWidth, above
	}
	return up, size + int64(len(leaves)), nil
}

// pick returns the hash at index i of a level whose hashes from start on are the new ones.
func pick(st Store, level int, i, start int64, added []Hash) (Hash, error) {
	if i >= start {
		return added[i-start], nil
	}
	h, err := st.Edge(level, i)
	if err != nil {
		return Hash{}, fmt.Errorf("edge hash %d of level %d: %w", i, level, err)
	}
	return h, nil
}

// subtree returns the hash over a power of two of neighbouring hashes.
func subtree(data []byte) Hash {
	var row [TileWidth]Hash
	n := len(data) / HashSize
	for i := range n {
		copy(row[i][:], data[i*HashSize:])
	}
	for ; n > 1; n /= 2 {
		for i := range n / 2 {
			row[i] = xtlog.NodeHash(row[2*i], row[2*i+1])
		}
	}
	return row[0]
}

// reader reads hashes of the tree of the given size, which may be older than what st holds.
type reader struct {
	st   Store
	size int64
}

var _ xtlog.HashReader = reader{}

// ReadHashes implements [xtlog.HashReader].
func (r reader) ReadHashes(indexes []int64) ([]Hash, error) {
	out := make([]Hash, len(indexes))
	for i, x := range indexes {
		height, n := xtlog.SplitStoredHashIndex(x)
		level, up := height/tileHeight, height%tileHeight
		data, err := r.row(level, n<<up, 1<<up)
		if err != nil {
			return nil, err
		}
		out[i] = subtree(data)
	}
	return out, nil
}

// row returns count neighbouring hashes of a level from index first; they lie in one tile.
func (r reader) row(level int, first, count int64) ([]byte, error) {
	n := first / TileWidth
	if (n+1)*TileWidth > r.size>>(tileHeight*level) { // the tile was not full at this size; it may be now
		data, err := r.edge(level, first, count)
		if err == nil || !errors.Is(err, ErrNotStored) {
			return data, err
		}
	}
	tile, err := r.st.Tile(level, n)
	if err != nil {
		return nil, fmt.Errorf("tile %d of level %d: %w", n, level, err)
	}
	if len(tile) != TileSize {
		return nil, fmt.Errorf("tile %d of level %d has %d bytes: %w", n, level, len(tile), ErrMalformed)
	}
	from := (first % TileWidth) * HashSize
	return tile[from : from+count*HashSize], nil
}

func (r reader) edge(level int, first, count int64) ([]byte, error) {
	data := make([]byte, 0, count*HashSize)
	for i := first; i < first+count; i++ {
		h, err := r.st.Edge(level, i)
		if err != nil {
			return nil, fmt.Errorf("edge hash %d of level %d: %w", i, level, err)
		}
		data = append(data, h[:]...)
	}
	return data, nil
}

// Root returns the root hash of the first size leaves in st, which may hold more.
func Root(st Store, size int64) (Hash, error) {
	if size < 0 {
		return Hash{}, fmt.Errorf("root at size %d: %w", size, ErrOutOfRange)
	}
	h, err := xtlog.TreeHash(size, reader{st, size})
	if err != nil {
		return Hash{}, fmt.Errorf("root at size %d: %w", size, err)
	}
	return h, nil
}

// ProveRecord returns the RFC 6962 audit path of record index in the tree of the given size.
func ProveRecord(st Store, size, index int64) ([]Hash, error) {
	if index < 0 || index >= size {
		return nil, fmt.Errorf("prove record %d in a log of size %d: %w", index, size, ErrOutOfRange)
	}
	p, err := xtlog.ProveRecord(size, index, reader{st, size})
	if err != nil {
		return nil, fmt.Errorf("prove record %d in a log of size %d: %w", index, size, err)
	}
	return p, nil
}

// ProveTree returns the RFC 6962 consistency proof that the tree of the given size begins with that of oldSize. The
// proof is empty if the sizes are equal or oldSize is 0.
func ProveTree(st Store, size, oldSize int64) ([]Hash, error) {
	if oldSize < 0 || oldSize > size {
		return nil, fmt.Errorf("prove size %d consistent with %d: %w", size, oldSize, ErrOutOfRange)
	}
	if oldSize == 0 || oldSize == size {
		return nil, nil
	}
	p, err := xtlog.ProveTree(size, oldSize, reader{st, size})
	if err != nil {
		return nil, fmt.Errorf("prove size %d consistent with %d: %w", size, oldSize, err)
	}
	return p, nil
}

// TileData returns the hashes of a full or partial tile (C2SP tlog-tiles) of the tree of the given size. Tiles of
// entries (level -1) are not hashes and give [ErrOutOfRange], as does whatever reaches beyond size.
func TileData(st Store, size int64, tile xtlog.Tile) ([]byte, error) {
	const levels = 63/tileHeight + 1
	if tile.H != tileHeight || tile.L < 0 || tile.L >= levels || tile.W < 1 || tile.W > TileWidth || tile.N < 0 ||
		size < 0 || tile.N > size/TileWidth || tile.N*TileWidth+int64(tile.W) > size>>(tileHeight*tile.L) {
		return nil, fmt.Errorf("tile %+v in a log of size %d: %w", tile, size, ErrOutOfRange)
	}
	data, err := reader{st, size}.row(tile.L, tile.N*TileWidth, int64(tile.W))
	if err != nil {
		return nil, fmt.Errorf("tile %+v in a log of size %d: %w", tile, size, err)
	}
	return slices.Clone(data), nil
}
