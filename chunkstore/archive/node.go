package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/repository"
)

// people looks up the names of users and groups once each.
type people struct {
	mu     sync.Mutex // guards the maps; held during a look-up
	users  map[uint32]string
	groups map[uint32]string
}

func (p *people) names(uid, gid uint32) (string, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == nil {
		p.users, p.groups = make(map[uint32]string), make(map[uint32]string)
	}
	u, ok := p.users[uid]
	if !ok {
		if found, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
			u = found.Username
		}
		p.users[uid] = u
	}
	g, ok := p.groups[gid]
	if !ok {
		if found, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10)); err == nil {
			g = found.Name
		}
		p.groups[gid] = g
	}
	return u, g
}

const keptMode = fs.ModePerm | fs.ModeType | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// node describes what lies at path as stock restic does, without content.
func (a *archiver) node(path, name string, fi fs.FileInfo) (repository.Node, error) {
	st := fi.Sys().(*syscall.Stat_t)
	n := repository.Node{
		Name: name, Mode: fi.Mode() & keptMode,
		ModTime: fi.ModTime(), AccessTime: fi.ModTime(), ChangeTime: changeTime(fi),
		UID: st.Uid, GID: st.Gid, Inode: st.Ino, DeviceID: uint64(st.Dev),
	}
	n.User, n.Group = a.people.names(st.Uid, st.Gid)
	var err error
	switch fi.Mode().Type() {
	case 0:
		n.Type, n.SizeBytes, n.Links = repository.TypeFile, uint64(fi.Size()), uint64(st.Nlink)
	case fs.ModeDir:
		n.Type = repository.TypeDir
	case fs.ModeSymlink:
		n.Type, n.Links = repository.TypeSymlink, uint64(st.Nlink)
		if n.LinkTarget, err = os.Readlink(path); err != nil {
			return n, err
		}
		return n, nil // stock restic reads no attributes of symlinks
	default:
		return n, fmt.Errorf("%s (%s): %w", path, fi.Mode().Type(), ErrSpecial)
	}
	n.Xattrs, err = xattrs(path)
	return n, err
}

func changeTime(fi fs.FileInfo) time.Time {
	st := fi.Sys().(*syscall.Stat_t)
	return time.Unix(int64(st.Ctim.Sec), int64(st.Ctim.Nsec)) //nolint:unconvert // 32-bit elsewhere
}

// xattrs reads the extended attributes of a file or directory; file systems without any have none.
func xattrs(path string) ([]repository.Xattr, error) {
	list, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if err != nil || len(list) == 0 {
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			err = nil
		}
		return nil, wrapPath("list attributes", path, err)
	}
	var all []repository.Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		value, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if errors.Is(err, unix.ENODATA) { // not for us to read, or gone
			continue
		}
		if err != nil {
			return nil, wrapPath("read attribute "+name, path, err)
		}
		all = append(all, repository.Xattr{Name: name, Value: value})
	}
	return all, nil
}

// grow calls get with enough room; the kernel tells how much that is when asked with none.
func grow(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = get(b)
		if errors.Is(err, unix.ERANGE) { // it grew between the calls
			continue
		}
		if err != nil {
			return nil, err
		}
		return slices.Clip(b[:n]), nil
	}
}

func wrapPath(what, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s of %s: %w", what, path, err)
}
