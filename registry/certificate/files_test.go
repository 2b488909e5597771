package certificate_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dengbei/registry/certificate"
	"dengbei/registry/tlog"
)

// newBag writes a bag with awkward names and returns its folder and a verified certificate of it.
func newBag(t *testing.T) (string, *certificate.Verified) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"data/正文.txt": "a", "data/b/c.txt": "bb", "data/b/empty": "", "data/100%.txt": "ccc", "data/line\nfeed\r.txt": "d", "data/%0A.txt": "e",
	} {
		write(t, filepath.Join(dir, name), content)
	}
	return dir, certify(t, dir)
}

func certify(t *testing.T, dir string) *certificate.Verified {
	t.Helper()
	m256, m3 := writeManifests(t, dir)
	size, files := payload(t, dir)
	n := newNetwork(t, 3, 2)
	v, err := certificate.Verify(mustBuild(t, n.register(t, n.record(t, m256, m3, size, files))), n.policy(t))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFiles(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   string // "path problem" separated by "; "
	}{
		{"as registered", func(*testing.T, string) {}, ""},
		{"tag files are not certified", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "bag-info.txt"), "x") }, ""},
		{"changed, same length", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "data/b/c.txt"), "bc") }, "data/b/c.txt changed"},
		{"missing", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "data/正文.txt")) }, "data/正文.txt missing"},
		{"extra", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "data/b/new"), "") }, "data/b/new extra"},
		{"renamed to what a wrong decoder makes", func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, "data/%0A.txt"), filepath.Join(dir, "data/\n.txt")); err != nil {
				t.Fatal(err)
			}
		}, "data/\n.txt extra; data/%0A.txt missing"},
		{"link in place of a file", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "outside"), "a")
			remove(t, filepath.Join(dir, "data/正文.txt"))
			if err := os.Symlink("../outside", filepath.Join(dir, "data/正文.txt")); err != nil {
				t.Fatal(err)
			}
		}, "data/正文.txt not_regular"},
		{"link in place of a folder", func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, "data/b"), filepath.Join(dir, "b")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("../b", filepath.Join(dir, "data/b")); err != nil {
				t.Fatal(err)
			}
		}, "data/b not_regular; data/b/c.txt missing; data/b/empty missing"},
		{"link in place of data", func(t *testing.T, dir string) {
			if err := os.Rename(filepath.Join(dir, "data"), filepath.Join(dir, "elsewhere")); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("elsewhere", filepath.Join(dir, "data")); err != nil {
				t.Fatal(err)
			}
		}, "data not_regular"},
		{"folder in place of a file", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "data/正文.txt"))
			write(t, filepath.Join(dir, "data/正文.txt/x"), "")
		}, "data/正文.txt missing; data/正文.txt/x extra"},
		{"no data", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "data")) }, "data missing"},
		{"manifest rewritten to fit a changed file", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "data/b/c.txt"), "bc")
			writeManifests(t, dir)
		}, "manifest-sha256.txt manifest_changed; manifest-sm3.txt manifest_changed"},
		{"one manifest rewritten, the other still finds the file", func(t *testing.T, dir string) {
			old, err := os.ReadFile(filepath.Join(dir, "manifest-sm3.txt"))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "data/b/c.txt"), "bc")
			writeManifests(t, dir)
			write(t, filepath.Join(dir, "manifest-sm3.txt"), string(old))
		}, "data/b/c.txt changed; manifest-sha256.txt manifest_changed"},
		{"one manifest missing", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "manifest-sm3.txt")) }, "manifest-sm3.txt missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, v := newBag(t)
			tt.change(t, dir)
			r, err := certificate.VerifyFiles(t.Context(), v, dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := problems(r); got != tt.want || r.Holds() != (tt.want == "") || r.Undecided() {
				t.Errorf("VerifyFiles = %q, holds %v; want %q", got, r.Holds(), tt.want)
			}
			if r.Holds() && (r.Files != 6 || r.Bytes != 8) {
				t.Errorf("VerifyFiles compared %d files of %d bytes; want 6 of 8", r.Files, r.Bytes)
			}
		})
	}
}

func problems(r certificate.FileReport) string {
	var s []string
	for _, p := range r.Problems {
		s = append(s, p.Path+" "+string(p.Problem))
	}
	return strings.Join(s, "; ")
}

