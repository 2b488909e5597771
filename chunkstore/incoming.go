package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"dengbei/chunkstore/digest"
)

const partSuffix = ".part"

// Incoming is a file on its way from elsewhere. What was written survives a kill of the process, so that the next
// [Files.Receive] of the same name goes on at [Incoming.Offset]. One goroutine at a time may use it.
type Incoming struct {
	files *Files
	name  Name
	size  int64
	file  DiskFile // nil once closed
	hash  hash.Hash
	off   int64
}

// Receive starts or resumes the transfer of name, which is sizeBytes long. It gives [ErrBusy] while another receive of
// name is open, in this or another process, and an error matching [fs.ErrExist] if name is stored already: a damaged
// file is moved aside with [Files.Quarantine] first.
func (f *Files) Receive(name Name, sizeBytes int64) (*Incoming, error) {
	if err := name.check(); err != nil {
		return nil, err
	}
	if name.ID.IsZero() || sizeBytes < 0 {
		return nil, fmt.Errorf("receive %s of %d bytes: %w", name, sizeBytes, ErrName)
	}
	path := filepath.Join(f.dir, tmpDir, name.flat()+partSuffix)
	file, err := f.openTemp(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("receive %s: %w", name, full(err))
	}
	in := &Incoming{files: f, name: name, size: sizeBytes, file: file, hash: digest.SHA256.New()}
	if err := in.resume(path); err != nil {
		file.Close()
		return nil, fmt.Errorf("receive %s: %w", name, err)
	}
	return in, nil
}

// resume locks the part and hashes what is in it.
func (in *Incoming) resume(path string) error {
	err := syscall.Flock(int(in.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrBusy
	}
	if err != nil {
		return err
	}
	// Another receive may have finished or given up between open and lock: then this is no longer the part.
	st, err := in.file.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(path); err != nil || !os.SameFile(st, now) {
		return ErrBusy
	}
	if _, err := in.files.Stat(in.name); err == nil {
		in.files.disk.Remove(path)
		return fs.ErrExist
	}
	if st.Size() > in.size {
		return in.file.Truncate(0)
	}
	in.off, err = io.CopyBuffer(struct{ io.Writer }{in.hash}, struct{ io.Reader }{in.file}, make([]byte, copyBytes))
	return err
}

// Offset returns how many bytes are there: where the source goes on.
func (in *Incoming) Offset() int64 { return in.off }

// Write appends b. More bytes than announced give [ErrSize].
func (in *Incoming) Write(b []byte) (int, error) {
	if in.file == nil {
		return 0, fmt.Errorf("receive %s: %w", in.name, fs.ErrClosed)
	}
	if int64(len(b)) > in.size-in.off {
		return 0, fmt.Errorf("receive %s: more than %d bytes: %w", in.name, in.size, ErrSize)
	}
	n, err := in.file.WriteAt(b, in.off)
	in.hash.Write(b[:n])
	in.off += int64(n)
	if err != nil {
		err = fmt.Errorf("receive %s: %w", in.name, full(err))
	}
	return n, err
}

// Commit makes the file part of the repository: it checks the length and the hash of what was written, syncs, reads the
// file back from disk and hashes that, names it and syncs the directory. Bytes that hash to something else are removed
// and give [digest.ErrMismatch]; too few are kept and give [ErrSize]. After nil the Incoming is closed.
func (in *Incoming) Commit(ctx context.Context) error {
	if err := in.commit(ctx); err != nil {
		if errors.Is(err, digest.ErrMismatch) {
			in.files.disk.Remove(in.file.Name())
			in.file.Close()
			in.file = nil
		}
		return fmt.Errorf("receive %s: %w", in.name, full(err))
	}
	return nil
}

func (in *Incoming) commit(ctx context.Context) error {
	if in.file == nil {
		return fs.ErrClosed
	}
	if in.off != in.size {
		return fmt.Errorf("%d of %d bytes: %w", in.off, in.size, ErrSize)
	}
	if digest.FromHash(digest.SHA256, in.hash) != in.name.ID {
		return digest.ErrMismatch
	}
	if err := in.file.Chmod(0o400); err != nil {
		return err
	}
	if err := in.file.Sync(); err != nil {
		return err
	}
	dropCache(in.file)
	stored := digest.SHA256.New()
	if err := copyContext(ctx, stored, io.NewSectionReader(in.file, 0, in.size+1)); err != nil {
		return err
	}
	if digest.FromHash(digest.SHA256, stored) != in.name.ID {
		return digest.ErrMismatch
	}
	tmp := in.file.Name()
	if err := in.files.publish(tmp, in.name); err != nil {
		return err
	}
	in.files.disk.Remove(tmp) // only a config, which is linked, still has it
	err := in.file.Close()
	in.file = nil
	return err
}

// Close ends the transfer and keeps what was written for the next time. After Commit it does nothing.
func (in *Incoming) Close() error {
	if in.file == nil {
		return nil
	}
	err := in.file.Sync()
	if cerr := in.file.Close(); err == nil {
		err = cerr
	}
	in.file = nil
	return full(err)
}

// Discard ends the transfer and removes what was written.
func (in *Incoming) Discard() error {
	if in.file == nil {
		return nil
	}
	err := in.files.disk.Remove(in.file.Name())
	if cerr := in.file.Close(); err == nil {
		err = cerr
	}
	in.file = nil
	return err
}

// Parts lists the unfinished receives with what is there of each, so that parts nobody wants any more can be found.
func (f *Files) Parts() ([]Entry, error) {
	entries, err := os.ReadDir(filepath.Join(f.dir, tmpDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list parts: %w", err)
	}
	var parts []Entry
	for _, e := range entries {
		flat, ok := strings.CutSuffix(e.Name(), partSuffix)
		if !ok {
			continue
		}
		n, ok := parseFlat(flat)
		if st, err := e.Info(); ok && err == nil {
			parts = append(parts, Entry{n, st.Size()})
		}
	}
	return parts, nil
}
