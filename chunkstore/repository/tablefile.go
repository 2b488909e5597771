package repository

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"
	"time"
)

// A table file is the index of a repository on this machine's disk, sorted for look-ups. It is derived from index files,
// names those it covers, and is made anew when it is missing, damaged, or covers a file that is no longer there.
//
// It consists of blocks of 1 KiB, small enough that opening one costs less than the system call that reads it. The first is a header with a random salt. All others are sealed with AES-256-GCM under
// a key drawn from the repository's master key and the header, with the block's number as nonce: a block that was
// changed, moved or planted does not open, and nobody reads the names of blobs off the disk. The blocks hold records of
// 48 bytes in ascending order: packs, then blobs, then the index files covered; then come the first 8 bytes of each of
// these blocks, which a reader keeps in memory, and a last block that says how many of each there are.
//
//	pack   ID(32) 0(4) marked(1 bit) nanoseconds(31 bits) seconds(8)
//	blob   ID(32) type(1 bit) position among the packs(31 bits) offset(4) length(4) uncompressed(4)
//	file   ID(32) 0(16)
const (
	tableMagic      = "dengbei table 1\n"
	tableBlockBytes = 1024
	tableRoom       = tableBlockBytes - 16 // without the tag
	recordBytes     = 48
	blockRecords    = tableRoom / recordBytes
	blockFences     = tableRoom / 8

	scanBlocks = 256 // read at once when going through a table

	maxPacksInMemory = 1 << 20 // IDs, for going through all blobs
)

var (
	// errTable is returned when a table file cannot be written or read. The index files say the same.
	errTable = errors.New("look-up table on disk is unusable")

	// errDamaged is the errTable of a file that was written and does not read.
	errDamaged = fmt.Errorf("%w: damaged", errTable)
)

// record is an entry of a table file. Numbers are big-endian, so that records are ordered as bytes.
type record [recordBytes]byte

func (r *record) id() *ID           { return (*ID)(r[:32]) }
func (r *record) u32(at int) uint32 { return binary.BigEndian.Uint32(r[at:]) }

func (r *record) put32(at int, v uint32) { binary.BigEndian.PutUint32(r[at:], v) }

const (
	topBit = 1 << 31

	maxTablePacks = topBit - 1
)

func blobRecord(b *PackedBlob, pack uint32) record {
	var r record
	copy(r[:], b.ID[:])
	r.put32(32, uint32(b.Type)<<31|pack)
	r.put32(36, b.Offset)
	r.put32(40, b.Length)
	r.put32(44, b.UncompressedBytes)
	return r
}

func (r *record) pack() uint32   { return r.u32(32) &^ topBit }
func (r *record) kind() BlobType { return BlobType(r[32] >> 7) }

// group tells whether two records are of the same blob.
func (r *record) group(o *record) bool { return *r.id() == *o.id() && r.kind() == o.kind() }

func (r *record) blob() PackedBlob {
	return PackedBlob{ID: *r.id(), Type: r.kind(), Offset: r.u32(36), Length: r.u32(40), UncompressedBytes: r.u32(44)}
}

func packRecord(pack ID, number uint32) record {
	var r record
	copy(r[:], pack[:])
	r.put32(32, number)
	return r
}

func (r *record) mark(at time.Time) {
	r.put32(36, topBit|uint32(at.Nanosecond()))
	binary.BigEndian.PutUint64(r[40:], uint64(at.Unix()))
}

func (r *record) markedSince() (time.Time, bool) {
	if r.u32(36)&topBit == 0 {
		return time.Time{}, false
	}
	return time.Unix(int64(binary.BigEndian.Uint64(r[40:])), int64(r.u32(36)&^topBit)).UTC(), true
}

