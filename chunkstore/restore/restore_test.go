package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func backup(t *testing.T, repo *repository.Repository, src string) *archive.Result {
	t.Helper()
	r, err := archive.Backup(t.Context(), repo, archive.Options{Roots: []archive.Root{{Path: "/", Source: src}}})
	must(t, err)
	return r
}

// content maps every file below dir to its bytes.
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		if d.Type()&fs.ModeSymlink != 0 {
			all[name], err = os.Readlink(p)
			return err
		}
		b, err := os.ReadFile(p)
		all[name] = string(b)
		return err
	}))
	return all
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, b := range want {
		if g, ok := got[name]; !ok || g != b {
			t.Errorf("%s: there %v, %d bytes; want %d", name, ok, len(g), len(b))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there and should not be", name)
		}
	}
}

func source(t *testing.T) (string, map[string]string) {
	t.Helper()
	src := t.TempDir()
	files := map[string][]byte{"empty": nil, "big": noise("big", 7<<20), "sub/same-as-big": noise("big", 7<<20)}
	for i := range 50 {
		files[fmt.Sprintf("sub/dir%d/f%d", i%5, i)] = noise(fmt.Sprint(i), 100*i)
	}
	write(t, src, files)
	must(t, os.Symlink("../big", filepath.Join(src, "sub/link")))
	return src, content(t, src)
}

func TestRestoreReplacesAndKeeps(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{PackBytes: 4 << 20})
	src, want := source(t)
	r := backup(t, repo, src)
	target := filepath.Join(t.TempDir(), "new/target")
	var last Progress
	for range 2 {
		got, err := Restore(t.Context(), repo, r.SnapshotID, target, Options{Progress: func(p Progress) { last = p }})
		must(t, err)
		if got.Files != 54 || got.FileBytes != r.Bytes || len(got.Missing) != 0 || last.Entries+last.SkippedEntries != last.EntriesTotal || last.Bytes+last.SkippedBytes != r.Bytes {
			t.Errorf("Restore() = %d files, %d bytes, progress %+v; want %d, %d", got.Files, got.FileBytes, last, 54, r.Bytes)
		}
		same(t, content(t, target), want)
		// For the second time: other content, a file where a link belongs, and a stranger.
		must(t, os.WriteFile(filepath.Join(target, "big"), []byte("old"), 0o600))
		must(t, os.Remove(filepath.Join(target, "sub/link")))
		must(t, os.WriteFile(filepath.Join(target, "sub/link"), []byte("old"), 0o600))
		write(t, target, map[string][]byte{"stranger": []byte("stays")})
		want["stranger"] = "stays"
	}
}

func TestRestoreOfAPart(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	src, all := source(t)
	r := backup(t, repo, src)
	target := t.TempDir()
	got, err := Restore(t.Context(), repo, r.SnapshotID, target, Options{Select: func(p string, dir bool) (bool, bool) {
		return strings.HasPrefix(p, "/sub/dir3/"), true
	}})
	must(t, err)
	want := make(map[string]string)
	for name, b := range all {
		if strings.HasPrefix(name, "sub/dir3/") {
			want[name] = b
		}
	}
	same(t, content(t, target), want)
	if got.Files != 10 || got.Dirs != 0 {
		t.Errorf("%d files and %d directories; want the 10 files", got.Files, got.Dirs)
	}
}

// plant saves a snapshot of hand-made nodes.
func plant(t *testing.T, repo *repository.Repository, nodes ...repository.Node) digest.Digest {
	t.Helper()
	s := repo.NewSession()
	defer s.Close()
	for i := range nodes {
		n := &nodes[i]
		if n.Type == repository.TypeFile && n.Content == nil {
			id, _, err := s.SaveBlob(t.Context(), repository.DataBlob, []byte("evil"))
			must(t, err)
			n.Content, n.SizeBytes = []repository.ID{id}, 4
		}
	}
	tree, err := s.SaveTree(t.Context(), &repository.Tree{Nodes: nodes})
	must(t, err)
	name, err := s.SaveSnapshot(t.Context(), &repository.Snapshot{Tree: tree, Paths: []string{"/"}})
	must(t, err)
	return name.ID
}

