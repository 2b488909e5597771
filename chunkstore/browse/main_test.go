package browse

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "correct horse"

// cheap keeps scrypt from taking most of the time of the tests.
var cheap = repository.Scrypt{N: 1024, R: 8, P: 1}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRepo(t testing.TB) (*repository.Repository, *chunkstore.Files) {
	t.Helper()
	files, err := chunkstore.Create(filepath.Join(t.TempDir(), "repo"))
	must(t, err)
	repo, err := repository.Init(context.Background(), files, password, repository.Options{Scrypt: cheap})
	must(t, err)
	return repo, files
}

// plant stores bytes that are none of the repository's under their right name.
func plant(t testing.TB, files *chunkstore.Files, kind chunkstore.Kind, b []byte) digest.Digest {
	t.Helper()
	id := digest.Of(b)
	must(t, files.PutBytes(context.Background(), chunkstore.Name{Kind: kind, ID: id}, b))
	return id
}

// save stores sn over a tree, by default the one with a file in a folder, and fills in what is missing.
func save(t testing.TB, repo *repository.Repository, sn repository.Snapshot) *repository.Snapshot {
	t.Helper()
	s := repo.NewSession()
	defer s.Close()
	ctx := context.Background()
	if sn.Tree.IsZero() {
		blob, _, err := s.SaveBlob(ctx, repository.DataBlob, []byte("content"))
		must(t, err)
		inner, err := s.SaveTree(ctx, &repository.Tree{Nodes: []repository.Node{
			{Name: "file", Type: repository.TypeFile, SizeBytes: 7, Content: []repository.ID{blob}},
			{Name: "link", Type: repository.TypeSymlink, LinkTarget: "file"},
		}})
		must(t, err)
		sn.Tree, err = s.SaveTree(ctx, &repository.Tree{Nodes: []repository.Node{{Name: "folder", Type: repository.TypeDir, Subtree: &inner}}})
		must(t, err)
	}
	if sn.Time.IsZero() {
		sn.Time = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	}
	_, err := s.SaveSnapshot(ctx, &sn)
	must(t, err)
	return &sn
}
