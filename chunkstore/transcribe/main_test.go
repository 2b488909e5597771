package transcribe

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimTo) != "" {
		victim()
	}
	goleak.VerifyTestMain(m)
}

const password = chunktest.Password

func must(t testing.TB, err error) {
	t.Helper()
	chunktest.Must(t, err)
}

func open(t testing.TB, files repository.Files) *repository.Repository {
	t.Helper()
	r, err := repository.Open(t.Context(), files, password, repository.Options{PackBytes: 4 << 20})
	must(t, err)
	return r
}

// source makes a directory whose files need several packs, some of them compressed.
func source(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string][]byte{
		"scan":          chunktest.Noise("scan", 5<<20),
		"dump":          []byte(strings.Repeat("INSERT INTO t VALUES ('登记备份');\n", 100_000)),
		"a/b/c":         []byte("deep"),
		"a/empty":       {},
		"latin-\xe9":    []byte("name"),
		"a/new\nline":   []byte("name"),
		"a/same-scan":   chunktest.Noise("scan", 5<<20),
		"a/<html>&":     []byte("name"),
		"卷宗/第一件/正文.txt": []byte("text"),
	}
	chunktest.WriteFiles(t, dir, files)
	return dir
}

func backup(t testing.TB, repo *repository.Repository, dir string) *repository.Snapshot {
	t.Helper()
	r, err := archive.Backup(t.Context(), repo, archive.Options{Host: "county", Tags: []string{"a", "b"}, Roots: []archive.Root{{Path: "/", Source: dir}}})
	must(t, err)
	sn, err := repo.LoadSnapshot(t.Context(), r.SnapshotID)
	must(t, err)
	return sn
}

// wantRestored restores the newest snapshot of files and compares it with dir.
func wantRestored(t testing.TB, files repository.Files, dir string) {
	t.Helper()
	repo := open(t, files)
	all, _, err := repo.Snapshots(t.Context())
	must(t, err)
	if len(all) == 0 {
		t.Fatal("no snapshot")
	}
	target := filepath.Join(t.TempDir(), "out")
	_, err = restore.Restore(t.Context(), repo, all[len(all)-1].ID, target, restore.Options{})
	must(t, err)
	wantSame(t, target, dir)
}

func wantSame(t testing.TB, got, want string) {
	t.Helper()
	out, err := exec.Command("diff", "-r", "--no-dereference", got, want).CombinedOutput()
	if err != nil {
		t.Errorf("diff -r: %v\n%s", err, out)
	}
}

// restic runs stock restic on a repository.
func restic(t *testing.T, dir string, args ...string) string {
	t.Helper()
	return chunktest.Run(t, chunktest.Stock(t, dir, args...))
}

// pair makes a source with one snapshot and an empty target that cuts alike.
func pair(t testing.TB) (from, to *chunkstore.Files, dir string) {
	t.Helper()
	repo, from := chunktest.NewRepository(t, repository.Options{PackBytes: 4 << 20})
	_, to = chunktest.NewRepository(t, repository.Options{Polynomial: repo.Config().Polynomial})
	dir = source(t)
	backup(t, repo, dir)
	return from, to, dir
}

func snapshots(t testing.TB, repo *repository.Repository) []*repository.Snapshot {
	t.Helper()
	all, unreadable, err := repo.Snapshots(t.Context())
	must(t, err)
	if len(unreadable) > 0 {
		t.Fatalf("unreadable: %v", unreadable)
	}
	return all
}
