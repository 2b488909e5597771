package restore

import (
	"fmt"
	"path"
	"sync"

	"golang.org/x/sys/unix"
)

// Files get their names in batches, after one sync of the file system for all of them: a sync for each of many small
// files would take most of the time.
const (
	batchFiles = 4096
	batchBytes = 256 << 20
)

// batch collects files that are whole but not yet durable.
type batch struct {
	mu    sync.Mutex // guards what follows
	files []*file
	bytes int64
}

func (b *batch) add(f *file) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files = append(b.files, f)
	b.bytes += int64(f.node.SizeBytes)
}

func (b *batch) due() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.files) >= batchFiles || b.bytes >= batchBytes
}

func (b *batch) take() []*file {
	b.mu.Lock()
	defer b.mu.Unlock()
	files := b.files
	b.files, b.bytes = nil, 0
	return files
}

// commit makes whole files durable and gives them their names. The names are durable at the end of the restore.
func (r *restorer) commit(files []*file) error {
	if len(files) == 0 {
		return nil
	}
	if err := r.dirs.sync(); err != nil {
		return err
	}
	for _, f := range files {
		f.mu.Lock()
		err := r.dirs.in(path.Dir(f.path), func(dir int) error {
			return unix.Renameat(dir, f.temp, dir, path.Base(f.path))
		})
		if err == nil {
			f.state = done
		}
		f.mu.Unlock()
		if err != nil {
			r.fail(f, fmt.Errorf("name file: %w", err))
			continue
		}
		r.outcome(f.path, f.node.Type, int64(f.node.SizeBytes), nil)
	}
	return nil
}
