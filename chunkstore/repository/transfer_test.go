package repository

import (
	"bytes"
	"errors"
	"testing"

	"dengbei/chunkstore/digest"
)

// envelope reads the envelope of a blob from the first of its packs.
func envelope(t *testing.T, r *Repository, typ BlobType, id ID) (PackedBlob, []byte) {
	t.Helper()
	places := r.Locate(typ, id)
	if len(places) == 0 {
		t.Fatalf("blob %s is nowhere", id)
	}
	env := make([]byte, places[0].Blob.Length)
	must(t, r.Files().ReadRange(t.Context(), places[0].Pack, int64(places[0].Blob.Offset), env))
	return places[0].Blob, env
}

func TestTransferBetweenRepositories(t *testing.T) {
	from, _ := newRepo(t, Options{})
	to, files := newRepo(t, Options{Compression: CompressOff, Polynomial: from.Config().Polynomial})
	if to.Config().Polynomial != from.Config().Polynomial {
		t.Errorf("Init made polynomial %s; want %s", to.Config().Polynomial, from.Config().Polynomial)
	}
	s, d := from.NewSession(), to.NewSession()
	defer s.Close()
	defer d.Close()
	contents := [][]byte{{}, []byte("x"), noise("n", 100_000), text("t", 100_000)}
	for _, c := range contents {
		_, _, err := s.SaveBlob(t.Context(), DataBlob, c)
		must(t, err)
	}
	must(t, s.Flush(t.Context()))
	for _, c := range contents {
		b, env := envelope(t, from, DataBlob, IDOf(digest.Of(c)))
		payload, err := from.OpenEnvelope(env, b)
		must(t, err)
		for i := range 2 {
			added, err := d.SavePayload(t.Context(), b, payload)
			if added != (i == 0) || err != nil {
				t.Errorf("SavePayload(%d bytes) for the time %d = %v, %v", len(c), i+1, added, err)
			}
		}
		bad := bytes.Clone(env)
		bad[0] ^= 1
		if _, err := from.OpenEnvelope(bad, b); !errors.Is(err, ErrDamaged) {
			t.Errorf("OpenEnvelope(damaged) = %v; want ErrDamaged", err)
		}
	}
	must(t, d.Flush(t.Context()))
	again, err := Open(t.Context(), files, password, Options{})
	must(t, err)
	for _, c := range contents {
		id := IDOf(digest.Of(c))
		got, err := again.LoadBlob(t.Context(), DataBlob, id, nil)
		if err != nil || !bytes.Equal(got, c) {
			t.Errorf("LoadBlob(%d bytes) = %d bytes, %v", len(c), len(got), err)
		}
		if a, b := again.Locate(DataBlob, id)[0].Blob, from.Locate(DataBlob, id)[0].Blob; a.UncompressedBytes != b.UncompressedBytes || a.Length != b.Length {
			t.Errorf("transferred as %+v; want as compressed as %+v", a, b)
		}
	}
	if _, err := Init(t.Context(), files, password, Options{Polynomial: 8}); err == nil {
		t.Error("Init takes a polynomial that is reducible")
	}
}

func TestBlobsAreStoredAgain(t *testing.T) {
	r, files := newRepo(t, Options{Compression: CompressOff})
	s := r.NewSession()
	defer s.Close()
	content := text("again", 50_000)
	id, _, err := s.SaveBlob(t.Context(), DataBlob, content)
	must(t, err)
	must(t, s.Flush(t.Context()))
	b, env := envelope(t, r, DataBlob, id)
	must(t, s.SaveEnvelope(t.Context(), b, env))
	must(t, s.Flush(t.Context()))
	again, err := Open(t.Context(), files, password, Options{})
	must(t, err)
	s = again.NewSession()
	defer s.Close()
	must(t, s.SaveBlobAgain(t.Context(), DataBlob, content))
	must(t, s.Flush(t.Context()))
	places := again.Locate(DataBlob, id)
	if len(places) != 3 || places[2].Blob.UncompressedBytes == 0 {
		t.Errorf("Locate() = %+v; want three places, the last compressed", places)
	}
	for _, l := range places {
		env := make([]byte, l.Blob.Length)
		must(t, files.ReadRange(t.Context(), l.Pack, int64(l.Blob.Offset), env))
		got, err := again.DecodeBlob(nil, env, l.Blob)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s yields %d bytes, %v", l.Pack, len(got), err)
		}
	}
}
