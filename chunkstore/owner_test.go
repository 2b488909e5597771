package chunkstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOwnerMark(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repository")
	_, err := Create(dir)
	must(t, err)
	if _, err := OwnerOf(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OwnerOf(unmarked) = %v; want fs.ErrNotExist", err)
	}
	for _, want := range []Owner{{Repository: "330102-standard-1", Centre: "330102"}, {Repository: "330102-standard-1", Centre: "330102", Held: true}} {
		must(t, MarkOwned(dir, want))
		must(t, MarkOwned(dir, want))
		got, err := OwnerOf(dir)
		if got != want || err != nil {
			t.Errorf("OwnerOf() = %+v, %v; want %+v", got, err, want)
		}
		if err := got.Refuse(); !errors.Is(err, ErrOwned) || !strings.Contains(err.Error(), "330102-standard-1") {
			t.Errorf("Refuse() = %v; want ErrOwned with the repository's name", err)
		}
	}
	// A repository that is still without config is taken up with its mark.
	_, err = Create(dir)
	must(t, err)
	for _, broken := range []string{"", "{", "[]", `{"repository":1}`} {
		must(t, os.WriteFile(filepath.Join(dir, ownerName), []byte(broken), 0o600))
		if _, err := OwnerOf(dir); err != nil {
			t.Errorf("OwnerOf(%q) = %v; want a mark", broken, err)
		}
	}
	if _, err := OwnerOf(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OwnerOf(nowhere) = %v; want fs.ErrNotExist", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) != 0 {
		t.Errorf("%v stays", left)
	}
}
