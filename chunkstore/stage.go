package chunkstore

import (
	"crypto/rand"
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

const stagePrefix = "put-"

// Staged is a file being written whose name is not known before its last byte. One goroutine at a time may use it.
type Staged interface {
	io.Writer

	// Sum returns the SHA-256 of what was written so far.
	Sum() digest.Digest

	// SizeBytes returns how much was written so far.
	SizeBytes() int64

	// Commit stores the file durably, named by its SHA-256. After an error it is not stored, or whole but perhaps not
	// durable. Either way this is the end of the Staged: what follows gives [fs.ErrClosed].
	Commit() (Entry, error)

	// Abort removes the file unless it was committed. It may be called more than once.
	Abort()
}

// stagedFile is a [Staged] in tmp/.
type stagedFile struct {
	files *Files
	kind  Kind
	file  DiskFile    // nil once committed or aborted
	pack  *packWriter // nil for small kinds
	hash  hash.Hash
	size  int64
}

// Stage starts a file of the given kind in tmp/. The caller writes it and ends with [Staged.Commit] or [Staged.Abort].
func (f *Files) Stage(kind Kind) (Staged, error) {
	if kind < Config || kind > Pack {
		return nil, fmt.Errorf("%w: stage %s", ErrName, kind)
	}
	file, err := f.createTemp()
	if err != nil {
		return nil, fmt.Errorf("stage %s: %w", kind, full(err))
	}
	s := &stagedFile{files: f, kind: kind, file: file, hash: digest.SHA256.New()}
	if kind == Pack {
		s.pack = newPackWriter(file, f.pieces)
	}
	return s, nil
}

// createTemp makes a file in tmp/ and locks it, which tells the sweep of another process that it is in use.
func (f *Files) createTemp() (DiskFile, error) {
	for {
		path := filepath.Join(f.dir, tmpDir, stagePrefix+rand.Text())
		file, err := f.openTemp(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o400)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			if _, err = os.Lstat(path); err == nil {
				return file, nil
			}
		}
		file.Close()
		// A sweep came between create and lock and took the file; any other error is real.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EWOULDBLOCK) {
			f.disk.Remove(path)
			return nil, err
		}
	}
}

// openTemp opens a file in tmp/ and makes that first where there is none, as in what stock restic made.
func (f *Files) openTemp(path string, flag int, perm fs.FileMode) (DiskFile, error) {
	file, err := f.disk.OpenFile(path, flag, perm)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	f.forgetDirs()
	if err := f.makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	return f.disk.OpenFile(path, flag, perm)
}

// Write implements [io.Writer].
func (s *stagedFile) Write(b []byte) (int, error) {
	if s.file == nil {
		return 0, fmt.Errorf("write %s: %w", s.kind, fs.ErrClosed)
	}
	var w io.Writer = s.file
	if s.pack != nil {
		w = s.pack
	}
	n, err := w.Write(b)
	s.hash.Write(b[:n])
	s.size += int64(n)
	return n, full(err)
}

// Sum implements [Staged].
func (s *stagedFile) Sum() digest.Digest { return digest.FromHash(digest.SHA256, s.hash) }

// SizeBytes implements [Staged].
func (s *stagedFile) SizeBytes() int64 { return s.size }

// Commit implements [Staged]: it syncs the file, renames it and syncs the directory.
func (s *stagedFile) Commit() (Entry, error) {
	if s.file == nil {
		return Entry{}, fmt.Errorf("store %s: %w", s.kind, fs.ErrClosed)
	}
	defer s.Abort()
	e := Entry{Name{s.kind, s.Sum()}, s.size}
	if s.pack != nil {
		if err := s.pack.flush(); err != nil {
			return Entry{}, fmt.Errorf("store %s: %w", e.Name, full(err))
		}
	}
	if err := s.file.Sync(); err != nil {
		return Entry{}, fmt.Errorf("store %s: %w", e.Name, full(err))
	}
	tmp := s.file.Name()
	if err := s.file.Close(); err != nil {
		return Entry{}, fmt.Errorf("store %s: %w", e.Name, full(err))
	}
	if err := s.files.publish(tmp, e.Name); err != nil {
		return Entry{}, fmt.Errorf("store %s: %w", e.Name, full(err))
	}
	return e, nil
}

// Abort implements [Staged].
func (s *stagedFile) Abort() {
	if s.file == nil {
		return
	}
	if s.pack != nil {
		s.pack.drop()
	}
	s.files.disk.Remove(s.file.Name()) // gone already after a commit
	s.file.Close()
	s.file = nil
}

// publish gives the synced file at tmp its final name and makes that durable. It is the only place that does.
func (f *Files) publish(tmp string, name Name) error {
	dir := filepath.Join(f.dir, name.dir())
	if err := f.makeDir(dir); err != nil {
		return err
	}
	if name.Kind == Config {
		if err := f.publishConfig(tmp, name); err != nil {
			return err
		}
		return f.disk.SyncDir(dir) // also if it was there: whoever made it may not have synced it yet
	}
	err := f.disk.Rename(tmp, f.abs(name))
	if errors.Is(err, fs.ErrNotExist) { // somebody removed dir since
		f.forgetDirs()
		if err = f.makeDir(dir); err == nil {
			err = f.disk.Rename(tmp, f.abs(name))
		}
	}
	if err != nil {
		return err
	}
	return f.disk.SyncDir(dir)
}

// publishConfig gives the synced file at tmp the name of the config unless there is one.
func (f *Files) publishConfig(tmp string, name Name) error {
	// A link never replaces, so of two racing writers one wins and the other compares.
	err := f.disk.Link(tmp, f.abs(name))
	if errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) {
		// A file system without links, as on memory sticks: only the writers of this process are kept apart.
		f.dirs.mu.Lock()
		defer f.dirs.mu.Unlock()
		if _, err = os.Lstat(f.abs(name)); errors.Is(err, fs.ErrNotExist) {
			return f.disk.Rename(tmp, f.abs(name))
		}
		if err == nil {
			err = fs.ErrExist
		}
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	b, err := f.readConfig()
	if err == nil && digest.Of(b) != name.ID {
		err = ErrConfigExists
	}
	return err
}

// sweepTemp removes staged files that no process holds.
func (f *Files) sweepTemp() error {
	entries, err := os.ReadDir(filepath.Join(f.dir, tmpDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), stagePrefix) || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(f.dir, tmpDir, e.Name())
		file, err := os.Open(path)
		if err != nil {
			continue // finished since
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			f.disk.Remove(path)
		}
		file.Close()
	}
	return nil
}
