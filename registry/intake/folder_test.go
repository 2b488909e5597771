package intake

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"dengbei/chunkstore/digest"
)

// folder writes files below a new folder.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for p, c := range files {
		full := filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadFolder(t *testing.T) {
	dir := folder(t, contents())
	if err := os.MkdirAll(filepath.Join(dir, "nothing here"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "COM1.txt"), []byte("device"), 0o600); err != nil {
		t.Fatal(err)
	}
	warned := map[string]PathWarning{}
	var last FolderProgress
	files, err := ReadFolder(t.Context(), dir, FolderOptions{Workers: 3, Progress: func(p FolderProgress) { last = p }, Warn: func(item string, w PathWarning) { warned[item] = w }})
	if err != nil {
		t.Fatal(err)
	}
	want := contents()
	want["COM1.txt"] = "device"
	if len(files) != len(want) || !slices.IsSortedFunc(files, func(a, b File) int { return strings.Compare(a.Path, b.Path) }) {
		t.Fatalf("ReadFolder = %d files, sorted %v; want %d", len(files), files, len(want))
	}
	for _, f := range files {
		c := want[f.Path]
		if f.SizeBytes != int64(len(c)) || f.SHA256 != digest.Of([]byte(c)) || f.SM3 != digest.OfSM3([]byte(c)) || f.ModTime.IsZero() {
			t.Errorf("ReadFolder: %q = %+v", f.Path, f)
		}
	}
	if warned["COM1.txt"] != WarnDeviceName || warned["nothing here"] != WarnEmptyFolder || warned["a\nb%.txt"] != WarnControlChars || len(warned) != 3 {
		t.Errorf("warnings = %v", warned)
	}
	if last.Files != len(want) || last.FilesTotal != len(want) || last.Bytes != last.BytesTotal {
		t.Errorf("last progress = %+v", last)
	}
}

func TestReadFolderRefuses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("names and links as on Linux")
	}
	for name, row := range map[string]struct {
		prepare func(t *testing.T, dir string) string // returns the folder to read
		rule    Rule
		says    string
	}{
		"a missing folder": {func(t *testing.T, dir string) string { return filepath.Join(dir, "no") }, RuleStructure, "does not exist"},
		"a file instead of a folder": {func(t *testing.T, dir string) string {
			p := filepath.Join(dir, "f")
			must(t, os.WriteFile(p, nil, 0o600))
			return p
		}, RuleStructure, "is not a folder"},
		"an empty folder": {func(t *testing.T, dir string) string { return dir }, RuleStructure, "holds no file"},
		"only empty folders": {func(t *testing.T, dir string) string {
			must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o700))
			return dir
		}, RuleStructure, "holds no file"},
		"an absolute link":     {link("/etc/passwd"), RulePathSafety, "absolute path"},
		"a link out of it":     {link("../../etc/passwd"), RulePathSafety, "out of the delivery"},
		"a link to the parent": {link(".."), RulePathSafety, "out of the delivery"},
		"a link inside":        {link("real.txt"), RulePathSafety, `symbolic link to "real.txt"`},
		"a link to its folder": {link("."), RulePathSafety, "symbolic link"},
		"a link to nothing":    {link("gone.txt"), RulePathSafety, "symbolic link"},
		"a pipe": {func(t *testing.T, dir string) string {
			must(t, syscall.Mkfifo(filepath.Join(dir, "p"), 0o600))
			return dir
		}, RulePathSafety, "pipe"},
		"a socket":              {socket, RulePathSafety, "socket"},
		"a name in GB18030":     {named("\xb5\xb5\xb0\xb8.txt"), RulePathSafety, "convmv"},
		"a backslash in a name": {named(`a\b.txt`), RulePathSafety, "backslash"},
		"a folder that is no UTF-8": {func(t *testing.T, dir string) string {
			must(t, os.MkdirAll(filepath.Join(dir, "\xff"), 0o700))
			return named("\xff/a.txt")(t, dir)
		}, RulePathSafety, "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			var refusal *RuleError
			files, err := ReadFolder(t.Context(), row.prepare(t, t.TempDir()), FolderOptions{})
			if !errors.As(err, &refusal) || refusal.Rule != row.rule || !strings.Contains(refusal.Error(), row.says) || refusal.Way == "" || files != nil {
				t.Fatalf("ReadFolder = %v, %v; want rule %s saying %q", files, err, row.rule, row.says)
			}
			if !strings.HasPrefix(refusal.Error(), "rule "+string(row.rule)+" "+row.rule.Name()+": \"") {
				t.Errorf("text = %s", refusal)
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func link(target string) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		must(t, os.WriteFile(filepath.Join(dir, "real.txt"), []byte("x"), 0o600))
		must(t, os.Symlink(target, filepath.Join(dir, "link")))
		return dir
	}
}

