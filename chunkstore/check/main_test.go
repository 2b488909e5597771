package check

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const password = "correct horse"

func newRepo(t testing.TB, o repository.Options) (*repository.Repository, *chunkstore.Files) {
	t.Helper()
	files, err := chunkstore.Create(filepath.Join(t.TempDir(), "repo"))
	must(t, err)
	o.Scrypt = repository.Scrypt{N: 1024, R: 8, P: 1}
	r, err := repository.Init(t.Context(), files, password, o)
	must(t, err)
	return r, files
}

// noise is n bytes that differ everywhere and do not shrink.
func noise(seed string, n int) []byte {
	var b []byte
	for d := digest.Of([]byte(seed)); len(b) < n; d = digest.Of(d.Bytes()) {
		b = append(b, d.Bytes()...)
	}
	return b[:n]
}

// write makes files with the given content below dir.
func write(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		p := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		must(t, os.WriteFile(p, b, 0o644))
	}
}
