package restore

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

// stock runs stock restic on a repository, in the directory dir.
func stock(t testing.TB, repo, dir string, args ...string) {
	t.Helper()
	cmd := chunktest.Stock(t, repo, append([]string{"-q"}, args...)...)
	cmd.Dir = dir
	chunktest.Run(t, cmd)
}

func openRepo(t testing.TB, dir string) *repository.Repository {
	t.Helper()
	files, err := chunkstore.Open(dir)
	must(t, err)
	repo, err := repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	return repo
}

// What stock restic wrote is restored as stock restic restores it, and as it was: into nothing, over itself, and over
// things of other kinds.
func TestStockRepositories(t *testing.T) {
	asRoot(t)
	src := filepath.Join(t.TempDir(), "src")
	must(t, os.Mkdir(src, 0o755))
	specialTree(t, src)
	// Stock restic 0.14 keeps neither attributes of links nor targets that are not UTF-8.
	must(t, os.Remove(filepath.Join(src, "dangling")))
	must(t, os.Symlink("/absolute", filepath.Join(src, "dangling")))
	for _, compression := range []string{"auto", "off", "max"} {
		t.Run(compression, func(t *testing.T) {
			_, files := newRepo(t, repository.Options{}) // with a key that opens fast
			dir := files.Dir()
			stock(t, dir, src, "backup", "--compression", compression, ".")
			theirs := t.TempDir()
			stock(t, dir, ".", "restore", "latest", "--target", theirs)
			repo := openRepo(t, dir)
			all, _, err := repo.Snapshots(t.Context())
			must(t, err)
			target := filepath.Join(t.TempDir(), "target")
			for range 2 {
				_, err := Restore(t.Context(), repo, all[0].ID, target, Options{Owner: true, Verify: true})
				must(t, err)
				sameTree(t, target, src)
				sameTree(t, target, theirs)
			}
			if compression != "auto" {
				return
			}
			must(t, os.Remove(filepath.Join(target, "pipe")))
			write(t, target, map[string][]byte{"pipe": []byte("x")})
			must(t, os.Remove(filepath.Join(target, "f")))
			must(t, os.Symlink("pipe", filepath.Join(target, "f")))
			must(t, os.Remove(filepath.Join(target, "z-g-again")))
			write(t, target, map[string][]byte{"z-g-again": noise("g", 3<<20)})
			must(t, unix.Setxattr(filepath.Join(target, "d/g"), "user.stranger", []byte("x"), 0))
			_, err = Restore(t.Context(), repo, all[0].ID, target, Options{Owner: true})
			must(t, err)
			sameTree(t, target, src)
		})
	}
}