func named(name string) func(*testing.T, string) string {
	return func(t *testing.T, dir string) string {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
		return dir
	}
}

func socket(t *testing.T, dir string) string {
	dir, err := os.MkdirTemp("/tmp", "in") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return dir
}

func TestReadFolderListsSeveralRefusals(t *testing.T) {
	dir := folder(t, map[string]string{`a\1`: "", `a\2`: "", "good": ""})
	_, err := ReadFolder(t.Context(), dir, FolderOptions{})
	if err == nil || !strings.Contains(err.Error(), `a\\1`) || !strings.Contains(err.Error(), `a\\2`) {
		t.Fatalf("ReadFolder = %v; want both names", err)
	}
}

func TestUnreadableFile(t *testing.T) {
	dir := folder(t, map[string]string{"closed": "x"})
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	info, err := root.Stat("closed")
	must(t, err)
	var refusal *RuleError
	if os.Getuid() == 0 {
		// Nothing is unreadable for root: a folder under the file's name gives the same kind of failure.
		must(t, os.Remove(filepath.Join(dir, "closed")))
		must(t, os.Symlink("/proc/1/mem", filepath.Join(dir, "closed")))
	} else {
		must(t, os.Chmod(filepath.Join(dir, "closed"), 0))
	}
	f := File{Path: "closed", SizeBytes: info.Size(), ModTime: info.ModTime().UTC()}
	if err := hashFile(t.Context(), root, &f); !errors.As(err, &refusal) || refusal.Rule != RuleContent || !strings.Contains(err.Error(), "cannot be opened") {
		t.Fatalf("hashFile = %v; want rule 2-7", err)
	}
}

func TestFileChangesWhileRead(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"it grew":   func(p string) error { return os.WriteFile(p, []byte("content and more"), 0o600) },
		"it shrank": func(p string) error { return os.Truncate(p, 3) },
		"same size, new bytes": func(p string) error {
			return errors.Join(os.WriteFile(p, []byte("CONTENT"), 0o600), os.Chtimes(p, at(), at()))
		},
		"it was replaced": func(p string) error {
			info, err := os.Stat(p)
			return errors.Join(err, os.WriteFile(p+".new", []byte("content"), 0o600), os.Chtimes(p+".new", info.ModTime(), info.ModTime()), os.Rename(p+".new", p))
		},
		"it was removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"f": "content"})
			p := filepath.Join(dir, "f")
			root, err := os.OpenRoot(dir)
			must(t, err)
			defer root.Close()
			info, err := root.Stat("f")
			must(t, err)
			f := File{Path: "f", SizeBytes: info.Size(), ModTime: info.ModTime().UTC()}
			// The change falls between the two looks at the file: the context is asked once per block that is read.
			ctx := &hooked{Context: t.Context(), hook: func() { must(t, change(p)) }}
			var refusal *RuleError
			if err := hashFile(ctx, root, &f); !errors.As(err, &refusal) || refusal.Rule != RuleContent || !strings.Contains(err.Error(), "changed") {
				t.Fatalf("hashFile = %v; want rule 2-7 saying that it changed", err)
			}
		})
	}
}

// hooked runs hook the first time anybody asks for Err.
type hooked struct {
	context.Context
	hook func()
	done bool
}

func (h *hooked) Err() error {
	if !h.done {
		h.done = true
		h.hook()
	}
	return h.Context.Err()
}

func TestReadFolderCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ReadFolder(ctx, folder(t, contents()), FolderOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("ReadFolder = %v; want context.Canceled", err)
	}
}
