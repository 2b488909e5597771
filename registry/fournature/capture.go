package fournature

import "io"

// edgeBytes is how much of the head and of the tail of a file is kept for recognising its format. Signatures that lie
// deeper are not looked for: it bounds memory, and the time a large unknown file can cost.
const edgeBytes = 1 << 20

// capture keeps head and tail of a stream written to it. It is reused; see reset.
type capture struct {
	head []byte // the first bytes, at most edgeBytes
	ring []byte // the last bytes after head, cyclic once full
	next int    // where the next byte goes in ring once it is full
	size int64
}

func (c *capture) reset() { c.head, c.ring, c.next, c.size = c.head[:0], c.ring[:0], 0, 0 }

// Write implements [io.Writer]; it never fails.
func (c *capture) Write(b []byte) (int, error) {
	n := len(b)
	c.size += int64(n)
	if room := edgeBytes - len(c.head); room > 0 {
		k := min(room, len(b))
		c.head = append(c.head, b[:k]...)
		b = b[k:]
	}
	if len(b) >= edgeBytes {
		c.ring, c.next = append(c.ring[:0], b[len(b)-edgeBytes:]...), 0
		return n, nil
	}
	if room := edgeBytes - len(c.ring); room > 0 {
		k := min(room, len(b))
		c.ring = append(c.ring, b[:k]...)
		b = b[k:]
	}
	for len(b) > 0 {
		k := copy(c.ring[c.next:], b)
		c.next = (c.next + k) % edgeBytes
		b = b[k:]
	}
	return n, nil
}

// tail returns the bytes after head in order, at most edgeBytes. It turns the ring, so nothing may be written after it.
func (c *capture) tail() []byte {
	if c.next > 0 {
		turned := make([]byte, 0, len(c.ring))
		turned = append(turned, c.ring[c.next:]...)
		c.ring, c.next = append(turned, c.ring[:c.next]...), 0
	}
	return c.ring
}

// window shows a file to the recogniser: its edges from memory and, if middle is set, the rest from the file. Without
// middle a reader sees the file end at the edge.
type window struct {
	head, tail []byte
	size       int64
	middle     io.ReaderAt
}

func (c *capture) window(middle io.ReaderAt) *window {
	return &window{head: c.head, tail: c.tail(), size: c.size, middle: middle}
}

// IsSlicer tells the recogniser that the methods below may be used.
func (w *window) IsSlicer() bool { return true }

// Size returns the true size of the file.
func (w *window) Size() int64 { return w.size }

// Slice returns l bytes from offset off, or fewer and io.EOF.
func (w *window) Slice(off int64, l int) ([]byte, error) {
	if off < 0 || l < 0 || off >= w.size {
		return nil, io.EOF
	}
	var eof error
	if int64(l) > w.size-off {
		l, eof = int(w.size-off), io.EOF
	}
	end, tailAt := off+int64(l), w.size-int64(len(w.tail))
	switch {
	case end <= int64(len(w.head)):
		return w.head[off:end], eof
	case off >= tailAt:
		return w.tail[off-tailAt : end-tailAt], eof
	case off < int64(len(w.head)) && int64(len(w.head)) == tailAt: // the edges meet
		return append(append(make([]byte, 0, l), w.head[off:]...), w.tail[:end-tailAt]...), eof
	case w.middle != nil:
		b := make([]byte, l)
		n, err := w.middle.ReadAt(b, off)
		if n == l {
			return b, eof
		}
		if err == nil {
			err = io.EOF
		}
		return b[:n], err
	case off < int64(len(w.head)):
		return w.head[off:], io.EOF
	default:
		return nil, io.EOF
	}
}

// EofSlice returns l bytes that end off bytes before the end, or fewer and io.EOF.
func (w *window) EofSlice(off int64, l int) ([]byte, error) {
	if off < 0 || l < 0 || off >= w.size {
		return nil, io.EOF
	}
	var eof error
	if int64(l) > w.size-off {
		l, eof = int(w.size-off), io.EOF
	}
	start := w.size - off - int64(l)
	if tailAt := w.size - int64(len(w.tail)); w.middle == nil && start < tailAt && start+int64(l) > int64(len(w.head)) && int64(len(w.head)) < tailAt {
		// Reaches out of the tail into what is not shown: show what is.
		end := w.size - off
		if end <= tailAt {
			return nil, io.EOF
		}
		return w.tail[:end-tailAt], io.EOF
	}
	b, err := w.Slice(start, l)
	if err == io.EOF && len(b) == l {
		err = nil
	}
	if err == nil {
		err = eof
	}
	return b, err
}

// ReadAt implements [io.ReaderAt].
func (w *window) ReadAt(p []byte, off int64) (int, error) {
	b, err := w.Slice(off, len(p))
	n := copy(p, b)
	if n == len(p) {
		err = nil
	} else if err == nil {
		err = io.EOF
	}
	return n, err
}
