package repository

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "correct horse"

// cheap keeps scrypt from taking most of the time of the tests.
var cheap = Scrypt{N: 1024, R: 8, P: 1}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRepo(t testing.TB, o Options) (*Repository, *chunkstore.Files) {
	t.Helper()
	files, err := chunkstore.Create(filepath.Join(t.TempDir(), "repo"))
	must(t, err)
	o.Scrypt = cheap
	r, err := Init(context.Background(), files, password, o)
	must(t, err)
	return r, files
}

// noise is n bytes that differ everywhere and do not shrink; text is n that do.
func noise(seed string, n int) []byte {
	var b []byte
	for d := digest.Of([]byte(seed)); len(b) < n; d = digest.Of(d.Bytes()) {
		b = append(b, d.Bytes()...)
	}
	return b[:n]
}

func text(seed string, n int) []byte {
	var b []byte
	for len(b) < n {
		b = append(append(b, seed...), " 登记 registration "...)
	}
	return b[:n]
}

// rot flips one bit of a stored file.
func rot(t testing.TB, files *chunkstore.Files, name chunkstore.Name, at int64) {
	t.Helper()
	p := filepath.Join(files.Dir(), name.Kind.String(), name.ID.Hex())
	if name.Kind == chunkstore.Pack {
		p = filepath.Join(files.Dir(), "data", name.ID.Hex()[:2], name.ID.Hex())
	}
	b, err := os.ReadFile(p)
	must(t, err)
	b[at] ^= 1
	must(t, os.Chmod(p, 0o600))
	must(t, os.WriteFile(p, b, 0o600))
}
