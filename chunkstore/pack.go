package chunkstore

import (
	"errors"
	"sync"
	"syscall"
	"unsafe"
)

// packPieceBytes is how much of a pack is written at once.
const packPieceBytes = 1 << 20

// directAlign is what the memory of a direct write must be a multiple of: a page, and a sector of every disk.
const directAlign = 4 << 10

// packWriter writes a pack past the system's cache where the file system lets it. Nobody reads a pack that was just
// written, while copying it there and having the system write it back later costs more than the writing itself. A piece
// is on its way to the disk while the next one is filled. One goroutine at a time may use it.
type packWriter struct {
	file   DiskFile
	pieces *sync.Pool // of *[]byte, aligned, of packPieceBytes
	piece  *[]byte
	filled int

	direct  bool
	writing chan error // of the piece on its way; nil if there is none
}

func newPieces() *sync.Pool {
	return &sync.Pool{New: func() any {
		b := make([]byte, packPieceBytes+directAlign)
		at := directAlign - int(uintptr(unsafe.Pointer(&b[0]))%directAlign)
		b = b[at : at+packPieceBytes : at+packPieceBytes]
		return &b
	}}
}

func newPackWriter(file DiskFile, pieces *sync.Pool) *packWriter {
	return &packWriter{file: file, pieces: pieces, direct: setDirect(file.Fd(), true) == nil}
}

// Write implements io.Writer. An error may be that of an earlier piece.
func (w *packWriter) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if w.piece == nil {
			w.piece = w.pieces.Get().(*[]byte)
			w.filled = 0
		}
		c := copy((*w.piece)[w.filled:], b)
		w.filled += c
		n += c
		b = b[c:]
		if w.filled == packPieceBytes {
			if err := w.wait(); err != nil {
				return n, err
			}
			piece := w.piece
			w.piece, w.writing = nil, make(chan error, 1)
			go func(done chan<- error) { done <- w.put(piece, packPieceBytes) }(w.writing)
		}
	}
	return n, nil
}

// put writes the beginning of a piece and gives the piece back.
func (w *packWriter) put(piece *[]byte, n int) error {
	done, err := w.file.Write((*piece)[:n])
	if w.direct && errors.Is(err, syscall.EINVAL) { // promised and not kept
		w.direct = false
		if err = setDirect(w.file.Fd(), false); err == nil {
			_, err = w.file.Write((*piece)[done:n])
		}
	}
	w.pieces.Put(piece)
	return err
}

// wait waits for the piece that is on its way.
func (w *packWriter) wait() error {
	if w.writing == nil {
		return nil
	}
	err := <-w.writing
	w.writing = nil
	return err
}

// flush writes what is left. The file is complete then, and not yet synced.
func (w *packWriter) flush() error {
	err := w.wait()
	if err != nil || w.piece == nil {
		return err
	}
	if w.direct { // the last piece is no multiple of anything
		w.direct = false
		if err := setDirect(w.file.Fd(), false); err != nil {
			return err
		}
	}
	piece := w.piece
	w.piece = nil
	return w.put(piece, w.filled)
}

// drop ends the writing of a pack that is given up.
func (w *packWriter) drop() {
	_ = w.wait() // the file goes away
	if w.piece != nil {
		w.pieces.Put(w.piece)
		w.piece = nil
	}
}
