package chunktest

import (
	"os"
	"path/filepath"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// Password opens the repositories that [NewRepository] makes.
const Password = "correct horse"

// Cheap is a cost of guessing that keeps scrypt from taking most of the time of a test.
func Cheap() repository.Scrypt { return repository.Scrypt{N: 16, R: 8, P: 1} }

// Must ends the test if err is one.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// NewFiles makes an empty repository directory. It lacks the 256 directories of data/, which are made as they are
// needed: on many disks making and removing them takes most of the time of a test.
func NewFiles(t testing.TB, disk chunkstore.Disk) *chunkstore.Files {
	t.Helper()
	dir := t.TempDir()
	for _, k := range chunkstore.Kinds()[1:] {
		Must(t, os.Mkdir(filepath.Join(dir, k.String()), 0o700))
	}
	files, err := chunkstore.OpenOn(disk, dir)
	Must(t, err)
	return files
}

// NewRepository makes an empty repository in a directory of its own, with a cheap key under [Password].
func NewRepository(t testing.TB, o repository.Options) (*repository.Repository, *chunkstore.Files) {
	t.Helper()
	files := NewFiles(t, chunkstore.LocalDisk{})
	o.Scrypt = Cheap()
	r, err := repository.Init(t.Context(), files, Password, o)
	Must(t, err)
	return r, files
}

// Rot flips one bit of a stored file.
func Rot(t testing.TB, files *chunkstore.Files, name chunkstore.Name, at int) {
	t.Helper()
	p := filepath.Join(files.Dir(), name.Kind.String(), name.ID.Hex())
	switch name.Kind {
	case chunkstore.Config:
		p = filepath.Join(files.Dir(), "config")
	case chunkstore.Pack:
		p = filepath.Join(files.Dir(), "data", name.ID.Hex()[:2], name.ID.Hex())
	}
	b, err := os.ReadFile(p)
	Must(t, err)
	b[at] ^= 1
	Must(t, os.Chmod(p, 0o600)) // a file that has its name is read-only
	Must(t, os.WriteFile(p, b, 0o400))
}

// Noise is n bytes that differ everywhere and do not shrink, the same for the same seed.
func Noise(seed string, n int) []byte {
	b := make([]byte, 0, n+digest.Size)
	for d := digest.Of([]byte(seed)); len(b) < n; d = digest.Of(d.Bytes()) {
		b = append(b, d.Bytes()...)
	}
	return b[:n]
}

// WriteFiles makes files with the given content below dir, with the directories they need.
func WriteFiles(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		p := filepath.Join(dir, name)
		Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		Must(t, os.WriteFile(p, b, 0o644))
	}
}
