package repository

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

func TestSaveAndLoad(t *testing.T) {
	for name, o := range map[string]Options{
		"auto": {}, "fast": {Compression: CompressFast}, "better": {Compression: CompressBetter}, "off": {Compression: CompressOff},
	} {
		t.Run(name, func(t *testing.T) {
			r, files := newRepo(t, o)
			s := r.NewSession()
			defer s.Close()
			contents := [][]byte{{}, []byte("x"), noise("n", 5000), text("t", 5000), noise("big", 300_000), text("big", 3_000_000)}
			var ids []ID
			for _, c := range contents {
				id, added, err := s.SaveBlob(t.Context(), DataBlob, c)
				must(t, err)
				if !added || id != IDOf(digest.Of(c)) {
					t.Errorf("SaveBlob(%d bytes) = %s, %v; want its hash and true", len(c), id, added)
				}
				if _, added, err = s.SaveBlob(t.Context(), DataBlob, c); added || err != nil {
					t.Errorf("SaveBlob again = %v, %v; want false", added, err)
				}
				ids = append(ids, id)
			}
			tree, err := s.SaveTree(t.Context(), &Tree{})
			must(t, err)
			at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			sn := &Snapshot{Time: at, Tree: tree, Paths: []string{"/records"}, Tags: []string{"a<b"}}
			snName, err := s.SaveSnapshot(t.Context(), sn)
			must(t, err)
			must(t, s.Close())

			kinds := make(map[chunkstore.Kind]int)
			for _, e := range s.Added() {
				kinds[e.Name.Kind]++
				if n, err := files.Stat(e.Name); n != e.SizeBytes || err != nil {
					t.Errorf("Added() has %v; on disk %d, %v", e, n, err)
				}
				must(t, files.Verify(t.Context(), e.Name))
			}
			if kinds[chunkstore.Snapshot] != 1 || kinds[chunkstore.Index] != 1 || kinds[chunkstore.Pack] < 2 {
				t.Errorf("Added() = %v; want a snapshot, an index, a tree pack and data packs", kinds)
			}

			again, err := Open(t.Context(), files, password, Options{})
			must(t, err)
			if again.Config() != r.Config() || again.ConfigName() != r.ConfigName() || len(again.Unreadable()) != 0 {
				t.Errorf("Open() = %+v, unreadable %v; want %+v", again.Config(), again.Unreadable(), r.Config())
			}
			for i, id := range ids {
				for _, repo := range []*Repository{r, again} {
					b, err := repo.LoadBlob(t.Context(), DataBlob, id, nil)
					if err != nil || !bytes.Equal(b, contents[i]) {
						t.Errorf("LoadBlob(%d bytes) = %d bytes, %v", len(contents[i]), len(b), err)
					}
				}
				if again.Has(TreeBlob, id) {
					t.Error("a data blob passes for a tree")
				}
			}
			loaded, err := again.LoadSnapshot(t.Context(), snName.ID)
			must(t, err)
			if loaded.Tree != tree || !loaded.Time.Equal(at) || loaded.Tags[0] != "a<b" || loaded.Name() != snName {
				t.Errorf("LoadSnapshot() = %+v; want %+v", loaded, sn)
			}
			if _, err := again.LoadBlob(t.Context(), DataBlob, ID{1}, nil); !errors.Is(err, ErrNoBlob) {
				t.Errorf("LoadBlob(unknown) = %v; want ErrNoBlob", err)
			}
			if _, _, err := s.SaveBlob(t.Context(), DataBlob, []byte("late")); !errors.Is(err, ErrSession) {
				t.Errorf("SaveBlob after Close = %v; want ErrSession", err)
			}
		})
	}
}

