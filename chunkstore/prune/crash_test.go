package prune

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

var errPower = errors.New("power is gone")

// mortal returns files whose power goes after a number of changes: nothing happens any more, or with last one more change
// does, of which nobody learns.
func mortal(files repository.Files, changes int, last bool) *chunktest.Faulty {
	var n atomic.Int64
	return &chunktest.Faulty{Files: files, Decide: func(c chunktest.Call) chunktest.Fault {
		if !c.Changes() {
			return chunktest.Fault{}
		}
		switch at := n.Add(1) - int64(changes); {
		case at <= 0:
			return chunktest.Fault{}
		case at == 1 && last:
			return chunktest.Fault{Err: errPower, Done: true}
		default:
			return chunktest.Fault{Err: errPower}
		}
	}}
}

// Whatever change is the last one before the power goes, the repository is sound, and the next run ends where a run that
// was not stopped does.
func TestPowerGoesBetweenAnyTwoChanges(t *testing.T) {
	template := halvesAndMarks(t)
	day := DefaultGrace
	rows := []struct {
		what string
		o    Options
	}{
		{"mark", Options{Now: at(noon.Add(time.Hour))}},
		{"mark and sweep", Options{Now: at(noon.Add(day))}},
		{"no grace", Options{NoGrace: true}},
		{"repack", Options{Now: at(noon.Add(day)), Repack: &Repack{Small: true}}},
		{"repack without grace", Options{NoGrace: true, Repack: &Repack{}}},
	}
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			whole := copyOf(t, template)
			prune(t, whole, row.o)
			want := prune(t, whole, Options{DryRun: true, Now: row.o.Now})
			points := 0
			for ; ; points++ {
				files := copyOf(t, template)
				_, err := Run(t.Context(), open(t, mortal(files, points/2, points%2 == 1)), row.o)
				wantSound(t, files, 2)
				if err == nil {
					break
				}
				if !errors.Is(err, errPower) {
					t.Fatalf("stopped after %d changes: %v", points, err)
				}
				prune(t, files, row.o)
				wantSound(t, files, 2)
				prune(t, files, Options{Now: at(noon.AddDate(1, 0, 0))}) // what a stop left behind in no index goes as well
				prune(t, files, Options{Now: at(noon.AddDate(2, 0, 0))})
				if got := prune(t, files, Options{DryRun: true, Now: row.o.Now}); blobBytes(got.Kept) > blobBytes(want.Kept)+blobBytes(want.Waiting)+want.UnusedBytes ||
					got.Blobs != want.Blobs || got.Waiting.Packs != 0 || got.Marked.Packs != 0 {
					t.Fatalf("stopped after %d changes, then done: %+v; want %+v", points, got, want)
				}
			}
			if points < 3 {
				t.Errorf("%d points to stop at; want more", points)
			}
			t.Logf("%d points", points)
		})
	}
}

// blobBytes is what packs hold besides a header each: over how many packs blobs are spread depends on the moment.
func blobBytes(a Amount) int64 { return a.Bytes - int64(a.Packs)*repository.PackSize(nil) }

// halvesAndMarks makes a repository with packs that are marked since noon, some that nothing needs, one that is in no
// index, and some of which a part is needed.
func halvesAndMarks(t *testing.T) *chunktest.Memory {
	t.Helper()
	repo, files := inMemory(t)
	save(t, repo, "a", "b", "c")
	first, _, err := repo.Snapshots(t.Context())
	must(t, err)
	save(t, open(t, files), "a", "b", "d")
	third := backup(t, open(t, files), "e", "f")
	forget(t, files, third)
	prune(t, files, Options{Now: at(noon)})
	forget(t, files, first[0].ID)
	save(t, open(t, files), "d", "g", "h")
	gone := backup(t, open(t, files), "i")
	forget(t, files, gone)
	_, err = files.Put(t.Context(), chunkstore.Name{Kind: chunkstore.Pack, ID: packDigest("loose")}, bytes.NewReader(chunktest.Noise("loose", 60_000)))
	must(t, err)
	return files
}

// inMemory makes an empty repository.
func inMemory(t *testing.T) (*repository.Repository, *chunktest.Memory) {
	t.Helper()
	files := new(chunktest.Memory)
	repo, err := repository.Init(t.Context(), files, password, repository.Options{Scrypt: repository.Scrypt{N: 2, R: 1, P: 1}})
	must(t, err)
	return repo, files
}

// copyOf copies a repository.
func copyOf(t *testing.T, files repository.Files) *chunktest.Memory {
	t.Helper()
	c := new(chunktest.Memory)
	for _, k := range chunkstore.Kinds() {
		for e, err := range files.List(t.Context(), k) {
			must(t, err)
			r, err := files.Open(t.Context(), e.Name)
			must(t, err)
			_, err = c.Put(t.Context(), e.Name, r)
			must(t, err)
			must(t, r.Close())
		}
	}
	return c
}
