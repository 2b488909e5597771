package prune

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// at is a clock that stands.
func at(t time.Time) func() time.Time { return func() time.Time { return t } }

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func prune(t testing.TB, files repository.Files, o Options) Report {
	t.Helper()
	r, err := Run(t.Context(), open(t, files), o)
	must(t, err)
	return r
}

func TestTwoPhases(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	first := backup(t, repo, "a", "b")
	backup(t, open(t, files), "c")
	before := packs(t, files)
	forget(t, files, first)

	dry := prune(t, files, Options{Now: at(noon), DryRun: true})
	r := prune(t, files, Options{Now: at(noon)})
	if r.Marked.Packs == 0 || r.Marked.Bytes < 2*60_000 || r.Removed.Packs != 0 || !r.Due.Equal(noon.Add(DefaultGrace)) {
		t.Errorf("first run: %+v; want packs of two files marked and none removed", r)
	}
	if dry.Marked != r.Marked || dry.Kept != r.Kept || dry.Before != r.Before || !dry.Due.Equal(r.Due) {
		t.Errorf("dry run: %+v; want what the run then did: %+v", dry, r)
	}
	if packs(t, files) != before {
		t.Error("marking removed packs")
	}
	wantSound(t, files, 1)

	early := prune(t, files, Options{Now: at(noon.Add(DefaultGrace - time.Second))})
	if early.Removed.Packs != 0 || early.Waiting != r.Marked || early.IndexWritten != 0 {
		t.Errorf("run within the grace: %+v; want nothing done", early)
	}
	dry = prune(t, files, Options{Now: at(noon.Add(DefaultGrace)), DryRun: true})
	late := prune(t, files, Options{Now: at(noon.Add(DefaultGrace))})
	if late.Removed != r.Marked || dry.Removed != late.Removed || packs(t, files) != before-r.Marked.Packs {
		t.Errorf("run after the grace: %+v (dry %+v); want %+v removed", late, dry, r.Marked)
	}
	wantSound(t, files, 1)
	if last := prune(t, files, Options{Now: at(noon.Add(DefaultGrace))}); last.IndexWritten+last.IndexRemoved+last.Marked.Packs+last.Waiting.Packs != 0 {
		t.Errorf("one more run: %+v; want nothing to do", last)
	}
}

func TestPhasesApart(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	first := backup(t, repo, "a")
	backup(t, open(t, files), "b")
	forget(t, files, first)
	if r := prune(t, files, Options{Now: at(noon), Phase: SweepOnly}); r.Marked.Packs != 0 {
		t.Errorf("SweepOnly marked: %+v", r)
	}
	prune(t, files, Options{Now: at(noon), Phase: MarkOnly})
	if r := prune(t, files, Options{Now: at(noon.Add(48 * time.Hour)), Phase: MarkOnly}); r.Removed.Packs != 0 || r.Waiting.Packs == 0 {
		t.Errorf("MarkOnly removed: %+v", r)
	}
	if r := prune(t, files, Options{Now: at(noon.Add(time.Hour)), Phase: SweepOnly, Grace: time.Hour}); r.Removed.Packs == 0 {
		t.Errorf("SweepOnly after a grace of an hour: %+v; want packs removed", r)
	}
	wantSound(t, files, 1)
}

func TestNoGrace(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	first := backup(t, repo, "a")
	backup(t, open(t, files), "b")
	forget(t, files, first)
	dry := prune(t, files, Options{NoGrace: true, DryRun: true})
	r := prune(t, files, Options{NoGrace: true})
	if r.Removed.Packs == 0 || r.Removed != r.Marked || dry.Removed != r.Removed || !r.Due.IsZero() {
		t.Errorf("run without grace: %+v (dry %+v); want what is not needed removed", r, dry)
	}
	for f, err := range open(t, files).IndexFiles(t.Context()) {
		if must(t, err); len(f.PacksToDelete) != 0 {
			t.Errorf("%s still marks %d packs", f.Name, len(f.PacksToDelete))
		}
	}
	wantSound(t, files, 1)
}

