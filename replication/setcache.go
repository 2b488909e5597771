package replication

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dengbei/replication/manifest"
)

// setCache keeps the verified set of each repository as one file in a directory. A file is trusted only as far as the
// registry knows its tip and root.
type setCache string

func (c setCache) path(repository string) string { return filepath.Join(string(c), repository+".set") }

// load returns the cached set of h and its sequence, or the zero Set where there is none that the registry confirms.
func (c setCache) load(h Holding) (manifest.Set, uint64, error) {
	b, err := os.ReadFile(c.path(h.Repository))
	if errors.Is(err, fs.ErrNotExist) {
		return manifest.Set{}, 0, nil
	}
	if err != nil {
		return manifest.Set{}, 0, fmt.Errorf("cached set: %w", err)
	}
	set, err := manifest.ParseSet(b)
	if err != nil || set.Repository() != h.Repository {
		return manifest.Set{}, 0, nil // torn or rotten: it is rebuilt
	}
	for _, m := range h.Manifests {
		if m.Digest == set.Tip() && set.Root() == m.SetRoot {
			return set, m.Sequence, nil
		}
	}
	return manifest.Set{}, 0, nil
}

// save makes set the cached one, durably.
func (c setCache) save(set manifest.Set) error {
	if err := replaceFile(c.path(set.Repository()), set.Encode()); err != nil {
		return fmt.Errorf("cache set: %w", err)
	}
	return nil
}

// replaceFile puts b in place of path so that after power loss the old or the new content is there.
func replaceFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = dir.Sync()
	if cerr := dir.Close(); err == nil {
		err = cerr
	}
	return err
}