func TestInitAndOpenRefuse(t *testing.T) {
	r, files := newRepo(t, Options{Chunks: DatabaseChunks()})
	if r.Config().Chunks != DatabaseChunks() {
		t.Errorf("Chunks = %+v; want the database profile", r.Config().Chunks)
	}
	if _, err := Init(t.Context(), files, password, Options{Scrypt: cheap}); !errors.Is(err, ErrExists) {
		t.Errorf("second Init = %v; want ErrExists", err)
	}
	if _, err := Open(t.Context(), files, "wrong", Options{}); !errors.Is(err, ErrPassword) {
		t.Errorf("Open with a wrong password = %v; want ErrPassword", err)
	}
	key, err := r.AddKey(t.Context(), "second", KeyOptions{Cost: cheap})
	must(t, err)
	other, err := Open(t.Context(), files, "second", Options{})
	must(t, err)
	if other.KeyName() != key.Name || len(other.Unreadable()) != 0 {
		t.Errorf("opened with %v, unreadable %v; want %v and none", other.KeyName(), other.Unreadable(), key.Name)
	}
	if _, err := Open(t.Context(), files, password, Options{KeyID: key.Name.ID}); !errors.Is(err, ErrPassword) {
		t.Errorf("Open with the other key = %v; want ErrPassword", err)
	}
	empty, err := chunkstore.Create(t.TempDir())
	must(t, err)
	if _, err := Open(t.Context(), empty, password, Options{}); !errors.Is(err, ErrNoRepository) {
		t.Errorf("Open of nothing = %v; want ErrNoRepository", err)
	}
	if _, err := Init(t.Context(), empty, "", Options{Scrypt: cheap}); !errors.Is(err, ErrPassword) {
		t.Errorf("Init without password = %v; want ErrPassword", err)
	}
	for _, o := range []Options{{PackBytes: 1}, {PackBytes: 65 << 20}, {Chunks: ChunkProfile{1, 2, 3}}} {
		if _, err := Init(t.Context(), empty, password, o); err == nil {
			t.Errorf("Init(%+v) succeeds", o)
		}
	}
}

func TestInitGoesOnWhereItWasCutOff(t *testing.T) {
	files, err := chunkstore.Create(t.TempDir())
	must(t, err)
	key, err := writeKey(t.Context(), files, randomSecret(), password, KeyOptions{Cost: cheap}, time.Now())
	must(t, err)
	r, err := Init(t.Context(), files, password, Options{Scrypt: cheap})
	must(t, err)
	if r.KeyName() != key.Name {
		t.Errorf("Init() uses %v; want the key that is there, %v", r.KeyName(), key.Name)
	}
	n := 0
	for range files.List(t.Context(), chunkstore.Key) {
		n++
	}
	if n != 1 {
		t.Errorf("%d keys; want one", n)
	}
}

