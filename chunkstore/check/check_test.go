package check

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// sample makes a repository with two snapshots that share most files.
func sample(t *testing.T) (*repository.Repository, *chunkstore.Files, []*archive.Result) {
	t.Helper()
	repo, files := newRepo(t, repository.Options{Compression: repository.CompressOff})
	src := t.TempDir()
	all := map[string][]byte{"only-first": []byte("1"), "big": noise("big", 2<<20)}
	for i := range 20 {
		all[fmt.Sprintf("records/%d/data", i)] = noise(fmt.Sprint(i), 1000+i)
	}
	write(t, src, all)
	var results []*archive.Result
	for range 2 {
		r, err := archive.Backup(t.Context(), repo, archive.Options{Roots: []archive.Root{{Path: "/", Source: src}}})
		must(t, err)
		results = append(results, r)
		must(t, os.Remove(filepath.Join(src, "only-first")))
		write(t, src, map[string][]byte{"only-first": nil})
	}
	return repo, files, results
}

func run(t *testing.T, files *chunkstore.Files, readData bool) []Finding {
	t.Helper()
	repo, err := repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	packs := 0
	found, err := Check(t.Context(), repo, Options{ReadData: readData, Progress: func(p Progress) { packs = max(packs, p.Packs) }})
	must(t, err)
	if readData != (packs > 0) {
		t.Errorf("%d packs were read; ReadData is %v", packs, readData)
	}
	return found
}

func onDisk(files *chunkstore.Files, n chunkstore.Name) string {
	if n.Kind == chunkstore.Pack {
		return filepath.Join(files.Dir(), "data", n.ID.Hex()[:2], n.ID.Hex())
	}
	return filepath.Join(files.Dir(), n.String())
}

// edit changes a stored file.
func edit(t *testing.T, files *chunkstore.Files, n chunkstore.Name, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(onDisk(files, n))
	must(t, err)
	must(t, os.Chmod(onDisk(files, n), 0o600))
	must(t, os.WriteFile(onDisk(files, n), change(b), 0o600))
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		b[(at+len(b))%len(b)] ^= 4
		return b
	}
}

func TestSoundRepository(t *testing.T) {
	_, files, _ := sample(t)
	for _, readData := range []bool{false, true} {
		if found := run(t, files, readData); len(found) != 0 {
			t.Errorf("Check() = %v; want nothing", found)
		}
	}
}

// affected returns the paths a finding names, each as often as snapshots suffer.
func affected(f Finding) []string {
	var paths []string
	for _, a := range f.Affects {
		paths = append(paths, a.Path)
	}
	slices.Sort(paths)
	return paths
}

