package transcribe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

func TestCopy(t *testing.T) {
	for _, recompress := range []bool{false, true} {
		from, to, dir := pair(t)
		repo := open(t, from)
		list := snapshots(t, repo)
		var last Progress
		r, err := Copy(t.Context(), repo, open(t, to), list, Options{Recompress: recompress, Progress: func(p Progress) { last = p }})
		must(t, err)
		if len(r.Copied) != 1 || len(r.Skipped) != 0 || r.Stats.DataBlobs == 0 || last.Snapshots != 1 || last.Blobs != r.Stats.DataBlobs+r.Stats.TreeBlobs {
			t.Errorf("Copy() = %+v, progress %+v", r, last)
		}
		for _, e := range r.Added {
			must(t, to.Verify(t.Context(), e.Name))
		}
		wantRestored(t, to, dir)

		target := open(t, to)
		got := snapshots(t, target)[0]
		if got.Original == nil || got.Original.Digest() != list[0].ID || got.Parent != nil || !alike(got, list[0]) || got.ID != r.Copied[0].Copy {
			t.Errorf("copied snapshot: %+v; want a copy of %+v", got, list[0])
		}
		if repo, got := repo, target; !recompress {
			for l := range repo.Blobs() {
				for _, c := range got.Locate(l.Blob.Type, l.Blob.ID) {
					if c.Blob.Length != l.Blob.Length || c.Blob.UncompressedBytes != l.Blob.UncompressedBytes {
						t.Errorf("blob %+v is copied as %+v", l.Blob, c.Blob)
					}
				}
			}
		}
		again, err := Copy(t.Context(), repo, target, list, Options{})
		must(t, err)
		if len(again.Copied) != 0 || len(again.Skipped) != 1 || again.Skipped[0].Copy != got.ID || len(again.Added) != 0 {
			t.Errorf("Copy again = %+v; want the snapshot skipped", again)
		}
		// The copy of the copy knows where it comes from.
		back, err := Copy(t.Context(), target, repo, snapshots(t, target), Options{})
		must(t, err)
		if len(back.Skipped) != 1 {
			t.Errorf("Copy back = %+v; want the snapshot skipped", back)
		}
	}
}

// What changed is copied, and only that.
func TestCopyOfWhatIsNew(t *testing.T) {
	from, to, dir := pair(t)
	_, err := Copy(t.Context(), open(t, from), open(t, to), snapshots(t, open(t, from)), Options{})
	must(t, err)
	chunktest.WriteFiles(t, dir, map[string][]byte{"new": chunktest.Noise("new", 100_000)})
	repo := open(t, from)
	backup(t, repo, dir)
	r, err := Copy(t.Context(), repo, open(t, to), snapshots(t, repo), Options{})
	must(t, err)
	if len(r.Copied) != 1 || len(r.Skipped) != 1 || r.Stats.DataBlobs != 1 {
		t.Errorf("Copy() = %d copied, %d skipped, %+v; want one new snapshot with one blob of data", len(r.Copied), len(r.Skipped), r.Stats)
	}
	wantRestored(t, to, dir)
}

func TestCopyRefusesItself(t *testing.T) {
	from, _, _ := pair(t)
	if _, err := Copy(t.Context(), open(t, from), open(t, from), nil, Options{}); !errors.Is(err, ErrSame) {
		t.Errorf("Copy into itself = %v; want ErrSame", err)
	}
}

func TestAlike(t *testing.T) {
	from, to, _ := pair(t)
	other, _ := chunktest.NewRepository(t, repository.Options{})
	dump, _ := chunktest.NewRepository(t, repository.Options{Polynomial: other.Config().Polynomial, Chunks: repository.DatabaseChunks()})
	if !Alike(open(t, from), open(t, to)) || Alike(open(t, from), other) || Alike(other, dump) {
		t.Error("Alike is wrong")
	}
	// Blobs may be copied all the same.
	_, err := Copy(t.Context(), open(t, from), dump, snapshots(t, open(t, from)), Options{})
	must(t, err)
}

// A damaged blob is taken from another pack that holds it; without one the copy stops, names it and saves no snapshot.
func TestDamagedSource(t *testing.T) {
	for _, twice := range []bool{false, true} {
		from, to, dir := pair(t)
		repo := open(t, from)
		scan := chunktest.Noise("scan", 5<<20)
		var where repository.Location
		for l := range repo.Blobs() {
			if l.Blob.Type == repository.DataBlob && l.Blob.UncompressedBytes == 0 && l.Blob.Length > 512<<10 && int(l.Blob.Length) < len(scan) {
				where = l
			}
		}
		content, err := repo.LoadBlob(t.Context(), repository.DataBlob, where.Blob.ID, nil)
		must(t, err)
		path := filepath.Join(from.Dir(), "data", where.Pack.ID.Hex()[:2], where.Pack.ID.Hex())
		if twice {
			s := repo.NewSession()
			must(t, s.SaveBlobAgain(t.Context(), repository.DataBlob, content))
			must(t, s.Flush(t.Context()))
			must(t, s.Close())
		}
		b, err := os.ReadFile(path)
		must(t, err)
		b[where.Blob.Offset+1000] ^= 1
		must(t, os.Chmod(path, 0o600))
		must(t, os.WriteFile(path, b, 0o600))

		repo = open(t, from)
		r, err := Copy(t.Context(), repo, open(t, to), snapshots(t, repo), Options{})
		if twice {
			must(t, err)
			wantRestored(t, to, dir)
			continue
		}
		if !errors.Is(err, repository.ErrDamaged) || r == nil || len(r.Copied) != 0 || len(snapshots(t, open(t, to))) != 0 {
			t.Errorf("Copy of damage = %+v, %v; want ErrDamaged and no snapshot", r, err)
		}
	}
}