// Manifests that were registered with a fault are the registrant's; the verifier must still say what is wrong.
func TestVerifyFilesReportsRegisteredFaults(t *testing.T) {
	line := func(path string) string { return strings.Repeat("00", 32) + "  " + path + "\n" }
	for _, tt := range []struct{ name, manifest, want string }{
		{"path out of the bag", line("data/../../etc/passwd"), "manifest-sha256.txt manifest_malformed"},
		{"absolute path", line("/etc/passwd"), "manifest-sha256.txt manifest_malformed"},
		{"tag file", line("bagit.txt"), "manifest-sha256.txt manifest_malformed"},
		{"short digest", "00  data/a\n", "manifest-sha256.txt manifest_malformed"},
		{"endless line", strings.Repeat("a", 200<<10), "manifest-sha256.txt manifest_malformed"},
		{"NUL in path", line("data/a\x00"), "manifest-sha256.txt manifest_malformed"},
		{"listed twice", line("data/x") + line("data/x"), "data/a extra; data/x manifest_malformed; data/x missing"},
		{"listed in this one only", line("data/a"), "data/a listed_once"},
		{"empty list", "", "data/a extra"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "data/a"), "a")
			write(t, filepath.Join(dir, "manifest-sha256.txt"), tt.manifest)
			write(t, filepath.Join(dir, "manifest-sm3.txt"), "")
			n := newNetwork(t, 3, 2)
			v, err := certificate.Verify(mustBuild(t, n.register(t, n.record(t, []byte(tt.manifest), nil, 1, 1))), n.policy(t))
			if err != nil {
				t.Fatal(err)
			}
			r, err := certificate.VerifyFiles(t.Context(), v, dir)
			if got := problems(r); err != nil || !strings.Contains(got, tt.want) {
				t.Errorf("VerifyFiles = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// Each digest counts by itself, so that breaking one algorithm later does not help.
func TestVerifyFilesChecksBothDigests(t *testing.T) {
	for i, name := range []string{"manifest-sha256.txt", "manifest-sm3.txt"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "data/a"), "a")
		m256, m3 := writeManifests(t, dir)
		manifests := [][]byte{m256, m3}
		if manifests[i][0]++; manifests[i][0] > '9' {
			manifests[i][0] = '0'
		}
		write(t, filepath.Join(dir, name), string(manifests[i]))
		n := newNetwork(t, 3, 2)
		v, err := certificate.Verify(mustBuild(t, n.register(t, n.record(t, m256, m3, 1, 1))), n.policy(t))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := certificate.VerifyFiles(t.Context(), v, dir); err != nil || problems(r) != "data/a changed" {
			t.Errorf("wrong digest in %s: VerifyFiles = %q, %v; want data/a changed", name, problems(r), err)
		}
	}
}

func TestVerifyFilesComparesTheTotals(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "data/a"), "a")
	m256, m3 := writeManifests(t, dir)
	n := newNetwork(t, 3, 2)
	v, err := certificate.Verify(mustBuild(t, n.register(t, n.record(t, m256, m3, 1, 2))), n.policy(t))
	if err != nil {
		t.Fatal(err)
	}
	if r, err := certificate.VerifyFiles(t.Context(), v, dir); err != nil || problems(r) != "data payload" {
		t.Errorf("VerifyFiles = %q, %v; want data payload", problems(r), err)
	}
}

func TestVerifyFilesSaysWhenItCannotTell(t *testing.T) {
	dir, v := newBag(t)
	if _, err := certificate.VerifyFiles(t.Context(), v, t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("VerifyFiles of an empty folder = %v; want ErrNotExist", err)
	}
	if _, err := certificate.VerifyFiles(t.Context(), v, filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("VerifyFiles of no folder = %v; want ErrNotExist", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := certificate.VerifyFiles(ended, v, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("VerifyFiles with an ended context = %v; want Canceled", err)
	}
	n := newNetwork(t, 3, 2)
	c, err := certificate.Parse(mustBuild(t, goldenBag(t, n)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Disclose(tlog.FieldManifestSHA256)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	hides, err := certificate.Verify(raw, n.policy(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := certificate.VerifyFiles(t.Context(), hides, dir); !errors.Is(err, certificate.ErrHidden) {
		t.Errorf("VerifyFiles with a hidden manifest = %v; want ErrHidden", err)
	}
}
