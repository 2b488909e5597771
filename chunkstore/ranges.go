package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// RangeReader reads ranges of one file that stays open meanwhile. Methods may be called concurrently, but none after
// Close.
type RangeReader interface {
	// ReadRange fills buf with the bytes from off on, or fails; short files give [io.ErrUnexpectedEOF]. It verifies
	// nothing: the caller knows what the range must hash or authenticate to.
	ReadRange(ctx context.Context, off int64, buf []byte) error

	// Close gives the file back.
	Close() error
}

// OpenRanges opens name for many reads of ranges, at the price of one file descriptor until it is closed. A file that is
// removed or moved meanwhile can still be read to the end. What is not there gives an error matching [fs.ErrNotExist].
func (f *Files) OpenRanges(ctx context.Context, name Name) (RangeReader, error) {
	file, err := f.openNamed(ctx, name)
	if err != nil {
		return nil, err
	}
	return &rangeFile{name, file}, nil
}

// rangeFile is a [RangeReader] of the local disk.
type rangeFile struct {
	name Name
	file *os.File
}

// ReadRange implements [RangeReader].
func (r *rangeFile) ReadRange(ctx context.Context, off int64, buf []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if off > math.MaxInt64-int64(len(buf)) {
		return fmt.Errorf("read %s at %d: %w", r.name, off, io.ErrUnexpectedEOF)
	}
	n, err := r.file.ReadAt(buf, off)
	if n == len(buf) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read %s at %d: %w", r.name, off, err)
}

// Close implements [RangeReader].
func (r *rangeFile) Close() error { return r.file.Close() }
