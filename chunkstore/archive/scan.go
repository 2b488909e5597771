package archive

import (
	"context"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Estimate is how much there is to back up.
type Estimate struct {
	Files, Dirs int
	Bytes       int64
}

// Scan counts what a backup with these options will meet, without reading files, and tells report from time to time and
// at the end. What it cannot look at it passes over.
func Scan(ctx context.Context, o Options, report func(Estimate)) error {
	s := &scan{options: &o, report: report}
	for i := range o.Roots {
		r := &o.Roots[i]
		if r.Content != nil {
			continue
		}
		if err := s.root(ctx, r); err != nil {
			return err
		}
	}
	report(s.sum)
	return nil
}

type scan struct {
	options *Options
	report  func(Estimate)
	sum     Estimate
}

func (s *scan) root(ctx context.Context, r *Root) error {
	look := lstat
	if r.Path == "/" {
		look = follow
	}
	st, err := look(r.Source)
	if err != nil || s.options.Select.byName(r.Source) {
		return nil //nolint:nilerr // the backup reports it
	}
	if !st.isDir() {
		s.file(r.Source)
		return nil
	}
	return s.dir(ctx, r.Source, st.Dev)
}

// file counts what is no directory.
func (s *scan) file(path string) {
	st, err := lstat(path)
	if err != nil || s.options.Select.bySize(st) || st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return
	}
	s.sum.Files++
	if st.isRegular() {
		s.sum.Bytes += st.Size
	}
}

func (s *scan) dir(ctx context.Context, path string, device uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.sum.Dirs++
	sel := &s.options.Select
	if sel.OneFileSystem {
		if st, err := lstat(path); err != nil || st.Dev != device {
			return nil //nolint:nilerr // the backup reports it
		}
	}
	l, err := listDir(path)
	if err != nil {
		return nil //nolint:nilerr // the backup reports it
	}
	keep, tagged := sel.tagged(path)
	for i, name := range l.names {
		below := filepath.Join(path, name)
		if tagged && name != keep || sel.byName(below) {
			continue
		}
		if !l.dirs[i] {
			s.file(below)
			continue
		}
		if err := s.dir(ctx, below, device); err != nil {
			return err
		}
	}
	s.report(s.sum)
	return nil
}

// Readable splits roots into those that are there and those that are not.
func Readable(roots []Root) (there, missing []Root) {
	there = slices.Clone(roots)
	there = slices.DeleteFunc(there, func(r Root) bool {
		if r.Content != nil {
			return false
		}
		_, err := lstat(r.Source)
		if err != nil {
			missing = append(missing, r)
		}
		return err != nil
	})
	return there, missing
}