func TestPacksAreCutAndSpread(t *testing.T) {
	r, files := newRepo(t, Options{PackBytes: 4 << 20, Compression: CompressOff})
	s := r.NewSession()
	defer s.Close()
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			for i := range 10 {
				if _, _, err := s.SaveBlob(t.Context(), DataBlob, noise(fmt.Sprint(g, i), 700_000)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	must(t, s.Flush(t.Context()))
	packs := make(map[chunkstore.Name]int64)
	for l := range r.Blobs() {
		packs[l.Pack] = max(packs[l.Pack], int64(l.Blob.Offset)+int64(l.Blob.Length))
	}
	if len(packs) < 28/5 {
		t.Errorf("%d packs for 28 MB; want several", len(packs))
	}
	for e, err := range files.List(t.Context(), chunkstore.Pack) {
		must(t, err)
		if e.SizeBytes > 6<<20 {
			t.Errorf("%v has %d bytes; want little more than 4 MiB", e.Name, e.SizeBytes)
		}
		header, err := r.PackHeader(t.Context(), e.Name, e.SizeBytes)
		must(t, err)
		if PackSize(header) != e.SizeBytes {
			t.Errorf("PackSize = %d; want %d", PackSize(header), e.SizeBytes)
		}
	}
}

func TestCutOffSessionIsTakenUp(t *testing.T) {
	r, files := newRepo(t, Options{PackBytes: 4 << 20})
	s := r.NewSession()
	for i := range 40 {
		_, _, err := s.SaveBlob(t.Context(), DataBlob, noise(fmt.Sprint(i), 500_000))
		must(t, err)
	}
	s.wait.Wait() // finished packs are durable now; then the process is gone, and Close never comes
	packs := len(s.Added())
	if packs == 0 {
		t.Fatal("no pack was finished")
	}
	for _, p := range s.packs() {
		if p.staged != nil {
			p.staged.Abort()
		}
	}

	r, err := Open(t.Context(), files, password, Options{})
	must(t, err)
	s = r.NewSession()
	n, err := s.Adopt(t.Context())
	must(t, err)
	if n != packs || len(s.Added()) != packs {
		t.Errorf("Adopt() = %d, Added %d; want %d", n, len(s.Added()), packs)
	}
	added := 0
	for i := range 40 {
		_, isNew, err := s.SaveBlob(t.Context(), DataBlob, noise(fmt.Sprint(i), 500_000))
		must(t, err)
		if isNew {
			added++
		}
	}
	if added > 40-packs*8 {
		t.Errorf("%d blobs are stored again; want at most %d", added, 40-packs*8)
	}
	must(t, s.Flush(t.Context()))
	if r, err = Open(t.Context(), files, password, Options{}); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if _, err := r.LoadBlob(t.Context(), DataBlob, IDOf(digest.Of(noise(fmt.Sprint(i), 500_000))), nil); err != nil {
			t.Error(err)
		}
	}
}

func TestClosedSessionKeepsWhatWasFinished(t *testing.T) {
	r, files := newRepo(t, Options{PackBytes: 4 << 20})
	s := r.NewSession()
	for i := range 40 {
		_, _, err := s.SaveBlob(t.Context(), DataBlob, noise(fmt.Sprint(i), 500_000))
		must(t, err)
	}
	must(t, s.Close())
	must(t, s.Close())
	again, err := Open(t.Context(), files, password, Options{})
	must(t, err)
	n := 0
	for range again.Blobs() {
		n++
	}
	if n < 8 {
		t.Errorf("%d blobs are indexed after Close; want those of the finished packs", n)
	}
	left, err := os.ReadDir(filepath.Join(files.Dir(), "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("tmp/ holds %v, %v; want nothing", left, err)
	}
}

// healing replaces damaged files by sound ones kept aside.
type healing struct {
	*chunkstore.Files
	sound map[chunkstore.Name][]byte
	asked []chunkstore.Name
}

func (h *healing) Heal(ctx context.Context, name chunkstore.Name, cause error) error {
	h.asked = append(h.asked, name)
	b, ok := h.sound[name]
	if !ok {
		return errors.New("no sound copy")
	}
	if err := h.Quarantine(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return h.PutBytes(ctx, name, b)
}

func TestDamageIsHealedOnce(t *testing.T) {
	r, files := newRepo(t, Options{})
	s := r.NewSession()
	id, _, err := s.SaveBlob(t.Context(), DataBlob, noise("x", 100_000))
	must(t, err)
	tree, err := s.SaveTree(t.Context(), &Tree{})
	must(t, err)
	sn, err := s.SaveSnapshot(t.Context(), &Snapshot{Tree: tree})
	must(t, err)
	h := &healing{Files: files, sound: make(map[chunkstore.Name][]byte)}
	for _, e := range s.Added() {
		f, err := files.Open(t.Context(), e.Name)
		must(t, err)
		h.sound[e.Name], err = io.ReadAll(f)
		must(t, err)
		must(t, f.Close())
		rot(t, files, e.Name, 50)
	}
	if _, err := r.LoadBlob(t.Context(), DataBlob, id, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("LoadBlob from a damaged pack = %v; want ErrDamaged", err)
	}
	r, err = Open(t.Context(), h, password, Options{})
	must(t, err)
	if len(r.Unreadable()) != 0 {
		t.Errorf("Unreadable() = %v; want the index healed", r.Unreadable())
	}
	if _, err := r.WithoutHealing().LoadBlob(t.Context(), DataBlob, id, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("LoadBlob without healing = %v; want ErrDamaged", err)
	}
	for range 2 {
		b, err := r.LoadBlob(t.Context(), DataBlob, id, nil)
		if err != nil || !bytes.Equal(b, noise("x", 100_000)) {
			t.Errorf("LoadBlob = %d bytes, %v; want it healed", len(b), err)
		}
		_, err = r.LoadSnapshot(t.Context(), sn.ID)
		must(t, err)
	}
	if len(h.asked) != 3 {
		t.Errorf("healer was asked for %v; want index, pack and snapshot once each", h.asked)
	}
	pack := r.Locate(DataBlob, id)[0].Pack
	must(t, files.Remove(t.Context(), pack))
	delete(h.sound, pack)
	h.asked = nil
	if _, err := r.LoadBlob(t.Context(), DataBlob, id, nil); !errors.Is(err, ErrDamaged) || len(h.asked) != 1 {
		t.Errorf("LoadBlob without any copy = %v after %d calls of the healer; want ErrDamaged after one", err, len(h.asked))
	}
}

func TestSecondPlaceOfABlobIsTried(t *testing.T) {
	_, files := newRepo(t, Options{})
	content := noise("twice", 10_000)
	var packs []chunkstore.Name
	for range 2 {
		fresh, err := Open(t.Context(), files, password, Options{})
		must(t, err)
		fresh.index = newIndex() // knows nothing of the first copy
		s := fresh.NewSession()
		_, _, err = s.SaveBlob(t.Context(), DataBlob, content)
		must(t, err)
		must(t, s.Flush(t.Context()))
		packs = append(packs, s.Added()[1].Name)
	}
	for _, p := range packs {
		must(t, files.Verify(t.Context(), p))
	}
	rot(t, files, packs[0], 100)
	r, err := Open(t.Context(), files, password, Options{})
	must(t, err)
	if n := len(r.Locate(DataBlob, IDOf(digest.Of(content)))); n != 2 {
		t.Fatalf("Locate() = %d places; want 2", n)
	}
	b, err := r.LoadBlob(t.Context(), DataBlob, IDOf(digest.Of(content)), nil)
	if err != nil || !bytes.Equal(b, content) {
		t.Errorf("LoadBlob = %d bytes, %v; want the second copy", len(b), err)
	}
}

// failing is a disk that fills up.
type failing struct {
	*chunkstore.Files
	puts int
}

func (f *failing) Put(ctx context.Context, name chunkstore.Name, r io.Reader) (int64, error) {
	if f.puts--; f.puts < 0 {
		return 0, fmt.Errorf("put %s: %w", name, chunkstore.ErrFull)
	}
	return f.Files.Put(ctx, name, r)
}

func TestFullDiskFailsTheSession(t *testing.T) {
	_, files := newRepo(t, Options{})
	for puts := range 2 { // at the index, at the snapshot
		r, err := Open(t.Context(), &failing{files, puts}, password, Options{})
		must(t, err)
		s := r.NewSession()
		tree, err := s.SaveTree(t.Context(), &Tree{Nodes: []Node{{Name: fmt.Sprint(puts)}}})
		must(t, err)
		if _, err := s.SaveSnapshot(t.Context(), &Snapshot{Tree: tree}); !errors.Is(err, chunkstore.ErrFull) {
			t.Errorf("SaveSnapshot on a full disk = %v; want ErrFull", err)
		}
		if _, _, err := s.SaveBlob(t.Context(), DataBlob, nil); !errors.Is(err, chunkstore.ErrFull) {
			t.Errorf("SaveBlob after that = %v; want ErrFull", err)
		}
		must(t, s.Close())
	}
	for e := range files.List(t.Context(), chunkstore.Snapshot) {
		t.Errorf("%v is there", e)
	}
}

func TestFaultyMemoryIsNoticedBeforeWriting(t *testing.T) {
	r, _ := newRepo(t, Options{})
	content := text("x", 100_000)
	for _, b := range [][]byte{content, noise("x", 100_000)} {
		named := witnessOf(b)
		b = bytes.Clone(b)
		b[50_000] ^= 1
		if _, _, err := r.encodeBlob(nil, b, named, r.codec.encoder); !errors.Is(err, ErrEncoding) {
			t.Errorf("encodeBlob of what changed since it was named = %v; want ErrEncoding", err)
		}
	}
	env, n, err := r.encodeBlob(nil, content, witnessOf(content), r.codec.encoder)
	must(t, err)
	if n == 0 || len(env) > 10_000 {
		t.Errorf("100,000 bytes of text take %d; want them compressed", len(env))
	}
	if env, n, err = r.encodeBlob(nil, noise("x", 100_000), witnessOf(noise("x", 100_000)), r.codec.encoder); n != 0 || len(env) != 100_032 || err != nil {
		t.Errorf("100,000 bytes of noise take %d (%d), %v; want them as they are", len(env), n, err)
	}
}

func TestTableAgainstMap(t *testing.T) {
	table, model := newTable(), make(map[ID][]Location)
	for i := range 3000 {
		pack := ID(digest.Of(fmt.Append(nil, "pack", i%200)).Bytes())
		id := ID(digest.Of(fmt.Append(nil, "blob", i%2500)).Bytes())
		b := PackedBlob{ID: id, Type: BlobType(i % 2), Offset: uint32(i % 7), Length: 100}
		for range 2 {
			table.addPack(pack, []PackedBlob{b})
		}
		if l := (Location{packName(pack), b}); !slices.Contains(model[id], l) {
			model[id] = append(model[id], l)
		}
	}
	total := 0
	for id, want := range model {
		got := append(table.lookup(nil, DataBlob, id), table.lookup(nil, TreeBlob, id)...)
		if len(got) != len(want) || table.has(DataBlob, id) != slices.ContainsFunc(want, func(l Location) bool { return l.Blob.Type == DataBlob }) {
			t.Errorf("lookup(%s) = %v; want %v", id, got, want)
		}
		for _, l := range got {
			if !slices.Contains(want, l) {
				t.Errorf("lookup(%s) has %v", id, l)
			}
		}
		total += len(want)
	}
	n := 0
	for range table.all() {
		n++
	}
	if n != total {
		t.Errorf("all() yields %d; want %d", n, total)
	}
}
