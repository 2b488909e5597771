package intake

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore/digest"
)

func bagFor(id digest.Digest) BagInfo {
	return BagInfo{Submission: id, Ordinal: 0, Registrant: "330102-office", At: time.Date(2026, 2, 28, 16, 30, 0, 0, time.UTC), RecordJSON: []byte("{\"seed\":\"00\"}\n")}
}

// manifestLines reads a manifest as RFC 8493 2.1.3 says.
func manifestLines(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	decode := strings.NewReplacer("%0A", "\n", "%0D", "\r", "%25", "%")
	lines := map[string]string{}
	var order []string
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		sum, name, ok := strings.Cut(s.Text(), "  ")
		if !ok || lines[name] != "" {
			t.Fatalf("%s: line %q", path, s.Text())
		}
		name = decode.Replace(name)
		lines[name] = sum
		order = append(order, name)
	}
	if !slices.IsSorted(order) {
		t.Errorf("%s is not sorted: %q", path, order)
	}
	return lines
}

func TestBagHoldsUnderRecomputation(t *testing.T) {
	q := openQuarantine(t, t.TempDir())
	files := contents()
	files["a\rb"] = "carriage return"
	sub := submission("x", files)
	id := receive(t, q, sub, files)
	dir := q.RecordDir(id, 0)
	first, err := WriteBag(dir, &sub.Records[0], bagFor(id))
	must(t, err)

	payload := map[string]string{}
	tags := map[string]string{}
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		must(t, err)
		b, err := os.ReadFile(p)
		must(t, err)
		if strings.HasPrefix(rel, "data/") {
			payload[rel] = string(b)
		} else {
			tags[rel] = string(b)
		}
		return nil
	})
	must(t, err)
	for name, of := range map[string]func([]byte) digest.Digest{"manifest-sha256.txt": digest.Of, "manifest-sm3.txt": digest.OfSM3} {
		want := map[string]string{}
		for p, c := range payload {
			want[p] = of([]byte(c)).Hex()
		}
		if got := manifestLines(t, filepath.Join(dir, name)); !maps.Equal(got, want) || len(got) != len(files) {
			t.Errorf("%s = %v; want %v", name, got, want)
		}
	}
	wantTags := map[string]string{}
	for p, c := range tags {
		if p != "tagmanifest-sha256.txt" {
			wantTags[p] = digest.Of([]byte(c)).Hex()
		}
	}
	if got := manifestLines(t, filepath.Join(dir, "tagmanifest-sha256.txt")); !maps.Equal(got, wantTags) || len(got) != 5 {
		t.Errorf("tag manifest = %v; want %v", got, wantTags)
	}
	if tags["bagit.txt"] != "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n" {
		t.Errorf("bagit.txt = %q", tags["bagit.txt"])
	}
	for _, line := range []string{"Source-Organization: 330102-office\n", "Bagging-Date: 2026-03-01\n", "External-Identifier: " + id.Hex() + "/0\n", "Payload-Oxum: "} {
		if !strings.Contains(tags["bag-info.txt"], line) {
			t.Errorf("bag-info.txt = %q; want %q in it", tags["bag-info.txt"], line)
		}
	}
	if first.ManifestSHA256 != digest.Of([]byte(tags["manifest-sha256.txt"])) || first.ManifestSM3 != digest.OfSM3([]byte(tags["manifest-sm3.txt"])) {
		t.Errorf("WriteBag = %+v; want the digests of its manifests", first)
	}
	again, err := WriteBag(dir, &sub.Records[0], bagFor(id))
	if err != nil || again != first {
		t.Fatalf("WriteBag again = %+v, %v; want %+v", again, err, first)
	}
	for p, c := range tags {
		if b, err := os.ReadFile(filepath.Join(dir, p)); err != nil || string(b) != c {
			t.Errorf("%s changed on the second writing: %v", p, err)
		}
	}
}

func TestWriteBagRefusesAnotherPayload(t *testing.T) {
	for name, change := range map[string]func(data string) error{
		"a file more":    func(data string) error { return os.WriteFile(filepath.Join(data, "more"), nil, 0o600) },
		"a file less":    func(data string) error { return os.Remove(filepath.Join(data, "空.txt")) },
		"a shorter file": func(data string) error { return os.Truncate(filepath.Join(data, "请示", "正文.txt"), 1) },
		"a link instead": func(data string) error {
			p := filepath.Join(data, "空.txt")
			return errors.Join(os.Remove(p), os.Symlink("/dev/null", p))
		},
		"an outside link": func(data string) error { return os.Symlink("/etc", filepath.Join(data, "etc")) },
	} {
		t.Run(name, func(t *testing.T) {
			q := openQuarantine(t, t.TempDir())
			sub := submission("x", contents())
			id := receive(t, q, sub, contents())
			dir := q.RecordDir(id, 0)
			must(t, change(filepath.Join(dir, "data")))
			if _, err := WriteBag(dir, &sub.Records[0], bagFor(id)); !errors.Is(err, ErrRule) {
				t.Fatalf("WriteBag = %v; want ErrRule", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "bagit.txt")); !os.IsNotExist(err) {
				t.Fatalf("bagit.txt after a refusal: %v", err)
			}
		})
	}
}