func saveTree(t *testing.T, repo *repository.Repository, nodes ...repository.Node) *repository.ID {
	t.Helper()
	s := repo.NewSession()
	defer s.Close()
	for i := range nodes {
		if nodes[i].Type == repository.TypeFile {
			id, _, err := s.SaveBlob(t.Context(), repository.DataBlob, []byte("evil"))
			must(t, err)
			nodes[i].Content, nodes[i].SizeBytes = []repository.ID{id}, 4
		}
	}
	tree, err := s.SaveTree(t.Context(), &repository.Tree{Nodes: nodes})
	must(t, err)
	must(t, s.Flush(t.Context()))
	return &tree
}

func TestNothingIsWrittenOutsideTheTarget(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	file := func(name string) repository.Node {
		return repository.Node{Name: name, Type: repository.TypeFile, Mode: 0o644}
	}
	dir := func(name string, sub *repository.ID) repository.Node {
		return repository.Node{Name: name, Type: repository.TypeDir, Mode: fs.ModeDir | 0o755, Subtree: sub}
	}
	sub := saveTree(t, repo, file("inside"))

	outer := t.TempDir()
	target := filepath.Join(outer, "target")
	snapshot := plant(t, repo, file(""), dir("..", sub), file("../evil"), file("/evil"), file("a\x00b"), file("good"), file("x/../../evil"))
	got, err := Restore(t.Context(), repo, snapshot, target, Options{})
	if !errors.Is(err, ErrIncomplete) {
		t.Errorf("Restore of hostile names = %v; want ErrIncomplete", err)
	}
	if m := got.Missing; len(m) != 6 {
		t.Errorf("Missing() = %v; want the 6 hostile names", m)
	} else {
		for _, o := range m {
			if !errors.Is(o.Err, repository.ErrName) {
				t.Errorf("%s: %v; want repository.ErrName", o.Path, o.Err)
			}
		}
	}
	same(t, content(t, outer), map[string]string{"target/good": "evil"})

	// Links in the target that lead out of it: one where a directory belongs, one where a file does.
	victim := t.TempDir()
	write(t, victim, map[string][]byte{"inside": []byte("safe"), "file": []byte("safe")})
	outer = t.TempDir()
	target = filepath.Join(outer, "target")
	must(t, os.Mkdir(target, 0o700))
	must(t, os.Symlink(victim, filepath.Join(target, "d")))
	must(t, os.Symlink(filepath.Join(victim, "file"), filepath.Join(target, "f")))
	got, err = Restore(t.Context(), repo, plant(t, repo, dir("d", sub), file("f")), target, Options{})
	if !errors.Is(err, ErrIncomplete) || len(got.Missing) != 1 || got.Missing[0].Path != "/d" {
		t.Errorf("Restore through a link = %v, missing %v; want ErrIncomplete and /d", err, got.Missing)
	}
	same(t, content(t, victim), map[string]string{"inside": "safe", "file": "safe"})
	if st, err := os.Lstat(filepath.Join(target, "f")); err != nil || !st.Mode().IsRegular() {
		t.Errorf("f = %v, %v; want the link replaced by the file", st, err)
	}

	// Devices and the like, directories without a tree, sizes that lie.
	lies := file("lies")
	snapshot = plant(t, repo, repository.Node{Name: "dev", Type: "what"}, dir("none", nil), file("ok"))
	got, err = Restore(t.Context(), repo, snapshot, t.TempDir(), Options{})
	if !errors.Is(err, ErrIncomplete) || len(got.Missing) != 2 {
		t.Errorf("Restore() = %v, missing %v; want ErrIncomplete, dev and none", err, got.Missing)
	}
	lies.Content, lies.SizeBytes = []repository.ID{}, 5
	got, err = Restore(t.Context(), repo, plant(t, repo, lies), t.TempDir(), Options{})
	if !errors.Is(err, ErrIncomplete) || len(got.Missing) != 1 || !errors.Is(got.Missing[0].Err, ErrSize) {
		t.Errorf("Restore() = %v, missing %v; want ErrSize", err, got.Missing)
	}
}

