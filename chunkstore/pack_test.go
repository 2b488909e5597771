package chunkstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"dengbei/chunkstore/digest"
)

// Packs of every length around a piece are stored as they are, on a disk and in memory, and in strokes of any length.
func TestPacksAroundAPiece(t *testing.T) {
	roots := []string{t.TempDir()}
	if dir, err := os.MkdirTemp("/dev/shm", "dengbei-test-"); err == nil { // a file system of another kind
		t.Cleanup(func() { os.RemoveAll(dir) })
		roots = append(roots, dir)
	}
	src := rand.NewChaCha8([32]byte{7})
	rnd := rand.New(src)
	for _, root := range roots {
		f, err := Create(filepath.Join(root, "repo"))
		must(t, err)
		for _, n := range []int{1, directAlign, packPieceBytes - 1, packPieceBytes, packPieceBytes + 1, 3*packPieceBytes + directAlign, 4*packPieceBytes + 5} {
			content := make([]byte, n)
			_, _ = src.Read(content) // gives always all
			s, err := f.Stage(Pack)
			must(t, err)
			for rest := content; len(rest) > 0; {
				stroke := min(len(rest), 1+rnd.IntN(700_000))
				_, err := s.Write(rest[:stroke])
				must(t, err)
				rest = rest[stroke:]
			}
			e, err := s.Commit()
			must(t, err)
			r, err := f.Open(t.Context(), e.Name)
			must(t, err)
			got, err := io.ReadAll(r)
			r.Close()
			if err != nil || !bytes.Equal(got, content) || e.Name.ID != digest.Of(content) || e.SizeBytes != int64(n) {
				t.Errorf("%s, %d bytes: read back %d, %v as %v", root, n, len(got), err, e)
			}
		}
	}
}

// brokenFile is a file of which some write fails.
type brokenFile struct {
	DiskFile
	left int // writes until then
}

var errBroken = errors.New("broken disk")

func (b *brokenFile) Write(p []byte) (int, error) {
	if b.left--; b.left < 0 {
		return 0, errBroken
	}
	return b.DiskFile.Write(p)
}

// A piece that could not be written is told, at the latest when the pack is finished.
func TestPackWriterTellsOfEveryPiece(t *testing.T) {
	const pieces = 4
	for broken := range pieces + 1 {
		t.Run(fmt.Sprint(broken), func(t *testing.T) {
			file, err := os.Create(filepath.Join(t.TempDir(), "pack"))
			must(t, err)
			defer file.Close()
			w := newPackWriter(&brokenFile{file, broken}, newPieces())
			_, err = w.Write(make([]byte, pieces*packPieceBytes+1))
			if err == nil {
				err = w.flush()
			}
			w.drop()
			if !errors.Is(err, errBroken) {
				t.Errorf("writing and flushing = %v; want the error of write %d", err, broken+1)
			}
		})
	}
}