// Whatever change is the last one before the power goes, what the target has is whole, and the next copy completes it.
func TestPowerGoesBetweenAnyTwoChanges(t *testing.T) {
	from := new(chunktest.Memory)
	o := repository.Options{Scrypt: repository.Scrypt{N: 2, R: 1, P: 1}}
	repo, err := repository.Init(t.Context(), from, password, o)
	must(t, err)
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		chunktest.WriteFiles(t, dir, map[string][]byte{name: chunktest.Noise(name, 10_000)})
		backup(t, repo, dir)
	}
	list := snapshots(t, repo)
	power := errors.New("power is gone")
	for points := 0; ; points++ {
		to := new(chunktest.Memory)
		_, err := repository.Init(t.Context(), to, password, o)
		must(t, err)
		var n atomic.Int64
		dying := &chunktest.Faulty{Files: to, Decide: func(c chunktest.Call) chunktest.Fault {
			if at := n.Add(1); c.Changes() && at > int64(points) {
				return chunktest.Fault{Err: power, Done: at == int64(points)+1}
			} else if !c.Changes() {
				n.Add(-1)
			}
			return chunktest.Fault{}
		}}
		target, err := repository.Open(t.Context(), dying, password, repository.Options{})
		must(t, err)
		_, err = Copy(t.Context(), repo, target, list, Options{})
		whole(t, to)
		if err == nil {
			if points < 10 {
				t.Errorf("%d points to stop at; want more", points)
			}
			break
		}
		if !errors.Is(err, power) {
			t.Fatalf("stopped after %d changes: %v", points, err)
		}
		if _, err := Copy(t.Context(), repo, open(t, to), list, Options{}); err != nil {
			t.Fatalf("stopped after %d changes, then: %v", points, err)
		}
		if n := whole(t, to); n != len(list) {
			t.Fatalf("stopped after %d changes, then: %d snapshots; want %d", points, n, len(list))
		}
	}
}

// whole reads everything that the snapshots name and returns how many they are.
func whole(t *testing.T, files repository.Files) int {
	t.Helper()
	repo := open(t, files)
	all := snapshots(t, repo)
	var walk func(id repository.ID)
	walk = func(id repository.ID) {
		tree, err := repo.LoadTree(t.Context(), id)
		must(t, err)
		for _, n := range tree.Nodes {
			for _, c := range n.Content {
				_, err := repo.LoadBlob(t.Context(), repository.DataBlob, c, nil)
				must(t, err)
			}
			if n.Subtree != nil {
				walk(*n.Subtree)
			}
		}
	}
	for _, sn := range all {
		walk(sn.Tree)
	}
	return len(all)
}

func TestCopyStopsWithItsContext(t *testing.T) {
	from, to, _ := pair(t)
	repo := open(t, from)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Copy(ctx, repo, open(t, to), snapshots(t, repo), Options{Progress: func(Progress) { cancel() }})
	if !errors.Is(err, context.Canceled) || len(snapshots(t, open(t, to))) != 0 {
		t.Errorf("Copy with a cancelled context = %v", err)
	}
}

func TestWithStockRestic(t *testing.T) {
	from, to, dir := pair(t)
	restic(t, to.Dir(), "copy", "--from-repo", from.Dir())
	wantRestored(t, to, dir)
	repo := open(t, from)
	r, err := Copy(t.Context(), repo, open(t, to), snapshots(t, repo), Options{})
	must(t, err)
	if len(r.Skipped) != 1 {
		t.Errorf("Copy after stock restic's = %+v; want the snapshot skipped", r)
	}
	// From a repository of stock restic, and its copy seen by stock restic.
	stock := filepath.Join(t.TempDir(), "stock")
	restic(t, stock, "init", "--repository-version", "2", "--copy-chunker-params", "--from-repo", from.Dir())
	restic(t, stock, "backup", dir)
	restic(t, stock, "backup", "--compression", "max", "--tag", "x,y", filepath.Join(dir, "a"))
	files, err := chunkstore.Open(stock)
	must(t, err)
	repo = open(t, files)
	if !Alike(repo, open(t, from)) {
		t.Error("stock restic took another polynomial")
	}
	r, err = Copy(t.Context(), repo, open(t, to), snapshots(t, repo), Options{})
	must(t, err)
	if len(r.Copied) != 2 || r.Stats.DataBlobs != 0 {
		t.Errorf("Copy of stock restic's = %d copied, %+v; want two snapshots and no data that was there", len(r.Copied), r.Stats)
	}
	restic(t, to.Dir(), "check", "--read-data")
	out := filepath.Join(t.TempDir(), "out")
	restic(t, to.Dir(), "restore", r.Copied[0].Copy.Hex(), "--target", out)
	wantSame(t, filepath.Join(out, dir), dir)
	restic(t, to.Dir(), "copy", "--from-repo", stock)
	if n := len(snapshots(t, open(t, to))); n != 3 {
		t.Errorf("%d snapshots; want 3: stock restic copied again what we had copied", n)
	}
}