func TestWhatIsNeededAgainIsTakenBack(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	first := backup(t, repo, "a", "b")
	backup(t, open(t, files), "c")
	name := chunkstore.Name{Kind: chunkstore.Snapshot, ID: first}
	kept, err := os.ReadFile(filepath.Join(files.Dir(), name.String()))
	must(t, err)
	forget(t, files, first)
	marked := prune(t, files, Options{Now: at(noon)}).Marked

	must(t, files.PutBytes(t.Context(), name, kept)) // the snapshot comes back, just before the end of the grace
	r := prune(t, files, Options{Now: at(noon.Add(30 * 24 * time.Hour))})
	if r.TakenBack != marked || r.Removed.Packs != 0 {
		t.Errorf("run: %+v; want %+v taken back", r, marked)
	}
	wantSound(t, files, 2)
}

// A backup that opened the repository before the mark counts on packs that are marked when its snapshot is saved.
func TestBackupOpenedBeforeTheMark(t *testing.T) {
	for _, between := range []bool{false, true} {
		repo, files := chunktest.NewRepository(t, repository.Options{})
		save(t, repo, "a", "b")
		first := snapshots(t, repo)[0]
		backup(t, open(t, files), "c")
		other := open(t, files)
		forget(t, files, first.ID)
		marked := prune(t, files, Options{Now: at(noon)}).Marked
		save(t, other, "a", "b")
		if between { // the same hour, or only when the packs are due
			prune(t, files, Options{Now: at(noon.Add(time.Hour))})
			wantSound(t, files, 2)
		}
		r := prune(t, files, Options{Now: at(noon.Add(DefaultGrace))})
		if r.Removed.Packs == marked.Packs {
			t.Errorf("run: %+v; the packs of the new snapshot are gone", r)
		}
		wantSound(t, files, 2)
	}
}

// A snapshot that is saved while packs are being marked has them again before the run ends.
func TestSnapshotSavedDuringTheMark(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	first := backup(t, repo, "a", "b")
	backup(t, open(t, files), "c")
	other := open(t, files)
	forget(t, files, first)
	done := false
	r, err := Run(t.Context(), open(t, files), Options{Now: at(noon), Progress: func(p Progress) {
		if p.Step == "writing index" && !done {
			done = true
			backup(t, other, "a", "b")
		}
	}})
	must(t, err)
	if r.TakenBack.Packs == 0 || r.TakenBack.Packs > r.Marked.Packs {
		t.Errorf("run: %+v; want what was marked and is needed taken back at once", r)
	}
	wantSound(t, files, 2)
}

func TestMarksFromTheFuture(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	first := backup(t, repo, "a")
	backup(t, open(t, files), "b")
	forget(t, files, first)
	marked := prune(t, files, Options{Now: at(noon.AddDate(50, 0, 0))}).Marked // the clock was wrong
	r := prune(t, files, Options{Now: at(noon)})
	if r.Removed.Packs != 0 || r.Waiting != marked || !r.Due.Equal(noon.Add(DefaultGrace)) {
		t.Errorf("run: %+v; want the grace to begin anew", r)
	}
	if r := prune(t, files, Options{Now: at(noon.Add(DefaultGrace - 1))}); r.Removed.Packs != 0 {
		t.Errorf("within the new grace: %+v", r)
	}
	if r := prune(t, files, Options{Now: at(noon.Add(DefaultGrace))}); r.Removed != marked {
		t.Errorf("after the new grace: %+v; want %+v removed", r, marked)
	}
}

func TestPacksInNoIndex(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	backup(t, repo, "a")
	junk := chunkstore.Name{Kind: chunkstore.Pack, ID: digest.Of([]byte("junk"))}
	must(t, files.PutBytes(t.Context(), junk, []byte("junk")))
	// A backup that has stored packs and not indexed them yet.
	s := repo.NewSession()
	_, _, err := s.SaveBlob(t.Context(), repository.DataBlob, chunktest.Noise("z", 1000))
	must(t, err)
	must(t, s.Flush(t.Context()))
	must(t, s.Close())
	var index chunkstore.Name
	for _, e := range s.Added() {
		if e.Name.Kind == chunkstore.Index {
			index = e.Name
		}
	}
	b, err := os.ReadFile(filepath.Join(files.Dir(), index.String()))
	must(t, err)
	must(t, files.Remove(t.Context(), index))

	r := prune(t, files, Options{Now: at(noon)})
	if r.Unindexed.Packs != 2 || r.Marked.Packs != 2 {
		t.Errorf("run: %+v; want two unindexed packs marked", r)
	}
	must(t, files.PutBytes(t.Context(), index, b)) // the backup goes on: the pack is in use, whatever the mark says
	r = prune(t, files, Options{Now: at(noon.Add(DefaultGrace))})
	if r.Removed.Packs != 1 || r.Marked.Packs != 1 {
		t.Errorf("run: %+v; want the junk removed, and the other pack marked anew as no snapshot needs it", r)
	}
	wantSound(t, files, 1)
}

