package chunkstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Quarantine moves a damaged file to damaged/<directory>-<hex>, so that a sound copy can take its place while the
// damaged one, which may be the last there is, stays. It replaces an earlier one of the same name.
func (f *Files) Quarantine(name Name) error {
	if err := name.check(); err != nil {
		return err
	}
	dir := filepath.Join(f.dir, damagedDir)
	if err := f.makeDir(dir); err != nil {
		return fmt.Errorf("quarantine %s: %w", name, full(err))
	}
	if err := f.disk.Rename(f.abs(name), filepath.Join(dir, name.flat())); err != nil {
		return fmt.Errorf("quarantine %s: %w", name, full(err))
	}
	// The new place first: between the two syncs a power cut leaves both names, never none.
	if err := f.disk.SyncDir(dir); err != nil {
		return fmt.Errorf("quarantine %s: %w", name, err)
	}
	if err := f.disk.SyncDir(filepath.Join(f.dir, name.dir())); err != nil {
		return fmt.Errorf("quarantine %s: %w", name, err)
	}
	return nil
}

// Damaged lists the quarantined files.
func (f *Files) Damaged() ([]Entry, error) {
	entries, err := os.ReadDir(filepath.Join(f.dir, damagedDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list damaged files: %w", err)
	}
	var damaged []Entry
	for _, e := range entries {
		n, ok := parseFlat(e.Name())
		if st, err := e.Info(); ok && err == nil {
			damaged = append(damaged, Entry{n, st.Size()})
		}
	}
	return damaged, nil
}

// DropDamaged deletes the quarantined copy of name. If there is none, that is no error.
func (f *Files) DropDamaged(name Name) error {
	if err := name.check(); err != nil {
		return err
	}
	dir := filepath.Join(f.dir, damagedDir)
	err := f.disk.Remove(filepath.Join(dir, name.flat()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("drop damaged %s: %w", name, err)
	}
	return f.disk.SyncDir(dir)
}
