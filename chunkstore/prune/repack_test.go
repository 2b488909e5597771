package prune

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

// halves makes a repository with a data pack of which half is needed, and some of which all is.
func halves(t *testing.T) *chunkstore.Files {
	t.Helper()
	repo, files := chunktest.NewRepository(t, repository.Options{})
	var all []string
	for i := range 30 {
		all = append(all, fmt.Sprint(i))
	}
	first := backup(t, repo, all...)
	backup(t, open(t, files), all[:15]...)
	backup(t, open(t, files), "x", "y")
	forget(t, files, first)
	prune(t, files, Options{NoGrace: true}) // whole packs only
	return files
}

func TestRepack(t *testing.T) {
	rows := []struct {
		what   string
		repack Repack
		check  func(before, r Report) bool
	}{
		{"none unused", Repack{}, func(_, r Report) bool { return r.Repacked.Packs > 0 && r.Rewritten > 0 }},
		{"unlimited", Repack{MaxUnused: Limit{Unlimited: true}}, func(_, r Report) bool { return r.Repacked.Packs == 0 }},
		{"a lot", Repack{MaxUnused: Limit{Percent: 99}}, func(_, r Report) bool { return r.Repacked.Packs == 0 }},
		{"bytes", Repack{MaxUnused: Limit{Bytes: 500_000}}, func(before, r Report) bool {
			return r.Repacked.Packs > 0 && before.UnusedBytes > 500_000
		}},
		{"bounded", Repack{MaxBytes: 1}, func(_, r Report) bool { return r.Repacked.Packs == 0 }},
		{"cacheable", Repack{CacheableOnly: true}, func(_, r Report) bool { return r.Repacked.Packs == 0 }}, // only data packs are used in part
		{"small", Repack{Small: true, MaxUnused: Limit{Unlimited: true}}, func(before, r Report) bool { return r.Repacked.Packs == before.Kept.Packs }},
		{"uncompressed", Repack{Uncompressed: true, MaxUnused: Limit{Unlimited: true}}, func(_, r Report) bool { return r.Repacked.Packs > 0 }},
	}
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			files := halves(t)
			before := prune(t, files, Options{DryRun: true})
			if before.Kept.Packs < 4 || before.UnusedBytes < 15*60_000/2 {
				t.Fatalf("before: %+v; want packs with unused blobs", before)
			}
			dry := prune(t, files, Options{NoGrace: true, DryRun: true, Repack: &row.repack})
			r := prune(t, files, Options{NoGrace: true, Repack: &row.repack})
			if !row.check(before, r) || dry.Repacked != r.Repacked || dry.Rewritten != r.Rewritten {
				t.Errorf("run: %+v (dry %+v)", r, dry)
			}
			wantSound(t, files, 2)
			after := prune(t, files, Options{DryRun: true})
			if row.what == "none unused" && after.UnusedBytes != 0 || row.what == "bytes" && after.UnusedBytes > 500_000 {
				t.Errorf("after: %+v; too much is unused", after)
			}
		})
	}
}

// Blobs that several packs hold are kept once, and only a copy that can be read is reason to let another go.
func TestRepackOfDuplicates(t *testing.T) {
	for _, damaged := range []int{-1, 0, 1} { // which of the two copies of a blob
		repo, files := chunktest.NewRepository(t, repository.Options{})
		other := open(t, files)
		save(t, repo, "a", "b")
		save(t, other, "a", "b", "c") // did not see the first
		if damaged >= 0 {
			r := open(t, files)
			l := r.Locate(repository.DataBlob, repository.IDOf(packDigest("a")))[damaged]
			path := onDisk(files, l.Pack)
			b, err := os.ReadFile(path)
			must(t, err)
			b[l.Blob.Offset+30] ^= 1
			must(t, os.Chmod(path, 0o600))
			must(t, os.WriteFile(path, b, 0o600))
		}
		r, err := Run(t.Context(), open(t, files), Options{NoGrace: true, Repack: &Repack{}})
		must(t, err)
		if damaged < 0 && r.Removed.Bytes < 2*60_000 {
			t.Errorf("run: %+v; want one copy of each blob removed", r)
		}
		wantSound(t, files, 2)
	}
}

func TestRepackCompresses(t *testing.T) {
	_, files := chunktest.NewRepository(t, repository.Options{})
	plain, err := repository.Open(t.Context(), files, password, repository.Options{Compression: repository.CompressOff})
	must(t, err)
	s := plain.NewSession()
	id, _, err := s.SaveBlob(t.Context(), repository.DataBlob, bytes.Repeat([]byte("registration "), 10_000))
	must(t, err)
	tree, err := s.SaveTree(t.Context(), &repository.Tree{Nodes: []repository.Node{{Name: "a", Type: repository.TypeFile, Content: []repository.ID{id}}}})
	must(t, err)
	_, err = s.SaveSnapshot(t.Context(), &repository.Snapshot{Time: noon, Tree: tree, Paths: []string{"/"}})
	must(t, err)
	must(t, s.Close())
	r := prune(t, files, Options{NoGrace: true, Repack: &Repack{Uncompressed: true, MaxUnused: Limit{Unlimited: true}}})
	if r.Repacked.Packs != 2 || r.Removed.Packs != 2 {
		t.Errorf("run: %+v; want both packs rewritten", r)
	}
	if after := prune(t, files, Options{DryRun: true}); after.Kept.Bytes > r.Before.Bytes/10 {
		t.Errorf("after: %+v; want a tenth of %d bytes", after, r.Before.Bytes)
	}
	wantSound(t, files, 1)
}

// save stores a snapshot of one directory without looking at what lies in the repository but the index.
func save(t *testing.T, repo *repository.Repository, seeds ...string) {
	t.Helper()
	s := repo.NewSession()
	defer s.Close()
	tree := &repository.Tree{}
	for _, seed := range seeds {
		id, _, err := s.SaveBlob(t.Context(), repository.DataBlob, chunktest.Noise(seed, 60_000))
		must(t, err)
		tree.Nodes = append(tree.Nodes, repository.Node{Name: seed, Type: repository.TypeFile, SizeBytes: 60_000, Content: []repository.ID{id}})
	}
	root, err := s.SaveTree(t.Context(), tree)
	must(t, err)
	_, err = s.SaveSnapshot(t.Context(), &repository.Snapshot{Time: noon, Tree: root, Paths: []string{"/"}})
	must(t, err)
}
