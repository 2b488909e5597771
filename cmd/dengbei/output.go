package main

import (
	"fmt"
	"os"
	"path/filepath"

	"dengbei/cmd/dengbei/term"
)

// writeFileDurable writes data at path as a new file: a temporary one beside it, synced, renamed, directory synced. An existing file is
// replaced in one step only if replace is set; a device, a link or a directory never is.
func writeFileDurable(path string, data []byte, mode os.FileMode, replace bool) (err error) {
	dir := filepath.Dir(path)
	if info, err := os.Lstat(path); err == nil && replace && !info.Mode().IsRegular() {
		return term.Usagef("%s is there and is no regular file: name a file", path)
	}
	f, err := os.CreateTemp(dir, ".dengbei-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
		os.Remove(f.Name()) // nothing is there after the rename
	}()
	if err := f.Chmod(mode); err != nil {
		f.Close()
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if replace {
		err = os.Rename(f.Name(), path)
	} else {
		err = os.Link(f.Name(), path) // fails if path exists, unlike a rename
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
