package chunkstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/check"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
)

const password = chunktest.Password

// cheap keeps scrypt from taking most of the time of the tests.
var cheap = repository.Scrypt{N: 1024, R: 8, P: 1}

// restic runs stock restic on the repository dir, or skips the test where there is none.
func restic(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := tryRestic(t, dir, args...)
	if err != nil {
		t.Fatalf("restic %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func tryRestic(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	out, err := chunktest.Stock(t, dir, args...).CombinedOutput()
	return string(out), err
}

// sampleTree makes files of all shapes below dir.
func sampleTree(t *testing.T, dir string) {
	t.Helper()
	rnd := rand.New(rand.NewChaCha8([32]byte{1}))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	text := func(n int) []byte { return bytes.Repeat([]byte("登记备份 registration and backup\n"), n/30+1)[:n] }
	files := map[string][]byte{
		"empty":                  {},
		"one":                    []byte("1"),
		"卷宗/第一件/正文.txt":          text(3000),
		"a/b/c/d/deep.txt":       text(100),
		"a/<html>&\"quoted\".md": text(10),
		"a/new\nline":            text(10),
		"a/latin-\xe9":           text(10),
		"scan.tif":               noise(3 << 20),
		"dump.sql":               text(2 << 20),
		"zero.img":               make([]byte, 1<<20),
		"exact-min":              noise(512 << 10),
		"min-plus-one":           noise(512<<10 + 1),
		"same-as-scan.tif":       nil,
	}
	for name, b := range files {
		p := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, b, 0o640))
	}
	b, err := os.ReadFile(filepath.Join(dir, "scan.tif"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "same-as-scan.tif"), b, 0o600))
	for i := range 70 {
		p := filepath.Join(dir, "many", fmt.Sprintf("%02d", i%7), fmt.Sprintf("f%03d", i))
		must(t, os.MkdirAll(filepath.Dir(p), 0o750))
		must(t, os.WriteFile(p, noise(rnd.IntN(4000)), 0o644))
	}
	must(t, os.MkdirAll(filepath.Join(dir, "empty-dir"), 0o700))
	must(t, os.Symlink("../scan.tif", filepath.Join(dir, "a/link")))
	must(t, os.Symlink("/nonexistent/absolute", filepath.Join(dir, "dangling")))
	must(t, os.Chmod(filepath.Join(dir, "one"), 0o4755))
	old := time.Date(1999, 12, 31, 23, 59, 59, 123456789, time.UTC)
	must(t, os.Chtimes(filepath.Join(dir, "one"), old, old))
	must(t, os.Chtimes(filepath.Join(dir, "a"), old, old))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// describeTree lists everything below dir with mode, time and content, to compare two trees by.
func describeTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, p)
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%v %v", info.Mode(), info.ModTime().UnixNano())
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += " " + digest.Of(b).Hex()
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line = "link to " + target
		}
		all[name] = line
		return nil
	}))
	return all
}

func sameTree(t *testing.T, got, want string) {
	t.Helper()
	g, w := describeTree(t, got), describeTree(t, want)
	for name, line := range w {
		if g[name] != line {
			t.Errorf("%q is %q; want %q", name, g[name], line)
		}
	}
	for name := range g {
		if _, ok := w[name]; !ok {
			t.Errorf("%q is there and should not be", name)
		}
	}
}

func newRepo(t *testing.T, o repository.Options) (*repository.Repository, *chunkstore.Files) {
	t.Helper()
	files, err := chunkstore.Create(filepath.Join(t.TempDir(), "repo"))
	must(t, err)
	o.Scrypt = cheap
	repo, err := repository.Init(t.Context(), files, password, o)
	must(t, err)
	return repo, files
}

func backup(t *testing.T, repo *repository.Repository, roots ...archive.Root) *archive.Result {
	t.Helper()
	r, err := archive.Backup(t.Context(), repo, archive.Options{Roots: roots, Host: "centre", Tags: []string{"batch"}})
	must(t, err)
	return r
}

func noFindings(t *testing.T, repo *repository.Repository) {
	t.Helper()
	found, err := check.Check(t.Context(), repo, check.Options{ReadData: true})
	must(t, err)
	for _, f := range found {
		t.Errorf("finding: %s", f)
	}
}

