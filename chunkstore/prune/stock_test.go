package prune

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

// stockTree makes a directory of small and large files below name.
func stockTree(t *testing.T, dir, seed string) {
	t.Helper()
	files := map[string][]byte{
		"text":         []byte(strings.Repeat(seed+" registration and backup\n", 5000)),
		"scan":         chunktest.Noise(seed, 2<<20),
		"common/scan":  chunktest.Noise("common", 2<<20),
		"common/empty": {},
	}
	for i := range 40 {
		files["many/"+seed+string(rune('a'+i))] = chunktest.Noise(seed+string(rune(i)), 500*i)
	}
	chunktest.WriteFiles(t, dir, files)
}

// Stock restic finds no fault at any step, and each side prunes what the other has pruned.
func TestWithStockRestic(t *testing.T) {
	chunktest.Long(t)
	dir := filepath.Join(t.TempDir(), "repo")
	restic(t, dir, "init", "--repository-version", "2")
	src := t.TempDir()
	stockTree(t, src, "one")
	restic(t, dir, "backup", "--host", "a", "--compression", "off", src)
	must(t, os.RemoveAll(filepath.Join(src, "many")))
	stockTree(t, src, "two")
	restic(t, dir, "backup", "--host", "b", src)
	must(t, os.RemoveAll(filepath.Join(src, "many")))
	stockTree(t, src, "three")
	restic(t, dir, "backup", "--host", "b", "--compression", "max", src)
	restic(t, dir, "forget", "--host", "b", "--keep-last", "1")
	restic(t, dir, "forget", "--host", "a", "--keep-last", "0", "--keep-tag", "none")

	files, err := chunkstore.Open(dir)
	must(t, err)
	fine := func(step string) {
		t.Helper()
		out := restic(t, dir, "check", "--read-data") // exit status 0
		if !strings.Contains(out, "no errors were found") {
			t.Errorf("after %s restic says:\n%s", step, out)
		}
		wantSound(t, files, 1)
	}
	r := prune(t, files, Options{Now: at(noon)})
	if r.Marked.Packs == 0 || r.UnusedBytes == 0 {
		t.Errorf("our prune of stock restic's repository: %+v; want whole packs marked, others in use in part", r)
	}
	fine("marking")
	prune(t, files, Options{Now: at(noon.Add(48 * time.Hour)), Repack: &Repack{MaxUnused: Limit{Percent: 5}}})
	fine("sweeping and repacking")

	restic(t, dir, "prune", "--max-unused", "0")
	fine("stock restic's prune")
	if r := prune(t, files, Options{NoGrace: true, Repack: &Repack{}}); r.Marked.Packs+r.Removed.Packs != 0 || r.UnusedBytes != 0 {
		t.Errorf("our prune after stock restic's: %+v; want nothing to do", r)
	}
	// Stock restic puts marked packs back in use when it rebuilds the index; then they are marked again.
	other := t.TempDir()
	stockTree(t, other, "four")
	restic(t, dir, "backup", "--host", "c", other)
	restic(t, dir, "forget", "--host", "c", "--keep-last", "0", "--keep-tag", "none")
	marked := prune(t, files, Options{Now: at(noon)}).Marked
	restic(t, dir, "rebuild-index")
	if r := prune(t, files, Options{Now: at(noon.Add(48 * time.Hour))}); r.Marked != marked || marked.Packs == 0 || r.Removed.Packs != 0 {
		t.Errorf("after stock restic's rebuild-index: %+v; want %+v marked anew", r, marked)
	}
	fine("rebuilding the index")
	target := filepath.Join(t.TempDir(), "out")
	restic(t, dir, "restore", "latest", "--target", target)
	if out, err := exec.Command("diff", "-r", filepath.Join(target, src), src).CombinedOutput(); err != nil {
		t.Errorf("diff -r: %v\n%s", err, out)
	}
}

// A repository of ours, pruned by stock restic.
func TestStockResticPrunesOurs(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	first := backup(t, repo, "a", "b", "c")
	backup(t, open(t, files), "a")
	forget(t, files, first)
	prune(t, files, Options{Now: at(noon)})
	restic(t, files.Dir(), "prune", "--max-unused", "0")
	restic(t, files.Dir(), "check", "--read-data")
	wantSound(t, files, 1)
	if r := prune(t, files, Options{Now: at(noon.Add(48 * time.Hour)), Repack: &Repack{}}); r.Marked.Packs+r.Removed.Packs != 0 {
		t.Errorf("our prune after stock restic's: %+v; want nothing to do", r)
	}
}
