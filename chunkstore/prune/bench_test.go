package prune

import (
	"encoding/binary"
	"testing"

	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

// BenchmarkSet is the memory and time of a blob in the set of what is needed.
func BenchmarkSet(b *testing.B) {
	b.ReportAllocs()
	s := newSet(b.N)
	var id repository.ID
	for i := range b.N {
		binary.LittleEndian.PutUint64(id[:], uint64(i))
		s.add(repository.DataBlob, &id)
	}
	for i := range b.N {
		binary.LittleEndian.PutUint64(id[:], uint64(i))
		if s.note(repository.DataBlob, &id) == nil {
			b.Fatal("a blob is lost")
		}
	}
}

// BenchmarkRun prunes a repository of 20,000 blobs of which all are needed: all of it is reading.
func BenchmarkRun(b *testing.B) {
	const dirs, files = 200, 100
	store := new(chunktest.Memory)
	repo, err := repository.Init(b.Context(), store, password, repository.Options{Scrypt: chunktest.Cheap()})
	must(b, err)
	s := repo.NewSession()
	root := &repository.Tree{}
	for i := range dirs {
		tree := &repository.Tree{}
		for j := range files {
			id, _, err := s.SaveBlob(b.Context(), repository.DataBlob, binary.LittleEndian.AppendUint32(nil, uint32(i*files+j)))
			must(b, err)
			tree.Nodes = append(tree.Nodes, repository.Node{Name: string(rune('a' + j)), Type: repository.TypeFile, Content: []repository.ID{id}})
		}
		id, err := s.SaveTree(b.Context(), tree)
		must(b, err)
		root.Nodes = append(root.Nodes, repository.Node{Name: string(rune('a' + i)), Type: repository.TypeDir, Subtree: &id})
	}
	id, err := s.SaveTree(b.Context(), root)
	must(b, err)
	_, err = s.SaveSnapshot(b.Context(), &repository.Snapshot{Time: noon, Tree: id, Paths: []string{"/"}})
	must(b, err)
	must(b, s.Close())
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		r, err := Run(b.Context(), repo, Options{})
		must(b, err)
		if r.Blobs < dirs*files {
			b.Fatalf("%+v", r)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(dirs*files), "ns/blob")
}
