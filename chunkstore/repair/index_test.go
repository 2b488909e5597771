package repair

import (
	"bytes"
	"slices"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func TestIndex(t *testing.T) {
	for _, row := range []struct {
		name   string
		damage func(s *sample)
		want   func(r *IndexResult) bool
		whole  bool // everything comes back
	}{
		{"sound: nothing is touched", func(*sample) {}, func(r *IndexResult) bool { return !r.Changed() && r.Kept == 2 }, true},
		{"all index files lost", func(s *sample) {
			for _, e := range s.list(chunkstore.Index) {
				must(s.t, s.files.Remove(s.t.Context(), e.Name))
			}
		}, func(r *IndexResult) bool { return r.Written == 1 && r.Kept == 0 && len(r.FromHeader) >= 4 }, true},
		{"one index file lost", func(s *sample) {
			must(s.t, s.files.Remove(s.t.Context(), s.list(chunkstore.Index)[0].Name))
		}, func(r *IndexResult) bool { return r.Written == 1 && r.Kept == 1 }, true},
		{"index file rotten", func(s *sample) { s.edit(s.list(chunkstore.Index)[0].Name, flip(50)) },
			func(r *IndexResult) bool { return r.Written == 1 && r.Kept == 1 && len(r.SetAside) == 1 }, true},
		{"junk index file", func(s *sample) {
			junk := bytes.Repeat([]byte("junk"), 100)
			must(s.t, s.files.PutBytes(s.t.Context(), chunkstore.Name{Kind: chunkstore.Index, ID: digest.Of(junk)}, junk))
		}, func(r *IndexResult) bool { return r.Written == 0 && r.Kept == 2 && len(r.SetAside) == 1 }, true},
		{"pack split over index files", func(s *sample) {
			repo := s.open()
			for f, err := range repo.IndexFiles(s.t.Context()) {
				must(s.t, err)
				for i, p := range f.Packs {
					if len(p.Blobs) < 10 {
						continue
					}
					half := repository.IndexedPack{ID: p.ID, Blobs: p.Blobs[5:]}
					f.Packs[i].Blobs = p.Blobs[:5]
					_, err := repo.SaveIndexFile(s.t.Context(), &repository.IndexFile{Packs: []repository.IndexedPack{half}})
					must(s.t, err)
					_, err = repo.SaveIndexFile(s.t.Context(), f)
					must(s.t, err)
					must(s.t, s.files.Remove(s.t.Context(), f.Name))
					return
				}
			}
			s.t.Fatal("no pack to split")
		}, func(r *IndexResult) bool { return r.Removed == 2 && r.Written == 1 && len(r.FromHeader) == 1 }, true},
		{"index files twice", func(s *sample) {
			repo := s.open()
			for f, err := range repo.IndexFiles(s.t.Context()) {
				must(s.t, err)
				_, err := repo.SaveIndexFile(s.t.Context(), f)
				must(s.t, err)
				return
			}
		}, func(r *IndexResult) bool { return r.Removed == 2 && r.Written == 1 }, true},
		{"index names a pack that is not there", func(s *sample) {
			_, err := s.open().SaveIndexFile(s.t.Context(), &repository.IndexFile{Packs: []repository.IndexedPack{
				{ID: repository.ID{1}, Blobs: []repository.PackedBlob{{ID: repository.ID{2}, Length: 50}}}}})
			must(s.t, err)
		}, func(r *IndexResult) bool { return r.Removed == 1 && r.Written == 0 && len(r.Gone) == 1 }, true},
		{"wrong lengths in the index", func(s *sample) {
			repo := s.open()
			for f, err := range repo.IndexFiles(s.t.Context()) {
				must(s.t, err)
				f.Packs[0].Blobs[0].Length++
				_, err := repo.SaveIndexFile(s.t.Context(), f)
				must(s.t, err)
				must(s.t, s.files.Remove(s.t.Context(), f.Name))
				return
			}
		}, func(r *IndexResult) bool { return r.Removed == 1 && len(r.FromHeader) == 1 }, true},
		{"trailer of a pack cut: what the index says is kept", func(s *sample) {
			s.edit(s.packOf(chunktest.Noise("7", 1007)), cut(30))
		}, func(r *IndexResult) bool { return len(r.Headless) == 1 && r.Written == 1 }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSample(t)
			row.damage(s)
			before := s.list(chunkstore.Index)
			dry, err := Index(t.Context(), s.open(), IndexOptions{DryRun: true})
			must(t, err)
			if !row.want(dry) {
				t.Errorf("Index(DryRun) = %+v", dry)
			}
			if !slices.Equal(s.list(chunkstore.Index), before) {
				t.Error("a dry run changed the index")
			}
			repo := s.open()
			got, err := Index(t.Context(), repo, IndexOptions{})
			must(t, err)
			if !row.want(got) {
				t.Errorf("Index() = %+v", got)
			}
			if !repo.Has(repository.DataBlob, repository.IDOf(digest.Of(chunktest.Noise("7", 1007)))) {
				t.Error("the repository that was passed does not know the new index")
			}
			s.restores()
			if row.whole {
				s.clean()
			}
			if again, err := Index(t.Context(), s.open(), IndexOptions{ReadAllPacks: true}); err != nil || row.whole && again.Changed() {
				t.Errorf("Index() once more = %+v, %v; want nothing to do", again, err)
			}
		})
	}
}

// Only reading the header shows that an index of the right size names the wrong blobs.
func TestIndexReadsAllPacks(t *testing.T) {
	s := newSample(t)
	repo := s.open()
	for f, err := range repo.IndexFiles(t.Context()) {
		must(t, err)
		f.Packs[0].Blobs[0].ID[0] ^= 1
		_, err := repo.SaveIndexFile(t.Context(), f)
		must(t, err)
		must(t, s.files.Remove(t.Context(), f.Name))
		break
	}
	if r, err := Index(t.Context(), s.open(), IndexOptions{}); err != nil || r.Changed() {
		t.Errorf("Index() = %+v, %v; want that the size satisfies it", r, err)
	}
	if len(s.damage()) == 0 {
		t.Error("check finds nothing")
	}
	if r, err := Index(t.Context(), s.open(), IndexOptions{ReadAllPacks: true}); err != nil || len(r.FromHeader) != 1 {
		t.Errorf("Index(ReadAllPacks) = %+v, %v; want one pack listed anew", r, err)
	}
	s.clean()
}
