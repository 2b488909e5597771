package repair

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func TestPacks(t *testing.T) {
	record := chunktest.Noise("7", 1007)
	for _, row := range []struct {
		name   string
		damage func(s *sample, pack chunkstore.Name, at int)
		lost   int
	}{
		{"cut trailer: everything is saved", func(s *sample, pack chunkstore.Name, _ int) { s.edit(pack, cut(30)) }, 0},
		{"flipped bit in a blob: that one is lost", func(s *sample, pack chunkstore.Name, at int) { s.edit(pack, flip(at+100)) }, 1},
		{"flipped bit in the header: everything is saved", func(s *sample, pack chunkstore.Name, _ int) { s.edit(pack, flip(-20)) }, 0},
		{"sound: everything is stored anew", func(*sample, chunkstore.Name, int) {}, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSample(t)
			at := s.open().Locate(repository.DataBlob, repository.IDOf(digest.Of(record)))[0]
			row.damage(s, at.Pack, int(at.Blob.Offset))
			ids := []digest.Digest{at.Pack.ID}
			if r, err := Packs(t.Context(), s.open(), ids, PacksOptions{DryRun: true}); err != nil || len(r.Lost) != row.lost || !exists(s, at.Pack) {
				t.Errorf("Packs(DryRun) = %+v, %v", r, err)
			}
			r, err := Packs(t.Context(), s.open(), ids, PacksOptions{})
			must(t, err)
			if len(r.Lost) != row.lost || r.Saved == 0 || len(r.SetAside) != 1 {
				t.Errorf("Packs() = %+v; want %d lost", r, row.lost)
			}
			if exists(s, at.Pack) {
				t.Error("the damaged pack is still there")
			}
			if _, err := os.Stat(filepath.Join(s.files.Dir(), "damaged", "data-"+at.Pack.ID.Hex())); err != nil {
				t.Errorf("the damaged pack was not set aside: %v", err)
			}
			if row.lost == 0 {
				s.restores()
				s.clean()
				return
			}
			found := s.damage()
			if len(found) != 2 || !errors.Is(found[0].Err, repository.ErrNoBlob) || found[0].Affects[0].Path != "/records/07/data" {
				t.Errorf("check finds %v; want both snapshots without /records/07/data", found)
			}
			mend(t, s)
			s.clean()
		})
	}
}

// mend has the snapshots repaired and the old ones removed.
func mend(t *testing.T, s *sample) {
	t.Helper()
	repo := s.open()
	all, _, err := repo.Snapshots(t.Context())
	must(t, err)
	dry, err := Snapshots(t.Context(), repo, all, SnapshotsOptions{DryRun: true, Forget: true})
	must(t, err)
	got, err := Snapshots(t.Context(), repo, all, SnapshotsOptions{Forget: true})
	must(t, err)
	for i, r := range got {
		if len(r.Changes) == 0 || !r.Removed || r.Repaired.IsZero() || len(dry[i].Changes) != len(r.Changes) || !dry[i].Repaired.IsZero() {
			t.Errorf("Snapshots() = %+v, dry %+v", r, dry[i])
		}
	}
	after, _, err := s.open().Snapshots(t.Context())
	must(t, err)
	for _, sn := range after {
		if !slices.Contains(sn.Tags, RepairedTag) || sn.Original == nil {
			t.Errorf("snapshot %+v has no tag or no original", sn)
		}
	}
	if len(after) != 2 {
		t.Errorf("%d snapshots; want the two repaired ones", len(after))
	}
}

func exists(s *sample, n chunkstore.Name) bool {
	_, err := os.Stat(onDisk(s.files, n))
	return err == nil
}

func TestPacksThatAreNotThere(t *testing.T) {
	s := newSample(t)
	if _, err := Packs(t.Context(), s.open(), []digest.Digest{digest.Of(nil)}, PacksOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Packs(unknown) = %v; want fs.ErrNotExist", err)
	}
	pack := s.packOf(chunktest.Noise("7", 1007))
	must(t, s.files.Remove(t.Context(), pack))
	r, err := Packs(t.Context(), s.open(), []digest.Digest{pack.ID}, PacksOptions{})
	must(t, err)
	if len(r.Lost) == 0 || r.Saved != 0 {
		t.Errorf("Packs(missing) = %+v; want all its blobs lost", r)
	}
	if s.open().Has(repository.DataBlob, repository.IDOf(digest.Of(chunktest.Noise("7", 1007)))) {
		t.Error("the index still names what is lost")
	}
}