func TestWhatIsDamagedIsNamedAndTheRestIsThere(t *testing.T) {
	repo, files := newRepo(t, repository.Options{PackBytes: 4 << 20, Compression: repository.CompressOff})
	src, want := source(t)
	r := backup(t, repo, src)
	n, err := Find(t.Context(), repo, r.SnapshotID, "sub/dir1/f41")
	must(t, err)
	l := repo.Locate(repository.DataBlob, n.Content[0])[0]
	p := filepath.Join(files.Dir(), "data", l.Pack.ID.Hex()[:2], l.Pack.ID.Hex())
	b, err := os.ReadFile(p)
	must(t, err)
	sound := bytes.Clone(b)
	b[l.Blob.Offset+20] ^= 1
	must(t, os.Chmod(p, 0o600))
	must(t, os.WriteFile(p, b, 0o600))

	target := t.TempDir()
	got, err := Restore(t.Context(), repo, r.SnapshotID, target, Options{})
	if !errors.Is(err, ErrIncomplete) || len(got.Missing) != 1 || got.Missing[0].Path != "/sub/dir1/f41" || !errors.Is(got.Missing[0].Err, repository.ErrDamaged) {
		t.Errorf("Restore() = %v, missing %v; want /sub/dir1/f41 alone", err, got.Missing)
	}
	lost := want["sub/dir1/f41"]
	delete(want, "sub/dir1/f41")
	same(t, content(t, target), want)
	want["sub/dir1/f41"] = lost

	h := &healing{Files: files, sound: map[chunkstore.Name][]byte{l.Pack: sound}}
	repo, err = repository.Open(t.Context(), h, password, repository.Options{})
	must(t, err)
	_, err = Restore(t.Context(), repo, r.SnapshotID, target, Options{})
	must(t, err)
	same(t, content(t, target), want)
	if h.calls != 1 {
		t.Errorf("the healer was called %d times; want once", h.calls)
	}

	must(t, files.Remove(t.Context(), l.Pack))
	h.sound, h.calls = nil, 0
	got, err = Restore(t.Context(), repo, r.SnapshotID, t.TempDir(), Options{})
	if !errors.Is(err, ErrIncomplete) || len(got.Missing) < 2 || h.calls != 1 {
		t.Errorf("Restore without a pack = %v, %d missing, %d calls of the healer; want ErrIncomplete, several and 1", err, len(got.Missing), h.calls)
	}
}

type healing struct {
	*chunkstore.Files
	sound map[chunkstore.Name][]byte
	calls int
}

func (h *healing) Heal(ctx context.Context, name chunkstore.Name, _ error) error {
	h.calls++
	b, ok := h.sound[name]
	if !ok {
		return errors.New("no sound copy")
	}
	return h.PutBytes(ctx, name, b)
}

func TestCancelledRestoreLeavesNoPieces(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{PackBytes: 4 << 20})
	src, want := source(t)
	r := backup(t, repo, src)
	ctx, cancel := context.WithCancel(t.Context())
	target := t.TempDir()
	_, err := Restore(ctx, repo, r.SnapshotID, target, Options{Select: func(p string, dir bool) (bool, bool) {
		if p == "/sub/same-as-big" { // the last to be planned
			cancel()
		}
		return true, true
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Restore() = %v; want context.Canceled", err)
	}
	for name, b := range content(t, target) {
		if b != want[name] || strings.Contains(name, unfinishedPrefix) || name == "big" {
			t.Errorf("%s is there, %d bytes", name, len(b))
		}
	}
}

func TestOpenFileAndFind(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	src, want := source(t)
	r := backup(t, repo, src)
	for _, name := range []string{"big", "/sub/dir2/f7", "sub//dir2/./f7", "empty"} {
		f, err := OpenFile(t.Context(), repo, r.SnapshotID, name)
		must(t, err)
		b, err := io.ReadAll(f)
		if string(b) != want[strings.TrimPrefix(filepath.Clean("/"+name), "/")] || err != nil {
			t.Errorf("OpenFile(%s) yields %d bytes, %v", name, len(b), err)
		}
		must(t, f.Close())
		if _, err := f.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("Read after Close = %v; want fs.ErrClosed", err)
		}
	}
	for name, want := range map[string]error{"nothing": fs.ErrNotExist, "big/x": fs.ErrNotExist, "sub": fs.ErrInvalid, "/": fs.ErrNotExist, "sub/link": fs.ErrInvalid} {
		if _, err := OpenFile(t.Context(), repo, r.SnapshotID, name); !errors.Is(err, want) {
			t.Errorf("OpenFile(%s) = %v; want %v", name, err, want)
		}
	}
}