func TestStockResticReadsWhatWeWrite(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]repository.Options{
		"default":                              {},
		"uncompressed":                         {Compression: repository.CompressOff},
		"database chunks, better, small packs": {Chunks: repository.DatabaseChunks(), PackBytes: 4 << 20, Compression: repository.CompressBetter},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := t.TempDir()
			sampleTree(t, src)
			repo, files := newRepo(t, o)
			r := backup(t, repo, archive.Root{Path: "/records/甲-1", Source: src}, archive.Root{Path: "/records/list.txt", Source: filepath.Join(src, "one")})
			noFindings(t, repo)

			if out := restic(t, files.Dir(), "check", "--read-data"); !strings.Contains(out, "no errors were found") {
				t.Errorf("restic check says %s", out)
			}
			var listed []struct {
				ID       string   `json:"id"`
				Paths    []string `json:"paths"`
				Hostname string   `json:"hostname"`
				Tags     []string `json:"tags"`
			}
			must(t, json.Unmarshal([]byte(restic(t, files.Dir(), "snapshots", "--json")), &listed))
			if len(listed) != 1 || listed[0].ID != r.SnapshotID.Hex() || listed[0].Hostname != "centre" ||
				strings.Join(listed[0].Paths, " ") != "/records/list.txt /records/甲-1" || strings.Join(listed[0].Tags, " ") != "batch" {
				t.Errorf("restic lists %+v; want snapshot %s", listed, r.SnapshotID.Hex())
			}
			target := t.TempDir()
			restic(t, files.Dir(), "restore", r.SnapshotID.Hex(), "--target", target)
			sameTree(t, filepath.Join(target, "records/甲-1"), src)

			// And our own restore of the same.
			target = t.TempDir()
			if _, err := restore.Restore(t.Context(), repo, r.SnapshotID, target, restore.Options{Owner: os.Getuid() == 0}); err != nil {
				t.Fatal(err)
			}
			if os.Getuid() == 0 { // set-ID bits come back to root only
				sameTree(t, filepath.Join(target, "records/甲-1"), src)
			}
		})
	}
}

func TestWeReadWhatStockResticWrites(t *testing.T) {
	t.Parallel()
	src, dir := t.TempDir(), filepath.Join(t.TempDir(), "repo")
	sampleTree(t, src)
	restic(t, dir, "init", "--repository-version", "2")
	restic(t, dir, "backup", "--compression", "max", src)

	files, err := chunkstore.Open(dir)
	must(t, err)
	repo, err := repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	noFindings(t, repo)
	all, unreadable, err := repo.Snapshots(t.Context())
	must(t, err)
	if len(all) != 1 || len(unreadable) != 0 {
		t.Fatalf("Snapshots() = %d, %v; want one and none unreadable", len(all), unreadable)
	}
	target := t.TempDir()
	_, err = restore.Restore(t.Context(), repo, all[0].ID, target, restore.Options{Owner: os.Getuid() == 0})
	must(t, err)
	if os.Getuid() == 0 {
		sameTree(t, filepath.Join(target, src), src)
	}

	// What stock restic stored is not stored again: chunks and trees are the same.
	r := backup(t, repo, archive.Root{Path: src, Source: src})
	if r.Stats.DataBlobs != 0 {
		t.Errorf("backup of what restic has stored %d data blobs; want 0", r.Stats.DataBlobs)
	}
	restic(t, dir, "check", "--read-data")
}

func TestStockResticAddsNoTreeToOurs(t *testing.T) {
	t.Parallel()
	src := filepath.Join(t.TempDir(), "delivery")
	must(t, os.Mkdir(src, 0o755))
	sampleTree(t, src)
	repo, files := newRepo(t, repository.Options{})
	backup(t, repo, archive.Root{Path: "/delivery", Source: src})
	before := strings.Count(restic(t, files.Dir(), "list", "blobs"), "tree")

	cmd := chunktest.Stock(t, files.Dir(), "backup", "delivery")
	cmd.Dir = filepath.Dir(src)
	chunktest.Run(t, cmd)
	if after := strings.Count(restic(t, files.Dir(), "list", "blobs"), "tree"); after != before {
		t.Errorf("stock restic brought %d trees to %d; want trees equal byte for byte", after-before, before)
	}
}

