package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/repository"
)

// attributes is what an entry has besides name and content.
type attributes struct {
	mode   uint32 // permissions, and the set-ID bits if the owner is restored
	uid    uint32
	gid    uint32
	times  [2]unix.Timespec // of access, of change
	xattrs []repository.Xattr
}

func (r *restorer) attributesOf(n *repository.Node) attributes {
	a := attributes{mode: uint32(n.Mode.Perm()), uid: n.UID, gid: n.GID, xattrs: n.Xattrs}
	if r.options.Owner {
		if n.Mode&fs.ModeSetuid != 0 {
			a.mode |= unix.S_ISUID
		}
		if n.Mode&fs.ModeSetgid != 0 {
			a.mode |= unix.S_ISGID
		}
	}
	if n.Mode&fs.ModeSticky != 0 {
		a.mode |= unix.S_ISVTX
	}
	a.times = [2]unix.Timespec{timespec(n.AccessTime), timespec(n.ModTime)}
	return a
}

// timespec never fails on 64 bits: seconds of any year that JSON holds fit.
func timespec(t time.Time) unix.Timespec {
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// set gives the open fd its attributes. have is what is known of owner and mode already; nil if nothing is. What is
// replaced loses attributes of users that it should not have.
func (r *restorer) set(fd int, a *attributes, have *unix.Stat_t, replaced bool) error {
	if r.options.Owner && (have == nil || have.Uid != a.uid || have.Gid != a.gid) {
		if err := unix.Fchown(fd, int(a.uid), int(a.gid)); err != nil {
			return fmt.Errorf("set owner: %w", err)
		}
		have = nil // set-ID bits may be gone
	}
	if replaced {
		removeXattrs(fd, a.xattrs)
	}
	for _, x := range a.xattrs {
		if err := r.lostAttribute(x.Name, unix.Fsetxattr(fd, x.Name, x.Value, 0)); err != nil {
			return err
		}
		have = nil // an access list changes the mode
	}
	if have == nil || have.Mode&0o7777 != a.mode {
		if err := unix.Fchmod(fd, a.mode); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	return setTimes(fd, a)
}

// lostAttribute decides whether an extended attribute that could not be set is a reason to withhold the entry. A file
// system without them, or ones that only root may set, is none: it is counted.
func (r *restorer) lostAttribute(name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		r.lost.Add(1)
		return nil
	}
	return fmt.Errorf("set attribute %q: %w", name, err)
}

// removeXattrs takes away the attributes of users that are not among keep. Others belong to the system.
func removeXattrs(fd int, keep []repository.Xattr) {
	var list [64 << 10]byte
	n, err := unix.Flistxattr(fd, list[:])
	if err != nil {
		return
	}
next:
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") {
			continue
		}
		for _, x := range keep {
			if x.Name == name {
				continue next
			}
		}
		_ = unix.Fremovexattr(fd, name)
	}
}

func setTimes(fd int, a *attributes) error {
	err := unix.UtimesNanoAt(fd, "", a.times[:], unix.AT_EMPTY_PATH)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // a kernel before 5.8
		err = unix.UtimesNanoAt(unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd), a.times[:], 0)
	}
	if err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// setAt gives the entry name of a directory its attributes: for what cannot be opened, such as a symlink or a device.
func (r *restorer) setAt(dir int, name string, a *attributes, link bool) error {
	if r.options.Owner {
		if err := unix.Fchownat(dir, name, int(a.uid), int(a.gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("set owner: %w", err)
		}
	}
	for _, x := range a.xattrs {
		at := "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
		if err := r.lostAttribute(x.Name, unix.Lsetxattr(at, x.Name, x.Value, 0)); err != nil {
			return err
		}
	}
	if !link { // the entry was just made by us and is no link: following one is no danger
		if err := unix.Fchmodat(dir, name, a.mode, 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	if err := unix.UtimesNanoAt(dir, name, a.times[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// process is what of this process decides how new files come into being.
type process struct {
	uid, gid uint32
	umask    uint32
}

// thisProcess reads the umask without changing it. If it cannot be read, every mode is set again.
func thisProcess() process {
	p := process{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), umask: 0o777}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return p
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "Umask:"); ok {
			if m, err := strconv.ParseUint(strings.TrimSpace(v), 8, 32); err == nil {
				p.umask = uint32(m)
			}
		}
	}
	return p
}

// The values of dir.plain.
const (
	plainUnknown = iota
	plainYes
	plainNo
)

// isPlain reports whether new files of a directory belong to this process and have the mode they are made with: no access
// list, no set-group-ID bit and no option of the file system changes that. It is found out with the first file.
func (r *restorer) isPlain(known *atomic.Int32, fd int, mode uint32) bool {
	switch known.Load() {
	case plainYes:
		return true
	case plainNo:
		return false
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Uid == r.process.uid && st.Gid == r.process.gid && st.Mode&0o7777 == mode&^r.process.umask {
		known.Store(plainYes)
		return true
	}
	known.Store(plainNo)
	return false
}
