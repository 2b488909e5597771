package archive

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/pattern"
	"dengbei/chunkstore/repository"
)

// stock runs stock restic in the directory at, on the repository dir.
func stock(t *testing.T, at, dir string, args ...string) string {
	t.Helper()
	cmd := chunktest.Stock(t, dir, args...)
	cmd.Dir = at
	return chunktest.Run(t, cmd)
}

// everyShape makes entries of all types that this user may make, and reports whether devices are among them.
func everyShape(t *testing.T, dir string) (devices bool) {
	t.Helper()
	write(t, dir, map[string][]byte{
		"a/plain": []byte("plain"), "a/empty": nil, "a/linked": []byte("linked twice"), "big": noise("big", 3<<20),
		"a/latin-\xe9": []byte("latin"), "a/new\nline \"quoted\" <&>": []byte("x"), "卷宗/正文": []byte("text"),
	})
	must(t, os.Link(filepath.Join(dir, "a/linked"), filepath.Join(dir, "a/other-name")))
	must(t, os.Symlink("plain", filepath.Join(dir, "a/link")))
	must(t, os.Symlink("nowhere/目录", filepath.Join(dir, "a/dangling"))) // 0.14 loses targets that are not UTF-8; ours keep them
	must(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "none"), 0o700))
	must(t, os.Chmod(filepath.Join(dir, "a/plain"), 0o640|os.ModeSetuid))
	old := time.Date(1999, 12, 31, 23, 59, 59, 123456789, time.UTC)
	must(t, os.Chtimes(filepath.Join(dir, "a/plain"), old, old))
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	must(t, err)
	_, err = sparse.WriteAt([]byte("end"), 5<<20)
	must(t, err)
	must(t, sparse.Close())
	for _, name := range []string{"a/plain", "none"} {
		if err := unix.Lsetxattr(filepath.Join(dir, name), "user.origin", []byte("\x00bytes"), 0); err != nil {
			t.Logf("no extended attributes here: they are NOT checked (%v)", err)
		}
	}
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(s)
	must(t, os.Chdir(dir)) // the address of a socket is short
	must(t, unix.Bind(s, &unix.SockaddrUnix{Name: "socket"}))
	if os.Getuid() != 0 {
		t.Log("not root: devices are NOT checked")
		return false
	}
	must(t, unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(filepath.Join(dir, "disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))))
	return true
}

func treeBlobs(t *testing.T, files *chunkstore.Files) int {
	t.Helper()
	repo, err := repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	n := 0
	for l := range repo.Blobs() {
		if l.Blob.Type == repository.TreeBlob {
			n++
		}
	}
	return n
}

// TestStockResticAddsNoTree shows that trees are, byte for byte, those of Debian's restic 0.14.
func TestStockResticAddsNoTree(t *testing.T) {
	back, err := os.Getwd()
	must(t, err)
	defer func() { must(t, os.Chdir(back)) }()
	repo, files := newRepo(t, repository.Options{})
	top := t.TempDir()
	src := filepath.Join(top, "src")
	devices := everyShape(t, src)
	var problems []string
	r := backup(t, repo, Options{
		Roots: []Root{{Path: "/src", Source: src, Base: top}}, Paths: []string{src},
		Report: func(path string, err error) { problems = append(problems, path+": "+err.Error()) },
	})
	if len(problems) > 0 || r.Sockets != 1 {
		t.Errorf("Backup() reported %q and left out %d sockets; want no problem and one socket", problems, r.Sockets)
	}
	all := list(t, repo, r.Tree, "/")
	want := map[string]string{"/src/pipe": repository.TypeFifo, "/src/a/link": repository.TypeSymlink, "/src/sparse": repository.TypeFile}
	if devices {
		want["/src/null"], want["/src/disk"] = repository.TypeCharDevice, repository.TypeDevice
	}
	for p, typ := range want {
		if all[p].Type != typ {
			t.Errorf("%s is a %q; want %s", p, all[p].Type, typ)
		}
	}
	if _, ok := all["/src/socket"]; ok {
		t.Error("the socket was stored; stock restic leaves it out")
	}
	before := treeBlobs(t, files)
	t.Log(stock(t, top, files.Dir(), "version"))
	stock(t, top, files.Dir(), "backup", "--force", "src")
	if after := treeBlobs(t, files); after != before {
		t.Errorf("stock restic added %d tree blobs to %d; want none", after-before, before)
	}
	stock(t, top, files.Dir(), "check", "--read-data")

	// The other way round: its snapshot is our parent, and nothing is read or added.
	repo, err = repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	host, err := os.Hostname()
	must(t, err)
	parent, _, _, err := FindParents(t.Context(), repo, host, []string{src}, time.Now())
	must(t, err)
	again := backup(t, repo, Options{
		Roots: []Root{{Path: "/src", Source: src, Base: top}}, Paths: []string{src}, Parent: parent,
		Report: func(path string, err error) { t.Errorf("%s: %v", path, err) },
	})
	if again.Stats != (repository.SessionStats{}) || again.FileChanges.Unmodified != again.Files || again.DirChanges.Unmodified != again.Dirs {
		t.Errorf("backup after stock restic's = %+v; want nothing added or changed", again)
	}
}

// TestRepositoriesOfStockRestic backs up into repositories that stock restic made, and has it check them.
func TestRepositoriesOfStockRestic(t *testing.T) {
	for _, compression := range []string{"auto", "off", "max"} {
		t.Run(compression, func(t *testing.T) {
			if compression != "auto" {
				chunktest.Long(t)
			}
			top, dir := t.TempDir(), filepath.Join(t.TempDir(), "repo")
			src := filepath.Join(top, "src")
			write(t, src, map[string][]byte{"a": []byte("a"), "scan": noise("scan", 4<<20), "d/text": []byte(strings.Repeat("登记 ", 1<<18))})
			stock(t, top, dir, "init")
			for _, host := range []string{"one", "two"} {
				stock(t, top, dir, "--compression", compression, "backup", "--host", host, "src")
			}
			write(t, src, map[string][]byte{"b": []byte("b")})
			files, err := chunkstore.Open(dir)
			must(t, err)
			repo, err := repository.Open(t.Context(), files, password, repository.Options{})
			must(t, err)
			parent, _, _, err := FindParents(t.Context(), repo, "two", []string{src}, time.Now())
			must(t, err)
			r := backup(t, repo, Options{Roots: []Root{{Path: "/src", Source: src, Base: top}}, Paths: []string{src}, Parent: parent, Host: "two"})
			if r.Unread != 3 || r.Stats.DataBlobs != 1 || r.FileChanges.New != 1 {
				t.Errorf("Backup() = %+v; want 3 of 4 files unread and one blob new", r)
			}
			stock(t, top, dir, "check", "--read-data")
			out := t.TempDir()
			stock(t, top, dir, "restore", r.SnapshotID.Hex(), "--target", out)
			if b, err := os.ReadFile(filepath.Join(out, "src/b")); string(b) != "b" {
				t.Errorf("restored b = %q, %v", b, err)
			}
			var snapshots []struct{ Hostname, Parent string }
			must(t, json.Unmarshal([]byte(stock(t, top, dir, "snapshots", "--json")), &snapshots))
			if len(snapshots) != 3 || snapshots[2].Parent != parent.Hex() {
				t.Errorf("stock restic lists %+v", snapshots)
			}
		})
	}
}

func TestSelection(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	src := t.TempDir()
	write(t, src, map[string][]byte{
		"keep.txt": []byte("1"), "drop.tmp": nil, "drop.tmp.d/keep": []byte("2"), "cache/" + CacheTag: []byte(CacheSignature + "\n"),
		"cache/junk": nil, "cache/more/junk": nil, "false-cache/" + CacheTag: []byte("something"), "false-cache/keep": nil,
		"sub/big": make([]byte, 2000), "sub/small": make([]byte, 1000), "sub/.nobackup": nil, "sub2/UPPER.BAK": nil,
	})
	set, err := pattern.Parse([]string{"*.tmp", filepath.Join(src, "sub/small")})
	must(t, err)
	fold, err := pattern.ParseFold([]string{"*.bak"})
	must(t, err)
	o := Options{
		Roots: []Root{{Path: "/", Source: src}},
		Select: Selection{
			Exclude: []*pattern.Set{set, fold}, Tags: []Tag{{CacheTag, CacheSignature}}, LargerThan: 1500, OneFileSystem: true,
		},
	}
	r := backup(t, repo, o)
	var got []string
	for p, n := range list(t, repo, r.Tree, "/") {
		if n.Type == repository.TypeFile {
			got = append(got, p)
		}
	}
	want := map[string]bool{
		"/keep.txt": true, "/drop.tmp.d/keep": true, "/cache/" + CacheTag: true, "/false-cache/" + CacheTag: true,
		"/false-cache/keep": true, "/sub/.nobackup": true,
	}
	for _, p := range got {
		if !want[p] {
			t.Errorf("%s was stored", p)
		}
	}
	if len(got) != len(want) {
		t.Errorf("stored %q; want %d files", got, len(want))
	}
	var last Estimate
	must(t, Scan(t.Context(), o, func(e Estimate) { last = e }))
	if last.Files != r.Files || last.Bytes != r.Bytes {
		t.Errorf("Scan() = %+v; want the backup's %d files of %d bytes", last, r.Files, r.Bytes)
	}
}

func TestOneFileSystem(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root: staying on one file system is NOT checked")
	}
	repo, _ := newRepo(t, repository.Options{})
	src := t.TempDir()
	write(t, src, map[string][]byte{"here": nil, "mount/under": nil})
	mount := filepath.Join(src, "mount")
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("cannot mount: staying on one file system is NOT checked:", err)
	}
	defer func() { must(t, unix.Unmount(mount, 0)) }()
	write(t, mount, map[string][]byte{"inside": nil})
	r := backup(t, repo, Options{Roots: []Root{{Path: "/", Source: src}}, Select: Selection{OneFileSystem: true}})
	all := list(t, repo, r.Tree, "/")
	if len(all) != 2 || all["/mount"].Type != repository.TypeDir {
		t.Errorf("stored %v; want the file and the empty place of the mount", all)
	}
}