// A run that is cut off leaves a pack in use by one index file and marked in another: it is in use, whichever comes first.
func TestInUseIsStrongerThanMarked(t *testing.T) {
	for range 8 { // index files come in any order
		repo, files := inMemory(t)
		saveSmall(t, repo, []int{1}, noon)
		reader, err := repository.Open(t.Context(), files, password, repository.Options{})
		must(t, err)
		saveSmall(t, reader, []int{2}, noon)
		extra := repository.IndexedPack{ID: repository.ID{1}, Time: noon} // gone: both files are written anew
		for f, err := range reader.IndexFiles(t.Context()) {
			must(t, err)
			g := &repository.IndexFile{PacksToDelete: append(f.Packs, extra)}
			for i := range g.PacksToDelete {
				g.PacksToDelete[i].Time = noon
			}
			_, err := reader.SaveIndexFile(t.Context(), g)
			must(t, err)
			f.PacksToDelete = []repository.IndexedPack{extra}
			f.Packs = f.Packs[:len(f.Packs):len(f.Packs)]
			_, err = reader.SaveIndexFile(t.Context(), f)
			must(t, err)
			must(t, files.Remove(t.Context(), f.Name))
			break
		}
		prune(t, files, Options{Now: at(noon.Add(time.Hour))})
		wantSound(t, files, 2)
		prune(t, files, Options{Now: at(noon.Add(48 * time.Hour))})
		wantSound(t, files, 2)
	}
}

func TestRefusals(t *testing.T) {
	rows := []struct {
		what string
		do   func(t *testing.T, files *chunkstore.Files, repo *repository.Repository)
		says string
	}{
		{"missing pack", func(t *testing.T, files *chunkstore.Files, repo *repository.Repository) {
			must(t, files.Remove(t.Context(), packOf(repo, "a")))
		}, "missing"},
		{"cut pack", func(t *testing.T, files *chunkstore.Files, repo *repository.Repository) {
			must(t, os.Truncate(onDisk(files, packOf(repo, "a")), 50_000))
		}, "by the index"},
		{"junk index", func(t *testing.T, files *chunkstore.Files, _ *repository.Repository) {
			must(t, files.PutBytes(t.Context(), chunkstore.Name{Kind: chunkstore.Index, ID: digest.Of([]byte("junk"))}, []byte("junk")))
		}, "repair index"},
		{"junk snapshot", func(t *testing.T, files *chunkstore.Files, _ *repository.Repository) {
			must(t, files.PutBytes(t.Context(), chunkstore.Name{Kind: chunkstore.Snapshot, ID: digest.Of([]byte("junk"))}, []byte("junk")))
		}, "remove these files"},
		{"missing index", func(t *testing.T, files *chunkstore.Files, repo *repository.Repository) {
			for e, err := range files.List(t.Context(), chunkstore.Index) {
				must(t, err)
				must(t, files.Remove(t.Context(), e.Name))
			}
		}, "directory cannot be read"},
		{"data in no index", func(t *testing.T, files *chunkstore.Files, repo *repository.Repository) {
			gone := repository.IDOf(packOf(repo, "a").ID)
			for f, err := range repo.IndexFiles(t.Context()) {
				must(t, err)
				f.Packs = slices.DeleteFunc(f.Packs, func(x repository.IndexedPack) bool { return x.ID == gone })
				must(t, files.Remove(t.Context(), f.Name))
				_, err := repo.SaveIndexFile(t.Context(), f)
				must(t, err)
			}
		}, "data blob"},
		{"damaged tree", func(t *testing.T, files *chunkstore.Files, repo *repository.Repository) {
			snapshots, _, err := repo.Snapshots(t.Context())
			must(t, err)
			l := repo.Locate(repository.TreeBlob, snapshots[0].Tree)[0]
			path := onDisk(files, l.Pack)
			b, err := os.ReadFile(path)
			must(t, err)
			b[l.Blob.Offset+20] ^= 1
			must(t, os.Chmod(path, 0o600))
			must(t, os.WriteFile(path, b, 0o600))
		}, "directory cannot be read"},
	}
	for _, row := range rows {
		t.Run(row.what, func(t *testing.T) {
			repo, files := chunktest.NewRepository(t, repository.Options{})
			backup(t, repo, "a")
			first := backup(t, open(t, files), "b")
			forget(t, files, first)
			row.do(t, files, open(t, files))
			before := listing(t, files)
			for _, o := range []Options{{}, {NoGrace: true}, {Repack: &Repack{}}, {DryRun: true}} {
				_, err := Run(t.Context(), open(t, files), o)
				if !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), row.says) {
					t.Errorf("Run(%+v) = %v; want ErrUnsafe that says %q", o, err, row.says)
				}
			}
			if after := listing(t, files); !slices.Equal(after, before) {
				t.Errorf("files changed: %v; want %v", after, before)
			}
		})
	}
}

