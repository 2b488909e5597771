package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// plantBytes saves a snapshot whose tree is written byte by byte.
func plantBytes(t *testing.T, repo *repository.Repository, tree string) digest.Digest {
	t.Helper()
	s := repo.NewSession()
	defer s.Close()
	id, _, err := s.SaveBlob(t.Context(), repository.TreeBlob, []byte(tree))
	must(t, err)
	name, err := s.SaveSnapshot(t.Context(), &repository.Snapshot{Tree: id, Paths: []string{"/"}})
	must(t, err)
	return name.ID
}

func savedFile(t *testing.T, repo *repository.Repository, content string) string {
	t.Helper()
	s := repo.NewSession()
	defer s.Close()
	id, _, err := s.SaveBlob(t.Context(), repository.DataBlob, []byte(content))
	must(t, err)
	must(t, s.Flush(t.Context()))
	return id.String()
}

func fileJSON(name, blob string, size int) string {
	return fmt.Sprintf(`{"name":%q,"type":"file","mode":420,"mtime":"2020-01-01T00:00:00Z","atime":"2020-01-01T00:00:00Z","ctime":"2020-01-01T00:00:00Z","size":%d,"content":["%s"]}`, name, size, blob)
}

// What a tree breaks of the format is named, and what is sound in it is restored.
func TestTreesOutOfOrder(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	one, two := savedFile(t, repo, "one"), savedFile(t, repo, "two")
	for name, tree := range map[string]string{
		"wrong order":     fileJSON("z", one, 3) + "," + fileJSON("a", two, 3),
		"a name twice":    fileJSON("a", two, 3) + "," + fileJSON("a", one, 3) + "," + fileJSON("z", one, 3),
		"link, then dir":  `{"name":"d","type":"symlink","linktarget":"/tmp"},{"name":"d","type":"dir","subtree":"` + strings.Repeat("0", 64) + `"},` + fileJSON("z", one, 3) + "," + fileJSON("a", two, 3),
		"name with slash": fileJSON("../z", one, 3) + "," + fileJSON("a", two, 3) + "," + fileJSON("z", one, 3),
	} {
		t.Run(name, func(t *testing.T) {
			target := t.TempDir()
			got, err := Restore(t.Context(), repo, plantBytes(t, repo, `{"nodes":[`+tree+`]}`), target, Options{})
			if !errors.Is(err, ErrIncomplete) || got.Failed == 0 {
				t.Errorf("restore = %v; want ErrIncomplete", err)
			}
			have := content(t, target)
			delete(have, "d")
			same(t, have, map[string]string{"a": "two", "z": "one"})
		})
	}
}

