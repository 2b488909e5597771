package chunktest_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// TestEachCallOfTheDiskFails has each call with which something is done to a repository directory fail once. Then it is
// reported, no file is under a final name that is not whole, nothing that was stored is lost, and the next try succeeds.
func TestEachCallOfTheDiskFails(t *testing.T) {
	t.Parallel()
	stored, added, config := chunktest.Noise("stored", 1000), chunktest.Noise("added", 1000), []byte("config")
	name := chunktest.NameOf(chunkstore.Pack, added)
	for _, tt := range []struct {
		name string
		do   func(f *chunkstore.Files) error
		with []byte // stored as well
	}{
		{"put", func(f *chunkstore.Files) error { return f.PutBytes(t.Context(), name, added) }, nil},
		{"put config", func(f *chunkstore.Files) error {
			return f.PutBytes(t.Context(), chunktest.NameOf(chunkstore.Config, config), config)
		}, nil},
		{"receive", func(f *chunkstore.Files) error {
			in, err := f.Receive(name, int64(len(added)))
			if err != nil {
				return err
			}
			if _, err = in.Write(added[in.Offset():]); err == nil {
				err = in.Commit(t.Context())
			}
			if err != nil {
				in.Close() // the fault is what is reported
			}
			return err
		}, nil},
		{"remove", func(f *chunkstore.Files) error { return f.Remove(t.Context(), name) }, added},
		{"quarantine", func(f *chunkstore.Files) error {
			err := f.Quarantine(chunktest.NameOf(chunkstore.Pack, stored))
			if errors.Is(err, fs.ErrNotExist) { // the last step of the first try failed
				return nil
			}
			return err
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n, failed := 0, true; failed; n++ {
				dir := chunktest.NewFiles(t, chunkstore.LocalDisk{}).Dir()
				plain, err := chunkstore.Open(dir)
				chunktest.Must(t, err)
				chunktest.Must(t, plain.PutBytes(t.Context(), chunktest.NameOf(chunkstore.Pack, stored), stored))
				if tt.with != nil {
					chunktest.Must(t, plain.PutBytes(t.Context(), chunktest.NameOf(chunkstore.Pack, tt.with), tt.with))
				}
				failed = false
				call := ""
				files, err := chunkstore.OpenOn(&chunktest.FailingDisk{Fail: func(i int, c string) error {
					if i != n {
						return nil
					}
					failed, call = true, c
					return syscall.EIO
				}}, dir)
				chunktest.Must(t, err)
				err = tt.do(files)
				leftover := call == "remove" && tt.name != "remove" // in tmp/, which costs nothing
				if failed && !leftover && !errors.Is(err, syscall.EIO) {
					t.Errorf("call %d, %s, failed and gave %v; want EIO", n, call, err)
				}
				chunktest.Must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
					if err == nil && d.Type().IsRegular() && len(d.Name()) == 64 {
						if b, err := os.ReadFile(p); err != nil || digest.Of(b).Hex() != d.Name() {
							t.Errorf("call %d, %s, failed: %s is not whole (%v)", n, call, p, err)
						}
					}
					return err
				}))
				damaged, err := plain.Damaged()
				chunktest.Must(t, err)
				if err := plain.Verify(t.Context(), chunktest.NameOf(chunkstore.Pack, stored)); err != nil && len(damaged) == 0 {
					t.Errorf("call %d, %s, failed: what was stored: %v", n, call, err)
				}
				if err := tt.do(plain); err != nil && !errors.Is(err, fs.ErrExist) {
					t.Errorf("call %d, %s, failed: the next try = %v", n, call, err)
				}
				_, err = chunkstore.Open(dir)
				chunktest.Must(t, err)
				if left, _ := filepath.Glob(filepath.Join(dir, "tmp/put-*")); len(left) > 0 {
					t.Errorf("call %d, %s, failed: tmp/ holds %q", n, call, left)
				}
			}
		})
	}
}

// TestParentsAreDurable makes a repository where several directories are missing.
func TestParentsAreDurable(t *testing.T) {
	root := t.TempDir()
	r := chunktest.NewRecorder(t, root)
	_, err := chunkstore.CreateOn(r, filepath.Join(root, "a/b/c"))
	chunktest.Must(t, err)
	for c := range r.Crashes() {
		if c.Steps == r.Len() && !slices.Contains(c.Dirs, "a/b/c/data/ff") {
			t.Fatalf("%s: not all directories are there", c.What)
		}
	}
}

// TestReadOnlyMediumCanBeOpened reads what stock restic has written to a disk that takes nothing.
func TestReadOnlyMediumCanBeOpened(t *testing.T) {
	files := chunktest.NewFiles(t, chunkstore.LocalDisk{})
	b := []byte("snapshot")
	chunktest.Must(t, files.PutBytes(t.Context(), chunktest.NameOf(chunkstore.Snapshot, b), b))
	chunktest.Must(t, os.RemoveAll(filepath.Join(files.Dir(), "tmp")))
	readOnly := &chunktest.FailingDisk{Fail: func(int, string) error { return syscall.EROFS }}
	files, err := chunkstore.OpenOn(readOnly, files.Dir())
	chunktest.Must(t, err)
	chunktest.Must(t, files.Verify(t.Context(), chunktest.NameOf(chunkstore.Snapshot, b)))
	if err := files.PutBytes(t.Context(), chunktest.NameOf(chunkstore.Lock, b), b); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Put on a read-only medium = %v; want EROFS", err)
	}
}

// TestFileSystemWithoutLinks makes a repository on a disk such as a memory stick.
func TestFileSystemWithoutLinks(t *testing.T) {
	s := local()
	s.New = func(t *testing.T) repository.Files {
		return chunktest.NewFiles(t, &chunktest.FailingDisk{Fail: func(_ int, call string) error {
			if call == "link" {
				return syscall.EPERM
			}
			return nil
		}})
	}
	chunktest.TestFiles(t, s)
}
