package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/restic/chunker"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func backup(t *testing.T, repo *repository.Repository, o Options) *Result {
	t.Helper()
	r, err := Backup(t.Context(), repo, o)
	must(t, err)
	return r
}

// list returns the paths below a tree with the type of each.
func list(t *testing.T, repo *repository.Repository, id repository.ID, at string) map[string]repository.Node {
	t.Helper()
	tree, err := repo.LoadTree(t.Context(), id)
	must(t, err)
	all := make(map[string]repository.Node)
	for _, n := range tree.Nodes {
		all[at+n.Name] = n
		if n.Subtree != nil {
			for p, below := range list(t, repo, *n.Subtree, at+n.Name+"/") {
				all[p] = below
			}
		}
	}
	return all
}

func TestVirtualRoot(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	one, two, file := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "f")
	write(t, one, map[string][]byte{"bag/data/a.txt": []byte("a"), "z": nil})
	write(t, two, map[string][]byte{"b.txt": []byte("b")})
	must(t, os.WriteFile(file, []byte("list"), 0o600))
	at := time.Date(2026, 5, 1, 8, 0, 0, 0, time.UTC)
	var last Progress
	r := backup(t, repo, Options{
		Roots: []Root{{Path: "/records/二", Source: two}, {Path: "/records/1", Source: one}, {Path: "/list.txt", Source: file}},
		Host:  "centre", Tags: []string{"x"}, Time: at,
		Progress: func(p Progress) { last = p },
	})
	got := list(t, repo, r.Tree, "/")
	var names []string
	for p := range got {
		names = append(names, p)
	}
	slices.Sort(names)
	want := "/list.txt /records /records/1 /records/1/bag /records/1/bag/data /records/1/bag/data/a.txt /records/1/z /records/二 /records/二/b.txt"
	if strings.Join(names, " ") != want {
		t.Errorf("snapshot holds %q; want %q", names, want)
	}
	if n := got["/records"]; !n.ModTime.Equal(at) || n.Mode != os.ModeDir|0o755 {
		t.Errorf("the directory above the roots is %+v; want the snapshot's time", n)
	}
	if r.Files != 4 || r.Dirs != 5 || r.Bytes != 6 || last.Files != 4 || last.Bytes != 6 {
		t.Errorf("Backup() = %+v, progress %+v; want 4 files, 5 directories, 6 bytes", r, last)
	}
	sn, err := repo.LoadSnapshot(t.Context(), r.SnapshotID)
	must(t, err)
	if sn.Tree != r.Tree || !sn.Time.Equal(at) || sn.Hostname != "centre" || !slices.Equal(sn.Paths, []string{"/list.txt", "/records/1", "/records/二"}) {
		t.Errorf("snapshot is %+v", sn)
	}
	if e := r.Added[0]; e.Name.Kind != chunkstore.Snapshot || e.Name.ID != r.SnapshotID {
		t.Errorf("Added begins with %v; want the snapshot", e)
	}
}

func TestRootsThatDoNotFit(t *testing.T) {
	repo, files := newRepo(t, repository.Options{})
	d := t.TempDir()
	for what, roots := range map[string][]Root{
		"none":            nil,
		"relative":        {{Path: "a", Source: d}},
		"not clean":       {{Path: "/a/../b", Source: d}},
		"trailing slash":  {{Path: "/a/", Source: d}},
		"NUL":             {{Path: "/a\x00", Source: d}},
		"twice the same":  {{Path: "/a", Source: d}, {Path: "/a", Source: d}},
		"inside another":  {{Path: "/a", Source: d}, {Path: "/a/b", Source: d}},
		"above another":   {{Path: "/a/b", Source: d}, {Path: "/a", Source: d}},
		"/ and another":   {{Path: "/", Source: d}, {Path: "/a", Source: d}},
		"no source":       {{Path: "/a", Source: ""}},
		"/ is not a file": {{Path: "/", Source: filepath.Join(files.Dir(), "config")}},
	} {
		if _, err := Backup(t.Context(), repo, Options{Roots: roots}); !errors.Is(err, ErrRoots) {
			t.Errorf("%s: Backup() = %v; want ErrRoots", what, err)
		}
	}
}