func TestSnapshotsWithoutTheirRoot(t *testing.T) {
	s := newSample(t)
	repo := s.open()
	sn, err := repo.LoadSnapshot(t.Context(), s.snapshots[0])
	must(t, err)
	at := repo.Locate(repository.TreeBlob, sn.Tree)[0]
	s.edit(at.Pack, flip(int(at.Blob.Offset)+20))
	if _, err := Packs(t.Context(), s.open(), []digest.Digest{at.Pack.ID}, PacksOptions{}); err != nil {
		t.Fatal(err)
	}
	repo = s.open()
	all, _, err := repo.Snapshots(t.Context())
	must(t, err)
	got, err := Snapshots(t.Context(), repo, all, SnapshotsOptions{Forget: true})
	must(t, err)
	for _, r := range got {
		if lost := r.Snapshot == s.snapshots[0]; r.Lost != lost || r.Removed != lost || r.Sound() == lost {
			t.Errorf("Snapshots() = %+v", r)
		}
	}
	s.restores()
	s.clean()
}

// A tree in the wrong order loses nothing, and names that no file can have go.
func TestSnapshotsWithHostileTrees(t *testing.T) {
	s := newSample(t)
	repo := s.open()
	session := repo.NewSession()
	defer session.Close()
	tree := []byte(`{"nodes":[{"name":"b","type":"file","content":null},{"name":"a","type":"file","content":null},{"name":"..","type":"file","content":null},{"name":"a","type":"dir","content":null}]}` + "\n")
	id, _, err := session.SaveBlob(t.Context(), repository.TreeBlob, tree)
	must(t, err)
	sn := &repository.Snapshot{Tree: id, Paths: []string{"/"}}
	_, err = session.SaveSnapshot(t.Context(), sn)
	must(t, err)
	if len(s.damage()) == 0 {
		t.Error("check finds nothing")
	}
	got, err := Snapshots(t.Context(), repo, []*repository.Snapshot{sn}, SnapshotsOptions{Forget: true})
	must(t, err)
	fixed, err := repo.LoadSnapshot(t.Context(), got[0].Repaired)
	must(t, err)
	after, err := repo.LoadTree(t.Context(), fixed.Tree)
	must(t, err)
	if len(after.Nodes) != 2 || after.Nodes[0].Name != "a" || after.Nodes[0].Type != repository.TypeFile || after.Nodes[1].Name != "b" {
		t.Errorf("tree after the repair: %+v; want the files a and b", after.Nodes)
	}
	s.clean()
}

