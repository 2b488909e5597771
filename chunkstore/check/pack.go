package check

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// readPack reads a pack once from end to end. It returns the first thing wrong and the blobs that do not decode; blobs
// are in the order of their offsets.
func (c *checker) readPack(ctx context.Context, name chunkstore.Name, size int64, blobs []repository.PackedBlob) ([]repository.PackedBlob, error) {
	file, err := c.repo.Files().Open(ctx, name)
	if err != nil {
		return blobs, err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 256<<10)
	var (
		bad        []repository.PackedBlob
		wrong      error
		env, plain []byte
		at         int64
	)
	note := func(err error) {
		if wrong == nil {
			wrong = err
		}
	}
	for i, b := range blobs {
		if int64(b.Offset) < at || int64(b.Offset)+int64(b.Length) > size {
			bad = append(bad, b)
			note(fmt.Errorf("blob %s at %d of %d bytes overlaps or lies past the end: %w", b.ID, b.Offset, b.Length, ErrHeader))
			continue
		}
		if _, err := r.Discard(int(int64(b.Offset) - at)); err != nil {
			return append(bad, blobs[i:]...), err
		}
		env = slices.Grow(env[:0], int(b.Length))[:b.Length]
		if _, err := io.ReadFull(r, env); err != nil {
			return append(bad, blobs[i:]...), fmt.Errorf("blob %s at %d: %w", b.ID, b.Offset, err)
		}
		at = int64(b.Offset) + int64(b.Length)
		out, err := c.repo.DecodeBlob(plain, env, b)
		if err != nil {
			bad = append(bad, b)
			note(fmt.Errorf("at %d: %w", b.Offset, err))
			continue
		}
		plain = out
	}
	// What remains is the header, short; a file that hides more behind its blobs is not read into memory.
	rest, err := io.ReadAll(io.LimitReader(r, maxHeaderBytes+1))
	if err == nil && len(rest) > maxHeaderBytes {
		_, err = io.Copy(io.Discard, r)
		note(fmt.Errorf("more than %d bytes behind the blobs: %w", maxHeaderBytes, ErrHeader))
	}
	if err != nil {
		if wrong == nil || errors.Is(err, digest.ErrMismatch) {
			wrong = err // the name tells more than what follows from it
		}
		return bad, wrong
	}
	note(c.compareHeader(rest, size, blobs))
	return bad, wrong
}

const maxHeaderBytes = 16<<20 + 4

// compareHeader holds the header of a pack to the index.
func (c *checker) compareHeader(rest []byte, size int64, blobs []repository.PackedBlob) error {
	if len(rest) < 4 || int(binary.LittleEndian.Uint32(rest[len(rest)-4:])) != len(rest)-4 {
		return fmt.Errorf("header does not begin where the blobs end: %w", ErrHeader)
	}
	header, err := c.repo.OpenHeader(rest[:len(rest)-4], size)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrHeader, err)
	}
	if !slices.Equal(header, blobs) {
		return fmt.Errorf("%d blobs in the header, %d in the index: %w", len(header), len(blobs), ErrHeader)
	}
	return nil
}
