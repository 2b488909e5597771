package repository

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"dengbei/chunkstore"
)

// BlobType tells data from trees. The numbers are the format's.
type BlobType uint8

// The types of blobs.
const (
	DataBlob BlobType = 0
	TreeBlob BlobType = 1
)

// String returns the name used in index files.
func (t BlobType) String() string {
	switch t {
	case DataBlob:
		return "data"
	case TreeBlob:
		return "tree"
	default:
		return fmt.Sprintf("type-%d", uint8(t))
	}
}

// MarshalText implements [encoding.TextMarshaler].
func (t BlobType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (t *BlobType) UnmarshalText(b []byte) error {
	switch string(b) {
	case "data":
		*t = DataBlob
	case "tree":
		*t = TreeBlob
	default:
		return fmt.Errorf("blob type %q: %w", b, ErrUnreadable)
	}
	return nil
}

// PackedBlob is one blob inside a pack. Names and order of fields are those of index files.
type PackedBlob struct {
	ID                ID       `json:"id"`
	Type              BlobType `json:"type"`
	Offset            uint32   `json:"offset"`
	Length            uint32   `json:"length"`                        // of the envelope
	UncompressedBytes uint32   `json:"uncompressed_length,omitempty"` // 0 if stored uncompressed
}

// PlainBytes returns the size of the blob's content.
func (b PackedBlob) PlainBytes() int64 {
	if b.UncompressedBytes != 0 {
		return int64(b.UncompressedBytes)
	}
	return max(0, int64(b.Length)-envelopeBytes)
}

// check refuses what no pack can hold, before memory is spent on it.
func (b PackedBlob) check() error {
	if b.Length < envelopeBytes || b.Length > maxBlobBytes || b.UncompressedBytes > maxBlobBytes || b.Offset > math.MaxUint32-b.Length {
		return fmt.Errorf("blob %s at %d of %d bytes, %d uncompressed: %w", b.ID, b.Offset, b.Length, b.UncompressedBytes, ErrUnreadable)
	}
	return nil
}

const (
	// maxBlobBytes bounds one blob. Chunks end at 8 MiB; trees of extreme directories reach 150 MiB.
	maxBlobBytes = 512 << 20

	maxHeaderBytes     = 16 << 20
	plainEntryBytes    = 1 + 4 + 32
	zstdEntryBytes     = 1 + 4 + 4 + 32
	headerLengthBytes  = 4
	headerTypeZstdFlag = 2 // added to the blob type
)

// encodeHeader returns the plaintext of the header of a pack.
func encodeHeader(dst []byte, blobs []PackedBlob) []byte {
	for _, b := range blobs {
		if b.UncompressedBytes != 0 {
			dst = append(dst, byte(b.Type)+headerTypeZstdFlag)
			dst = binary.LittleEndian.AppendUint32(dst, b.Length)
			dst = binary.LittleEndian.AppendUint32(dst, b.UncompressedBytes)
		} else {
			dst = append(dst, byte(b.Type))
			dst = binary.LittleEndian.AppendUint32(dst, b.Length)
		}
		dst = append(dst, b.ID[:]...)
	}
	return dst
}

// decodeHeader reads what encodeHeader writes. The blobs must fill bodyBytes, which is the pack without its header.
func decodeHeader(h []byte, bodyBytes int64) ([]PackedBlob, error) {
	blobs := make([]PackedBlob, 0, len(h)/plainEntryBytes)
	var off int64
	for len(h) > 0 {
		kind := h[0]
		if kind > byte(TreeBlob)+headerTypeZstdFlag {
			return nil, fmt.Errorf("pack header: blob type %d: %w", kind, ErrUnreadable)
		}
		size := plainEntryBytes
		if kind >= headerTypeZstdFlag {
			size = zstdEntryBytes
		}
		if len(h) < size {
			return nil, fmt.Errorf("pack header ends inside an entry: %w", ErrUnreadable)
		}
		b := PackedBlob{ID: ID(h[size-32 : size]), Type: BlobType(kind % headerTypeZstdFlag), Length: binary.LittleEndian.Uint32(h[1:])}
		if kind >= headerTypeZstdFlag {
			b.UncompressedBytes = binary.LittleEndian.Uint32(h[5:])
			if b.UncompressedBytes == 0 {
				return nil, fmt.Errorf("pack header: compressed blob %s is empty: %w", b.ID, ErrUnreadable)
			}
		}
		if off+int64(b.Length) > bodyBytes || off > math.MaxUint32 {
			return nil, fmt.Errorf("pack header: blob %s lies past the end: %w", b.ID, ErrUnreadable)
		}
		b.Offset = uint32(off)
		if err := b.check(); err != nil {
			return nil, err
		}
		off += int64(b.Length)
		blobs = append(blobs, b)
		h = h[size:]
	}
	if off != bodyBytes {
		return nil, fmt.Errorf("pack header accounts for %d of %d bytes: %w", off, bodyBytes, ErrUnreadable)
	}
	return blobs, nil
}

// headerSize returns how many bytes follow the blobs of a pack.
func headerSize(blobs []PackedBlob) int64 {
	n := int64(envelopeBytes + headerLengthBytes)
	for _, b := range blobs {
		n += plainEntryBytes
		if b.UncompressedBytes != 0 {
			n += zstdEntryBytes - plainEntryBytes
		}
	}
	return n
}

// PackSize returns how long a pack of exactly these blobs is.
func PackSize(blobs []PackedBlob) int64 {
	n := headerSize(blobs)
	for _, b := range blobs {
		n += int64(b.Length)
	}
	return n
}

// PackHeader reads the list of blobs from the end of a pack of packBytes, without index or hashing the pack.
func (r *Repository) PackHeader(ctx context.Context, pack chunkstore.Name, packBytes int64) ([]PackedBlob, error) {
	var tail [headerLengthBytes]byte
	if packBytes < envelopeBytes+headerLengthBytes {
		return nil, fmt.Errorf("%s of %d bytes: %w", pack, packBytes, ErrUnreadable)
	}
	if err := r.files.ReadRange(ctx, pack, packBytes-headerLengthBytes, tail[:]); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if n < envelopeBytes || n > min(maxHeaderBytes, packBytes-headerLengthBytes) {
		return nil, fmt.Errorf("%s: header of %d bytes: %w", pack, n, ErrUnreadable)
	}
	env := make([]byte, n)
	if err := r.files.ReadRange(ctx, pack, packBytes-headerLengthBytes-n, env); err != nil {
		return nil, err
	}
	blobs, err := r.OpenHeader(env, packBytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pack, err)
	}
	return blobs, nil
}

// OpenHeader decrypts and reads the header envelope of a pack of packBytes. It overwrites env.
func (r *Repository) OpenHeader(env []byte, packBytes int64) ([]PackedBlob, error) {
	body := packBytes - headerLengthBytes - int64(len(env))
	h, err := r.master.open(env[:0], env)
	if err != nil {
		return nil, fmt.Errorf("pack header: %w", err)
	}
	return decodeHeader(h, body)
}