func TestDamageIsNamed(t *testing.T) {
	record := noise("7", 1007)
	rows := []struct {
		what     string
		pick     func(*repository.Repository, []*archive.Result) chunkstore.Name
		change   func(repo *repository.Repository) func([]byte) []byte
		err      error
		paths    []string // nil: do not compare
		readData bool     // found only so
	}{
		{
			what: "flipped bit in a data blob",
			pick: dataPack(record),
			change: func(repo *repository.Repository) func([]byte) []byte {
				return flip(int(repo.Locate(repository.DataBlob, repository.IDOf(digest.Of(record)))[0].Blob.Offset) + 100)
			},
			err: digest.ErrMismatch, paths: []string{"/records/7/data", "/records/7/data"}, readData: true,
		},
		{
			what: "flipped bit in the header of a pack", pick: dataPack(record),
			change: func(*repository.Repository) func([]byte) []byte { return flip(-10) },
			err:    ErrHeader, paths: []string{},
		},
		{
			what: "cut pack", pick: dataPack(record),
			change: func(*repository.Repository) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-1] } },
			err:    ErrSize, paths: []string{},
		},
		{
			what: "tree", pick: func(repo *repository.Repository, r []*archive.Result) chunkstore.Name {
				return repo.Locate(repository.TreeBlob, r[1].Tree)[0].Pack
			},
			change: func(*repository.Repository) func([]byte) []byte { return flip(20) },
			err:    repository.ErrDamaged, paths: []string{"/"},
		},
		{
			what: "snapshot", pick: func(_ *repository.Repository, r []*archive.Result) chunkstore.Name {
				return chunkstore.Name{Kind: chunkstore.Snapshot, ID: r[0].SnapshotID}
			},
			change: func(*repository.Repository) func([]byte) []byte { return flip(20) },
			err:    digest.ErrMismatch,
		},
		{
			what: "key", pick: func(repo *repository.Repository, _ []*archive.Result) chunkstore.Name {
				k, err := repo.AddKey(t.Context(), "other", repository.KeyOptions{Cost: repository.Scrypt{N: 2, R: 1, P: 1}})
				must(t, err)
				return k.Name
			},
			change: func(*repository.Repository) func([]byte) []byte { return flip(20) },
			err:    digest.ErrMismatch,
		},
	}
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			repo, files, results := sample(t)
			name := row.pick(repo, results)
			edit(t, files, name, row.change(repo))
			for _, readData := range []bool{false, true} {
				found := run(t, files, readData)
				if row.readData && !readData {
					if len(found) != 0 {
						t.Errorf("Check without data = %v; want nothing", found)
					}
					continue
				}
				if len(found) != 1 || found[0].Name != name || !readData && !errors.Is(found[0].Err, row.err) {
					t.Fatalf("Check(%v) = %v; want %s: %v", readData, found, name, row.err)
				}
				if readData && row.readData && !errors.Is(found[0].Err, row.err) {
					t.Errorf("Check() = %v; want %v", found[0].Err, row.err)
				}
				if got := affected(found[0]); row.paths != nil && !slices.Equal(got, row.paths) && !(len(got) == 0 && len(row.paths) == 0) {
					t.Errorf("affected are %v; want %v", got, row.paths)
				}
				if found[0].Harmless {
					t.Error("damage is called harmless")
				}
			}
		})
	}
}

func dataPack(content []byte) func(*repository.Repository, []*archive.Result) chunkstore.Name {
	return func(repo *repository.Repository, _ []*archive.Result) chunkstore.Name {
		return repo.Locate(repository.DataBlob, repository.IDOf(digest.Of(content)))[0].Pack
	}
}

func TestMissingPackIsNamed(t *testing.T) {
	repo, files, _ := sample(t)
	pack := dataPack(noise("7", 1007))(repo, nil)
	must(t, files.Remove(t.Context(), pack))
	found := run(t, files, false)
	if len(found) != 1 || found[0].Name != pack || !errors.Is(found[0].Err, ErrMissing) || !slices.Contains(affected(found[0]), "/records/7/data") {
		t.Errorf("Check without a pack = %v; want %s and /records/7/data", found, pack)
	}
	if !strings.Contains(found[0].String(), pack.String()) || !strings.Contains(found[0].String(), "paths suffer") {
		t.Errorf("String() = %s", found[0])
	}

}

// Without its index a pack is an orphan and its blobs are lost to the snapshots.
func TestMissingIndexIsNamed(t *testing.T) {
	_, files, results := sample(t)
	for _, e := range results[0].Added {
		if e.Name.Kind == chunkstore.Index {
			must(t, files.Remove(t.Context(), e.Name))
		}
	}
	orphans, hurt := 0, 0
	for _, f := range run(t, files, false) {
		switch {
		case errors.Is(f.Err, ErrUnindexed) && f.Harmless:
			orphans++
		case f.Name.Kind == chunkstore.Snapshot && errors.Is(f.Err, repository.ErrNoBlob) && len(f.Affects) > 0:
			hurt++
		default:
			t.Errorf("finding %s", f)
		}
	}
	if orphans < 2 || hurt != 2 {
		t.Errorf("%d orphans and %d snapshots; want the packs and both snapshots", orphans, hurt)
	}
}

func TestUnknownPackIsHarmless(t *testing.T) {
	repo, files, _ := sample(t)
	pack := dataPack(noise("7", 1007))(repo, nil)
	b, err := os.ReadFile(onDisk(files, pack))
	must(t, err)
	forged := append(slices.Clone(b), make([]byte, 40)...)
	must(t, files.PutBytes(t.Context(), chunkstore.Name{Kind: chunkstore.Pack, ID: digest.Of(forged)}, forged))
	found := run(t, files, true)
	if len(found) != 1 || !found[0].Harmless {
		t.Errorf("Check beside an unknown pack = %v; want one harmless finding", found)
	}
}
