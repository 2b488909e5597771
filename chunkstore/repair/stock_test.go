package repair

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/check"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// newStockSample makes a repository with stock restic: three snapshots of two hosts, one of them forgotten and pruned.
func newStockSample(t *testing.T, compression string) *sample {
	t.Helper()
	src, dir := t.TempDir(), filepath.Join(t.TempDir(), "repo")
	s := &sample{t: t, src: src}
	run := func(args ...string) {
		t.Helper()
		chunktest.Run(t, chunktest.Stock(t, dir, append([]string{"-q"}, args...)...))
	}
	run("init", "--repository-version", "2")
	for i, host := range []string{"first", "second", "first"} {
		all := map[string][]byte{"empty": {}, "text": []byte(strings.Repeat("registration and backup ", 9000))}
		for j := range 10 {
			all[fmt.Sprintf("records/%d/%d", i, j)] = chunktest.Noise(fmt.Sprint(i, j), 2000+j)
		}
		chunktest.WriteFiles(t, src, all)
		run("backup", "--compression", compression, "--host", host, src)
	}
	run("forget", "--keep-last", "1", "--host", "first", "--prune")
	var err error
	s.files, err = chunkstore.Open(dir)
	must(t, err)
	return s
}

// What stock restic writes, whatever the compression and after pruning, is clean for us. What it finds damaged, so do we;
// and what we mend is clean for it.
func TestStockRepositories(t *testing.T) {
	if testing.Short() {
		t.Skip("asks stock restic thirty times")
	}
	for _, compression := range []string{"auto", "off", "max"} {
		t.Run(compression, func(t *testing.T) {
			if compression != "auto" {
				chunktest.Long(t)
			}
			t.Parallel()
			s := newStockSample(t, compression)
			found, err := check.Check(t.Context(), s.open(), check.Options{ReadData: true})
			must(t, err)
			if len(found) > 0 {
				t.Errorf("check of a stock repository: %v", found)
			}
			must(t, s.both("sound", false))

			if compression == "off" { // an index that is lost
				for _, e := range s.list(chunkstore.Index) {
					must(t, s.files.Remove(t.Context(), e.Name))
				}
				must(t, s.both("without an index", true))
				_, err := Index(t.Context(), s.open(), IndexOptions{})
				must(t, err)
				must(t, s.both("index mended", false))
			}
			// A flipped bit in a blob of a record, and a cut trailer.
			at := s.open().Locate(repository.DataBlob, repository.IDOf(digest.Of(chunktest.Noise("2 3", 2003))))
			if len(at) == 0 {
				t.Fatal("no record is found")
			}
			change := flip(int(at[0].Blob.Offset) + 50)
			if compression == "max" {
				change = cut(10)
			}
			s.edit(at[0].Pack, change)
			must(t, s.both("damaged", true))
			repo := s.open()
			_, err = Packs(t.Context(), repo, []digest.Digest{at[0].Pack.ID}, PacksOptions{})
			must(t, err)
			all, _, err := repo.Snapshots(t.Context())
			must(t, err)
			results, err := Snapshots(t.Context(), repo, all, SnapshotsOptions{Forget: true})
			must(t, err)
			if sound := !slices.ContainsFunc(results, func(r SnapshotResult) bool { return !r.Sound() }); sound != (compression == "max") {
				t.Errorf("repair of the snapshots: %+v", results)
			}
			must(t, s.both("mended", false))
		})
	}
}

// both wants that stock restic and we are of one opinion.
func (s *sample) both(what string, bad bool) error {
	s.t.Helper()
	ours := len(s.damage()) > 0
	out, err := s.restic("check", "--read-data")
	if theirs := err != nil; ours != bad || theirs != bad {
		return fmt.Errorf("%s: damaged for us is %v, for stock restic %v; want %v\n%s", what, ours, theirs, bad, out)
	}
	return nil
}
