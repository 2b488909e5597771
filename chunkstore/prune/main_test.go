package prune

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimDir) != "" {
		victim()
	}
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "rapid.checks" })
	if !set {
		_ = flag.Set("rapid.checks", "30") // each takes many a run
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

// backup stores some files, named for their content, as one snapshot.
func backup(t testing.TB, repo *repository.Repository, seeds ...string) digest.Digest {
	t.Helper()
	src := t.TempDir()
	all := make(map[string][]byte)
	for _, s := range seeds {
		all[s+"/file"] = chunktest.Noise(s, 60_000)
	}
	chunktest.WriteFiles(t, src, all)
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for s := range all { // trees of the same content are the same trees
		must(t, os.Chtimes(filepath.Join(src, s), at, at))
		must(t, os.Chtimes(filepath.Join(src, filepath.Dir(s)), at, at))
	}
	r, err := archive.Backup(t.Context(), repo, archive.Options{Roots: []archive.Root{{Path: "/src", Source: src}}})
	must(t, err)
	return r.SnapshotID
}

func forget(t testing.TB, files repository.Files, id digest.Digest) {
	t.Helper()
	must(t, files.Remove(t.Context(), chunkstore.Name{Kind: chunkstore.Snapshot, ID: id}))
}

// sound reads every blob of every snapshot as a program would that opens the repository now, and returns the snapshots.
func sound(files repository.Files) (int, error) {
	ctx := context.Background()
	repo, err := repository.Open(ctx, files, password, repository.Options{})
	if err != nil {
		return 0, err
	}
	if u := repo.Unreadable(); len(u) > 0 {
		return 0, fmt.Errorf("unreadable: %v", u)
	}
	snapshots, unreadable, err := repo.Snapshots(ctx)
	if err != nil || len(unreadable) > 0 {
		return 0, fmt.Errorf("snapshots: %v, %w", unreadable, err)
	}
	seen := make(map[repository.ID]bool)
	var walk func(id repository.ID) error
	walk = func(id repository.ID) error {
		if seen[id] {
			return nil
		}
		seen[id] = true
		tree, err := repo.LoadTree(ctx, id)
		if err != nil {
			return err
		}
		for _, n := range tree.Nodes {
			for _, c := range n.Content {
				if seen[c] {
					continue
				}
				seen[c] = true
				if _, err := repo.LoadBlob(ctx, repository.DataBlob, c, nil); err != nil {
					return fmt.Errorf("%s: %w", n.Name, err)
				}
			}
			if n.Subtree != nil {
				if err := walk(*n.Subtree); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, sn := range snapshots {
		if err := walk(sn.Tree); err != nil {
			return 0, fmt.Errorf("%s: %w", sn.Name(), err)
		}
	}
	return len(snapshots), nil
}

func wantSound(t testing.TB, files repository.Files, snapshots int) {
	t.Helper()
	if n, err := sound(files); n != snapshots || err != nil {
		t.Fatalf("%d snapshots can be read, %v; want %d", n, err, snapshots)
	}
}

// listing is the names of all files, by kind.
func listing(t testing.TB, files repository.Files) []string {
	t.Helper()
	var names []string
	for _, k := range chunkstore.Kinds() {
		for e, err := range files.List(t.Context(), k) {
			must(t, err)
			names = append(names, e.Name.String())
		}
	}
	slices.Sort(names)
	return names
}

func packs(t testing.TB, files repository.Files) int {
	t.Helper()
	n := 0
	for _, err := range files.List(t.Context(), chunkstore.Pack) {
		must(t, err)
		n++
	}
	return n
}

// restic runs stock restic on a repository.
func restic(t *testing.T, dir string, args ...string) string {
	t.Helper()
	return chunktest.Run(t, chunktest.Stock(t, dir, args...))
}

// packDigest names the content of a file that backup made.
func packDigest(seed string) digest.Digest { return digest.Of(chunktest.Noise(seed, 60_000)) }

func snapshots(t testing.TB, repo *repository.Repository) []*repository.Snapshot {
	t.Helper()
	all, _, err := repo.Snapshots(t.Context())
	must(t, err)
	return all
}
