package repair

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/check"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	chunktest.Must(t, err)
}

// sample is a repository with two snapshots of src, several packs and two index files.
type sample struct {
	t         *testing.T
	files     *chunkstore.Files
	src       string
	snapshots []digest.Digest
}

func newSample(t *testing.T) *sample {
	t.Helper()
	repo, files := chunktest.NewRepository(t, repository.Options{Compression: repository.CompressOff, PackBytes: 4 << 20})
	s := &sample{t: t, files: files, src: t.TempDir()}
	all := map[string][]byte{}
	for i := range 3 {
		all[fmt.Sprintf("big-%d", i)] = chunktest.Noise(fmt.Sprint("big", i), 300<<10)
	}
	for i := range 20 {
		all[fmt.Sprintf("records/%02d/data", i)] = chunktest.Noise(fmt.Sprint(i), 1000+i)
	}
	chunktest.WriteFiles(t, s.src, all)
	for i := range 2 {
		r, err := archive.Backup(t.Context(), repo, archive.Options{Roots: []archive.Root{{Path: "/", Source: s.src}}})
		must(t, err)
		s.snapshots = append(s.snapshots, r.SnapshotID)
		chunktest.WriteFiles(t, s.src, map[string][]byte{fmt.Sprintf("later-%d", i): chunktest.Noise(fmt.Sprint("later", i), 9000)})
	}
	must(t, os.Remove(filepath.Join(s.src, "later-1")))
	return s
}

func (s *sample) open() *repository.Repository {
	s.t.Helper()
	repo, err := repository.Open(s.t.Context(), s.files, chunktest.Password, repository.Options{})
	must(s.t, err)
	return repo
}

func (s *sample) list(kind chunkstore.Kind) []chunkstore.Entry {
	s.t.Helper()
	var all []chunkstore.Entry
	for e, err := range s.files.List(s.t.Context(), kind) {
		must(s.t, err)
		all = append(all, e)
	}
	return all
}

// packOf returns the first pack with a file's content.
func (s *sample) packOf(content []byte) chunkstore.Name {
	s.t.Helper()
	return s.open().Locate(repository.DataBlob, repository.IDOf(digest.Of(content)))[0].Pack
}

func onDisk(files *chunkstore.Files, n chunkstore.Name) string {
	if n.Kind == chunkstore.Pack {
		return filepath.Join(files.Dir(), "data", n.ID.Hex()[:2], n.ID.Hex())
	}
	return filepath.Join(files.Dir(), n.String())
}

// edit changes a stored file.
func (s *sample) edit(n chunkstore.Name, change func([]byte) []byte) {
	s.t.Helper()
	b, err := os.ReadFile(onDisk(s.files, n))
	must(s.t, err)
	must(s.t, os.Chmod(onDisk(s.files, n), 0o600))
	must(s.t, os.WriteFile(onDisk(s.files, n), change(b), 0o600))
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[(at+len(b))%len(b)] ^= 4
		return b
	}
}

func cut(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }

// damage returns what a check of every byte finds that is not harmless.
func (s *sample) damage() []check.Finding {
	s.t.Helper()
	found, err := check.Check(s.t.Context(), s.open(), check.Options{ReadData: true})
	must(s.t, err)
	return slices.DeleteFunc(found, func(f check.Finding) bool { return f.Harmless })
}

// clean wants that neither our check nor stock restic's finds anything; with -short only ours is asked.
func (s *sample) clean() {
	s.t.Helper()
	for _, f := range s.damage() {
		s.t.Errorf("after the repair: %s", f)
	}
	if testing.Short() {
		return
	}
	if !chunktest.HasStock() {
		s.t.Log("stock restic is not installed: its verdict is NOT asked")
		return
	}
	if out, err := s.restic("check", "--read-data"); err != nil || !strings.Contains(out, "no errors were found") {
		s.t.Errorf("restic check: %v\n%s", err, out)
	}
}

// restic runs stock restic, whose verdict is an error.
func (s *sample) restic(args ...string) (string, error) {
	s.t.Helper()
	out, err := chunktest.Stock(s.t, s.files.Dir(), args...).CombinedOutput()
	return string(out), err
}

// restores wants that the last snapshot gives src again.
func (s *sample) restores() {
	s.t.Helper()
	target := s.t.TempDir()
	_, err := restore.Restore(s.t.Context(), s.open(), s.snapshots[1], target, restore.Options{})
	must(s.t, err)
	if out, err := exec.Command("diff", "-r", s.src, target).CombinedOutput(); err != nil {
		s.t.Errorf("restored tree differs: %v\n%s", err, out)
	}
}
