package certificate_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"dengbei/registry/certificate"

	"golang.org/x/sys/unix"
)

// obeyModes takes from this thread the capabilities with which root reads everything. The thread ends with the test.
func obeyModes(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		t.Fatal(err)
	}
	caps[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	if err := unix.Capset(&header, &caps[0]); err != nil {
		t.Fatal(err)
	}
}

func TestUnreadableFolderIsUndecided(t *testing.T) {
	dir, v := newBag(t)
	folder := filepath.Join(dir, "data", "b")
	if err := os.Chmod(folder, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Error(err)
		}
	})
	obeyModes(t)
	r, err := certificate.VerifyFiles(t.Context(), v, dir)
	if err != nil || problems(r) != "data/b unreadable" || !r.Undecided() || r.Holds() {
		t.Errorf("VerifyFiles = %q, %v; want data/b unreadable, undecided", problems(r), err)
	}
}