// tableCipher returns the cipher for the blocks after header.
func (s *secret) tableCipher(header []byte) (cipher.AEAD, error) {
	master := slices.Concat(s.encrypt[:], s.macK[:], s.macR[:])
	key, err := hkdf.Key(sha256.New, master, header, "dengbei look-up table", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// blocks is a file of sealed blocks.
type blocks struct {
	f    *os.File
	aead cipher.AEAD
	pool sync.Pool // *blockBuffer
}

type blockBuffer struct {
	nonce [12]byte
	block [tableBlockBytes]byte
}

func (b *blocks) borrow() *blockBuffer {
	if buf, ok := b.pool.Get().(*blockBuffer); ok {
		return buf
	}
	return new(blockBuffer)
}

// read returns the content of block n, in buf's memory.
func (b *blocks) read(n uint64, buf *blockBuffer) ([]byte, error) {
	if _, err := b.f.ReadAt(buf.block[:], int64(n)*tableBlockBytes); err != nil {
		return nil, fmt.Errorf("%w: block %d: %w", errDamaged, n, err)
	}
	return b.unseal(n, buf.block[:], &buf.nonce)
}

// unseal decrypts block n in place.
func (b *blocks) unseal(n uint64, block []byte, nonce *[12]byte) ([]byte, error) {
	binary.BigEndian.PutUint64(nonce[4:], n)
	plain, err := b.aead.Open(block[:0], nonce[:], block, nil)
	if err != nil {
		return nil, fmt.Errorf("%w in block %d", errDamaged, n)
	}
	return plain, nil
}

// section is a row of blocks full of records.
type section struct {
	first   uint64   // block
	records uint64   // in all
	fence   []uint64 // the first 8 bytes of each block
}

// fill returns how many records block b of the section holds.
func (s *section) fill(b int) int { return int(min(blockRecords, s.records-uint64(b)*blockRecords)) }

// tableFile is an open table file. Its methods may be called concurrently and fail only with errDamaged.
type tableFile struct {
	blocks
	packs, blobs section
	covers       []ID // index files, ascending
}

// openTable opens the table file at path, which belongs to the repository of s.
func openTable(path string, s *secret) (_ *tableFile, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTable, err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTable, err)
	}
	n := uint64(info.Size()) / tableBlockBytes
	if !info.Mode().IsRegular() || info.Size()%tableBlockBytes != 0 || n < 2 {
		return nil, fmt.Errorf("%w: %s of %d bytes is cut", errDamaged, path, info.Size())
	}
	t := &tableFile{blocks: blocks{f: f}}
	header := make([]byte, tableBlockBytes)
	if _, err := f.ReadAt(header, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", errTable, err)
	}
	if !bytes.HasPrefix(header, []byte(tableMagic)) {
		return nil, fmt.Errorf("%w: %s has another form", errDamaged, path)
	}
	if t.aead, err = s.tableCipher(header); err != nil {
		return nil, fmt.Errorf("%w: %w", errTable, err)
	}
	return t, t.readLayout(n)
}

// readLayout reads what is kept in memory of a file of n blocks.
func (t *tableFile) readLayout(n uint64) error {
	buf := t.borrow()
	defer t.pool.Put(buf)
	last, err := t.read(n-1, buf)
	if err != nil {
		return err
	}
	at := uint64(1)
	fences := uint64(0)
	var files section
	for i, s := range []*section{&t.packs, &t.blobs, &files} {
		s.records = binary.BigEndian.Uint64(last[8*i:])
		if s.records > n*blockRecords {
			return fmt.Errorf("%w: %d records in %d blocks", errDamaged, s.records, n)
		}
		s.first = at
		k := (s.records + blockRecords - 1) / blockRecords
		s.fence = make([]uint64, 0, k)
		at += k
		fences += k
	}
	if at+(fences+blockFences-1)/blockFences+1 != n {
		return fmt.Errorf("%w: %d blocks do not hold what the last one says", errDamaged, n)
	}
	left := []*section{&t.packs, &t.blobs, &files}
	for ; at < n-1; at++ {
		b, err := t.read(at, buf)
		if err != nil {
			return err
		}
		for ; len(b) >= 8 && len(left) > 0; b = b[8:] {
			for len(left) > 0 && len(left[0].fence) == cap(left[0].fence) {
				left = left[1:]
			}
			if len(left) > 0 {
				left[0].fence = append(left[0].fence, binary.BigEndian.Uint64(b))
			}
		}
	}
	scan := t.scan(&files, 0)
	for {
		r, err := scan.next()
		if err != nil || r == nil {
			return err
		}
		t.covers = append(t.covers, *r.id())
	}
}

