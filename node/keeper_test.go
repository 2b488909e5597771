package node

import (
	"os"
	"path/filepath"
	"testing"

	"dengbei/chunkstore"
	"dengbei/node/config"
)

// A repository whose registration failed is complete on disk; the next try must take it up.
func TestCreateFilesTakesUpAFinishedRepository(t *testing.T) {
	k := newKeeper(config.Config{DataDir: t.TempDir(), Centre: "330102"}, nil, nil, nil)
	const id = "330102-standard-1"
	for _, step := range []string{"an empty disk", "a layout without config", "a finished repository"} {
		files, err := k.createFiles(id)
		if err != nil {
			t.Fatalf("createFiles on %s: %v", step, err)
		}
		if files.Dir() != k.dir(id) {
			t.Errorf("createFiles on %s opened %s; want %s", step, files.Dir(), k.dir(id))
		}
		want := chunkstore.Owner{Repository: id, Centre: "330102"}
		if got, err := chunkstore.OwnerOf(files.Dir()); got != want || err != nil {
			t.Errorf("createFiles on %s: mark %+v, %v; want %+v", step, got, err, want)
		}
		if step == "a layout without config" {
			if err := os.WriteFile(filepath.Join(k.dir(id), chunkstore.Config.String()), []byte("sealed"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}
