package repository

import (
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// packOf is a pack with n data blobs that exist nowhere.
func packOf(seed string, n int) IndexedPack {
	ids := noise(seed, 32*(n+1))
	p := IndexedPack{ID: ID(ids[:32])}
	for i := range n {
		p.Blobs = append(p.Blobs, PackedBlob{ID: ID(ids[32*(i+1):]), Offset: uint32(50 * i), Length: 50, UncompressedBytes: 70})
	}
	return p
}

func TestPacksToDelete(t *testing.T) {
	r, files := newRepo(t, Options{})
	at := time.Date(2026, 11, 1, 2, 3, 4, 5, time.UTC)
	live, marked, both := packOf("live", 3), packOf("marked", 2), packOf("both", 2)
	mark := func(p IndexedPack, at time.Time) IndexedPack { p.Time = at; return p }
	first, err := r.SaveIndexFile(t.Context(), &IndexFile{
		Packs:         []IndexedPack{live},
		PacksToDelete: []IndexedPack{mark(marked, at), mark(both, at)},
	})
	must(t, err)
	_, err = r.SaveIndexFile(t.Context(), &IndexFile{Packs: []IndexedPack{both}, PacksToDelete: []IndexedPack{mark(marked, at.Add(time.Hour))}})
	must(t, err)
	if r.Has(DataBlob, live.Blobs[0].ID) {
		t.Error("an index file counts before Reload")
	}
	must(t, r.Reload(t.Context()))
	again, err := Open(t.Context(), files, password, Options{})
	must(t, err)
	for _, r := range []*Repository{r, again} {
		for _, p := range []IndexedPack{live, both, marked} {
			want := 1
			if p.ID == marked.ID {
				want = 0
			}
			for _, b := range p.Blobs {
				if got := r.Locate(b.Type, b.ID); len(got) != want || r.Has(b.Type, b.ID) != (want == 1) {
					t.Errorf("Locate(%s of %s) = %v; want %d places", b.ID, p.ID, got, want)
				}
			}
			if since, ok := r.MarkedSince(packName(p.ID)); ok != (want == 0) || ok && !since.Equal(at.Add(time.Hour)) {
				t.Errorf("MarkedSince(%s) = %v, %v; want the later of two marks", p.ID, since, ok)
			}
			if !r.Indexed(packName(p.ID)) {
				t.Errorf("Indexed(%s) = false", p.ID)
			}
		}
		var all []chunkstore.Name
		for name := range r.MarkedPacks() {
			all = append(all, name)
		}
		if len(all) != 1 || all[0] != packName(marked.ID) {
			t.Errorf("MarkedPacks() = %v; want %s", all, marked.ID)
		}
	}

	f, err := r.LoadIndexFile(t.Context(), first.Name)
	must(t, err)
	if f.Name != first.Name || len(f.Packs) != 1 || len(f.PacksToDelete) != 2 || !f.PacksToDelete[0].Time.Equal(at) || len(f.PacksToDelete[0].Blobs) != 2 {
		t.Errorf("LoadIndexFile() = %+v", f)
	}
	must(t, files.Remove(t.Context(), first.Name))
	must(t, r.Reload(t.Context()))
	if r.Has(DataBlob, live.Blobs[0].ID) || !r.Has(DataBlob, both.Blobs[0].ID) {
		t.Error("after Reload the pack of a removed index file is still found, or another is not")
	}
}

func TestReloadKeepsWhatASessionWrote(t *testing.T) {
	r, files := newRepo(t, Options{})
	s := r.NewSession()
	defer s.Close()
	id, _, err := s.SaveBlob(t.Context(), DataBlob, noise("a", 100))
	must(t, err)
	for _, p := range s.packs() { // finish them without an index file
		p.mu.Lock()
		if p.staged != nil {
			s.finish(t.Context(), p)
		}
		p.mu.Unlock()
	}
	s.wait.Wait()
	must(t, r.Reload(t.Context()))
	if !r.Has(DataBlob, id) {
		t.Error("Reload forgets a pack that waits for its index file")
	}
	must(t, s.Flush(t.Context()))
	must(t, r.Reload(t.Context()))
	if !r.Has(DataBlob, id) {
		t.Error("Reload forgets a pack that has its index file")
	}
	for e, err := range files.List(t.Context(), chunkstore.Index) {
		must(t, err)
		must(t, files.Remove(t.Context(), e.Name))
	}
	must(t, r.Reload(t.Context()))
	if r.Has(DataBlob, id) {
		t.Error("Reload keeps a pack whose index file was removed")
	}
}

func TestIndexFilesGoesOnAfterJunk(t *testing.T) {
	r, files := newRepo(t, Options{})
	_, err := r.SaveIndexFile(t.Context(), &IndexFile{Packs: []IndexedPack{packOf("a", 1)}})
	must(t, err)
	junk := putBytes(t, files, chunkstore.Index, []byte("junk"))
	read, unread := 0, 0
	for f, err := range r.IndexFiles(t.Context()) {
		switch {
		case err == nil && len(f.Packs) == 1:
			read++
		case err != nil && f.Name == junk:
			unread++
		}
	}
	if read != 1 || unread != 1 {
		t.Errorf("IndexFiles() reads %d and passes over %d; want 1 and 1", read, unread)
	}
	must(t, r.Reload(t.Context()))
	if u := r.Unreadable(); len(u) != 1 || u[0].Name != junk {
		t.Errorf("Unreadable() = %v; want the junk", u)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for f, err := range r.IndexFiles(ctx) {
		if f != nil || err == nil {
			t.Errorf("IndexFiles() of an ended context yields %v, %v", f, err)
		}
	}
	if err := r.Reload(ctx); err == nil || !r.Has(DataBlob, packOf("a", 1).Blobs[0].ID) {
		t.Errorf("Reload() of an ended context = %v; want an error and everything as before", err)
	}
}

func TestStockReadsAnIndexWithMarks(t *testing.T) {
	stock, err := exec.LookPath("restic")
	if err != nil {
		t.Skip("stock restic is not installed")
	}
	r, files := newRepo(t, Options{})
	s := r.NewSession()
	defer s.Close()
	id, _, err := s.SaveBlob(t.Context(), DataBlob, []byte("content"))
	must(t, err)
	tree, err := s.SaveTree(t.Context(), &Tree{})
	must(t, err)
	_, err = s.SaveSnapshot(t.Context(), &Snapshot{Time: time.Now(), Tree: tree, Paths: []string{"/x"}})
	must(t, err)
	gone := packOf("gone", 1)
	gone.Time = time.Now()
	_, err = r.SaveIndexFile(t.Context(), &IndexFile{PacksToDelete: []IndexedPack{gone}})
	must(t, err)
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(stock, append([]string{"-r", files.Dir(), "--no-cache", "-q"}, args...)...)
		cmd.Env = append(cmd.Environ(), "RESTIC_PASSWORD="+password)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("restic %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	run("check", "--read-data")
	if got := run("cat", "blob", id.String()); got != "content" {
		t.Errorf("restic cat blob = %q", got)
	}
	if got := run("list", "blobs"); strings.Contains(got, gone.Blobs[0].ID.String()) {
		t.Errorf("stock restic finds a blob of a pack to be deleted: %s", got)
	}
}

func TestIndexedPackWithoutTimeHasNoTime(t *testing.T) {
	b, err := json.Marshal(IndexFile{Packs: []IndexedPack{packOf("a", 1)}})
	must(t, err)
	if strings.Contains(string(b), "time") || strings.Contains(string(b), "packs_to_delete") {
		t.Errorf("%s; want nothing that stock restic does not write", b)
	}
}

// putBytes stores b under its hash, whatever it is.
func putBytes(t testing.TB, files Files, kind chunkstore.Kind, b []byte) chunkstore.Name {
	t.Helper()
	name := chunkstore.Name{Kind: kind, ID: digest.Of(b)}
	_, err := files.Put(context.Background(), name, strings.NewReader(string(b)))
	must(t, err)
	return name
}