func TestFailedBackupsSaveNoSnapshot(t *testing.T) {
	repo, files := newRepo(t, repository.Options{})
	src := t.TempDir()
	write(t, src, map[string][]byte{"a/good": []byte("x"), "big": noise("big", 3<<20)})
	check := func(what, name string, want error) {
		t.Helper()
		_, err := Backup(t.Context(), repo, Options{Roots: []Root{{Path: "/", Source: src}}})
		if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: Backup() = %v; want %v and the name %s", what, err, want, name)
		}
		for e := range files.List(t.Context(), chunkstore.Snapshot) {
			t.Errorf("%s: %v was saved", what, e.Name)
		}
	}
	fifo := filepath.Join(src, "a/pipe")
	must(t, syscall.Mkfifo(fifo, 0o600))
	check("a pipe", fifo, ErrSpecial)
	must(t, os.Remove(fifo))

	must(t, os.Symlink("loop", filepath.Join(src, "loop"))) // a link is stored, not followed
	bad := filepath.Join(src, "bad")
	if os.Getuid() != 0 {
		must(t, os.WriteFile(bad, nil, 0))
		check("unreadable", bad, os.ErrPermission)
		must(t, os.Remove(bad))
	}
	if _, err := Backup(t.Context(), repo, Options{Roots: []Root{{Path: "/x", Source: bad}}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Backup of nothing = %v; want os.ErrNotExist", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Backup(ctx, repo, Options{Roots: []Root{{Path: "/", Source: src}}}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Backup = %v; want context.Canceled", err)
	}
}

// meddling changes files while the backup runs: just before it writes its first pack.
type meddling struct {
	*chunkstore.Files
	do   func()
	once sync.Once
}

func (m *meddling) Stage(k chunkstore.Kind) (chunkstore.Staged, error) {
	m.once.Do(m.do)
	return m.Files.Stage(k)
}

func TestChangingFilesFailTheBackup(t *testing.T) {
	for what, change := range map[string]func(t *testing.T, big string){
		"appended": func(t *testing.T, big string) {
			f, err := os.OpenFile(big, os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = f.WriteString("more")
			must(t, err)
			must(t, f.Close())
		},
		"truncated": func(t *testing.T, big string) { must(t, os.Truncate(big, 5<<20)) },
		"rewritten in place, size and time as before": func(t *testing.T, big string) {
			info, err := os.Stat(big)
			must(t, err)
			must(t, os.WriteFile(big, noise("other", 8<<20), 0o644))
			must(t, os.Chtimes(big, info.ModTime(), info.ModTime()))
		},
	} {
		t.Run(what, func(t *testing.T) {
			_, files := newRepo(t, repository.Options{})
			src := t.TempDir()
			big := filepath.Join(src, "big")
			write(t, src, map[string][]byte{"big": noise("big", 8<<20)})
			repo, err := repository.Open(t.Context(), &meddling{Files: files, do: func() { change(t, big) }}, password, repository.Options{})
			must(t, err)
			_, err = Backup(t.Context(), repo, Options{Roots: []Root{{Path: "/", Source: src}}})
			if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), big) {
				t.Errorf("Backup() = %v; want ErrChanged and the name", err)
			}
		})
	}
	t.Run("file added to a directory that was listed", func(t *testing.T) {
		_, files := newRepo(t, repository.Options{})
		src := t.TempDir()
		write(t, src, map[string][]byte{"a": noise("a", 100)})
		repo, err := repository.Open(t.Context(), &meddling{Files: files, do: func() { write(t, src, map[string][]byte{"late": nil}) }}, password, repository.Options{})
		must(t, err)
		if _, err = Backup(t.Context(), repo, Options{Roots: []Root{{Path: "/", Source: src}}}); !errors.Is(err, ErrChanged) {
			t.Errorf("Backup() = %v; want ErrChanged", err)
		}
	})
}

func TestParentSavesReading(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	src := t.TempDir()
	write(t, src, map[string][]byte{"d/a": []byte("a"), "d/b": []byte("b"), "c": noise("c", 2<<20), "empty": nil})
	roots := []Root{{Path: "/r", Source: src}}
	first := backup(t, repo, Options{Roots: roots, Time: time.Unix(1, 0)})
	write(t, src, map[string][]byte{"d/b": []byte("B")})
	second := backup(t, repo, Options{Roots: roots, Time: time.Unix(1, 0), Parent: first.SnapshotID})
	if second.Unread != 3 || second.Files != 4 || second.Stats.DataBlobs != 1 {
		t.Errorf("second Backup() = %+v; want 3 of 4 files unread and one new blob", second)
	}
	full := backup(t, repo, Options{Roots: roots, Time: time.Unix(1, 0)})
	if full.Tree != second.Tree || full.Unread != 0 || full.Stats.TreeBlobs != 0 {
		t.Errorf("Backup without parent = %+v; want the same tree as with one, %s", full, second.Tree)
	}
	sn, err := repo.LoadSnapshot(t.Context(), second.SnapshotID)
	must(t, err)
	if sn.Parent == nil || *sn.Parent != repository.IDOf(first.SnapshotID) {
		t.Errorf("snapshot's parent is %v; want %s", sn.Parent, first.SnapshotID)
	}
}

