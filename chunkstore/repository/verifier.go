package repository

import (
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"dengbei/chunkstore/digest"
)

// hugeBlobBytes is the size from which blobs are verified one at a time: chunks end at 8 MiB, so these are trees of
// extreme directories, or hostile.
const hugeBlobBytes = 32 << 20

// Verifier tells whether blobs decode, without giving their content to anybody: at the cost of decrypting in place and
// of no copy. One goroutine at a time may use it.
type Verifier struct {
	repo  *Repository
	plain []byte
	huge  *sync.Mutex // held while a huge blob is in memory; shared
}

// NewVerifiers returns n verifiers, for as many goroutines, that share the room for huge blobs.
func (r *Repository) NewVerifiers(n int) []*Verifier {
	all := make([]*Verifier, n)
	huge := new(sync.Mutex)
	for i := range all {
		all[i] = &Verifier{repo: r, huge: huge}
	}
	return all
}

// Verify gives nil if env is the envelope of blob b: it is authentic and its content hashes to b.ID. Anything else gives
// [ErrDamaged]. It overwrites env.
func (v *Verifier) Verify(env []byte, b PackedBlob) error {
	if err := b.check(); err != nil {
		return err
	}
	if len(env) != int(b.Length) {
		return fmt.Errorf("blob %s: %d bytes, want %d: %w", b.ID, len(env), b.Length, ErrDamaged)
	}
	s := v.repo.master
	iv, body, tag := env[:ivBytes], env[ivBytes:len(env)-macBytes], env[len(env)-macBytes:]
	mac := s.mac(iv, body)
	if subtle.ConstantTimeCompare(mac[:], tag) != 1 || [ivBytes]byte(iv) == [ivBytes]byte{} {
		return fmt.Errorf("blob %s: envelope is not authentic: %w: %w", b.ID, ErrUnreadable, ErrDamaged)
	}
	cipher.NewCTR(s.block, iv).XORKeyStream(body, body)
	if b.UncompressedBytes != 0 {
		var err error
		if body, err = v.decompress(body, b); err != nil {
			return fmt.Errorf("blob %s: decompress: %w: %w", b.ID, err, ErrDamaged)
		}
	}
	if sha256.Sum256(body) != b.ID {
		return fmt.Errorf("blob %s: %w: %w", b.ID, digest.ErrMismatch, ErrDamaged)
	}
	return nil
}

// decompress asks for room only after the frame itself says that it holds that much.
func (v *Verifier) decompress(frame []byte, b PackedBlob) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return nil, err
	}
	if h.HasFCS && h.FrameContentSize != uint64(b.UncompressedBytes) {
		return nil, fmt.Errorf("frame of %d bytes, want %d: %w", h.FrameContentSize, b.UncompressedBytes, ErrUnreadable)
	}
	n := int(b.UncompressedBytes)
	if n > hugeBlobBytes {
		v.huge.Lock()
		defer v.huge.Unlock()
		return v.repo.codec.blobs.DecodeAll(frame, make([]byte, 0, n))
	}
	v.plain = slices.Grow(v.plain[:0], n)
	out, err := v.repo.codec.blobs.DecodeAll(frame, v.plain[:0:n])
	if n > maxKeptBytes {
		v.plain = nil
	}
	return out, err
}
