package chunkstore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/prune"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
)

// A repository of stock restic, of several hosts and pruned, goes through our hands and back: backup, check, restore,
// forget, prune by ours, then the same by stock restic, which finds nothing to complain about and nothing new to store.
func TestStockRepositoryPassesThroughOurHands(t *testing.T) {
	chunktest.Long(t)
	t.Parallel()
	for _, compression := range []string{"auto", "off", "max"} {
		t.Run(compression, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "repo")
			theirs, ours := t.TempDir(), filepath.Join(t.TempDir(), "delivery")
			sampleTree(t, theirs)
			must(t, os.Mkdir(ours, 0o755))
			sampleTree(t, ours)
			must(t, os.WriteFile(filepath.Join(ours, "only-here"), chunktest.Noise("only here", 400<<10), 0o644))
			restic(t, dir, "init", "--repository-version", "2")
			for i, host := range []string{"first", "second", "first"} {
				must(t, os.WriteFile(filepath.Join(theirs, "changing"), chunktest.Noise(host+strings.Repeat("+", i), 900<<10), 0o644))
				restic(t, dir, "backup", "--compression", compression, "--host", host, theirs)
			}
			restic(t, dir, "forget", "--keep-last", "1", "--host", "first", "--prune")

			files, err := chunkstore.Open(dir)
			must(t, err)
			open := func() *repository.Repository {
				t.Helper()
				repo, err := repository.Open(t.Context(), files, password, repository.Options{})
				must(t, err)
				return repo
			}
			root := archive.Root{Path: "/delivery", Source: ours}
			r := backup(t, open(), root)
			if r.Stats.DataBlobs != 1 {
				t.Errorf("backup into what restic has made stored %d data blobs; want the one that was not there", r.Stats.DataBlobs)
			}
			noFindings(t, open())
			restored := func() {
				t.Helper()
				target := t.TempDir()
				_, err := restore.Restore(t.Context(), open(), r.SnapshotID, target, restore.Options{Owner: os.Getuid() == 0})
				must(t, err)
				if os.Getuid() == 0 {
					sameTree(t, filepath.Join(target, "delivery"), ours)
				}
			}
			restored()

			all, _, err := open().Snapshots(t.Context())
			must(t, err)
			for _, sn := range all {
				if sn.Hostname == "second" {
					must(t, files.Remove(t.Context(), chunkstore.Name{Kind: chunkstore.Snapshot, ID: sn.ID}))
				}
			}
			pruned, err := prune.Run(t.Context(), open(), prune.Options{NoGrace: true, Repack: &prune.Repack{}})
			must(t, err)
			if pruned.Removed.Packs+pruned.Repacked.Packs == 0 {
				t.Errorf("prune = %+v; want what only the second host had gone", pruned)
			}
			if n := len(open().Locate(repository.DataBlob, repository.IDOf(digest.Of(chunktest.Noise("only here", 400<<10))))); n != 1 {
				t.Errorf("a blob lies %d times in packs after repacking", n)
			}
			noFindings(t, open())
			restored()

			if out := restic(t, dir, "check", "--read-data"); !strings.Contains(out, "no errors were found") {
				t.Errorf("restic check says %s", out)
			}
			target := t.TempDir()
			restic(t, dir, "restore", r.SnapshotID.Hex(), "--target", target)
			sameTree(t, filepath.Join(target, "delivery"), ours)
			target = t.TempDir()
			restic(t, dir, "restore", "latest", "--host", "first", "--target", target)
			sameTree(t, filepath.Join(target, theirs), theirs)
			if got := restic(t, dir, "dump", r.SnapshotID.Hex(), "/delivery/one"); got != "1" {
				t.Errorf("restic dump = %q", got)
			}
			before := strings.Count(restic(t, dir, "list", "blobs"), "data")
			restic(t, dir, "backup", "--compression", compression, "--host", "third", "--force", ours)
			if after := strings.Count(restic(t, dir, "list", "blobs"), "data"); after != before {
				t.Errorf("stock restic stored %d data blobs of files that we had stored", after-before)
			}
			restic(t, dir, "prune", "--max-unused", "0")
			noFindings(t, open())
			restored()
		})
	}
}
