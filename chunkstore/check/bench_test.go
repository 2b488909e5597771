package check

import (
	"fmt"
	"testing"

	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

// BenchmarkReadData verifies every byte of packs that lie in the system's cache: large chunks that do not shrink, and many
// small blobs that do.
func BenchmarkReadData(b *testing.B) {
	for _, c := range []struct {
		name         string
		blobs, bytes int
		text         bool
	}{
		{"scans", 100, 1500 << 10, false},
		{"small", 6000, 20 << 10, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			repo, _ := newRepo(b, repository.Options{})
			s := repo.NewSession()
			tree := &repository.Tree{}
			for i := range c.blobs {
				content := chunktest.Noise(fmt.Sprint(c.name, i), c.bytes)
				if c.text {
					for j := range content {
						content[j] &= 0xf
					}
				}
				id, _, err := s.SaveBlob(b.Context(), repository.DataBlob, content)
				must(b, err)
				tree.Nodes = append(tree.Nodes, repository.Node{Name: fmt.Sprintf("%06d", i), Type: repository.TypeFile, SizeBytes: uint64(c.bytes), Content: []repository.ID{id}})
			}
			id, err := s.SaveTree(b.Context(), tree)
			must(b, err)
			_, err = s.SaveSnapshot(b.Context(), &repository.Snapshot{Tree: id, Paths: []string{"/"}})
			must(b, err)
			b.SetBytes(int64(c.blobs * c.bytes))
			for b.Loop() {
				found, err := Check(b.Context(), repo, Options{ReadData: true})
				must(b, err)
				if len(found) > 0 {
					b.Fatalf("%+v", found)
				}
			}
		})
	}
}
