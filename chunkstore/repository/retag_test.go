package repository

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// failingRemoval stands for a cut between the new file and the removal of the old one.
type failingRemoval struct{ *chunkstore.Files }

func (failingRemoval) Remove(context.Context, chunkstore.Name) error { return fs.ErrPermission }

func TestSetTags(t *testing.T) {
	r, files := newRepo(t, Options{})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first, err := r.saveUnpacked(t.Context(), chunkstore.Snapshot,
		[]byte(`{"time":"2026-01-02T03:04:05Z","tree":"`+ID{1}.String()+`","paths":["/a"],"hostname":"h","tags":["x"],"summary":{"files_new":7},"from_afar":[1]}`))
	must(t, err)
	s := r.NewSession()
	other := &Snapshot{Time: at, Tree: ID{2}, Paths: []string{"/a"}, Tags: []string{"keep"}}
	_, err = s.SaveSnapshot(t.Context(), other)
	must(t, err)
	must(t, s.Close())

	// What is right already is left alone; what is not there changes nothing.
	done, err := r.SetTags(t.Context(), map[digest.Digest][]string{other.ID: {"keep"}})
	if err != nil || len(done) != 0 {
		t.Errorf("SetTags(the same) = %v, %v; want nothing done", done, err)
	}
	if _, err := r.SetTags(t.Context(), map[digest.Digest][]string{other.ID: {"new"}, digest.Of(nil): {"new"}}); !errors.Is(err, ErrUnreadable) {
		t.Errorf("SetTags(unknown) = %v; want ErrUnreadable", err)
	}
	left, _, err := r.Snapshots(t.Context())
	must(t, err)
	if len(left) != 2 || !slices.Equal(left[0].Tags, []string{"keep"}) && !slices.Equal(left[1].Tags, []string{"keep"}) {
		t.Errorf("SetTags with an unknown ID has changed something: %v", left)
	}

	cut, err := Open(t.Context(), failingRemoval{files}, password, Options{})
	must(t, err)
	want := map[digest.Digest][]string{first.Name.ID: {"x", "y"}}
	if _, err := cut.SetTags(t.Context(), want); !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("SetTags, cut = %v", err)
	}
	left, _, err = r.Snapshots(t.Context())
	must(t, err)
	if len(left) != 3 {
		t.Fatalf("after the cut there are %d snapshots; want old and new beside the other", len(left))
	}
	done, err = r.SetTags(t.Context(), want)
	must(t, err)
	if len(done) != 1 || done[0].Old != first.Name.ID {
		t.Fatalf("SetTags = %v", done)
	}
	left, _, err = r.Snapshots(t.Context())
	must(t, err)
	if len(left) != 2 {
		t.Errorf("after the second run there are %d snapshots; want 2", len(left))
	}
	sn, err := r.LoadSnapshot(t.Context(), done[0].New)
	must(t, err)
	if !slices.Equal(sn.Tags, []string{"x", "y"}) || sn.Original == nil || *sn.Original != IDOf(first.Name.ID) || !sn.Time.Equal(at) || sn.Hostname != "h" {
		t.Errorf("SetTags makes %+v", sn)
	}
	b, err := r.LoadPlain(t.Context(), sn.Name())
	must(t, err)
	var fields map[string]any
	must(t, json.Unmarshal(b, &fields))
	if fields["summary"] == nil || fields["from_afar"] == nil {
		t.Errorf("SetTags drops what it does not know: %s", b)
	}

	// The original is the first one, however often; no tags at all leave no list.
	done, err = r.SetTags(t.Context(), map[digest.Digest][]string{sn.ID: nil})
	must(t, err)
	sn, err = r.LoadSnapshot(t.Context(), done[0].New)
	must(t, err)
	if sn.Tags != nil || *sn.Original != IDOf(first.Name.ID) {
		t.Errorf("SetTags(none) makes %+v", sn)
	}
}

func TestLoadPlain(t *testing.T) {
	r, files := newRepo(t, Options{})
	s := r.NewSession()
	_, _, err := s.SaveBlob(t.Context(), DataBlob, []byte("x"))
	must(t, err)
	must(t, s.Flush(t.Context()))
	must(t, s.Close())
	for _, kind := range []chunkstore.Kind{chunkstore.Config, chunkstore.Key, chunkstore.Index, chunkstore.Pack} {
		for e, err := range files.List(t.Context(), kind) {
			must(t, err)
			b, err := r.LoadPlain(t.Context(), e.Name)
			if (kind == chunkstore.Pack) != errors.Is(err, ErrUnreadable) || kind != chunkstore.Pack && !json.Valid(b) {
				t.Errorf("LoadPlain(%s) = %q, %v; want JSON", e.Name, b, err)
			}
		}
	}
}
