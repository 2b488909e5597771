package repository

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dengbei/chunkstore"
)

// universe is what random index files are made of: few packs and few blobs, some of which begin alike.
type universe struct {
	packs, blobs []ID
}

func newUniverse(blobs int) *universe {
	u := new(universe)
	for i := range 8 {
		u.packs = append(u.packs, ID(noise("pack", 32*(i+1))[32*i:]))
	}
	for i, b := 0, noise("blobs", 32*blobs); i < blobs; i++ {
		id := ID(b[32*i:])
		if i%3 == 0 {
			copy(id[:], bytes.Repeat([]byte{0x55}, 8+i%24))
		}
		u.blobs = append(u.blobs, id)
	}
	return u
}

func (u *universe) pack(t *rapid.T, maxBlobs int) IndexedPack {
	p := IndexedPack{ID: rapid.SampledFrom(u.packs).Draw(t, "pack")}
	for range rapid.IntRange(0, maxBlobs).Draw(t, "blobs") {
		p.Blobs = append(p.Blobs, PackedBlob{
			ID: rapid.SampledFrom(u.blobs).Draw(t, "blob"), Type: BlobType(rapid.IntRange(0, 1).Draw(t, "type")),
			Offset: uint32(rapid.IntRange(0, 3).Draw(t, "offset")), Length: 40, UncompressedBytes: uint32(rapid.IntRange(0, 1).Draw(t, "plain")),
		})
	}
	return p
}

