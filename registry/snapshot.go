package registry

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// A snapshot is the files of a state's directory in one stream. Numbers are big-endian:
//
//	"dengbei-state\n"            magic
//	u32 format, u64 applied      format is 1; index of the last entry in the state
//	per file, by name:
//	  u16 length, name           1 to 255 bytes of letters, digits, ".", "-" and "_", no "." first
//	  u64 size, bytes
//	u16 0                        end of the files
//	32 bytes                     SHA-256 of everything before
const (
	snapshotMagic  = "dengbei-state\n"
	snapshotFormat = 1
	maxFileName    = 255
	copyBuffer     = 1 << 20
)

// Checkpoint makes a copy of the state as it is now in dir, which must not exist, and returns its applied index. Table
// files are linked, not copied. It must not run beside Apply, so that the index is exact.
func (s *State) Checkpoint(dir string) (applied uint64, err error) {
	err = s.reading(func() error {
		applied = s.Applied()
		return s.pebble.Checkpoint(dir, pebble.WithFlushedWAL())
	})
	if err != nil {
		return 0, fmt.Errorf("checkpoint of registry state %s: %w", s.dir, err)
	}
	return applied, nil
}

// WriteSnapshot streams a directory made by [State.Checkpoint].
func WriteSnapshot(w io.Writer, dir string, applied uint64) error {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	sum := sha256.New()
	out := bufio.NewWriterSize(io.MultiWriter(w, sum), copyBuffer)
	head := binary.BigEndian.AppendUint32([]byte(snapshotMagic), snapshotFormat)
	if _, err := out.Write(binary.BigEndian.AppendUint64(head, applied)); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	for _, e := range entries {
		if err := writeFile(out, dir, e); err != nil {
			return fmt.Errorf("write snapshot: %w", err)
		}
	}
	if _, err := out.Write([]byte{0, 0}); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if _, err := w.Write(sum.Sum(nil)); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

func writeFile(w io.Writer, dir string, e fs.DirEntry) (err error) {
	if !e.Type().IsRegular() || !validFileName(e.Name()) {
		return fmt.Errorf("%s is no file of a state: %w", filepath.Join(dir, e.Name()), ErrCorrupt)
	}
	f, err := os.Open(filepath.Join(dir, e.Name()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint16(nil, uint16(len(e.Name())))
	head = append(head, e.Name()...)
	if _, err := w.Write(binary.BigEndian.AppendUint64(head, uint64(info.Size()))); err != nil {
		return err
	}
	if _, err := io.CopyN(w, f, info.Size()); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	return nil
}

func validFileName(name string) bool {
	return name != "" && len(name) <= maxFileName && name[0] != '.' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") == ""
}

// ReadSnapshot writes the files of a snapshot into dir, which it makes, and syncs files and directory. It returns the
// applied index, or an error matching [ErrCorrupt] for a stream that is no snapshot or does not match its digest.
func ReadSnapshot(r io.Reader, dir string) (applied uint64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read snapshot: %w", err)
		}
	}()
	if err := os.Mkdir(dir, 0o750); err != nil {
		return 0, err
	}
	in := &summing{r: bufio.NewReaderSize(r, copyBuffer), sum: sha256.New()}
	if applied, err = in.head(); err != nil {
		return 0, err
	}
	for last := ""; ; {
		name, err := readFile(in, dir, last)
		if err != nil {
			return 0, err
		}
		if name == "" {
			break
		}
		last = name
	}
	want := in.sum.Sum(nil)
	got, err := in.next(len(want))
	if err != nil {
		return 0, err
	}
	if !slices.Equal(got, want) {
		return 0, fmt.Errorf("digest at its end does not match: %w", ErrCorrupt)
	}
	return applied, syncDir(dir)
}

// readFile reads one file behind the one named last, and returns "" at the end of the files.
func readFile(in *summing, dir, last string) (name string, err error) {
	b, err := in.next(2)
	if err != nil {
		return "", err
	}
	n := int(binary.BigEndian.Uint16(b))
	if n == 0 {
		return "", nil
	}
	if n > maxFileName {
		return "", fmt.Errorf("file name of %d bytes: %w", n, ErrCorrupt)
	}
	if b, err = in.next(n + 8); err != nil {
		return "", err
	}
	name = string(b[:n])
	size := binary.BigEndian.Uint64(b[n:])
	if !validFileName(name) || name <= last || size > 1<<62 {
		return "", fmt.Errorf("file %.80q of %d bytes after %.80q: %w", name, size, last, ErrCorrupt)
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.CopyN(f, in, int64(size)); err != nil {
		return "", cut(err)
	}
	return name, f.Sync()
}

// summing hashes what is read from r.
type summing struct {
	r   io.Reader
	sum hash.Hash
}

// Read implements [io.Reader].
func (s *summing) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	return n, err
}

func (s *summing) next(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s, b); err != nil {
		return nil, cut(err)
	}
	return b, nil
}

// head reads magic, format and applied index.
func (s *summing) head() (applied uint64, err error) {
	head, err := s.next(len(snapshotMagic) + 4 + 8)
	if err != nil {
		return 0, err
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return 0, fmt.Errorf("stream does not begin like one: %w", ErrCorrupt)
	}
	head = head[len(snapshotMagic):]
	if f := binary.BigEndian.Uint32(head); f != snapshotFormat {
		return 0, fmt.Errorf("format %d, this build reads %d, install the release that wrote it: %w", f, snapshotFormat, ErrCorrupt)
	}
	return binary.BigEndian.Uint64(head[4:]), nil
}

// cut makes an early end of the stream ErrCorrupt.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("stream ends early: %w", ErrCorrupt)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// SnapshotIndex reads the applied index from the head of a snapshot's stream. It checks no digest.
func SnapshotIndex(r io.Reader) (uint64, error) {
	in := &summing{r: r, sum: sha256.New()}
	applied, err := in.head()
	if err != nil {
		return 0, fmt.Errorf("read snapshot: %w", err)
	}
	return applied, nil
}
