package identity

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFileBytes bounds every file this package reads: keys, chains and shares are a few KiB.
const maxFileBytes = 1 << 20

const (
	privateMode fs.FileMode = 0o600
	publicMode  fs.FileMode = 0o644
)

// writeFile replaces path with data; after power loss the old or the new content is there, whole.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp))
	}
	return syncDir(filepath.Dir(path))
}

// createFile writes data to path, or returns an error matching [fs.ErrExist] and changes nothing if path is taken.
func createFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := writeTemp(path, data, mode)
	if err != nil {
		return err
	}
	// link, unlike rename, never replaces: of two processes that start together, both end with the same key.
	linkErr := os.Link(tmp, path)
	if err := errors.Join(linkErr, os.Remove(tmp)); err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func writeTemp(path string, data []byte, mode fs.FileMode) (string, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// readPrivate reads a file that only its owner may open.
func readPrivate(path string) ([]byte, error) {
	return readFile(path, true)
}

func readFile(path string, private bool) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file", path)
	}
	if perm := info.Mode().Perm(); private && perm&0o077 != 0 {
		return nil, fmt.Errorf("read %s: %w: its mode is %04o; find out who could read it, then run chmod 600 or make a new key",
			path, ErrFileMode, perm)
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("read %s: larger than %d bytes", path, maxFileBytes)
	}
	return data, nil
}

// onePEM returns the single block of the given type in data.
func onePEM(data []byte, blockType string) ([]byte, error) {
	b, rest := pem.Decode(data)
	if b == nil || b.Type != blockType || len(rest) != 0 {
		return nil, fmt.Errorf("want exactly one PEM block %q", blockType)
	}
	return b.Bytes, nil
}