func TestDeepTrees(t *testing.T) {
	const levels = 10_000
	repo, _ := newRepo(t, repository.Options{})
	s := repo.NewSession()
	defer s.Close()
	id, _, err := s.SaveBlob(t.Context(), repository.DataBlob, []byte("deep"))
	must(t, err)
	tree, err := s.SaveTree(t.Context(), &repository.Tree{Nodes: []repository.Node{{Name: "f", Type: repository.TypeFile, Mode: 0o600, Content: []repository.ID{id}, SizeBytes: 4}}})
	must(t, err)
	long := strings.Repeat("n", 100) // far beyond PATH_MAX together
	for range levels {
		tree, err = s.SaveTree(t.Context(), &repository.Tree{Nodes: []repository.Node{{Name: long, Type: repository.TypeDir, Mode: os.ModeDir | 0o750, Subtree: &tree}}})
		must(t, err)
	}
	name, err := s.SaveSnapshot(t.Context(), &repository.Snapshot{Tree: tree, Paths: []string{"/"}})
	must(t, err)
	target := tmpfs(t)
	got, err := Restore(t.Context(), repo, name.ID, target, Options{Verify: true})
	must(t, err)
	if got.Dirs != levels || got.Files != 1 {
		t.Errorf("%d directories, %d files; want %d and 1", got.Dirs, got.Files, levels)
	}
	fd, err := unix.Open(target, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	for range levels {
		next, err := unix.Openat(fd, long, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	if st, err := statAt(fd, "f"); err != nil || st.Size != 4 {
		t.Errorf("the file at the bottom: %v, %d bytes; want 4", err, st.Size)
	}
	must(t, unix.Close(fd))
	// Neither the test's own clean-up nor removeAll is troubled.
	fd, err = unix.Open(target, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	must(t, err)
	must(t, removeAll(fd, long))
	must(t, unix.Close(fd))
}

func TestWideDirectory(t *testing.T) {
	const entries = 100_000
	if testing.Short() {
		t.Skip("100,000 files are NOT restored: -short")
	}
	repo, _ := newRepo(t, repository.Options{})
	s := repo.NewSession()
	defer s.Close()
	id, _, err := s.SaveBlob(t.Context(), repository.DataBlob, []byte("wide"))
	must(t, err)
	nodes := make([]repository.Node, entries)
	for i := range nodes {
		nodes[i] = repository.Node{Name: fmt.Sprintf("%06d", i), Type: repository.TypeFile, Mode: 0o644, Content: []repository.ID{id}, SizeBytes: 4}
	}
	tree, err := s.SaveTree(t.Context(), &repository.Tree{Nodes: []repository.Node{{Name: "d", Type: repository.TypeDir, Mode: os.ModeDir | 0o755, Subtree: saved(t, s, nodes)}}})
	must(t, err)
	name, err := s.SaveSnapshot(t.Context(), &repository.Snapshot{Tree: tree, Paths: []string{"/"}})
	must(t, err)
	nodes = nil
	runtime.GC()
	got, err := Restore(t.Context(), repo, name.ID, tmpfs(t), Options{})
	must(t, err)
	if got.Files != entries {
		t.Errorf("%d files; want %d", got.Files, entries)
	}
}

func saved(t *testing.T, s *repository.Session, nodes []repository.Node) *repository.ID {
	t.Helper()
	id, err := s.SaveTree(t.Context(), &repository.Tree{Nodes: nodes})
	must(t, err)
	return &id
}

// tmpfs is a directory in memory where there is one: some tests make very many files.
func tmpfs(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "restore-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Links are planted in the target while the restore runs, where directories were and where files will be.
func TestLinksPlantedMeanwhile(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{PackBytes: 4 << 20})
	src := t.TempDir()
	files := make(map[string][]byte)
	for i := range 200 {
		files[fmt.Sprintf("d%d/e/f%d", i%20, i)] = noise(fmt.Sprint(i), 1000)
	}
	write(t, src, files)
	r := backup(t, repo, src)
	outer := t.TempDir()
	target, victim := filepath.Join(outer, "target"), filepath.Join(outer, "victim")
	write(t, outer, map[string][]byte{"victim/e/f0": []byte("safe"), "victim/f0": []byte("safe")})
	must(t, os.MkdirAll(target, 0o700))
	for i := range 20 { // known directories, so that there is something to exchange
		must(t, os.MkdirAll(filepath.Join(target, fmt.Sprintf("d%d/e", i)), 0o700))
	}
	before := describe(t, victim)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i = (i + 1) % 20 {
			d := filepath.Join(target, fmt.Sprintf("d%d", i))
			_ = os.Rename(d, d+"-away")
			_ = os.Symlink(victim, d)
			_ = os.Remove(d)
			_ = os.Rename(d+"-away", d)
		}
	}()
	for range 5 {
		_, err := Restore(t.Context(), repo, r.SnapshotID, target, Options{Delete: true})
		if err != nil && !errors.Is(err, ErrIncomplete) {
			t.Errorf("restore = %v", err)
		}
	}
	cancel()
	<-done
	sameDescription(t, describe(t, victim), before)
}
