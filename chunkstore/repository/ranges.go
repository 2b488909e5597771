package repository

import (
	"context"

	"dengbei/chunkstore"
)

// RangeOpener is implemented by Files for which it pays to keep a file open while many ranges of it are read. Use it
// through [OpenRanges].
type RangeOpener interface {
	// OpenRanges opens name, or gives an error matching [fs.ErrNotExist].
	OpenRanges(ctx context.Context, name chunkstore.Name) (chunkstore.RangeReader, error)
}

var _ RangeOpener = (*chunkstore.Files)(nil)

// OpenRanges opens name of files for many reads of ranges. Where files is no [RangeOpener] each read stands alone, and
// that name is not there shows at the first of them. The result must be closed.
func OpenRanges(ctx context.Context, files Files, name chunkstore.Name) (chunkstore.RangeReader, error) {
	if o, ok := files.(RangeOpener); ok {
		return o.OpenRanges(ctx, name)
	}
	return lone{files, name}, nil
}

// lone reads each range by itself.
type lone struct {
	files Files
	name  chunkstore.Name
}

// ReadRange implements [chunkstore.RangeReader].
func (l lone) ReadRange(ctx context.Context, off int64, buf []byte) error {
	return l.files.ReadRange(ctx, l.name, off, buf)
}

// Close implements [chunkstore.RangeReader].
func (l lone) Close() error { return nil }
