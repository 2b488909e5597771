package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
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

// slowHealer cannot heal, and takes its time to find out: as long as nobody else asks.
type slowHealer struct {
	repository.Files
	calls  atomic.Int32
	second chan struct{}
}

func (h *slowHealer) Heal(context.Context, chunkstore.Name, error) error {
	if h.calls.Add(1) > 1 {
		close(h.second)
	}
	select {
	case <-h.second:
	case <-time.After(100 * time.Millisecond):
	}
	return errors.New("no sound copy")
}

// Two writers that miss blobs of one pack at the same time have it healed once.
func TestAPackIsHealedOnce(t *testing.T) {
	repo, files := newRepo(t, repository.Options{})
	src := t.TempDir()
	write(t, src, map[string][]byte{"a": noise("a", 1000)})
	backup(t, repo, src)
	id := repository.ID(sha256.Sum256(noise("a", 1000)))
	pack := repo.Locate(repository.DataBlob, id)[0].Pack
	must(t, files.Remove(t.Context(), pack))
	h := &slowHealer{Files: files, second: make(chan struct{})}
	repo, err := repository.Open(t.Context(), h, password, repository.Options{})
	must(t, err)
	r := &restorer{repo: repo, mendings: make(map[digest.Digest]*mending)}
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			if b, err := r.elsewhere(t.Context(), pack, id); err == nil {
				t.Errorf("%d bytes of a pack that is gone", len(b))
			}
		})
	}
	wait.Wait()
	if n := h.calls.Load(); n != 1 {
		t.Errorf("the healer was called %d times; want once", n)
	}
}
