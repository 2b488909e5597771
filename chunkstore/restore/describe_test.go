package restore

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/digest"
)

// describe tells everything that a restore has to bring back of what is below dir: kind, mode, owner, times, extended
// attributes, device, target, content, and which names are one file.
func describe(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	inodes := make(map[uint64]string)
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil || name == "." && d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %s", len(b), digest.Of(b).Hex()[:16])
			if first, ok := inodes[st.Ino]; ok {
				line += " is " + first
			} else if st.Nlink > 1 {
				inodes[st.Ino] = name
			}
		case unix.S_IFLNK:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += " to " + to
		case unix.S_IFBLK, unix.S_IFCHR:
			line += fmt.Sprintf(" device %d", st.Rdev)
		}
		all[name] = line + xattrs(p)
		return nil
	}))
	return all
}

func xattrs(p string) string {
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(p, buf)
	if err != nil {
		return ""
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		v := make([]byte, 4096)
		if n, err := unix.Lgetxattr(p, name, v); err == nil && name != "" {
			fmt.Fprintf(&b, " %s=%s", name, hex.EncodeToString(v[:n]))
		}
	}
	return b.String()
}

func sameTree(t testing.TB, got, want string) {
	t.Helper()
	sameDescription(t, describe(t, got), describe(t, want))
}

func sameDescription(t testing.TB, g, w map[string]string) {
	t.Helper()
	bad := 0
	for name, line := range w {
		if g[name] != line {
			if bad++; bad < 10 {
				t.Errorf("%q is %q; want %q", name, g[name], line)
			}
		}
	}
	for name := range g {
		if _, ok := w[name]; !ok {
			if bad++; bad < 10 {
				t.Errorf("%q is there and should not be", name)
			}
		}
	}
}
