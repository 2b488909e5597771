package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dengbei/chunkstore"
	"dengbei/node/config"
	"dengbei/node/rpc"
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

func TestClassTakesNoPath(t *testing.T) {
	dir := t.TempDir()
	k := newKeeper(config.Config{DataDir: filepath.Join(dir, "data"), Centre: "330102"}, nil, nil, nil)
	for _, class := range []string{"", "..", "/../../x", "../x", "a/b", "a b", "A", "文书", "1", "-a", strings.Repeat("a", 33)} {
		if _, err := k.Class(t.Context(), class); !errors.Is(err, rpc.ErrInvalid) {
			t.Errorf("Class(%q) = %v; want ErrInvalid", class, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%d entries were made, %v; want none", len(left), err)
	}
}
