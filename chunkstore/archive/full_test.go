package archive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

func TestBackupToAFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root: a full disk is NOT checked")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skip("cannot mount a small file system, a full disk is NOT checked:", err)
	}
	defer func() { must(t, syscall.Unmount(dir, 0)) }()
	files, err := chunkstore.Create(filepath.Join(dir, "repo"))
	must(t, err)
	repo, err := repository.Init(t.Context(), files, password, repository.Options{PackBytes: 4 << 20, Scrypt: repository.Scrypt{N: 1024, R: 8, P: 1}})
	must(t, err)
	src := t.TempDir()
	for i := range 10 {
		write(t, src, map[string][]byte{fmt.Sprint(i): noise(fmt.Sprint(i), 4<<20)})
	}
	if _, err := Backup(t.Context(), repo, Options{Roots: []Root{{Path: "/", Source: src}}}); !errors.Is(err, chunkstore.ErrFull) {
		t.Errorf("Backup to a full disk = %v; want ErrFull", err)
	}
	for e := range files.List(t.Context(), chunkstore.Snapshot) {
		t.Errorf("%v was saved", e.Name)
	}
	for e, err := range files.List(t.Context(), chunkstore.Pack) {
		must(t, err)
		must(t, files.Verify(t.Context(), e.Name))
	}
	left, err := os.ReadDir(filepath.Join(files.Dir(), "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("tmp/ holds %v, %v; want nothing", left, err)
	}
	// With more room the next backup goes on from there.
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=80m"))
	repo, err = repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	r, err := Backup(t.Context(), repo, Options{Roots: []Root{{Path: "/", Source: src}}})
	must(t, err)
	if r.Files != 10 || r.Stats.PlainBytes > 36<<20 {
		t.Errorf("second Backup() = %d files, %d new bytes; want 10 and less than all 40 MiB", r.Files, r.Stats.PlainBytes)
	}
}
