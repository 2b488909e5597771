package repository

import (
	"context"
	"iter"
	"testing"
	"time"

	"dengbei/chunkstore"
)

// markPacks replaces each index file of r by one that marks its packs.
func markPacks(t *testing.T, r *Repository) {
	t.Helper()
	for f, err := range r.IndexFiles(t.Context()) {
		must(t, err)
		if len(f.Packs) == 0 {
			continue
		}
		n := &IndexFile{PacksToDelete: f.Packs}
		for i := range n.PacksToDelete {
			n.PacksToDelete[i].Time = time.Now()
		}
		_, err := r.SaveIndexFile(t.Context(), n)
		must(t, err)
		must(t, r.Files().Remove(t.Context(), f.Name))
	}
}

// A repository that was opened before others stored packs and marked them does not take those for packs of no index.
func TestAdoptLeavesMarkedPacks(t *testing.T) {
	old, files := newRepo(t, Options{})
	other, err := Open(t.Context(), files, password, Options{})
	must(t, err)
	s := other.NewSession()
	id, _, err := s.SaveBlob(t.Context(), DataBlob, noise("marked", 1000))
	must(t, err)
	must(t, s.Flush(t.Context()))
	must(t, s.Close())
	markPacks(t, other)

	s = old.NewSession()
	defer s.Close()
	if n, err := s.Adopt(t.Context()); n != 0 || err != nil {
		t.Errorf("Adopt() = %d, %v; want no pack", n, err)
	}
	if old.Has(DataBlob, id) {
		t.Error("a blob of a marked pack is found")
	}
}

// replacing is files of which the index files are replaced by others between being listed and being read, as a prune does.
type replacing struct {
	Files
	do func()
}

func (r *replacing) List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error] {
	return func(yield func(chunkstore.Entry, error) bool) {
		var all []chunkstore.Entry
		for e, err := range r.Files.List(ctx, kind) {
			if err != nil {
				yield(e, err)
				return
			}
			all = append(all, e)
		}
		if do := r.do; kind == chunkstore.Index && do != nil {
			r.do = nil
			do()
		}
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func TestIndexFilesAreReplacedWhileTheyAreRead(t *testing.T) {
	r, files := newRepo(t, Options{})
	s := r.NewSession()
	id, _, err := s.SaveBlob(t.Context(), DataBlob, noise("there", 1000))
	must(t, err)
	must(t, s.Flush(t.Context()))
	must(t, s.Close())
	again, err := Open(t.Context(), &replacing{files, func() {
		for f, err := range r.IndexFiles(t.Context()) {
			must(t, err)
			must(t, files.Remove(t.Context(), f.Name))
			_, err := r.SaveIndexFile(t.Context(), f)
			must(t, err)
			break
		}
	}}, password, Options{})
	must(t, err)
	if !again.Has(DataBlob, id) || len(again.Unreadable()) != 0 {
		t.Errorf("the blob is not found; unreadable: %v", again.Unreadable())
	}
}