func TestPlantedFilesHinderNobody(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	sampleTree(t, src)
	repo, files := newRepo(t, repository.Options{})
	r := backup(t, repo, archive.Root{Path: "/", Source: src})

	ctx := context.Background()
	junk := bytes.Repeat([]byte("junk"), 125)
	planted := make(map[chunkstore.Name]bool)
	plant := func(k chunkstore.Kind, b []byte) {
		n := chunkstore.Name{Kind: k, ID: digest.Of(b)}
		must(t, files.PutBytes(ctx, n, b))
		planted[n] = true
	}
	for _, k := range []chunkstore.Kind{chunkstore.Index, chunkstore.Snapshot, chunkstore.Key, chunkstore.Pack} {
		plant(k, junk)
		plant(k, []byte{})
		plant(k, []byte("{}"))
	}
	for i := range 40 {
		plant(chunkstore.Key, fmt.Appendf(nil, `{"kdf":"scrypt","N":1073741824,"r":8,"p":%d,"salt":"%s","data":"%s"}`, i,
			strings.Repeat("A", 84)+"AA==", strings.Repeat("A", 200)))
	}
	plant(chunkstore.Key, []byte(`{"kdf":"scrypt","N":1024,"r":8,"p":1,"salt":"AA==","data":"AA=="}`))

	repo, err := repository.Open(ctx, files, password, repository.Options{})
	must(t, err)
	for _, u := range repo.Unreadable() {
		if !planted[u.Name] {
			t.Errorf("%s is called unreadable: %v", u.Name, u.Err)
		}
	}
	all, unreadable, err := repo.Snapshots(ctx)
	must(t, err)
	if len(all) != 1 || len(unreadable) != 3 {
		t.Errorf("Snapshots() = %d and %d unreadable; want 1 and 3", len(all), len(unreadable))
	}
	target := t.TempDir()
	if _, err := restore.Restore(ctx, repo, r.SnapshotID, target, restore.Options{Owner: os.Getuid() == 0}); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		sameTree(t, target, src)
	}
	found, err := check.Check(ctx, repo, check.Options{ReadData: true})
	must(t, err)
	for _, f := range found {
		if !planted[f.Name] || len(f.Affects) > 0 {
			t.Errorf("finding: %s", f)
		}
		delete(planted, f.Name)
	}
	// Key files behind the one that opened the repository are not tried.
	for n := range planted {
		if n.Kind != chunkstore.Key {
			t.Errorf("check passed over the planted %s", n)
		}
	}
}

func TestOpenFileStreams(t *testing.T) {
	src := t.TempDir()
	sampleTree(t, src)
	repo, _ := newRepo(t, repository.Options{})
	r := backup(t, repo, archive.Root{Path: "/", Source: src})
	f, err := restore.OpenFile(t.Context(), repo, r.SnapshotID, "/scan.tif")
	must(t, err)
	defer f.Close()
	got, err := io.ReadAll(f)
	must(t, err)
	want, err := os.ReadFile(filepath.Join(src, "scan.tif"))
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Error("OpenFile(scan.tif) differs from the file")
	}
}

func TestRestoreWithoutAnIndex(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	sampleTree(t, src)
	repo, files := newRepo(t, repository.Options{})
	r := backup(t, repo, archive.Root{Path: "/", Source: src})
	for e, err := range files.List(t.Context(), chunkstore.Index) {
		must(t, err)
		must(t, files.Remove(t.Context(), e.Name))
	}
	repo, err := repository.Open(t.Context(), files, password, repository.Options{ReadHeaders: true})
	must(t, err)
	target := t.TempDir()
	_, err = restore.Restore(t.Context(), repo, r.SnapshotID, target, restore.Options{Owner: os.Getuid() == 0})
	must(t, err)
	if os.Getuid() == 0 {
		sameTree(t, target, src)
	}
	// The next backup writes the index anew.
	if again := backup(t, repo, archive.Root{Path: "/", Source: src}); again.Stats.DataBlobs != 0 || again.Tree != r.Tree {
		t.Errorf("backup after the index was lost stores %+v; want nothing new", again.Stats)
	}
	repo, err = repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	noFindings(t, repo)
	restic(t, files.Dir(), "check", "--read-data")
}