// packOf returns the pack that holds the content of a file that backup made.
func packOf(repo *repository.Repository, seed string) chunkstore.Name {
	return repo.Locate(repository.DataBlob, repository.IDOf(packDigest(seed)))[0].Pack
}

func onDisk(files *chunkstore.Files, n chunkstore.Name) string {
	if n.Kind == chunkstore.Pack {
		return filepath.Join(files.Dir(), "data", n.ID.Hex()[:2], n.ID.Hex())
	}
	return filepath.Join(files.Dir(), n.String())
}

// What nothing needs may be missing or damaged.
func TestDamageThatNothingNeeds(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	backup(t, repo, "a")
	gone := backup(t, open(t, files), "b")
	cut := backup(t, open(t, files), "c")
	r := open(t, files)
	must(t, files.Remove(t.Context(), packOf(r, "b")))
	must(t, os.Truncate(onDisk(files, packOf(r, "c")), 100))
	forget(t, files, gone)
	forget(t, files, cut)
	report := prune(t, files, Options{NoGrace: true})
	if report.Forgotten != 1 || report.Removed.Packs < 2 {
		t.Errorf("run: %+v; want the missing pack dropped and the others removed", report)
	}
	wantSound(t, files, 1)
	if r := prune(t, files, Options{NoGrace: true}); r.IndexWritten+r.Removed.Packs != 0 {
		t.Errorf("once more: %+v; want nothing to do", r)
	}
}

func TestManySmallIndexFilesBecomeOne(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	for i := range manySmall {
		s := repo.NewSession()
		tree, err := s.SaveTree(t.Context(), &repository.Tree{Nodes: []repository.Node{{Name: string(rune('a' + i)), Type: repository.TypeFile}}})
		must(t, err)
		_, err = s.SaveSnapshot(t.Context(), &repository.Snapshot{Time: noon, Tree: tree, Paths: []string{"/"}})
		must(t, err)
		must(t, s.Close())
	}
	r := prune(t, files, Options{})
	if r.IndexWritten != 1 || r.IndexRemoved != manySmall || r.Marked.Packs != 0 {
		t.Errorf("run: %+v; want one index file in place of %d", r, manySmall)
	}
	wantSound(t, files, manySmall)
}

func TestOptionsAreChecked(t *testing.T) {
	repo, _ := chunktest.NewRepository(t, repository.Options{})
	for _, o := range []Options{
		{Grace: -1}, {Grace: 1, NoGrace: true}, {Phase: SweepOnly, Repack: &Repack{}}, {Repack: &Repack{MaxBytes: -1}},
		{Repack: &Repack{MaxUnused: Limit{Percent: 100}}},
	} {
		if _, err := Run(t.Context(), repo, o); !errors.Is(err, ErrOptions) {
			t.Errorf("Run(%+v) = %v; want ErrOptions", o, err)
		}
	}
}

func TestSet(t *testing.T) {
	s := newSet(0)
	const n = 20_000
	for round := range 2 {
		for i := range n {
			id := repository.ID{byte(i), byte(i >> 8)}
			if s.add(repository.DataBlob, &id) != (round == 0) {
				t.Fatalf("round %d: add(%d) is wrong", round, i)
			}
			*s.note(repository.DataBlob, &id) = byte(i)
			if s.note(repository.TreeBlob, &id) != nil {
				t.Fatal("a data blob passes for a tree")
			}
		}
	}
	seen := 0
	for range s.all() {
		seen++
	}
	for i := range n {
		id := repository.ID{byte(i), byte(i >> 8)}
		if note := s.note(repository.DataBlob, &id); note == nil || *note != byte(i) {
			t.Fatalf("note of %d is lost", i)
		}
	}
	if seen != n || s.count != n {
		t.Errorf("%d of %d blobs, count %d", seen, n, s.count)
	}
}
