package restore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/repository"
)

func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: devices, owners and set-ID bits are NOT checked")
	}
}

// specialTree makes everything that a directory can hold below dir.
func specialTree(t testing.TB, dir string) {
	t.Helper()
	write(t, dir, map[string][]byte{
		"f": []byte("content"), "d/g": noise("g", 3<<20), "latin-\xe9": []byte("bytes"), "new\nline": []byte("x"), "d/e/suid": []byte("x"),
		"readonly/f": []byte("x"), "empty": nil, "zero": make([]byte, 5<<20), "卷宗/正文.txt": []byte("案卷"),
	})
	must(t, os.Link(filepath.Join(dir, "f"), filepath.Join(dir, "d/f-again")))
	must(t, os.Link(filepath.Join(dir, "d/g"), filepath.Join(dir, "d/e/g-again")))
	must(t, os.Link(filepath.Join(dir, "d/g"), filepath.Join(dir, "z-g-again")))
	must(t, os.Link(filepath.Join(dir, "empty"), filepath.Join(dir, "empty-again")))
	must(t, os.Symlink("../f", filepath.Join(dir, "d/link")))
	must(t, os.Symlink("/absolute/\xff", filepath.Join(dir, "dangling")))
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o640))
	must(t, unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(filepath.Join(dir, "d/disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	for name, value := range map[string]string{"user.kind": "记录", "user.empty": "", "trusted.t": "\x00\x01"} {
		if err := unix.Setxattr(filepath.Join(dir, "f"), name, []byte(value), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			t.Fatal(err)
		}
		_ = unix.Setxattr(filepath.Join(dir, "d"), name, []byte(value), 0)
	}
	_ = unix.Lsetxattr(filepath.Join(dir, "dangling"), "trusted.l", []byte("link"), 0)
	must(t, os.Lchown(filepath.Join(dir, "d/link"), 1000, 1001))
	must(t, os.Lchown(filepath.Join(dir, "pipe"), 7, 8))
	must(t, os.Chown(filepath.Join(dir, "d/e/suid"), 1234, 4321))
	must(t, os.Chmod(filepath.Join(dir, "d/e/suid"), 0o6751|os.ModeSetuid|os.ModeSetgid))
	must(t, os.Chmod(filepath.Join(dir, "d/e"), 0o1777|os.ModeSticky))
	must(t, os.Chmod(filepath.Join(dir, "readonly/f"), 0o400))
	must(t, os.Chmod(filepath.Join(dir, "readonly"), 0o500))
	for i, name := range []string{"f", "d/g", "d/e", "d/disk", "d", "readonly", "pipe"} {
		at := time.Date(1950+20*i, 1, 2, 3, 4, 5, 123456789+i, time.UTC)
		must(t, os.Chtimes(filepath.Join(dir, name), at, at))
	}
	at := unix.Timespec{Sec: 1e9, Nsec: 987654321}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, "dangling"), []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW))
}

func TestHardLinksOfWhatIsMissing(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	content := []repository.ID{{1}}
	link := func(name string, content []repository.ID) repository.Node {
		return repository.Node{Name: name, Type: repository.TypeFile, Mode: 0o600, Links: 2, Inode: 9, DeviceID: 1, Content: content, SizeBytes: 4}
	}
	// One inode, content that differs: two files. Content that is missing: both names are.
	snapshot := plant(t, repo, link("a", content), link("b", content), link("c", nil))
	target := t.TempDir()
	got, err := Restore(t.Context(), repo, snapshot, target, Options{})
	if !errors.Is(err, ErrIncomplete) || len(got.Missing) != 2 || got.Files != 1 {
		t.Errorf("restore = %v, missing %v; want a and b", err, got.Missing)
	}
	if _, err := os.Stat(filepath.Join(target, "c")); err != nil {
		t.Error(err)
	}
}

// What stock restic 0.14 cannot store, others can: targets of links that are not UTF-8, and attributes of links.
func TestLinksOfAnyKind(t *testing.T) {
	asRoot(t)
	repo, _ := newRepo(t, repository.Options{})
	at := time.Date(1999, 1, 2, 3, 4, 5, 6, time.UTC)
	snapshot := plant(t, repo, repository.Node{Name: "l\xff", Type: repository.TypeSymlink, LinkTarget: "../\xfe\n", ModTime: at, AccessTime: at, UID: 7, GID: 8,
		Mode: os.ModeSymlink | 0o777, Xattrs: []repository.Xattr{{Name: "trusted.l", Value: []byte("v")}}})
	for range 2 {
		target := t.TempDir()
		got, err := Restore(t.Context(), repo, snapshot, target, Options{Owner: true})
		must(t, err)
		want := "120777 7:8 915246245.000000006 to ../\xfe\n"
		if got.LostAttributes == 0 {
			want += " trusted.l=76"
		}
		sameDescription(t, describe(t, target), map[string]string{"l\xff": want})
	}
}
