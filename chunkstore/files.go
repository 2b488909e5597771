package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"dengbei/chunkstore/digest"
)

const (
	tmpDir     = "tmp"     // restic knows and ignores a directory of this name
	damagedDir = "damaged" // restic ignores what it does not know in the root

	// copyBytes is how much is moved between two looks at the context.
	copyBytes = 256 << 10

	// maxConfigBytes bounds what is read as a config; restic's is 155 bytes.
	maxConfigBytes = 1 << 20
)

// Files is the files of one repository directory. It holds no open files and needs no Close.
type Files struct {
	dir    string
	disk   Disk
	dirs   directories
	pieces *sync.Pool // of packWriter
}

// Create makes dir, its parents and the empty layout of a repository, puts the restore sheet into it, and opens it.
// dir may exist if it is empty or a repository without config; a config gives [ErrExists], anything else
// [ErrNotRepository].
func Create(dir string) (*Files, error) { return CreateOn(LocalDisk{}, dir) }

// CreateOn is [Create] by way of disk.
func CreateOn(disk Disk, dir string) (*Files, error) {
	if err := makeParents(disk, dir); err != nil {
		return nil, fmt.Errorf("create repository: %w", full(err))
	}
	present, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	known := map[string]bool{tmpDir: true, damagedDir: true, sheetName: true, sheetName + ".tmp": true, ownerName: true, ownerName + ".tmp": true, "lost+found": true}
	for _, k := range Kinds()[1:] {
		known[k.String()] = true
	}
	for _, e := range present {
		if e.Name() == "config" {
			return nil, fmt.Errorf("create repository in %s: %w", dir, ErrExists)
		}
		if !known[e.Name()] {
			return nil, fmt.Errorf("create repository in %s: %q is there already: %w", dir, e.Name(), ErrNotRepository)
		}
	}
	if err := makeLayout(disk, dir); err != nil {
		return nil, fmt.Errorf("create repository: %w", full(err))
	}
	if err := writeSheet(disk, dir); err != nil {
		return nil, fmt.Errorf("create repository: %w", full(err))
	}
	return OpenOn(disk, dir)
}

