package archive

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/repository"
)

// people looks up the names of users and groups once each.
type people struct {
	users, groups sync.Map // uint32 → string
}

func (p *people) names(uid, gid uint32) (userName, groupName string) {
	userName = named(&p.users, uid, func(id string) (string, error) {
		u, err := user.LookupId(id)
		if err != nil {
			return "", err
		}
		return u.Username, nil
	})
	groupName = named(&p.groups, gid, func(id string) (string, error) {
		g, err := user.LookupGroupId(id)
		if err != nil {
			return "", err
		}
		return g.Name, nil
	})
	return userName, groupName
}

func named(known *sync.Map, id uint32, find func(string) (string, error)) string {
	if v, ok := known.Load(id); ok {
		return v.(string)
	}
	name, err := find(strconv.FormatUint(uint64(id), 10))
	if err != nil {
		name = "" // there is no such user
	}
	known.Store(id, name)
	return name
}

// node describes what lies at path as stock restic does, without content. The error is about attributes or the target
// of a link; the node holds the rest. Attributes are taken over from old, unless nil, if the time of the last change
// says that they are the same.
func (a *archiver) node(path, name string, st *stat, old *repository.Node) (repository.Node, error) {
	n := repository.Node{
		Name: name, Mode: st.mode(), ModTime: instant(st.Mtim), ChangeTime: instant(st.Ctim),
		UID: st.Uid, GID: st.Gid, Inode: st.Ino, DeviceID: uint64(st.Dev),
	}
	n.AccessTime = n.ModTime
	if a.options.WithAtime {
		n.AccessTime = instant(st.Atim)
	}
	n.User, n.Group = a.people.names(st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.Type, n.SizeBytes, n.Links = repository.TypeFile, uint64(st.Size), uint64(st.Nlink)
	case unix.S_IFDIR:
		n.Type = repository.TypeDir
	case unix.S_IFLNK:
		n.Type, n.Links = repository.TypeSymlink, uint64(st.Nlink)
		var err error
		if n.LinkTarget, err = os.Readlink(path); err != nil {
			return n, err
		}
		return n, nil // stock restic 0.14 reads no attributes of symlinks
	case unix.S_IFBLK:
		n.Type, n.Links, n.Device = repository.TypeDevice, uint64(st.Nlink), uint64(st.Rdev)
	case unix.S_IFCHR:
		n.Type, n.Links, n.Device = repository.TypeCharDevice, uint64(st.Nlink), uint64(st.Rdev)
	case unix.S_IFIFO:
		n.Type = repository.TypeFifo
	}
	if old != nil && old.Type == n.Type && old.Inode == n.Inode && old.ChangeTime.Equal(n.ChangeTime) && !a.options.IgnoreCtime {
		n.Xattrs = old.Xattrs
		return n, nil
	}
	var err error
	n.Xattrs, err = xattrs(path)
	return n, err
}

// xattrs reads the extended attributes of path itself; file systems without any have none.
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
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return nil, err
		}
		b := make([]byte, n)
		n, err = get(b)
		if errors.Is(err, unix.ERANGE) || errors.Is(err, unix.EINTR) { // it grew between the calls
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

// same reports whether two entries say the same.
func same(a, b *repository.Node) bool {
	return a.Name == b.Name && a.Type == b.Type && a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.User == b.User &&
		a.Group == b.Group && a.Inode == b.Inode && a.DeviceID == b.DeviceID && a.SizeBytes == b.SizeBytes && a.Links == b.Links &&
		a.LinkTarget == b.LinkTarget && a.Device == b.Device && a.ModTime.Equal(b.ModTime) && a.AccessTime.Equal(b.AccessTime) &&
		a.ChangeTime.Equal(b.ChangeTime) && slices.Equal(a.Content, b.Content) &&
		(a.Subtree == b.Subtree || a.Subtree != nil && b.Subtree != nil && *a.Subtree == *b.Subtree) &&
		slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y repository.Xattr) bool { return x.Name == y.Name && string(x.Value) == string(y.Value) })
}
