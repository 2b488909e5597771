package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/replication"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationtest"
)

func newTestStore(t *testing.T) (*backupStore, string) {
	t.Helper()
	dir := t.TempDir()
	files, err := chunkstore.Create(filepath.Join(dir, "repository"))
	if err != nil {
		t.Fatal(err)
	}
	docs, err := openDocuments(filepath.Join(dir, "documents"))
	if err != nil {
		t.Fatal(err)
	}
	return &backupStore{files: files, docs: docs, config: digest.Of([]byte("config"))}, dir
}

func fileOf(t *testing.T, name string, content []byte) manifest.File {
	t.Helper()
	root, size, err := manifest.LeafRoot(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return manifest.File{Name: name, SizeBytes: size, SHA256: digest.Of(content), LeafRoot: root}
}

func TestBackupStoreKeepsFilesAndDocumentsByName(t *testing.T) {
	ctx := context.Background()
	s, _ := newTestStore(t)
	pack := make([]byte, 300<<10)
	rand.Read(pack)
	report := []byte(`{"overall":"PASS"}`)
	for _, f := range []struct {
		file    manifest.File
		content []byte
	}{
		{fileOf(t, "data/"+digest.Of(pack).Hex(), pack), pack},
		{fileOf(t, "config", []byte("config")), []byte("config")},
		{fileOf(t, documentName(digest.Of(report)), report), report},
	} {
		in, err := s.Receive(ctx, f.file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(f.content); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Has(ctx, f.file.Name); ok || err != nil {
			t.Errorf("Has(%s) before Commit = %v, %v; want false", f.file.Name, ok, err)
		}
		if err := in.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		if size, ok, err := s.Has(ctx, f.file.Name); !ok || err != nil || size != f.file.SizeBytes {
			t.Errorf("Has(%s) = %d, %v, %v; want %d, true", f.file.Name, size, ok, err, f.file.SizeBytes)
		}
		content, size, err := s.content(ctx, f.file.Name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(io.NewSectionReader(content, 0, size))
		if err != nil || !bytes.Equal(got, f.content) {
			t.Errorf("content(%s) = %d bytes, %v; want what was stored", f.file.Name, len(got), err)
		}
	}
}

func TestBackupStoreConforms(t *testing.T) {
	replicationtest.RunStore(t, func(t *testing.T, before replication.Store) replication.Store {
		if s, ok := before.(*backupStore); ok { // as after a restart
			files, err := chunkstore.Open(s.files.Dir())
			if err != nil {
				t.Fatal(err)
			}
			return &backupStore{files: files, docs: s.docs, config: s.config}
		}
		s, _ := newTestStore(t)
		s.config = replicationtest.File("config", bytes.Repeat([]byte("0123456789abcdef"), 10_000)).SHA256 // as the suite's config
		return s
	})
}

func TestBackupStoreRefusesOtherBytes(t *testing.T) {
	ctx := context.Background()
	s, _ := newTestStore(t)
	report := []byte("a report")
	in, err := s.Receive(ctx, fileOf(t, documentName(digest.Of(report)), report))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("b report")); err != nil {
		t.Fatal(err)
	}
	if err := in.Commit(ctx); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Commit of other bytes = %v; want ErrMismatch", err)
	}
	if _, ok, _ := s.Has(ctx, documentName(digest.Of(report))); ok {
		t.Error("a document whose bytes were wrong is stored")
	}
}

func TestBackupStoreTellsWhatReplicationActsOn(t *testing.T) {
	for _, tt := range []struct{ give, want error }{
		{chunkstore.ErrFull, replication.ErrFull},
		{chunkstore.ErrBusy, replication.ErrBusy},
		{fs.ErrNotExist, fs.ErrNotExist},
	} {
		if got := storeError(tt.give); !errors.Is(got, tt.want) || !errors.Is(got, tt.give) {
			t.Errorf("storeError(%v) = %v; want one that matches both it and %v", tt.give, got, tt.want)
		}
	}
}

func TestDocumentsNoticeRot(t *testing.T) {
	dir := t.TempDir()
	docs, err := openDocuments(dir)
	if err != nil {
		t.Fatal(err)
	}
	id, err := docs.PutBytes([]byte("manifest"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(docs.path(id), []byte("manifesT"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := docs.Get(id); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Get of a rotten document = %v; want ErrMismatch", err)
	}
	store := &backupStore{docs: docs}
	if _, ok, err := store.Has(context.Background(), documentName(id)); ok || err != nil {
		t.Errorf("Has of a rotten document = %v, %v; want false, so that it is fetched again", ok, err)
	}
	if _, err := docs.PutBytes([]byte("manifest")); err != nil {
		t.Fatal(err)
	}
	if _, err := docs.Get(id); err != nil {
		t.Errorf("Get after it was put again = %v; want it whole", err)
	}
	left := filepath.Join(dir, id.Hex()[:2], ".tmp-crash")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openDocuments(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Error("what a crash left is still there after opening")
	}
}