// makeLayout makes the directories and then syncs them all: one by one would take a second on a slow disk.
func makeLayout(disk Disk, dir string) error {
	subs := []string{tmpDir}
	for _, k := range Kinds()[1:] {
		subs = append(subs, k.String())
	}
	for i := range 256 {
		subs = append(subs, fmt.Sprintf("data/%02x", i))
	}
	for _, sub := range subs {
		if err := disk.Mkdir(filepath.Join(dir, sub), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, d := range []string{filepath.Join(dir, "data"), dir} {
		if err := disk.SyncDir(d); err != nil {
			return err
		}
	}
	// An earlier attempt may have been cut off before this. Whoever may not read the parent has not made dir in it.
	if err := disk.SyncDir(filepath.Dir(filepath.Clean(dir))); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// Open opens the repository directory dir, made by [Create] or by stock restic, and removes what a crash left in tmp/.
// Files that other processes are writing, and parts of unfinished receives, stay. What can only be read can be opened.
func Open(dir string) (*Files, error) { return OpenOn(LocalDisk{}, dir) }

// OpenOn is [Open] by way of disk.
func OpenOn(disk Disk, dir string) (*Files, error) {
	f := &Files{dir: dir, disk: disk, pieces: newPieces()}
	if st, err := os.Stat(filepath.Join(dir, "data")); err != nil || !st.IsDir() {
		return nil, fmt.Errorf("open %s: no data directory in it: %w", dir, ErrNotRepository)
	}
	if err := f.sweepTemp(); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	return f, nil
}

// Dir returns the repository's directory.
func (f *Files) Dir() string { return f.dir }

func (f *Files) abs(n Name) string { return filepath.Join(f.dir, n.path()) }

// Put stores the bytes of r under name and returns how many there were. Putting a file that is stored already is no
// error and replaces it with the same, now verified bytes. Bytes that do not hash to the name leave no trace and give
// [digest.ErrMismatch]; other bytes for an existing config give [ErrConfigExists]; a full disk gives [ErrFull].
func (f *Files) Put(ctx context.Context, name Name, r io.Reader) (int64, error) {
	if err := name.check(); err != nil {
		return 0, err
	}
	if name.ID.IsZero() {
		return 0, fmt.Errorf("put config: %w: its digest is not given", ErrName)
	}
	s, err := f.Stage(name.Kind)
	if err != nil {
		return 0, err
	}
	defer s.Abort()
	if err := copyContext(ctx, s, r); err != nil {
		return 0, fmt.Errorf("put %s: %w", name, full(err))
	}
	if s.Sum() != name.ID {
		return 0, fmt.Errorf("put %s: %w", name, digest.ErrMismatch)
	}
	e, err := s.Commit()
	return e.SizeBytes, err
}

// PutBytes is [Files.Put] of b.
func (f *Files) PutBytes(ctx context.Context, name Name, b []byte) error {
	_, err := f.Put(ctx, name, bytes.NewReader(b))
	return err
}

// openNamed opens name for reading.
func (f *Files) openNamed(ctx context.Context, name Name) (*os.File, error) {
	if err := name.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, err := openRegular(f.abs(name))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return file, nil
}

// Open returns the content of name, or an error matching [fs.ErrNotExist]. The last Read returns [digest.ErrMismatch]
// in place of [io.EOF] if the bytes have rotted.
func (f *Files) Open(ctx context.Context, name Name) (io.ReadCloser, error) {
	file, err := f.openNamed(ctx, name)
	if err != nil {
		return nil, err
	}
	if name.ID.IsZero() {
		return file, nil
	}
	return &verifying{ctx: ctx, file: file, name: name, hash: digest.SHA256.New()}, nil
}

// ReadRange fills buf with the bytes of name from off on, or fails; short files give [io.ErrUnexpectedEOF]. It verifies
// nothing: the caller knows what the range must hash or authenticate to. For many ranges see [Files.OpenRanges].
func (f *Files) ReadRange(ctx context.Context, name Name, off int64, buf []byte) error {
	r, err := f.OpenRanges(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.ReadRange(ctx, off, buf)
}

// Stat returns the size of name in bytes, or an error matching [fs.ErrNotExist]. It reads no content and proves nothing.
func (f *Files) Stat(name Name) (int64, error) {
	if err := name.check(); err != nil {
		return 0, err
	}
	st, err := os.Lstat(f.abs(name))
	if err != nil {
		return 0, fmt.Errorf("stat %s: %w", name, err)
	}
	if !st.Mode().IsRegular() {
		return 0, fmt.Errorf("stat %s: not a regular file: %w", name, fs.ErrNotExist)
	}
	return st.Size(), nil
}

// List yields the files of one kind, ascending by ID. Temporary files and names that are no repository file are passed
// over. The ID of the config is computed from its bytes. After an error the listing ends.
func (f *Files) List(ctx context.Context, kind Kind) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if kind < Config || kind > Pack {
			yield(Entry{}, fmt.Errorf("%w: list %s", ErrName, kind))
			return
		}
		if err := ctx.Err(); err != nil {
			yield(Entry{}, err)
			return
		}
		switch kind {
		case Config:
			b, err := f.readConfig()
			if errors.Is(err, fs.ErrNotExist) {
				return
			}
			yield(Entry{Name{Config, digest.Of(b)}, int64(len(b))}, err)
		case Pack:
			subs, err := os.ReadDir(filepath.Join(f.dir, "data"))
			if err != nil {
				yield(Entry{}, fmt.Errorf("list packs: %w", err))
				return
			}
			for _, sub := range subs {
				if len(sub.Name()) == 2 && sub.IsDir() && !f.listDir(ctx, kind, sub.Name(), yield) {
					return
				}
			}
		default:
			f.listDir(ctx, kind, "", yield)
		}
	}
}

// listDir yields one directory and reports whether to go on.
func (f *Files) listDir(ctx context.Context, kind Kind, sub string, yield func(Entry, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(Entry{}, err)
		return false
	}
	entries, err := os.ReadDir(filepath.Join(f.dir, kind.String(), sub))
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		yield(Entry{}, fmt.Errorf("list %s: %w", kind, err))
		return false
	}
	for _, e := range entries {
		id, ok := parseID(e.Name())
		if !ok || !strings.HasPrefix(e.Name(), sub) || !e.Type().IsRegular() {
			continue
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // removed since
			continue
		}
		if err != nil {
			yield(Entry{}, fmt.Errorf("list %s: %w", kind, err))
			return false
		}
		if !yield(Entry{Name{kind, id}, st.Size()}, nil) {
			return false
		}
	}
	return true
}

func (f *Files) readConfig() ([]byte, error) {
	file, err := openRegular(filepath.Join(f.dir, "config"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxConfigBytes+1))
	if err == nil && len(b) > maxConfigBytes {
		err = fmt.Errorf("config is longer than %d bytes: %w", maxConfigBytes, ErrSize)
	}
	return b, err
}

// Verify re-reads name, from the disk where the system lets it, and hashes it: nil, [digest.ErrMismatch],
// [fs.ErrNotExist], or why it could not be read.
func (f *Files) Verify(ctx context.Context, name Name) error {
	r, err := f.Open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	if v, ok := r.(*verifying); ok {
		dropCache(v.file)
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, copyBytes))
	return err
}

// Remove deletes name durably. Removing what is not there is no error.
func (f *Files) Remove(ctx context.Context, name Name) error {
	if err := name.check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.disk.Remove(f.abs(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err := f.disk.SyncDir(filepath.Join(f.dir, name.dir())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
