package archive

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"sync"

	"dengbei/chunkstore/pattern"
)

// CacheTag is the file that marks a directory as a cache, and how it begins.
const (
	CacheTag       = "CACHEDIR.TAG"
	CacheSignature = "Signature: 8a477f597d28d172789f06886806bc55"
)

// Tag is a file whose presence keeps the rest of its directory out of a backup.
type Tag struct {
	Name   string
	Header string // how it must begin; empty if that does not matter
}

// Selection says what is left out. The zero Selection leaves out nothing.
type Selection struct {
	// Exclude are matched with the path on disk.
	Exclude []*pattern.Set

	// Tags keep out what lies beside such a file. The directory and the file itself stay.
	Tags []Tag

	// LargerThan keeps out files of more bytes, unless 0.
	LargerThan int64

	// OneFileSystem keeps out what lies on other file systems than its root. Where one is mounted an empty directory stays.
	OneFileSystem bool
}

// byName reports whether the entry at path is left out for its name.
func (s *Selection) byName(path string) bool {
	for _, set := range s.Exclude {
		if set.Match(path) {
			return true
		}
	}
	return false
}

// bySize reports whether a file is left out for its size.
func (s *Selection) bySize(st *stat) bool {
	return s.LargerThan > 0 && st.isRegular() && st.Size > s.LargerThan
}

// tagged returns the name of the one file that stays in dir.
func (s *Selection) tagged(dir string) (string, bool) {
	for _, t := range s.Tags {
		if t.marks(dir) {
			return t.Name, true
		}
	}
	return "", false
}

func (t Tag) marks(dir string) bool {
	f, err := os.Open(filepath.Join(dir, t.Name))
	if err != nil {
		return false
	}
	defer f.Close()
	if t.Header == "" {
		return true
	}
	b := make([]byte, len(t.Header))
	_, err = io.ReadFull(f, b)
	return err == nil && bytes.Equal(b, []byte(t.Header))
}

// problems collects what went wrong with single files.
type problems struct {
	mu     sync.Mutex // guards count and calls of report
	count  int
	report func(path string, err error) // nil in a strict backup
}

// note takes an error about path. In a strict backup it gives it back.
func (p *problems) note(path string, err error) error {
	if p.report == nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	p.report(path, err)
	return nil
}