// close gives the file back. Nothing may be read any more.
func (t *tableFile) close() error { return t.f.Close() }

// tableKey is how the records of a blob or pack begin, but for the position in the last 31 bits.
type tableKey [36]byte

func keyOf(typ BlobType, id *ID) tableKey {
	var k tableKey
	copy(k[:], id[:])
	k[32] = byte(typ) << 7
	return k
}

func (k *tableKey) fits(r *record) bool { return *r.id() == ID(k[:32]) && r[32]&0x80 == k[32] }

// find calls visit with each record of key, limit at most, until visit returns false. It reads one block, rarely two,
// and if somebody made up IDs that begin alike, as many as the logarithm of their number.
func (t *tableFile) find(s *section, key *tableKey, limit int, visit func(*record) bool) error {
	k := binary.BigEndian.Uint64(key[:])
	lo, same := slices.BinarySearch(s.fence, k)
	hi := lo // the first block that begins after every record of key
	if same && k < math.MaxUint64 {
		hi, _ = slices.BinarySearch(s.fence, k+1)
	} else if same {
		hi = len(s.fence)
	}
	if hi == 0 {
		return nil
	}
	lo = max(0, lo-1) // the records may begin in the block before
	buf := t.borrow()
	defer t.pool.Put(buf)
	for hi-lo > 1 { // only if a block begins with the same 8 bytes
		mid := lo + (hi-lo)/2
		b, err := t.read(s.first+uint64(mid), buf)
		if err != nil {
			return err
		}
		if bytes.Compare(b[:len(key)], key[:]) < 0 {
			lo = mid
		} else {
			hi = mid
		}
	}
	return t.findFrom(s, lo, key, limit, buf, visit)
}

// findFrom is find from a block on that is not past the first record of key.
func (t *tableFile) findFrom(s *section, block int, key *tableKey, limit int, buf *blockBuffer, visit func(*record) bool) error {
	for ; block < len(s.fence); block++ {
		b, err := t.read(s.first+uint64(block), buf)
		if err != nil {
			return err
		}
		n := s.fill(block)
		i, j := 0, n
		for i < j {
			m := (i + j) / 2
			if bytes.Compare(b[m*recordBytes:m*recordBytes+len(key)], key[:]) < 0 {
				i = m + 1
			} else {
				j = m
			}
		}
		for ; i < n; i++ {
			r := (*record)(b[i*recordBytes:])
			if !key.fits(r) || limit == 0 || !visit(r) {
				return nil
			}
			limit--
		}
		if block+1 < len(s.fence) && s.fence[block+1] > binary.BigEndian.Uint64(key[:]) {
			break
		}
	}
	return nil
}

func (t *tableFile) has(typ BlobType, id *ID) (found bool, err error) {
	key := keyOf(typ, id)
	err = t.find(&t.blobs, &key, 1, func(*record) bool {
		found = true
		return false
	})
	return found, err
}

// lookup appends the places of a blob to dst.
func (t *tableFile) lookup(dst []Location, typ BlobType, id *ID) ([]Location, error) {
	var packs []uint32
	start := len(dst)
	key := keyOf(typ, id)
	err := t.find(&t.blobs, &key, maxPlaces, func(r *record) bool {
		dst = append(dst, Location{Blob: r.blob()})
		packs = append(packs, r.pack())
		return true
	})
	if err != nil {
		return dst[:start], err
	}
	for i, p := range packs {
		id, err := t.packID(p)
		if err != nil {
			return dst[:start], err
		}
		dst[start+i].Pack = packName(id)
	}
	return dst, nil
}

