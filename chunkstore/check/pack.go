package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

const (
	readBytes = 1 << 20 // one read; what it brought is hashed while it is in the processor's cache

	// maxKeptBytes bounds the buffer that is kept from one pack to the next. A chunk is at most 8 MiB.
	maxKeptBytes = 10 << 20
)

// reader looks at packs, one after another.
type reader struct {
	c    *checker
	blob *repository.Verifier
	buf  []byte // bytes of the pack not used yet are buf[from:to]
	from int
	to   int
}

// verdict is what one look at a pack brought.
type verdict struct {
	err      error // the first thing wrong, nil if nothing is
	harmless error // or else something that hinders no reader
	bad      []repository.PackedBlob
	dead     bool
}

func (v *verdict) note(err error) {
	if v.err == nil {
		v.err = err
	}
}

// pack looks at a pack as one index file lists it, twice if something is wrong, and enters what it finds.
func (r *reader) pack(ctx context.Context, l listing) error {
	l.blobs = byOffset(l.blobs)
	read := l.pack.chosen && l.first
	look := func() (v verdict, err error) {
		header, err := r.c.repo.PackHeader(ctx, l.pack.name(), l.pack.size)
		if ctx.Err() != nil {
			return v, ctx.Err()
		}
		blobs := l.blobs
		if l.named {
			blobs = r.structure(l, header, err, &v)
		} else if err == nil {
			blobs = header
		}
		if read {
			r.data(ctx, l.pack, blobs, &v)
		}
		return v, ctx.Err()
	}
	var v verdict
	err := r.c.steady(ctx, l.pack.name(), func() (err error) {
		if v, err = look(); err == nil {
			err = v.err
		}
		return err
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.c.find(l.pack.name(), err, l.marked || !l.named)
	} else if v.harmless != nil {
		r.c.find(l.pack.name(), v.harmless, true)
	}
	switch {
	case l.marked:
	case v.dead:
		r.c.kill(l.pack)
	case len(v.bad) > 0:
		r.c.spoil(l.pack, v.bad)
	}
	if read {
		r.c.verified(l.pack, err == nil)
	}
	return nil
}

// structure holds the listing of a pack to the pack's size and its own list of blobs. It returns the blobs to be read.
func (r *reader) structure(l listing, header []repository.PackedBlob, err error, v *verdict) []repository.PackedBlob {
	var end int64
	var types [2]bool
	inside := make([]repository.PackedBlob, 0, len(l.blobs))
	for _, b := range l.blobs {
		if int64(b.Offset) < end || int64(b.Offset)+int64(b.Length) > l.pack.size {
			v.note(fmt.Errorf("blob %s at %d of %d bytes overlaps another or lies past the end at %d: %w", b.ID, b.Offset, b.Length, l.pack.size, ErrSize))
			v.bad = append(v.bad, b)
			continue
		}
		end = int64(b.Offset) + int64(b.Length)
		types[b.Type&1] = true
		inside = append(inside, b)
	}
	if types[0] && types[1] {
		v.harmless = ErrMixed
	}
	if err != nil {
		if want := repository.PackSize(l.blobs); l.pack.size != want {
			v.note(fmt.Errorf("%d bytes, want %d: %w", l.pack.size, want, ErrSize))
		}
		v.note(fmt.Errorf("%w: %w", ErrHeader, err))
		return inside
	}
	if slices.Equal(header, l.blobs) {
		if !l.first {
			v.harmless = ErrRepeated
		}
		return header
	}
	if strangers := without(inside, header); len(strangers) > 0 {
		v.note(fmt.Errorf("%d of the %d blobs in the index are not in the header: %w", len(strangers), len(l.blobs), ErrHeader))
		v.bad = append(v.bad, strangers...)
		return inside
	}
	v.harmless = fmt.Errorf("%d of %d blobs: %w", len(l.blobs), len(header), ErrSplit)
	return header
}

// without returns those of blobs that are not in header, which is ascending by offset.
func without(blobs, header []repository.PackedBlob) []repository.PackedBlob {
	var strangers []repository.PackedBlob
	i := 0
	for _, b := range blobs {
		for i < len(header) && header[i].Offset < b.Offset {
			i++
		}
		if i == len(header) || header[i] != b {
			strangers = append(strangers, b)
		}
	}
	return strangers
}

// data reads a pack once from end to end: the hash of the file and the blobs, ascending by offset, from the same bytes.
func (r *reader) data(ctx context.Context, p *packInfo, blobs []repository.PackedBlob, v *verdict) {
	file, err := r.c.repo.Files().Open(ctx, p.name())
	if err != nil {
		v.note(err)
		v.dead = true
		return
	}
	defer file.Close()
	r.from, r.to = 0, 0
	defer r.shrink()
	var at int64
	for i, b := range blobs {
		if err = r.skip(file, int64(b.Offset)-at); err == nil {
			err = r.need(file, int(b.Length))
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			v.note(fmt.Errorf("blob %s at %d: %w", b.ID, b.Offset, err))
			r.singly(ctx, p, blobs[i:], v)
			return
		}
		at = int64(b.Offset) + int64(b.Length)
		env := r.buf[r.from : r.from+int(b.Length)]
		r.from += int(b.Length)
		r.check(env, b, v)
	}
	// The rest is the header; at the end shows the hash of the file.
	if len(r.buf) == 0 {
		r.buf = make([]byte, readBytes)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{file}, r.buf); err != nil && ctx.Err() == nil {
		if v.err == nil || errors.Is(err, digest.ErrMismatch) {
			v.err = err // the name tells more than what follows from it
		}
	}
}

// singly looks at the blobs behind a place that cannot be read: the rest of the file may be sound.
func (r *reader) singly(ctx context.Context, p *packInfo, blobs []repository.PackedBlob, v *verdict) {
	for _, b := range blobs {
		env := make([]byte, b.Length)
		if err := r.c.repo.Files().ReadRange(ctx, p.name(), int64(b.Offset), env); err != nil {
			v.bad = append(v.bad, b)
			continue
		}
		r.check(env, b, v)
	}
}

func (r *reader) check(env []byte, b repository.PackedBlob, v *verdict) {
	if err := r.blob.Verify(env, b); err != nil {
		v.bad = append(v.bad, b)
		v.note(fmt.Errorf("at %d: %w", b.Offset, err))
	}
}

// need brings n more bytes into the buffer, in large reads.
func (r *reader) need(file io.Reader, n int) error {
	if r.to-r.from >= n {
		return nil
	}
	copy(r.buf, r.buf[r.from:r.to])
	r.from, r.to = 0, r.to-r.from
	if room := n + readBytes; cap(r.buf) < room {
		r.buf = append(make([]byte, 0, room), r.buf[:r.to]...)
	}
	r.buf = r.buf[:cap(r.buf)]
	for r.to < n {
		k, err := file.Read(r.buf[r.to:min(len(r.buf), r.to+readBytes)])
		r.to += k
		if err != nil && r.to < n {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// skip passes over n bytes.
func (r *reader) skip(file io.Reader, n int64) error {
	for n > 0 {
		if r.from == r.to {
			if err := r.need(file, int(min(n, readBytes))); err != nil {
				return err
			}
		}
		k := min(n, int64(r.to-r.from))
		r.from += int(k)
		n -= k
	}
	return nil
}

// shrink gives back a buffer that one huge blob has made.
func (r *reader) shrink() {
	if cap(r.buf) > maxKeptBytes {
		r.buf = nil
	}
}