func (u *universe) file(t *rapid.T) *IndexFile {
	f := new(IndexFile)
	for range rapid.IntRange(0, 4).Draw(t, "packs") {
		f.Packs = append(f.Packs, u.pack(t, 30))
	}
	for range rapid.IntRange(0, 2).Draw(t, "marked") {
		p := IndexedPack{ID: rapid.SampledFrom(u.packs).Draw(t, "pack")}
		p.Time = time.Unix(rapid.Int64Range(-62e9, 250e9).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
		if rapid.Bool().Draw(t, "timeless") {
			p.Time = time.Time{}
		}
		f.PacksToDelete = append(f.PacksToDelete, p)
	}
	return f
}

// compare fails unless r finds what model finds.
func (u *universe) compare(t rapid.TB, r *Repository, model *table) {
	t.Helper()
	sorted := func(l []Location) []Location {
		slices.SortFunc(l, compareLocations)
		return l
	}
	for _, id := range u.blobs {
		for _, typ := range []BlobType{DataBlob, TreeBlob} {
			got, want := sorted(r.Locate(typ, id)), sorted(model.lookup(nil, typ, id))
			if !slices.Equal(got, want) || r.Has(typ, id) != (len(want) > 0) {
				t.Fatalf("Locate(%s, %s) = %v; want %v; Has() = %v", typ, id, got, want, r.Has(typ, id))
			}
		}
	}
	for _, id := range u.packs {
		if got, want := r.Indexed(packName(id)), model.indexed(id); got != want {
			t.Fatalf("Indexed(%s) = %v; want %v", id, got, want)
		}
		at, marked := r.MarkedSince(packName(id))
		want, wantMarked, _ := model.marks(id)
		if marked != wantMarked || !at.Equal(want) {
			t.Fatalf("MarkedSince(%s) = %v, %v; want %v, %v", id, at, marked, want, wantMarked)
		}
	}
	var marked []markedPack
	for n, at := range r.MarkedPacks() {
		marked = append(marked, markedPack{IDOf(n.ID), at})
	}
	if !slices.EqualFunc(marked, model.allMarked(), func(a, b markedPack) bool { return a.pack == b.pack && a.at.Equal(b.at) }) {
		t.Fatalf("MarkedPacks() = %v; want %v", marked, model.allMarked())
	}
	if got, want := sorted(slices.Collect(r.Blobs())), sorted(slices.Collect(model.all())); !slices.Equal(got, want) {
		t.Fatalf("Blobs() = %d places; want %d", len(got), len(want))
	}
}

// tablePath returns the one table file below dir.
func tablePath(t rapid.TB, dir string) string {
	all, err := filepath.Glob(filepath.Join(dir, "*", tableName))
	if err != nil || len(all) > 1 {
		t.Fatalf("table files below %s: %v, %v", dir, all, err)
	}
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// TestTableAgreesWithMemory does at random what happens to a repository, and looks everything up after each step.
func TestTableAgreesWithMemory(t *testing.T) {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		must(t, flag.Set("rapid.checks", "15")) // each writes several tables durably
	}
	files := newMemoryFiles()
	opened, err := Init(t.Context(), files, password, Options{Scrypt: cheap})
	must(t, err)
	open := func(ctx context.Context, o Options) (*Repository, error) { // as Open does, without the work of deriving keys
		r := *opened
		r.index, r.options.CacheDir, r.options.memoryBlobs = newIndex(), o.CacheDir, o.memoryBlobs
		return &r, r.Reload(ctx)
	}
	rapid.Check(t, func(t *rapid.T) {
		cache, err := os.MkdirTemp("", "cache")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(cache)
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		u := newUniverse(rapid.IntRange(1, 80).Draw(t, "universe"))
		options := Options{CacheDir: cache, memoryBlobs: rapid.IntRange(1, 40).Draw(t, "memory")}
		for e, err := range files.List(t.Context(), chunkstore.Index) { // of the run before
			check(err)
			check(files.Remove(t.Context(), e.Name))
		}
		r, err := open(t.Context(), options)
		check(err)
		model, fresh := newTable(), map[ID]IndexedPack{}
		var names []chunkstore.Name
		remodel := func() {
			model = newTable()
			for _, n := range names {
				f, err := r.LoadIndexFile(t.Context(), n)
				check(err)
				model.addFile(f)
			}
			for _, p := range fresh {
				model.addPack(p.ID, p.Blobs)
			}
		}
		table := func() string {
			p := tablePath(t, cache)
			if p == "" {
				t.Skip("there is no table")
			}
			return p
		}
		t.Repeat(map[string]func(*rapid.T){
			"another process adds": func(t *rapid.T) {
				e, err := r.SaveIndexFile(t.Context(), u.file(t))
				check(err)
				names = append(names, e.Name)
			},
			"another process removes": func(t *rapid.T) {
				if len(names) == 0 {
					t.Skip("nothing to remove")
				}
				n := rapid.IntRange(0, len(names)-1).Draw(t, "which")
				check(files.Remove(t.Context(), names[n]))
				names = slices.Delete(names, n, n+1)
			},
			"session adds": func(t *rapid.T) {
				p := u.pack(t, 30)
				if _, ok := fresh[p.ID]; ok || len(p.Blobs) == 0 {
					t.Skip("a session writes a pack once")
				}
				r.index.addPack(p)
				model.addPack(p.ID, p.Blobs)
				fresh[p.ID] = p
			},
			"session writes index": func(t *rapid.T) {
				var packs []IndexedPack
				for _, p := range fresh {
					packs = append(packs, p)
				}
				if len(packs) == 0 {
					t.Skip("nothing to write")
				}
				slices.SortFunc(packs, func(a, b IndexedPack) int { return bytes.Compare(a.ID[:], b.ID[:]) })
				packs = packs[:rapid.IntRange(1, len(packs)).Draw(t, "packs")]
				e, err := r.indexPacks(t.Context(), packs)
				check(err)
				names = append(names, e.Name)
				for _, p := range packs {
					delete(fresh, p.ID)
				}
			},
			"reload": func(t *rapid.T) {
				check(r.Reload(t.Context()))
				remodel()
			},
			"open": func(t *rapid.T) {
				again, err := open(t.Context(), options)
				check(err)
				r, fresh = again, map[ID]IndexedPack{}
				remodel()
			},
			"table is damaged": func(t *rapid.T) {
				b, err := os.ReadFile(table())
				check(err)
				b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
				check(os.WriteFile(table(), b, 0o600)) // in place: an open repository meets it as well
				// What the open one has to read again are the index files as they are now.
				check(r.Reload(t.Context()))
				remodel()
			},
			"table is cut": func(t *rapid.T) {
				info, err := os.Stat(table())
				check(err)
				check(os.Truncate(table(), rapid.Int64Range(0, info.Size()-1).Draw(t, "length")))
				check(r.Reload(t.Context()))
				remodel()
			},
			"table is lost": func(*rapid.T) { check(os.Remove(table())) },
			"": func(t *rapid.T) {
				u.compare(t, r, model)
				if err := r.TableErr(); err != nil && r.index.damages < 2 {
					t.Fatalf("there is no table: %v", err)
				}
			},
		})
	})
}

// tableRepo is a repository with a table of several blocks on disk, and what it has.
func tableRepo(t testing.TB, packs, blobs int) (*Repository, *chunkstore.Files, Options, *table) {
	t.Helper()
	r, files := newRepo(t, Options{})
	o := Options{CacheDir: t.TempDir(), memoryBlobs: 10}
	model := newTable()
	f := new(IndexFile)
	for i := range packs {
		f.Packs = append(f.Packs, packOf("pack"+string(rune('a'+i)), blobs))
	}
	gone := packOf("gone", 1)
	gone.Time = time.Unix(7, 8)
	f.PacksToDelete = append(f.PacksToDelete, gone)
	_, err := r.SaveIndexFile(t.Context(), f)
	must(t, err)
	model.addFile(f)
	r, err = Open(t.Context(), files, password, o)
	must(t, err)
	must(t, r.TableErr())
	if tablePath(t, o.CacheDir) == "" || r.index.view.Load().mem.size() != 0 {
		t.Fatal("there is no table on disk")
	}
	return r, files, o, model
}

func (t *table) universe() *universe {
	u := &universe{blobs: []ID{{}, {1}, {255}}}
	for id := range t.known {
		u.packs = append(u.packs, id)
	}
	for id := range t.marked {
		u.packs = append(u.packs, id)
	}
	for l := range t.all() {
		u.blobs = append(u.blobs, l.Blob.ID)
	}
	return u
}

// TestAnyFlippedByteOfATableIsNoticed opens a table with each of its bytes wrong in turn, and has an open repository meet
// the damage.
func TestAnyFlippedByteOfATableIsNoticed(t *testing.T) {
	r, _, o, model := tableRepo(t, 3, 40)
	path := tablePath(t, o.CacheDir)
	sound, err := os.ReadFile(path)
	must(t, err)
	u := model.universe()
	readAll := func(f *tableFile) error {
		for _, id := range u.blobs {
			if _, err := f.lookup(nil, DataBlob, &id); err != nil {
				return err
			}
		}
		for _, id := range u.packs {
			if _, _, _, err := f.pack(&id); err != nil {
				return err
			}
		}
		return nil
	}
	damaged := filepath.Join(t.TempDir(), "damaged")
	b := slices.Clone(sound)
	must(t, os.WriteFile(damaged, b, 0o600))
	f, err := openTable(damaged, r.master)
	must(t, err)
	must(t, readAll(f))
	must(t, f.close())
	w, err := os.OpenFile(damaged, os.O_RDWR, 0)
	must(t, err)
	defer w.Close()
	for i := range sound {
		_, err := w.WriteAt([]byte{sound[i] ^ 0x10}, int64(i))
		must(t, err)
		f, err := openTable(damaged, r.master)
		if err == nil {
			err = readAll(f)
			f.close()
		}
		if err == nil {
			t.Fatalf("a wrong byte at %d of %d goes unnoticed", i, len(sound))
		}
		_, err = w.WriteAt(sound[i:i+1], int64(i))
		must(t, err)
	}
	for n := range sound {
		if n%511 == 0 || len(sound)-n < 3 {
			must(t, os.WriteFile(damaged, sound[:n], 0o600))
			if f, err := openTable(damaged, r.master); err == nil {
				f.close()
				t.Fatalf("a table cut to %d of %d bytes is opened", n, len(sound))
			}
		}
	}
	must(t, os.WriteFile(damaged, append(slices.Clone(sound), make([]byte, tableBlockBytes)...), 0o600))
	if _, err := openTable(damaged, r.master); err == nil {
		t.Error("a table with a block too many is opened")
	}
	if _, err := openTable(path, randomSecret()); err == nil {
		t.Error("the table of another repository is opened")
	}
	// Blocks that are sound and not where they belong.
	b = slices.Clone(sound)
	copy(b[tableBlockBytes:2*tableBlockBytes], sound[2*tableBlockBytes:])
	must(t, os.WriteFile(damaged, b, 0o600))
	if f, err := openTable(damaged, r.master); err == nil && readAll(f) == nil {
		t.Error("a block in place of another goes unnoticed")
	}
}

// TestDamageUnderAnOpenRepository has lookups, and going through all blobs, meet each damaged block.
func TestDamageUnderAnOpenRepository(t *testing.T) {
	_, files, o, model := tableRepo(t, 3, 100)
	path := tablePath(t, o.CacheDir)
	sound, err := os.ReadFile(path)
	must(t, err)
	u := model.universe()
	for block := 1; block < len(sound)/tableBlockBytes; block++ {
		must(t, os.WriteFile(path, sound, 0o600))
		r, err := Open(t.Context(), files, password, o)
		must(t, err)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		_, err = f.WriteAt([]byte{sound[block*tableBlockBytes] ^ 1}, int64(block*tableBlockBytes))
		must(t, err)
		must(t, f.Close())
		n := 0
		for l := range r.Blobs() {
			n++
			if !model.contains(l) {
				t.Errorf("block %d is damaged: Blobs() yields %v", block, l)
			}
		}
		if n != model.size() {
			t.Errorf("block %d is damaged: Blobs() yields %d places; want %d", block, n, model.size())
		}
		u.compare(t, r, model)
		must(t, r.TableErr())
	}
}

func TestATableThatIsDamagedAgainAndAgain(t *testing.T) {
	r, _, o, model := tableRepo(t, 2, 100)
	u := model.universe()
	for range 2 {
		path := tablePath(t, o.CacheDir)
		b, err := os.ReadFile(path)
		must(t, err)
		for i := tableBlockBytes; i < len(b); i += 64 {
			b[i]++
		}
		must(t, os.WriteFile(path, b, 0o600))
		u.compare(t, r, model)
	}
	if r.TableErr() == nil || r.index.view.Load().file != nil {
		t.Errorf("TableErr() = %v; want why there is no table any more", r.TableErr())
	}
}

func TestTableWithoutADirectory(t *testing.T) {
	_, files, o, model := tableRepo(t, 2, 100)
	u := model.universe()
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	o.CacheDir = file
	r, err := Open(t.Context(), files, password, o)
	must(t, err)
	if r.TableErr() == nil {
		t.Error("TableErr() = nil; want that the directory cannot be made")
	}
	u.compare(t, r, model)
}

// TestIndexFilesLostWithTheTable loses both: what is known is that nothing is known.
func TestIndexFilesLostWithTheTable(t *testing.T) {
	r, files, o, model := tableRepo(t, 2, 100)
	must(t, os.Truncate(tablePath(t, o.CacheDir), 0))
	must(t, os.RemoveAll(filepath.Join(files.Dir(), "index")))
	must(t, os.WriteFile(filepath.Join(files.Dir(), "index"), nil, 0o600))
	for l := range model.all() {
		if r.Has(l.Blob.Type, l.Blob.ID) {
			t.Fatal("a blob is found that no index names")
		}
	}
}

// TestManyPlaces plants one blob in more places than anybody may have.
func TestManyPlaces(t *testing.T) {
	r, files := newRepo(t, Options{})
	f := new(IndexFile)
	id := ID{7}
	sound := IndexedPack{ID: ID{1}, Blobs: []PackedBlob{{ID: id, Type: TreeBlob, Length: 50}, {ID: ID{8}, Length: 50}}}
	for i := range 30 {
		p := IndexedPack{ID: ID{9, byte(i)}}
		for j := range 1000 {
			p.Blobs = append(p.Blobs, PackedBlob{ID: id, Offset: uint32(j), Length: 40})
		}
		f.Packs = append(f.Packs, p)
	}
	f.Packs = append(f.Packs, sound)
	_, err := r.SaveIndexFile(t.Context(), f)
	must(t, err)
	for _, o := range []Options{{}, {CacheDir: t.TempDir(), memoryBlobs: 500}} {
		r, err := Open(t.Context(), files, password, o)
		must(t, err)
		if got := r.Locate(DataBlob, id); len(got) != maxPlaces {
			t.Errorf("Locate() = %d places; want %d", len(got), maxPlaces)
		}
		if got := r.Locate(TreeBlob, id); len(got) != 1 || got[0].Pack != packName(sound.ID) {
			t.Errorf("Locate(tree) = %v; want the one place", got)
		}
		if n := len(slices.Collect(r.Blobs())); n != maxPlaces+2 {
			t.Errorf("Blobs() = %d places; want %d", n, maxPlaces+2)
		}
	}
}

// TestIDsThatBeginAlike fills many blocks with IDs of which the table keeps the same beginning.
func TestIDsThatBeginAlike(t *testing.T) {
	r, files := newRepo(t, Options{})
	p := IndexedPack{ID: ID{1}}
	for i := range uint32(3000) {
		b := PackedBlob{ID: ID{1, 2, 3, 4, 5, 6, 7, 8}, Type: BlobType(i % 2), Length: 40, Offset: i}
		binary.BigEndian.PutUint32(b.ID[20:], i/2*2)
		p.Blobs = append(p.Blobs, b)
	}
	_, err := r.SaveIndexFile(t.Context(), &IndexFile{Packs: []IndexedPack{p}})
	must(t, err)
	r, err = Open(t.Context(), files, password, Options{CacheDir: t.TempDir(), memoryBlobs: 100})
	must(t, err)
	for i, b := range p.Blobs {
		if got := r.Locate(b.Type, b.ID); len(got) != 1 || got[0].Blob != b {
			t.Fatalf("Locate(blob %d) = %v", i, got)
		}
		b.ID[31] = 1
		if r.Has(b.Type, b.ID) {
			t.Fatalf("Has(neighbour of blob %d)", i)
		}
	}
}

// TestSessionMovesItsBlobsToDisk keeps memory bounded in a long session, and claims nothing that no index file says.
func TestSessionMovesItsBlobsToDisk(t *testing.T) {
	_, files := newRepo(t, Options{})
	o := Options{CacheDir: t.TempDir(), memoryBlobs: 50}
	r, err := Open(t.Context(), files, password, o)
	must(t, err)
	var written []IndexedPack
	for i := range 20 {
		p := packOf("session"+string(rune('a'+i)), 20)
		r.index.addPack(p)
		written = append(written, p)
		if i%2 == 1 {
			_, err := r.indexPacks(t.Context(), written[i-1:i]) // one of two
			must(t, err)
		}
		if n := r.index.view.Load().mem.size(); n > 50+20+20*len(r.index.fresh) {
			t.Fatalf("%d blobs in memory after %d packs", n, i+1)
		}
		for _, p := range written {
			for _, b := range p.Blobs {
				if !r.Has(b.Type, b.ID) {
					t.Fatalf("after pack %d a blob is not found", i)
				}
			}
		}
	}
	must(t, r.TableErr())
	again, err := Open(t.Context(), files, password, o) // as after a crash
	must(t, err)
	for i, p := range written {
		for _, b := range p.Blobs {
			if again.Has(b.Type, b.ID) != (i%2 == 0) {
				t.Fatalf("pack %d: Has() = %v; index files name every second pack", i, i%2 != 0)
			}
		}
	}
}

func TestTwoOpenAtOnce(t *testing.T) {
	_, files, o, model := tableRepo(t, 4, 200)
	u := model.universe()
	must(t, os.RemoveAll(o.CacheDir))
	var wait sync.WaitGroup
	for range 6 {
		wait.Go(func() {
			r, err := Open(t.Context(), files, password, o)
			if err != nil || r.TableErr() != nil {
				t.Errorf("Open() = %v, %v", err, r.TableErr())
				return
			}
			u.compare(t, r, model)
		})
	}
	wait.Wait()
	left, err := filepath.Glob(filepath.Join(o.CacheDir, "*", "*"))
	must(t, err)
	if len(left) != 1 {
		t.Errorf("left in the directory: %v; want the table", left)
	}
}

// TestReadersWhileATableIsBuilt looks up while a session adds and the table is written anew again and again.
func TestReadersWhileATableIsBuilt(t *testing.T) {
	r, _, _, model := tableRepo(t, 2, 100)
	u := model.universe()
	done := make(chan struct{})
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for {
				for _, id := range u.blobs[3:] {
					if !r.Has(DataBlob, id) || len(r.Locate(DataBlob, id)) == 0 {
						t.Errorf("blob %s is not found meanwhile", id)
						return
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 8 {
		p := packOf("new"+string(rune('a'+i)), 30)
		r.index.addPack(p)
		_, err := r.indexPacks(t.Context(), []IndexedPack{p})
		must(t, err)
		if i%3 == 0 {
			must(t, r.Reload(t.Context()))
		}
		if !r.Has(DataBlob, p.Blobs[0].ID) {
			t.Error("a blob that was added is not found")
		}
	}
	close(done)
	wait.Wait()
}

func TestStaleTemporaryFilesGo(t *testing.T) {
	_, files, o, _ := tableRepo(t, 2, 100)
	dir := filepath.Dir(tablePath(t, o.CacheDir))
	old, young, others := filepath.Join(dir, "index.table.1.tmp"), filepath.Join(dir, "index.spill.2.tmp"), filepath.Join(dir, "notes.tmp")
	for _, p := range []string{old, young, others} {
		must(t, os.WriteFile(p, nil, 0o600))
	}
	ago := time.Now().Add(-2 * staleAfter)
	must(t, os.Chtimes(old, ago, ago))
	must(t, os.Chtimes(others, ago, ago))
	_, err := Open(t.Context(), files, password, o)
	must(t, err)
	for p, want := range map[string]bool{old: false, young: true, others: true} {
		if _, err := os.Stat(p); (err == nil) != want {
			t.Errorf("%s: %v; want it there: %v", p, err, want)
		}
	}
}

// TestKilledWhileBuilding kills a process that makes the table again and again, and looks everything up afterwards.
func TestKilledWhileBuilding(t *testing.T) {
	const variable = "DENGBEI_TEST_BUILD_TABLE"
	if dir := os.Getenv(variable); dir != "" {
		files, err := chunkstore.Open(filepath.Join(dir, "repo"))
		must(t, err)
		o := Options{CacheDir: filepath.Join(dir, "cache"), memoryBlobs: 100}
		for i := 0; ; i++ {
			r, err := Open(t.Context(), files, password, o)
			must(t, err)
			must(t, r.TableErr())
			if i == 0 {
				fmt.Println("begun")
			}
			if i%2 == 0 {
				must(t, os.Remove(tablePath(t, o.CacheDir)))
			}
		}
	}
	dir := t.TempDir()
	files, err := chunkstore.Create(filepath.Join(dir, "repo"))
	must(t, err)
	r, err := Init(t.Context(), files, password, Options{Scrypt: Scrypt{N: 2, R: 1, P: 1}})
	must(t, err)
	model := newTable()
	f := new(IndexFile)
	for i := range 4 {
		f.Packs = append(f.Packs, packOf("killed"+string(rune('a'+i)), 500))
	}
	_, err = r.SaveIndexFile(t.Context(), f)
	must(t, err)
	model.addFile(f)
	u := model.universe()
	for i := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileBuilding$")
		cmd.Env = append(os.Environ(), variable+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil || line != "begun\n" {
			t.Fatalf("the process says %q, %v", line, err)
		}
		<-time.After(time.Duration(i*i) * time.Millisecond)
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		r, err := Open(t.Context(), files, password, Options{CacheDir: filepath.Join(dir, "cache"), memoryBlobs: 100})
		must(t, err)
		must(t, r.TableErr())
		u.compare(t, r, model)
	}
}

// FuzzTable opens tables whose blocks say anything: they would have to come from who holds the master key.
func FuzzTable(f *testing.F) {
	s := newSecret(new([64]byte))
	count := func(n ...uint64) (b []byte) {
		for _, n := range n {
			b = binary.BigEndian.AppendUint64(b, n)
		}
		return b
	}
	r := packRecord(ID{1}, 0)
	blob := blobRecord(&PackedBlob{ID: ID{1}, Length: 40}, 7)
	f.Add(r[:], blob[:], r[:], count(1, 1, 1))
	f.Add(r[:], []byte{}, []byte{}, count(1<<63, 1<<62, 85))
	f.Add([]byte{}, []byte{}, []byte{}, count(0, 0, 0))
	f.Fuzz(func(t *testing.T, packs, blobs, covers, last []byte) {
		path := filepath.Join(t.TempDir(), tableName)
		file, err := os.Create(path)
		must(t, err)
		defer file.Close()
		header := make([]byte, tableBlockBytes)
		copy(header, tableMagic)
		aead, err := s.tableCipher(header)
		must(t, err)
		_, err = file.Write(header)
		must(t, err)
		w := newBlockWriter(&blocks{f: file, aead: aead}, 1)
		for _, b := range [][]byte{packs, blobs, covers, packs, last} {
			for len(b) > 0 {
				n := min(len(b), tableRoom)
				_, err := w.append(b[:n])
				must(t, err)
				b = b[n:]
			}
			must(t, w.end())
		}
		must(t, w.flush())
		table, err := openTable(path, s)
		if err != nil {
			return
		}
		defer table.close()
		_, _ = table.lookup(nil, DataBlob, &ID{1})
		_, _, _, _ = table.pack(&ID{1})
		_, _ = table.all(func(Location) bool { return true })
	})
}

// benchRepo is a repository of n blobs in 16 MiB packs.
func benchRepo(b *testing.B, n int, o Options) (*Repository, []ID) {
	_, files := newRepo(b, Options{})
	f := new(IndexFile)
	var ids []ID
	r, err := Open(b.Context(), files, password, Options{})
	must(b, err)
	for i := range n / 16 {
		p := packOf(fmt.Sprint(i), 16)
		f.Packs = append(f.Packs, p)
		ids = append(ids, p.Blobs[i%16].ID)
	}
	_, err = r.SaveIndexFile(b.Context(), f)
	must(b, err)
	r, err = Open(b.Context(), files, password, o)
	must(b, err)
	return r, ids
}

func BenchmarkLookup(b *testing.B) {
	const blobs = 200_000
	for name, o := range map[string]Options{"memory": {}, "disk": {CacheDir: b.TempDir(), memoryBlobs: blobs / 4}} {
		r, ids := benchRepo(b, blobs, o)
		b.Run(name+"/has", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if !r.Has(DataBlob, ids[i%len(ids)]) {
					b.Fatal("not found")
				}
			}
		})
		b.Run(name+"/has-not", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if r.Has(TreeBlob, ids[i%len(ids)]) {
					b.Fatal("found")
				}
			}
		})
		b.Run(name+"/locate", func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if len(r.Locate(DataBlob, ids[i%len(ids)])) != 1 {
					b.Fatal("not found")
				}
			}
		})
	}
}