// all calls yield with every place of every blob in order, until yield returns false, and returns the last one.
func (t *tableFile) all(yield func(Location) bool) (last Location, err error) {
	packs := make([]ID, 0, min(t.packs.records, maxPacksInMemory)) // those at the front, often all of them
	for scan := t.scan(&t.packs, 0); len(packs) < cap(packs); {
		r, err := scan.next()
		if err != nil {
			return last, err
		}
		packs = append(packs, *r.id())
	}
	for scan := t.scan(&t.blobs, 0); ; {
		r, err := scan.next()
		if err != nil || r == nil {
			return last, err
		}
		var pack ID
		if n := r.pack(); int(n) < len(packs) {
			pack = packs[n]
		} else if pack, err = t.packID(n); err != nil {
			return last, err
		}
		last = Location{packName(pack), r.blob()}
		if !yield(last) {
			return last, nil
		}
	}
}

// packID returns the ID of the pack at a position.
func (t *tableFile) packID(n uint32) (ID, error) {
	if uint64(n) >= t.packs.records {
		return ID{}, fmt.Errorf("%w: blob in pack %d of %d", errDamaged, n, t.packs.records)
	}
	buf := t.borrow()
	defer t.pool.Put(buf)
	b, err := t.read(t.packs.first+uint64(n)/blockRecords, buf)
	if err != nil {
		return ID{}, err
	}
	return ID(b[n%blockRecords*recordBytes:]), nil
}

// pack returns what is known of a pack.
func (t *tableFile) pack(id *ID) (known bool, since time.Time, marked bool, err error) {
	key := keyOf(0, id)
	err = t.find(&t.packs, &key, 1, func(r *record) bool {
		known = true
		since, marked = r.markedSince()
		return false
	})
	return known, since, marked, err
}

// scan goes through the records of a section from a position on.
func (t *tableFile) scan(s *section, from uint64) *recordScan {
	return &recordScan{
		blocks: &t.blocks, block: s.first + from/blockRecords, skip: int(from % blockRecords),
		left: s.records - min(from, s.records),
	}
}

// recordScan reads records in their order.
type recordScan struct {
	blocks *blocks
	block  uint64 // the next to be read
	skip   int    // records of it that are not wanted
	left   uint64 // records after those in now

	ahead int // blocks read at once; 0 means scanBlocks
	nonce [12]byte
	buf   []byte // sealed blocks
	raw   []byte // the part of buf that is still sealed
	now   []byte // records that are ready
}

// next returns the next record, which is valid until the call after, or nil at the end.
func (s *recordScan) next() (*record, error) {
	if len(s.now) == 0 {
		if s.left == 0 {
			return nil, nil
		}
		if err := s.more(); err != nil {
			return nil, err
		}
	}
	r := (*record)(s.now)
	s.now = s.now[recordBytes:]
	return r, nil
}

func (s *recordScan) more() error {
	if len(s.raw) == 0 {
		ahead := uint64(scanBlocks)
		if s.ahead > 0 {
			ahead = uint64(s.ahead)
		}
		n := min(ahead, (s.left+uint64(s.skip)+blockRecords-1)/blockRecords)
		s.buf = slices.Grow(s.buf[:0], int(n)*tableBlockBytes)[:n*tableBlockBytes]
		if _, err := s.blocks.f.ReadAt(s.buf, int64(s.block)*tableBlockBytes); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: block %d: %w", errDamaged, s.block, err)
		} else if err != nil {
			return fmt.Errorf("%w: block %d: %w", errDamaged, s.block, io.ErrUnexpectedEOF)
		}
		s.raw = s.buf
	}
	plain, err := s.blocks.unseal(s.block, s.raw[:tableBlockBytes], &s.nonce)
	if err != nil {
		return err
	}
	s.raw = s.raw[tableBlockBytes:]
	s.block++
	n := min(s.left, uint64(blockRecords-s.skip))
	s.now = plain[s.skip*recordBytes : (s.skip+int(n))*recordBytes]
	s.left -= n
	s.skip = 0
	return nil
}
