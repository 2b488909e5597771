package restore

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"dengbei/chunkstore/repository"
)

// Memory for a blob is asked for once: blobs of all sizes follow each other by the thousands.
func TestWriterKeepsItsMemory(t *testing.T) {
	repo, _ := newRepo(t, repository.Options{})
	src := t.TempDir()
	content := make(map[string][]byte)
	for _, n := range []int{300_000, 1_000, 200_000} {
		content[fmt.Sprint(n)] = bytes.Repeat(fmt.Appendf(nil, "record %d;", n), n/10)
	}
	write(t, src, content)
	backup(t, repo, src)
	w := &writer{restorer: &restorer{repo: repo}}
	most := 0
	for _, n := range []int{300_000, 1_000, 200_000} {
		id := repository.ID(sha256.Sum256(content[fmt.Sprint(n)]))
		at := repo.Locate(repository.DataBlob, id)
		if len(at) == 0 || at[0].Blob.UncompressedBytes == 0 {
			t.Fatalf("blob of %d bytes is at %+v; want it stored, compressed", n, at)
		}
		ranges, err := repository.OpenRanges(t.Context(), repo.Files(), at[0].Pack)
		must(t, err)
		env := make([]byte, at[0].Blob.Length)
		must(t, ranges.ReadRange(t.Context(), int64(at[0].Blob.Offset), env))
		must(t, ranges.Close())
		got, err := w.decode(env, at[0].Blob, nil)
		must(t, err)
		if !bytes.Equal(got, content[fmt.Sprint(n)]) {
			t.Errorf("decode gave %d other bytes than the %d stored", len(got), n)
		}
		if cap(w.plain) < most {
			t.Errorf("after a blob of %d bytes the writer holds memory for %d; want the %d it had", n, cap(w.plain), most)
		}
		most = cap(w.plain)
	}
}
