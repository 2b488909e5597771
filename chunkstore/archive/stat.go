package archive

import (
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// stat is what the file system says of a name.
type stat struct{ unix.Stat_t }

// lstat looks at path itself, not at what a link points to.
func lstat(path string) (*stat, error) {
	var st stat
	if err := retry(func() error { return unix.Lstat(path, &st.Stat_t) }); err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return &st, nil
}

// follow looks at what path leads to.
func follow(path string) (*stat, error) {
	var st stat
	if err := retry(func() error { return unix.Stat(path, &st.Stat_t) }); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return &st, nil
}

// retry repeats a system call that a signal cut off.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR { //nolint:errorlint // system calls do not wrap
			return err
		}
	}
}

func (s *stat) isDir() bool     { return s.Mode&unix.S_IFMT == unix.S_IFDIR }
func (s *stat) isRegular() bool { return s.Mode&unix.S_IFMT == unix.S_IFREG }

func instant(t unix.Timespec) time.Time { return time.Unix(t.Unix()) }

// sparse reports whether the file takes less room than its size.
func (s *stat) sparse() bool { return s.Blocks*512 < s.Size }

// unchanged gives ErrChanged if now is not, or no longer, what s describes.
func (s *stat) unchanged(now *stat) error {
	if s.Dev != now.Dev || s.Ino != now.Ino || s.Mode&unix.S_IFMT != now.Mode&unix.S_IFMT || s.Size != now.Size ||
		s.Mtim != now.Mtim || s.Ctim != now.Ctim {
		return ErrChanged
	}
	return nil
}

// mode returns the mode as the format has it, which is Go's.
func (s *stat) mode() fs.FileMode {
	m := fs.FileMode(s.Mode & 0o777)
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	}
	for _, b := range []struct {
		bit  uint32
		mode fs.FileMode
	}{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}} {
		if s.Mode&b.bit != 0 {
			m |= b.mode
		}
	}
	return m
}

// openedFile is a file open for reading.
type openedFile struct {
	fd   int
	path string
}

// openAs opens path if it still is what listed describes: neither follow a link nor wait for a pipe's writer.
func openAs(path string, listed *stat) (*openedFile, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := &openedFile{fd, path}
	if err := f.unchanged(listed); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (f *openedFile) unchanged(listed *stat) error {
	var now stat
	if err := retry(func() error { return unix.Fstat(f.fd, &now.Stat_t) }); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	return listed.unchanged(&now)
}

// readAt fills b from off on and returns how much there was.
func (f *openedFile) readAt(b []byte, off int64) (int, error) {
	n := 0
	for n < len(b) {
		m, err := unix.Pread(f.fd, b[n:], off+int64(n))
		if err == unix.EINTR { //nolint:errorlint // system calls do not wrap
			continue
		}
		if err != nil {
			return n, &fs.PathError{Op: "read", Path: f.path, Err: err}
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}

// dataFrom returns where data begin at or after off, and size if none do. Where the file system cannot tell, everything
// is data.
func (f *openedFile) dataFrom(off, size int64) int64 {
	n, err := unix.Seek(f.fd, off, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO: //nolint:errorlint // system calls do not wrap
		return size
	case err != nil || n < off:
		return off
	}
	return min(n, size)
}

// holeFrom returns where the data that begin at off end.
func (f *openedFile) holeFrom(off, size int64) int64 {
	n, err := unix.Seek(f.fd, off, unix.SEEK_HOLE)
	if err != nil || n <= off {
		return size
	}
	return min(n, size)
}

// Close ends the use of the file.
func (f *openedFile) Close() { unix.Close(f.fd) }
