package e2e

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

// mountVolume gives dir a file system of its own whose size can be changed, and keeps what is in dir. It returns why it
// cannot.
func mountVolume(t *testing.T, dir string) error {
	t.Helper()
	if os.Geteuid() != 0 {
		return errors.New("mounting a volume needs root")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	kept := tree(t, dir)
	if err := syscall.Mount("dengbei-e2e", dir, "tmpfs", 0, volumeOptions(volumeBytes)); err != nil {
		return fmt.Errorf("mount a volume on %s: %w", dir, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for name, text := range kept {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return nil
}

func volumeOptions(bytes int64) string { return fmt.Sprintf("size=%d,mode=0700", bytes) }

// resize makes the volume at dir as large as what is in it and free bytes more.
func resize(t *testing.T, dir string, free int64) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	used := int64(st.Blocks-st.Bfree) * st.Bsize
	if err := syscall.Mount("dengbei-e2e", dir, "tmpfs", syscall.MS_REMOUNT, volumeOptions(used+free)); err != nil {
		t.Fatalf("give the volume %s %d free bytes: %v", dir, free, err)
	}
}

// nobody is a user without rights.
func nobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}
