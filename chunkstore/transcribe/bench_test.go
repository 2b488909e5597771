package transcribe

import (
	"fmt"
	"testing"

	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

// BenchmarkCopy copies 64 MiB that do not shrink, and 64 MiB that do.
func BenchmarkCopy(b *testing.B) {
	for _, row := range []struct {
		name    string
		content []byte
	}{{"noise", chunktest.Noise("bench", 1<<20)}, {"text", text(1 << 20)}} {
		b.Run(row.name, func(b *testing.B) {
			from := new(chunktest.Memory)
			repo, err := repository.Init(b.Context(), from, password, repository.Options{Scrypt: chunktest.Cheap()})
			must(b, err)
			s := repo.NewSession()
			tree := &repository.Tree{}
			const blobs = 64
			for i := range blobs {
				id, _, err := s.SaveBlob(b.Context(), repository.DataBlob, append(row.content, byte(i)))
				must(b, err)
				tree.Nodes = append(tree.Nodes, repository.Node{Name: fmt.Sprintf("%02d", i), Type: repository.TypeFile, Content: []repository.ID{id}})
			}
			id, err := s.SaveTree(b.Context(), tree)
			must(b, err)
			_, err = s.SaveSnapshot(b.Context(), &repository.Snapshot{Tree: id, Paths: []string{"/"}})
			must(b, err)
			must(b, s.Close())
			list, _, err := repo.Snapshots(b.Context())
			must(b, err)
			b.SetBytes(blobs << 20)
			b.ReportAllocs()
			for b.Loop() {
				to, err := repository.Init(b.Context(), new(chunktest.Memory), password, repository.Options{Scrypt: repository.Scrypt{N: 2, R: 1, P: 1}})
				must(b, err)
				r, err := Copy(b.Context(), repo, to, list, Options{})
				must(b, err)
				if len(r.Copied) != 1 {
					b.Fatalf("%+v", r)
				}
			}
		})
	}
}

// text is n bytes that shrink, of words in any order.
func text(n int) []byte {
	noise := chunktest.Noise("words", n)
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = append(b, []string{"registration ", "backup ", "登记备份 ", "archive "}[noise[i]%4]...)
	}
	return b[:n]
}