func TestFrom(t *testing.T) {
	for _, row := range []struct {
		name   string
		damage func(s *sample)
		o      FromOptions
		files  int
	}{
		{"sound", func(*sample) {}, FromOptions{ReadData: true}, 0},
		{"pack missing", func(s *sample) {
			must(s.t, s.files.Remove(s.t.Context(), s.packOf(chunktest.Noise("7", 1007))))
		}, FromOptions{}, 1},
		{"pack cut", func(s *sample) { s.edit(s.packOf(chunktest.Noise("7", 1007)), cut(1)) }, FromOptions{}, 1},
		{"flipped bit in a pack", func(s *sample) { s.edit(s.packOf(chunktest.Noise("7", 1007)), flip(40)) }, FromOptions{ReadData: true}, 1},
		{"snapshot rotten", func(s *sample) {
			s.edit(chunkstore.Name{Kind: chunkstore.Snapshot, ID: s.snapshots[0]}, flip(9))
		}, FromOptions{}, 1},
		{"index and packs lost", func(s *sample) {
			for _, k := range []chunkstore.Kind{chunkstore.Index, chunkstore.Pack} {
				for _, e := range s.list(k) {
					must(s.t, s.files.Remove(s.t.Context(), e.Name))
				}
			}
		}, FromOptions{}, -1},
		{"snapshot removed: fetched on request only", func(s *sample) {
			must(s.t, s.files.Remove(s.t.Context(), chunkstore.Name{Kind: chunkstore.Snapshot, ID: s.snapshots[0]}))
		}, FromOptions{All: true}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := newSample(t)
			other := copyOf(t, s)
			row.damage(s)
			if row.o.All {
				if r, err := From(t.Context(), s.open(), other, FromOptions{}); err != nil || len(r.Fetched) != 0 {
					t.Errorf("From() = %+v, %v; want nothing fetched without All", r, err)
				}
			}
			if r, err := From(t.Context(), s.open(), other, FromOptions{DryRun: true, ReadData: row.o.ReadData}); err != nil || !row.o.All && row.files >= 0 && len(r.Fetched) != row.files {
				t.Errorf("From(DryRun) = %+v, %v; want %d files", r, err, row.files)
			}
			r, err := From(t.Context(), s.open(), other, row.o)
			must(t, err)
			if row.files >= 0 && len(r.Fetched) != row.files || len(r.Failed) != 0 {
				t.Errorf("From() = %+v; want %d files", r, row.files)
			}
			s.restores()
			s.clean()
		})
	}
}

func copyOf(t *testing.T, s *sample) *chunkstore.Files {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(dir, os.DirFS(s.files.Dir())))
	other, err := chunkstore.Open(dir)
	must(t, err)
	return other
}

// What the other copy cannot give stays as it is here.
func TestFromADamagedCopy(t *testing.T) {
	s := newSample(t)
	other := copyOf(t, s)
	pack := s.packOf(chunktest.Noise("7", 1007))
	theirs := *s
	theirs.files = other
	theirs.edit(pack, flip(60))
	s.edit(pack, flip(-20))
	before, err := os.ReadFile(onDisk(s.files, pack))
	must(t, err)
	r, err := From(t.Context(), s.open(), other, FromOptions{ReadData: true})
	must(t, err)
	if len(r.Fetched) != 0 || len(r.Failed) != 1 || !errors.Is(r.Failed[0].Err, digest.ErrMismatch) {
		t.Errorf("From(damaged copy) = %+v; want the pack to fail", r)
	}
	if after, err := os.ReadFile(onDisk(s.files, pack)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the damaged pack was touched: %v", err)
	}
	s.restores() // the blobs are whole, only the header is not

	stranger := newSample(t)
	if _, err := From(t.Context(), s.open(), stranger.files, FromOptions{}); !errors.Is(err, ErrOther) {
		t.Errorf("From(another repository) = %v; want ErrOther", err)
	}
	if _, err := Entrance(t.Context(), s.files, stranger.files, false); !errors.Is(err, ErrOther) {
		t.Errorf("Entrance(another repository) = %v; want ErrOther", err)
	}
}

func TestEntrance(t *testing.T) {
	for name, damage := range map[string]func(s *sample){
		"config missing": func(s *sample) { must(s.t, os.Remove(filepath.Join(s.files.Dir(), "config"))) },
		"config cut":     func(s *sample) { s.edit(chunkstore.Name{Kind: chunkstore.Config}, cut(9)) },
		"config empty":   func(s *sample) { s.edit(chunkstore.Name{Kind: chunkstore.Config}, func([]byte) []byte { return nil }) },
		"key rotten":     func(s *sample) { s.edit(s.list(chunkstore.Key)[0].Name, flip(99)) },
		"keys lost":      func(s *sample) { must(s.t, s.files.Remove(s.t.Context(), s.list(chunkstore.Key)[0].Name)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSample(t)
			other := copyOf(t, s)
			damage(s)
			if _, err := repository.Open(t.Context(), s.files, chunktest.Password, repository.Options{}); err == nil {
				t.Fatal("the damaged repository opens")
			}
			r, err := Entrance(t.Context(), s.files, other, false)
			must(t, err)
			if len(r.Fetched) != 1 {
				t.Errorf("Entrance() = %+v; want one file", r)
			}
			s.clean()
		})
	}
}
