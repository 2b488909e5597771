package repository

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"dengbei/chunkstore/digest"
)

// OpenEnvelope decrypts the envelope env of blob b and returns what a pack holds of it: compressed if b says so. It
// overwrites env, and the result lies in it. What does not yield b's content gives [ErrDamaged].
func (r *Repository) OpenEnvelope(env []byte, b PackedBlob) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	payload, err := r.master.open(env[:0], env)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w: %w", b.ID, err, ErrDamaged)
	}
	return payload, r.checkPayload(payload, b)
}

func (r *Repository) checkPayload(payload []byte, b PackedBlob) error {
	content := payload
	if b.UncompressedBytes != 0 {
		buf := r.buffers.borrow(int(b.UncompressedBytes))
		defer r.buffers.giveBack(buf)
		var err error
		if content, err = r.codec.blobs.DecodeAll(payload, (*buf)[:0:b.UncompressedBytes]); err != nil {
			return fmt.Errorf("blob %s: decompress: %w: %w", b.ID, err, ErrDamaged)
		}
	}
	if sha256.Sum256(content) != b.ID {
		return fmt.Errorf("blob %s: %w: %w", b.ID, digest.ErrMismatch, ErrDamaged)
	}
	return nil
}

// SavePayload stores a blob as [Repository.OpenEnvelope] of another repository returned it, without compressing it anew,
// unless the repository has it. Of b the place in its pack does not matter. Otherwise it is [Session.SaveBlob].
func (s *Session) SavePayload(ctx context.Context, b PackedBlob, payload []byte) (bool, error) {
	key := pendingBlob{b.Type, b.ID}
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return false, s.err
	}
	if _, ok := s.pending[key]; ok || s.repo.Has(b.Type, b.ID) {
		s.mu.Unlock()
		return false, nil
	}
	s.pending[key] = struct{}{}
	s.mu.Unlock()

	buf := s.repo.buffers.borrow(len(payload) + envelopeBytes)
	defer s.repo.buffers.giveBack(buf)
	env := s.repo.master.seal(append((*buf)[:ivBytes], payload...))
	*buf = env
	opened := s.repo.buffers.borrow(len(env))
	defer s.repo.buffers.giveBack(opened)
	if got, err := s.repo.master.open(*opened, env); err != nil || !bytes.Equal(got, payload) {
		return false, s.fail(fmt.Errorf("blob %s: %w", b.ID, ErrEncoding))
	}
	return true, s.store(ctx, b, env)
}

// SaveEnvelope stores an envelope of this same repository once more, as it is, whether or not the repository has the blob:
// that is how packs are rewritten. The caller has seen with [Repository.OpenEnvelope] that it is sound.
func (s *Session) SaveEnvelope(ctx context.Context, b PackedBlob, env []byte) error {
	if err := s.failed(); err != nil {
		return err
	}
	return s.store(ctx, b, env)
}

// SaveBlobAgain is [Session.SaveBlob] whether or not the repository has the blob.
func (s *Session) SaveBlobAgain(ctx context.Context, typ BlobType, content []byte) error {
	if err := s.failed(); err != nil {
		return err
	}
	w := witnessOf(content)
	buf := s.repo.buffers.borrow(len(content) + 2*envelopeBytes)
	defer s.repo.buffers.giveBack(buf)
	env, uncompressed, err := s.repo.encodeBlob(*buf, content, w, s.repo.codec.encoder)
	*buf = env
	if err != nil {
		return s.fail(err)
	}
	return s.store(ctx, PackedBlob{ID: w.id, Type: typ, UncompressedBytes: uncompressed}, env)
}

// store appends the envelope of b to a pack and counts it.
func (s *Session) store(ctx context.Context, b PackedBlob, env []byte) error {
	if err := ctx.Err(); err != nil {
		return s.fail(err)
	}
	b = PackedBlob{ID: b.ID, Type: b.Type, Length: uint32(len(env)), UncompressedBytes: b.UncompressedBytes}
	if err := s.append(ctx, b, env); err != nil {
		return s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Type == TreeBlob {
		s.stats.TreeBlobs++
	} else {
		s.stats.DataBlobs++
	}
	s.stats.PlainBytes += b.PlainBytes()
	s.stats.StoredBytes += int64(len(env))
	return nil
}
