package restore

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// verify reads the restored files again.
func (r *restorer) verify(ctx context.Context) error {
	var files []*file
	for _, f := range r.plan.files {
		if f.state == written {
			files = append(files, f)
			r.verifiedTotal.Add(f.size)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers())
	for _, f := range files {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := r.verifyFile(gctx, f); err != nil {
				if gctx.Err() != nil {
					return gctx.Err()
				}
				r.unsound(f, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// unsound takes back that f is restored.
func (r *restorer) unsound(f *file, err error) {
	r.mu.Lock()
	r.result.Files--
	r.result.FileBytes -= f.size
	r.mu.Unlock()
	r.fileOutcome(f, Failed, err)
}

func (r *restorer) verifyFile(ctx context.Context, f *file) error {
	var fd int
	err := r.dirs.in(f.dir, func(dir int) (err error) {
		fd, err = openAt(dir, f.name, unix.O_RDONLY|unix.O_NOATIME, 0)
		if err == unix.EPERM { // not ours
			fd, err = openAt(dir, f.name, unix.O_RDONLY, 0)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read again: %w", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("read again: %w", err)
	}
	if kind(&st) != unix.S_IFREG || st.Size != f.size {
		return fmt.Errorf("%d bytes of %d: %w", st.Size, f.size, ErrVerify)
	}
	// Everything is synced: what is dropped comes from the disk again.
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	pieces, _, err := locate(r.repo, f)
	if err != nil {
		return err
	}
	var buf []byte
	for i, p := range pieces {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := f.size
		if i+1 < len(pieces) {
			end = pieces[i+1].at
		}
		n := int(end - p.at)
		buf = slices.Grow(buf[:0], n)[:n]
		if err := readAt(fd, buf, p.at); err != nil {
			return fmt.Errorf("read again at %d: %w", p.at, err)
		}
		if sha256.Sum256(buf) != f.content[i] {
			return fmt.Errorf("%d bytes at %d: %w", n, p.at, ErrVerify)
		}
		r.verified.Add(int64(n))
	}
	return nil
}

func readAt(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pread(fd, b, at)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("ends early: %w", ErrVerify)
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}
