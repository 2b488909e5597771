package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

const (
	// maxUnpackedBytes bounds an index file, before and after decompression. An index of 50,000 blobs, the most that is
	// written into one, takes 8 MiB.
	maxUnpackedBytes = 64 << 20

	// maxSnapshotBytes bounds what else is JSON: a snapshot of a hundred thousand paths has its place in it.
	maxSnapshotBytes = 16 << 20

	zstdMark = 0x02 // first byte of a compressed unpacked file
)

// readFile returns the bytes of name, which hash to it. It asks the healer once.
func (r *Repository) readFile(ctx context.Context, name chunkstore.Name, maxBytes int64) ([]byte, error) {
	b, err := readAll(ctx, r.files, name, maxBytes)
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrTooLarge) {
		return b, err
	}
	if herr := r.heal(ctx, name, err); herr != nil {
		return nil, herr
	}
	return readAll(ctx, r.files, name, maxBytes)
}

// heal asks the files to heal name. It returns nil if they did; otherwise cause, with the healer's own reason.
func (r *Repository) heal(ctx context.Context, name chunkstore.Name, cause error) error {
	h, ok := r.files.(Healer)
	if !ok || r.noHeal {
		return cause
	}
	if err := h.Heal(ctx, name, cause); err != nil {
		return fmt.Errorf("%w; heal %s: %w", cause, name, err)
	}
	return nil
}

func readAll(ctx context.Context, files Files, name chunkstore.Name, maxBytes int64) ([]byte, error) {
	f, err := files.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > maxBytes {
		return nil, fmt.Errorf("read %s: more than %d bytes: %w", name, maxBytes, ErrTooLarge)
	}
	return b, nil
}

// loadUnpacked returns the JSON in an index or snapshot file.
func (r *Repository) loadUnpacked(ctx context.Context, name chunkstore.Name) ([]byte, error) {
	limit := maxSnapshotBytes
	if name.Kind == chunkstore.Index {
		limit = maxUnpackedBytes
	}
	b, err := r.readFile(ctx, name, int64(limit))
	if err != nil {
		return nil, err
	}
	plain, err := r.master.open(b[:0], b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	plain, err = r.decodeUnpacked(plain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(plain) > limit {
		return nil, fmt.Errorf("%s: %d bytes decompressed: %w", name, len(plain), ErrTooLarge)
	}
	if err := checkObjects(plain); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return plain, nil
}

// decodeUnpacked undoes the optional compression.
func (r *Repository) decodeUnpacked(plain []byte) ([]byte, error) {
	if len(plain) == 0 {
		return nil, fmt.Errorf("empty: %w", ErrUnreadable)
	}
	switch plain[0] {
	case '{', '[':
		return plain, nil
	case zstdMark:
		out, err := r.codec.unpacked.DecodeAll(plain[1:], nil)
		if err != nil {
			return nil, fmt.Errorf("decompress: %w: %w", err, ErrUnreadable)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("unknown form %#x: %w", plain[0], ErrUnreadable)
	}
}

// saveUnpacked compresses, encrypts and stores the JSON of an index or snapshot.
func (r *Repository) saveUnpacked(ctx context.Context, kind chunkstore.Kind, plain []byte) (chunkstore.Entry, error) {
	buf := make([]byte, ivBytes, ivBytes+1+len(plain)/2+macBytes)
	if r.codec.encoder != nil {
		buf = r.codec.encoder.EncodeAll(plain, append(buf, zstdMark))
	} else {
		buf = append(buf, plain...)
	}
	sealed := r.master.seal(buf)

	opened, err := r.master.open(nil, sealed)
	if err == nil {
		opened, err = r.decodeUnpacked(opened)
	}
	if err != nil || !bytes.Equal(opened, plain) {
		return chunkstore.Entry{}, fmt.Errorf("encode %s: %w", kind, ErrEncoding)
	}
	name := chunkstore.Name{Kind: kind, ID: digest.Of(sealed)}
	n, err := r.files.Put(ctx, name, bytes.NewReader(sealed))
	return chunkstore.Entry{Name: name, SizeBytes: n}, err
}
