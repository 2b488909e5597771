package archive

import (
	"errors"
	"io"
	"slices"

	"dengbei/chunkstore/boundary"
	"dengbei/chunkstore/repository"
)

// cutter cuts what a source gives into chunks, reading into the buffers that the chunks end up in.
type cutter struct {
	finder *boundary.Finder
	first  int // bytes read before the first search
	more   int // and then each time

	source io.Reader
	rest   []byte // read behind the last chunk
	err    error  // of reading; io.EOF at the end
}

func newCutter(config repository.Config) (*cutter, error) {
	p := config.Chunks
	finder, err := boundary.New(config.Polynomial, p.MinBytes, p.MaxBytes, p.AverageBits)
	if err != nil {
		return nil, err
	}
	more := min(max(64<<10, 1<<p.AverageBits/4), 1<<20)
	return &cutter{finder: finder, first: int(p.MinBytes) + more, more: more}, nil
}

// restart has the next chunk begin with what source gives next.
func (c *cutter) restart(source io.Reader) { c.source, c.rest, c.err = source, c.rest[:0], nil }

// next returns the next chunk in buf, or in a larger copy of it. After the last one it returns an empty chunk and [io.EOF].
func (c *cutter) next(buf []byte) ([]byte, error) {
	buf = append(buf[:0], c.rest...)
	c.rest = c.rest[:0]
	searched, want := 0, c.first
	for {
		if n, ok := c.finder.Cut(buf, searched); ok {
			c.rest = append(c.rest, buf[n:]...)
			return buf[:n], nil
		}
		searched = len(buf)
		if c.err == nil {
			buf = c.fill(buf, max(want, len(buf)+1))
			want = len(buf) + c.more
			continue
		}
		if errors.Is(c.err, io.EOF) && len(buf) > 0 {
			return buf, nil
		}
		return buf[:0], c.err
	}
}

// fill reads until buf has size bytes or the source gives no more.
func (c *cutter) fill(buf []byte, size int) []byte {
	buf = slices.Grow(buf, size-len(buf))
	n := 0
	for n < size-len(buf) && c.err == nil {
		var got int
		got, c.err = c.source.Read(buf[len(buf)+n : size])
		n += got
	}
	return buf[:len(buf)+n]
}
