package chunkstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// directories remembers which directories below the root are known to survive a power cut. That one exists says
// nothing: stock restic, or a process that was killed, may have made it without a sync.
type directories struct {
	mu      sync.Mutex
	durable map[string]bool // paths; a parent that was looked through stands there with its children
	seen    map[string]bool // parents that were looked through
}

// makeDir makes sure that dir exists and survives a power cut. Its parent must do so already.
func (f *Files) makeDir(dir string) error {
	d := &f.dirs
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.durable[dir] || dir == f.dir {
		return nil
	}
	parent := filepath.Dir(dir)
	if !d.seen[parent] {
		// One sync covers all that are there: before the first pack, not before each.
		entries, err := os.ReadDir(parent)
		if err != nil {
			return err
		}
		if err := f.disk.SyncDir(parent); err != nil {
			return err
		}
		if d.seen == nil {
			d.seen, d.durable = make(map[string]bool), make(map[string]bool)
		}
		d.seen[parent] = true
		for _, e := range entries {
			if e.IsDir() {
				d.durable[filepath.Join(parent, e.Name())] = true
			}
		}
		if d.durable[dir] {
			return nil
		}
	}
	if err := f.disk.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := f.disk.SyncDir(parent); err != nil {
		return err
	}
	d.durable[dir] = true
	return nil
}

// forgetDirs has makeDir look again, when something that was there is not.
func (f *Files) forgetDirs() {
	f.dirs.mu.Lock()
	defer f.dirs.mu.Unlock()
	clear(f.dirs.durable)
	clear(f.dirs.seen)
}

// makeParents makes dir and what is missing above it, all of it durable but for dir's own name.
func makeParents(disk Disk, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		st, err := os.Stat(d)
		if err == nil && !st.IsDir() {
			return fmt.Errorf("%s: %w", d, ErrNotRepository)
		}
		if err == nil || d == filepath.Dir(d) {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, d)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := disk.Mkdir(missing[i], 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := disk.SyncDir(filepath.Dir(missing[i])); err != nil {
			return err
		}
	}
	return nil
}