// cuts returns the lengths and IDs of the chunks of b.
func cuts(t *testing.T, b []byte, pol chunker.Pol, p repository.ChunkProfile) (lengths []uint, ids []repository.ID) {
	t.Helper()
	c := chunker.NewWithBoundaries(bytes.NewReader(b), pol, p.MinBytes, p.MaxBytes)
	c.SetAverageBits(p.AverageBits)
	for {
		chunk, err := c.Next(nil)
		if errors.Is(err, io.EOF) {
			return lengths, ids
		}
		must(t, err)
		lengths = append(lengths, chunk.Length)
		ids = append(ids, repository.IDOf(digest.Of(chunk.Data)))
	}
}

func TestStandardProfileCutsLikeStockRestic(t *testing.T) {
	// restic's published vector: 32 MiB of math/rand's Uint32 seeded with 23, little endian.
	b := make([]byte, 0, 32<<20)
	for rnd := rand.New(rand.NewSource(23)); len(b) < cap(b); {
		b = binary.LittleEndian.AppendUint32(b, rnd.Uint32())
	}
	lengths, _ := cuts(t, b, 0x3DA3358B4DC173, repository.StandardChunks())
	want := []uint{2163460, 643703, 1528956, 1955808, 2222372, 2538687, 609606, 1205738, 959742, 4036109}
	if len(lengths) != 23 || !slices.Equal(lengths[:len(want)], want) {
		t.Errorf("chunks of %v bytes; want 23 that begin with %v", lengths, want)
	}
	// Zeros never cut before the smallest size and always there.
	lengths, ids := cuts(t, make([]byte, 1<<20), 0x3DA3358B4DC173, repository.StandardChunks())
	if !slices.Equal(lengths, []uint{512 << 10, 512 << 10}) || !strings.HasPrefix(ids[0].String(), "07854d2f") {
		t.Errorf("zeros are cut into %v, %s; want 512 KiB chunks 07854d2f…", lengths, ids[0])
	}
}

func TestFilesAreCutByTheRepositorysProfile(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{Chunks: repository.DatabaseChunks()})
	src := t.TempDir()
	big := noise("big", 5<<20)
	write(t, src, map[string][]byte{"big": big})
	r := backup(t, repo, Options{Roots: []Root{{Path: "/", Source: src}}})
	_, ids := cuts(t, big, repo.Config().Polynomial, repo.Config().Chunks)
	if got := list(t, repo, r.Tree, "/")["/big"].Content; !slices.Equal(got, ids) || len(ids) < 10 {
		t.Errorf("%d chunks; want the chunker's %d", len(got), len(ids))
	}
}

// A new version of a file is compressed better than a file that is new, unless the level is fixed.
func TestNewVersionsAreCompressedBetter(t *testing.T) {
	var text bytes.Buffer
	for r := rand.New(rand.NewSource(1)); text.Len() < 400<<10; {
		fmt.Fprintf(&text, "INSERT INTO record VALUES (%d,'330102-%06d','%s','%x','20%02d-%02d-%02d %02d:%02d');\n", text.Len(), r.Intn(1e6),
			[]string{"登记", "备份", "deed title", "court file", "pension"}[r.Intn(5)], r.Uint64(), r.Intn(26), r.Intn(12), r.Intn(28), r.Intn(24), r.Intn(60))
	}
	stored := func(c repository.Compression, version bool) int64 {
		t.Helper()
		repo, _ := newRepo(t, repository.Options{Compression: c})
		src := t.TempDir()
		o := Options{Roots: []Root{{Path: "/", Source: src}}}
		if version {
			write(t, src, map[string][]byte{"dump.sql": []byte("it was small once")})
			o.Parent = backup(t, repo, o).SnapshotID
		}
		write(t, src, map[string][]byte{"dump.sql": text.Bytes()})
		r := backup(t, repo, o)
		if r.Stats.DataBlobs != 1 {
			t.Fatalf("%d blobs stored; want 1", r.Stats.DataBlobs)
		}
		return r.Stats.StoredBytes
	}
	const tree = 1000 // about what trees take
	if first, later := stored(repository.CompressAuto, false), stored(repository.CompressAuto, true); later+tree > first {
		t.Errorf("%d bytes stored of a new file, %d of a new version of one; want clearly less", first, later)
	}
	if first, later := stored(repository.CompressFast, false), stored(repository.CompressFast, true); later+tree < first {
		t.Errorf("with the fastest level %d bytes of a new file, %d of a new version; want the same", first, later)
	}
}