func TestProblemsWithSingleFiles(t *testing.T) {
	_, files := newRepo(t, repository.Options{})
	src := t.TempDir()
	write(t, src, map[string][]byte{"good": []byte("x"), "z/good": noise("y", 100), "a-grows": noise("grows", 6<<20), "gone/file": nil, "m": noise("m", 1<<20)})
	grows := filepath.Join(src, "a-grows")
	repo, err := repository.Open(t.Context(), &meddling{Files: files, do: func() {
		f, err := os.OpenFile(grows, os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString("more")
		must(t, errors.Join(err, f.Close()))
	}}, password, repository.Options{})
	must(t, err)
	problems := make(map[string]error)
	r := backup(t, repo, Options{
		Roots:   []Root{{Path: "/s", Source: src}, {Path: "/missing", Source: filepath.Join(src, "nowhere")}},
		Report:  func(path string, err error) { problems[path] = err },
		Readers: 1, // so that nothing else is stored before
	})
	if !errors.Is(problems[grows], ErrChanged) || !errors.Is(problems[filepath.Join(src, "nowhere")], os.ErrNotExist) || len(problems) != 2 || r.Problems != 2 {
		t.Errorf("reported %v, %d; want the file that grew and the missing root", problems, r.Problems)
	}
	all := list(t, repo, r.Tree, "/")
	if n := all["/s/a-grows"]; n.SizeBytes != 6<<20 || len(n.Content) == 0 {
		t.Errorf("the file that grew is stored as %d bytes; want what was read", n.SizeBytes)
	}
	if all["/s/z/good"].Type != repository.TypeFile || r.SnapshotID.IsZero() {
		t.Error("the rest was not stored")
	}
	if _, err := Backup(t.Context(), repo, Options{Roots: []Root{{Path: "/missing", Source: filepath.Join(src, "nowhere")}}, Report: func(string, error) {}}); !errors.Is(err, ErrNothing) {
		t.Errorf("Backup of nothing that is there = %v; want ErrNothing", err)
	}
}

func TestSparseFiles(t *testing.T) {
	for _, profile := range []repository.ChunkProfile{repository.StandardChunks(), repository.DatabaseChunks()} {
		repo, _ := newRepo(t, repository.Options{Chunks: profile})
		src := t.TempDir()
		name := filepath.Join(src, "disk.img")
		f, err := os.Create(name)
		must(t, err)
		must(t, f.Truncate(40<<20+12345))
		for i, off := range []int64{0, 3<<20 + 77, 20 << 20, 39 << 20} {
			_, err := f.WriteAt(noise(string(rune('a'+i)), 900_000), off)
			must(t, err)
		}
		must(t, f.Close())
		r := backup(t, repo, Options{Roots: []Root{{Path: "/", Source: src}}})
		b, err := os.ReadFile(name)
		must(t, err)
		_, want := cuts(t, b, repo.Config().Polynomial, profile)
		got := list(t, repo, r.Tree, "/")["/disk.img"].Content
		if len(got) != len(want) {
			t.Fatalf("%d chunks; want the chunker's %d", len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("chunk %d of %d differs from the chunker's", i, len(got))
			}
		}
	}
}

func TestStream(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	content := noise("stream", 3<<20)
	r := backup(t, repo, Options{Roots: []Root{{Path: "/dump.sql", Content: strings.NewReader(string(content))}}})
	n := list(t, repo, r.Tree, "/")["/dump.sql"]
	_, ids := cuts(t, content, repo.Config().Polynomial, repo.Config().Chunks)
	if n.SizeBytes != 3<<20 || len(n.Content) != len(ids) || r.Bytes != 3<<20 {
		t.Errorf("stored %+v; want 3 MiB in the chunker's %d chunks", n, len(ids))
	}
}

func TestDryRun(t *testing.T) {
	repo, files := newRepo(t, repository.Options{})
	src := t.TempDir()
	write(t, src, map[string][]byte{"a": noise("a", 1<<20), "b/c": []byte("c")})
	o := Options{Roots: []Root{{Path: "/", Source: src}}, Time: time.Unix(1, 0), DryRun: true, Checkpoint: time.Nanosecond}
	dry := backup(t, repo, o)
	for _, kind := range []chunkstore.Kind{chunkstore.Pack, chunkstore.Index, chunkstore.Snapshot} {
		for e := range files.List(t.Context(), kind) {
			t.Errorf("a dry run stored %v", e.Name)
		}
	}
	o.DryRun, o.Checkpoint = false, 0
	if real := backup(t, repo, o); real.Stats != dry.Stats || real.Tree != dry.Tree {
		t.Errorf("dry run = %+v; want the real one's %+v", dry.Stats, real.Stats)
	}
}

// TestCutOffBackupGoesOn cancels a backup, as Ctrl-C does, and goes on from what it left.
func TestCutOffBackupGoesOn(t *testing.T) {
	repo, files := newRepo(t, repository.Options{PackBytes: 4 << 20})
	src := t.TempDir()
	content := make(map[string][]byte)
	for i := range 40 {
		content[string(rune('a'+i%20))+"/"+strings.Repeat("x", 1+i)] = noise(strings.Repeat("n", i+1), 300_000)
	}
	write(t, src, content)
	o := Options{Roots: []Root{{Path: "/src", Source: src}}, Host: "h", Checkpoint: time.Hour, Report: func(p string, err error) { t.Errorf("%s: %v", p, err) }}
	other := backup(t, repo, Options{Roots: o.Roots, Host: "other", Tags: []string{"keep"}, Select: Selection{LargerThan: 1}})

	ctx, cancel := context.WithCancel(t.Context())
	cut := o
	cut.Progress = func(p Progress) {
		if p.Files == 20 {
			cancel()
		}
	}
	r, err := Backup(ctx, repo, cut)
	if !errors.Is(err, context.Canceled) || r == nil || r.SnapshotID.IsZero() {
		t.Fatalf("cancelled Backup() = %+v, %v; want context.Canceled and a partial snapshot", r, err)
	}
	stock(t, src, files.Dir(), "check", "--read-data")
	repo, err = repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	parent, partial, _, err := FindParents(t.Context(), repo, "h", []string{"/src"}, time.Now())
	must(t, err)
	if !parent.IsZero() || len(partial) != 1 || partial[0] != r.SnapshotID {
		t.Fatalf("FindParents() = %v, %v; want no complete snapshot and the partial %v", parent, partial, r.SnapshotID)
	}
	o.Partial = partial
	full := backup(t, repo, o)
	if full.Files != 40 || full.Unread < 19 || full.Stats.DataBlobs > 21 {
		t.Errorf("second Backup() = %+v; want at least 19 of 40 files unread", full)
	}
	var left []string
	for e, err := range files.List(t.Context(), chunkstore.Snapshot) {
		must(t, err)
		left = append(left, e.Name.ID.Hex())
	}
	if len(left) != 2 || !strings.Contains(strings.Join(left, " "), other.SnapshotID.Hex()) {
		t.Errorf("snapshots %v are left; want the complete one and that of the other host", left)
	}
	for _, e := range full.Added {
		if e.Name.ID == r.SnapshotID {
			t.Error("Added lists the partial snapshot")
		}
	}
	stock(t, src, files.Dir(), "check", "--read-data")
}

func TestCheckpointsWhileWorking(t *testing.T) {
	repo, files := newRepo(t, repository.Options{PackBytes: 4 << 20})
	src := t.TempDir()
	content := make(map[string][]byte)
	for i := range 60 {
		content["d/"+strings.Repeat("x", 1+i)] = noise(strings.Repeat("n", i+1), 200_000)
	}
	write(t, src, content)
	r := backup(t, repo, Options{
		Roots: []Root{{Path: "/src", Source: src}}, Checkpoint: time.Millisecond, Report: func(p string, err error) { t.Errorf("%s: %v", p, err) },
	})
	n := 0
	for e, err := range files.List(t.Context(), chunkstore.Snapshot) {
		must(t, err)
		n++
		if e.Name.ID != r.SnapshotID {
			t.Errorf("%v is left", e.Name)
		}
	}
	if n != 1 {
		t.Errorf("%d snapshots; want one", n)
	}
	stock(t, src, files.Dir(), "check", "--read-data")
}
