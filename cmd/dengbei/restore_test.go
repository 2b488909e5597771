package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dengbei/node/nodepb"
)

func TestBagWriterTrustsNothing(t *testing.T) {
	defer goleak.VerifyNone(t)
	file := func(path string, size uint64) *nodepb.RestoredFile {
		return &nodepb.RestoredFile{Path: path, SizeBytes: size, Mode: 0o777, ModifiedAtMillis: 1_700_000_000_000}
	}
	for _, tt := range []struct {
		name string
		do   func(*bagWriter) error
		want string // in the error; empty = none
	}{
		{"a whole bag is written", func(b *bagWriter) error {
			if err := b.next(file("data/办件·1/a.txt", 3)); err != nil {
				return err
			}
			if err := b.write([]byte("abc")); err != nil {
				return err
			}
			if err := b.next(file("data/empty", 0)); err != nil {
				return err
			}
			return b.finish(&nodepb.RestoreEnd{Files: 2, SizeBytes: 3})
		}, ""},
		{"a path out of the target is refused", func(b *bagWriter) error { return b.next(file("../a", 1)) }, "unsafe file"},
		{"an absolute path is refused", func(b *bagWriter) error { return b.next(file("/etc/a", 1)) }, "unsafe file"},
		{"bytes of no file are refused", func(b *bagWriter) error { return b.write([]byte("x")) }, "bytes of no file"},
		{"more bytes than announced are refused", func(b *bagWriter) error {
			if err := b.next(file("a", 1)); err != nil {
				return err
			}
			return b.write([]byte("xy"))
		}, "more bytes than the 1 announced"},
		{"missing bytes are refused", func(b *bagWriter) error {
			if err := b.next(file("a", 2)); err != nil {
				return err
			}
			return b.next(file("b", 0))
		}, "2 of 2 bytes are missing"},
		{"the same file twice is refused", func(b *bagWriter) error {
			if err := b.next(file("a", 0)); err != nil {
				return err
			}
			return b.next(file("a", 0))
		}, "file exists"},
		{"wrong totals are refused", func(b *bagWriter) error {
			if err := b.next(file("a", 0)); err != nil {
				return err
			}
			return b.finish(&nodepb.RestoreEnd{Files: 2})
		}, "the node counted 2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, err := os.OpenRoot(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			b := &bagWriter{root: root, dirs: map[string]bool{".": true}}
			defer b.abort()
			err = tt.do(b)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v; want %q", err, tt.want)
			}
			if err != nil {
				return
			}
			info, err := root.Stat("data/办件·1/a.txt")
			if err != nil || info.Size() != 3 || info.Mode().Perm() != 0o755 || info.ModTime().UnixMilli() != 1_700_000_000_000 {
				t.Errorf("restored file: %v %v; want 3 bytes, mode 0755 and the time announced", info, err)
			}
		})
	}
}

func TestWriteFileDurableReplacesOnlyIfAsked(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "f")
	if err := writeFileDurable(path, []byte("one"), 0o600, false); err != nil {
		t.Fatal(err)
	}
	if err := writeFileDurable(path, []byte("two"), 0o600, false); !os.IsExist(err) && !strings.Contains(err.Error(), "exists") {
		t.Errorf("second write without replace: %v; want that it exists", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "one" {
		t.Errorf("content %q; want the first", b)
	}
	if err := writeFileDurable(path, []byte("three"), 0o600, true); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("directory holds %v, %v; want the file alone", entries, err)
	}
}

// As root, -o /dev/stdout must not make a file of it.
func TestWriteFileDurableReplacesFilesOnly(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink(os.DevNull, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, dir} {
		if err := writeFileDurable(path, []byte("x"), 0o600, true); !isUsage(err) {
			t.Errorf("write over %s: %v; want that it is no regular file", path, err)
		}
	}
	if to, err := os.Readlink(link); err != nil || to != os.DevNull {
		t.Errorf("the link leads to %q, %v; want it as it was", to, err)
	}
}
