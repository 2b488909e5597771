package archive

import (
	"testing"

	"go.uber.org/goleak"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = chunktest.Password

func must(t testing.TB, err error) {
	t.Helper()
	chunktest.Must(t, err)
}

func newRepo(t testing.TB, o repository.Options) (*repository.Repository, *chunkstore.Files) {
	t.Helper()
	return chunktest.NewRepository(t, o)
}

func noise(seed string, n int) []byte { return chunktest.Noise(seed, n) }

func write(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	chunktest.WriteFiles(t, dir, files)
}
