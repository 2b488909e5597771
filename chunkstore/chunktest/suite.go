package chunktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
	"testing"
	"testing/iotest"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// Suite is a kind of store of files to be held to what [repository.Files] promises. What a hook that is nil would make
// possible is reported as not checked.
type Suite struct {
	// New returns an empty store.
	New func(t *testing.T) repository.Files

	// Small returns an empty store that holds 64 KiB but not 1 MiB. Here and below nil means that there is no such thing.
	Small func(t *testing.T) repository.Files

	// Rot flips a bit of a stored file behind the store's back.
	Rot func(t *testing.T, files repository.Files, name chunkstore.Name)

	// Leftovers lists what the store keeps beside the files that have names, such as temporary files.
	Leftovers func(t *testing.T, files repository.Files) []string
}

// TestFiles runs the suite: every store of files passes the same.
func TestFiles(t *testing.T, s Suite) {
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, s Suite)
	}{
		{"what is put comes back", testPut},
		{"readers of all manners", testReaders},
		{"what is staged comes back", testStage},
		{"an aborted file leaves no trace", testAbort},
		{"other bytes leave no trace", testMismatch},
		{"ranges", testRanges},
		{"list", testList},
		{"remove", testRemove},
		{"a config is never replaced", testConfig},
		{"names that are none", testNames},
		{"the end of a context", testContext},
		{"many writers", testWriters},
		{"a full disk", testFull},
		{"rot", testRot},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, s) })
	}
}

// clean fails the test if the store keeps more than files with names.
func (s Suite) clean(t *testing.T, files repository.Files) {
	t.Helper()
	if s.Leftovers == nil {
		return
	}
	if left := s.Leftovers(t, files); len(left) > 0 {
		t.Errorf("the store keeps %q; want nothing but files", left)
	}
}

// holds fails the test unless the files of a kind are exactly the given contents.
func holds(t *testing.T, files repository.Files, kind chunkstore.Kind, contents ...[]byte) {
	t.Helper()
	want := make(map[chunkstore.Name]int64)
	for _, b := range contents {
		want[NameOf(kind, b)] = int64(len(b))
	}
	last := digest.Digest{}
	for e, err := range files.List(t.Context(), kind) {
		Must(t, err)
		if size, ok := want[e.Name]; !ok || size != e.SizeBytes {
			t.Errorf("List(%s) yields %s of %d bytes; want %d (%t)", kind, e.Name, e.SizeBytes, size, ok)
		}
		if !last.IsZero() && last.Compare(e.Name.ID) >= 0 {
			t.Errorf("List(%s) yields %s after %s; want ascending", kind, e.Name.ID, last)
		}
		last = e.Name.ID
		delete(want, e.Name)
	}
	for n := range want {
		t.Errorf("List(%s) leaves out %s", kind, n)
	}
	for _, b := range contents {
		name := NameOf(kind, b)
		if got, err := read(t.Context(), files, name); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%s reads as %d bytes, %v; want the %d stored", name, len(got), err, len(b))
		}
	}
}

// NameOf returns the name of a file with content b.
func NameOf(kind chunkstore.Kind, b []byte) chunkstore.Name {
	return chunkstore.Name{Kind: kind, ID: digest.Of(b)}
}

func read(ctx context.Context, files repository.Files, name chunkstore.Name) ([]byte, error) {
	r, err := files.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func put(ctx context.Context, files repository.Files, kind chunkstore.Kind, b []byte) error {
	n, err := files.Put(ctx, NameOf(kind, b), bytes.NewReader(b))
	if err == nil && n != int64(len(b)) {
		return fmt.Errorf("Put() = %d; want %d", n, len(b))
	}
	return err
}

func testPut(t *testing.T, s Suite) {
	files, ctx := s.New(t), t.Context()
	for _, kind := range chunkstore.Kinds() {
		b := Noise(kind.String(), 300_000)
		for range 2 { // the second time it is there already
			Must(t, put(ctx, files, kind, b))
		}
		holds(t, files, kind, b)
	}
	empty := []byte{}
	Must(t, put(ctx, files, chunkstore.Lock, empty))
	holds(t, files, chunkstore.Lock, empty, Noise("locks", 300_000))
	s.clean(t, files)
}

func testReaders(t *testing.T, s Suite) {
	files, ctx := s.New(t), t.Context()
	b := Noise("readers", 3000)
	name := NameOf(chunkstore.Pack, b)
	for what, r := range map[string]io.Reader{
		"one byte at a time":    iotest.OneByteReader(bytes.NewReader(b)),
		"half of what is asked": iotest.HalfReader(bytes.NewReader(b)),
		"the end with the last": iotest.DataErrReader(bytes.NewReader(b)),
		"with empty reads between": io.MultiReader(bytes.NewReader(b[:7]), bytes.NewReader(nil),
			bytes.NewReader(b[7:])),
	} {
		if n, err := files.Put(ctx, name, r); n != int64(len(b)) || err != nil {
			t.Errorf("Put of %s = %d, %v; want %d", what, n, err, len(b))
		}
		holds(t, files, chunkstore.Pack, b)
		Must(t, files.Remove(ctx, name))
	}
	broken := errors.New("the source broke")
	if _, err := files.Put(ctx, name, io.MultiReader(bytes.NewReader(b[:100]), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("Put from a reader that breaks = %v; want its error", err)
	}
	holds(t, files, chunkstore.Pack)
	s.clean(t, files)
}

func testStage(t *testing.T, s Suite) {
	files := s.New(t)
	var all [][]byte
	for _, parts := range [][]int{{}, {5}, {1, 0, 70_000, 300_000}} {
		staged, err := files.Stage(chunkstore.Pack)
		Must(t, err)
		var b []byte
		for _, n := range parts {
			part := Noise(fmt.Sprint(len(parts), n), n)
			if got, err := staged.Write(part); got != n || err != nil {
				t.Errorf("Write of %d bytes = %d, %v", n, got, err)
			}
			clear(part) // the caller's memory is the caller's again
			b = append(b, Noise(fmt.Sprint(len(parts), n), n)...)
		}
		if staged.Sum() != digest.Of(b) || staged.SizeBytes() != int64(len(b)) {
			t.Errorf("Sum, SizeBytes = %s, %d; want %s, %d", staged.Sum(), staged.SizeBytes(), digest.Of(b), len(b))
		}
		if _, err := files.Open(t.Context(), NameOf(chunkstore.Pack, b)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open before Commit = %v; want fs.ErrNotExist", err)
		}
		e, err := staged.Commit()
		if want := (chunkstore.Entry{Name: NameOf(chunkstore.Pack, b), SizeBytes: int64(len(b))}); e != want || err != nil {
			t.Errorf("Commit() = %v, %v; want %v", e, err, want)
		}
		staged.Abort() // after a commit nothing
		if _, err := staged.Commit(); err == nil {
			t.Error("a second Commit gives no error")
		}
		if _, err := staged.Write([]byte("more")); err == nil {
			t.Error("Write after Commit gives no error")
		}
		all = append(all, b)
		holds(t, files, chunkstore.Pack, all...)
	}
	// Two that turn out to be the same file.
	one, err := files.Stage(chunkstore.Index)
	Must(t, err)
	two, err := files.Stage(chunkstore.Index)
	Must(t, err)
	for _, staged := range []chunkstore.Staged{one, two} {
		_, err := staged.Write([]byte("same"))
		Must(t, err)
	}
	for _, staged := range []chunkstore.Staged{one, two} {
		_, err := staged.Commit()
		Must(t, err)
	}
	holds(t, files, chunkstore.Index, []byte("same"))
	s.clean(t, files)
}

func testAbort(t *testing.T, s Suite) {
	files := s.New(t)
	staged, err := files.Stage(chunkstore.Pack)
	Must(t, err)
	_, err = staged.Write(Noise("given up", 100_000))
	Must(t, err)
	staged.Abort()
	staged.Abort()
	if _, err := staged.Commit(); err == nil {
		t.Error("Commit after Abort gives no error")
	}
	holds(t, files, chunkstore.Pack)
	s.clean(t, files)
}

func testMismatch(t *testing.T, s Suite) {
	files, ctx := s.New(t), t.Context()
	b := Noise("announced", 5000)
	for what, other := range map[string][]byte{
		"other bytes": Noise("delivered", 5000), "a part": b[:4999], "none": {}, "more": append(Noise("announced", 5000), 0),
	} {
		if _, err := files.Put(ctx, NameOf(chunkstore.Pack, b), bytes.NewReader(other)); !errors.Is(err, digest.ErrMismatch) {
			t.Errorf("Put of %s = %v; want digest.ErrMismatch", what, err)
		}
		holds(t, files, chunkstore.Pack)
	}
	// Nor do they harm what is there.
	Must(t, put(ctx, files, chunkstore.Pack, b))
	if _, err := files.Put(ctx, NameOf(chunkstore.Pack, b), bytes.NewReader(b[1:])); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Put of other bytes over a stored file = %v; want digest.ErrMismatch", err)
	}
	holds(t, files, chunkstore.Pack, b)
	s.clean(t, files)
}

func testRanges(t *testing.T, s Suite) {
	files, ctx := s.New(t), t.Context()
	b := Noise("ranges", 100_000)
	name := NameOf(chunkstore.Pack, b)
	Must(t, put(ctx, files, chunkstore.Pack, b))
	open, err := repository.OpenRanges(ctx, files, name)
	Must(t, err)
	defer open.Close()
	for how, readRange := range map[string]func(off int64, buf []byte) error{
		"ReadRange":            func(off int64, buf []byte) error { return files.ReadRange(ctx, name, off, buf) },
		"OpenRanges.ReadRange": func(off int64, buf []byte) error { return open.ReadRange(ctx, off, buf) },
	} {
		for _, r := range [][2]int64{{0, 1}, {0, 100_000}, {99_999, 1}, {5000, 70_000}, {17, 0}} {
			buf := make([]byte, r[1])
			if err := readRange(r[0], buf); err != nil || !bytes.Equal(buf, b[r[0]:r[0]+r[1]]) {
				t.Errorf("%s(%d, %d bytes) = %v; want those", how, r[0], r[1], err)
			}
		}
		for _, r := range [][2]int64{{0, 100_001}, {99_999, 2}, {100_000, 1}, {1 << 40, 1}, {math.MaxInt64, 1}} {
			if err := readRange(r[0], make([]byte, r[1])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s(%d, %d bytes) = %v; want io.ErrUnexpectedEOF", how, r[0], r[1], err)
			}
		}
		if err := readRange(-1, make([]byte, 1)); err == nil {
			t.Errorf("%s before the beginning gives no error", how)
		}
	}
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			buf := make([]byte, 1000)
			if err := open.ReadRange(ctx, int64(i)*1000, buf); err != nil || !bytes.Equal(buf, b[i*1000:i*1000+1000]) {
				t.Errorf("range %d read beside others = %v", i, err)
			}
		})
	}
	wait.Wait()
	if err := files.ReadRange(ctx, NameOf(chunkstore.Pack, nil), 0, make([]byte, 1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadRange of what is not there = %v; want fs.ErrNotExist", err)
	}
	missing, err := repository.OpenRanges(ctx, files, NameOf(chunkstore.Pack, nil))
	if err == nil {
		err = missing.ReadRange(ctx, 0, make([]byte, 1))
		Must(t, missing.Close())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenRanges of what is not there, then reading = %v; want fs.ErrNotExist", err)
	}
}

func testList(t *testing.T, s Suite) {
	files, ctx := s.New(t), t.Context()
	for _, kind := range chunkstore.Kinds() {
		holds(t, files, kind)
	}
	var packs [][]byte
	for i := range 40 {
		packs = append(packs, Noise(fmt.Sprint("list", i), i))
		Must(t, put(ctx, files, chunkstore.Pack, packs[i]))
	}
	Must(t, put(ctx, files, chunkstore.Key, []byte("key")))
	holds(t, files, chunkstore.Pack, packs...)
	holds(t, files, chunkstore.Key, []byte("key"))
	n := 0
	for range files.List(ctx, chunkstore.Pack) {
		if n++; n == 3 {
			break
		}
	}
	// Removing what was listed, while listing, is how things are cleared away.
	n = 0
	for e, err := range files.List(ctx, chunkstore.Pack) {
		Must(t, err)
		Must(t, files.Remove(ctx, e.Name))
		n++
	}
	if n != len(packs) {
		t.Errorf("List yields %d packs while they are removed; want %d", n, len(packs))
	}
	holds(t, files, chunkstore.Pack)
}

func testRemove(t *testing.T, s Suite) {
	files, ctx := s.New(t), t.Context()
	one, two := Noise("one", 10), Noise("two", 20)
	Must(t, put(ctx, files, chunkstore.Snapshot, one))
	Must(t, put(ctx, files, chunkstore.Snapshot, two))
	for range 2 { // the second time it is not there
		Must(t, files.Remove(ctx, NameOf(chunkstore.Snapshot, one)))
	}
	holds(t, files, chunkstore.Snapshot, two)
	if _, err := files.Open(ctx, NameOf(chunkstore.Snapshot, one)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open after Remove = %v; want fs.ErrNotExist", err)
	}
	Must(t, put(ctx, files, chunkstore.Snapshot, one))
	holds(t, files, chunkstore.Snapshot, one, two)
}

func testConfig(t *testing.T, s Suite) {
	files, ctx := s.New(t), t.Context()
	config := chunkstore.Name{Kind: chunkstore.Config}
	if _, err := files.Open(ctx, config); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of a config that is not there = %v; want fs.ErrNotExist", err)
	}
	one, two := []byte("config one"), []byte("config two")
	for range 2 {
		Must(t, put(ctx, files, chunkstore.Config, one))
	}
	if err := put(ctx, files, chunkstore.Config, two); !errors.Is(err, chunkstore.ErrConfigExists) {
		t.Errorf("Put of another config = %v; want ErrConfigExists", err)
	}
	staged, err := files.Stage(chunkstore.Config)
	Must(t, err)
	_, err = staged.Write(two)
	Must(t, err)
	if _, err := staged.Commit(); !errors.Is(err, chunkstore.ErrConfigExists) {
		t.Errorf("Commit of another config = %v; want ErrConfigExists", err)
	}
	if _, err := files.Put(ctx, config, bytes.NewReader(one)); !errors.Is(err, chunkstore.ErrName) {
		t.Errorf("Put of a config without its digest = %v; want ErrName", err)
	}
	holds(t, files, chunkstore.Config, one)
	if b, err := read(ctx, files, config); err != nil || !bytes.Equal(b, one) {
		t.Errorf("the config that is present = %q, %v; want %q", b, err, one)
	}
	if b, err := read(ctx, files, NameOf(chunkstore.Config, two)); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("the config by another's digest = %q, %v; want digest.ErrMismatch", b, err)
	}
	buf := make([]byte, 3)
	if err := files.ReadRange(ctx, config, 7, buf); err != nil || string(buf) != "one" {
		t.Errorf("ReadRange of the config = %q, %v", buf, err)
	}
	s.clean(t, files)

	// Of many that come at once one wins, and all others hear of it.
	files = s.New(t)
	var wait sync.WaitGroup
	won := make([]bool, 8)
	for i := range won {
		wait.Go(func() {
			err := put(ctx, files, chunkstore.Config, fmt.Append(nil, "config ", i))
			won[i] = err == nil
			if err != nil && !errors.Is(err, chunkstore.ErrConfigExists) {
				t.Errorf("Put of a racing config = %v; want ErrConfigExists", err)
			}
		})
	}
	wait.Wait()
	winners := 0
	for i, w := range won {
		if w {
			winners++
			holds(t, files, chunkstore.Config, fmt.Append(nil, "config ", i))
		}
	}
	if winners != 1 {
		t.Errorf("%d of the racing configs were stored; want one", winners)
	}
}

func testNames(t *testing.T, s Suite) {
	files, ctx := s.New(t), t.Context()
	id := digest.Of([]byte("x"))
	sm3, err := digest.FromBytes(digest.SM3, id.Bytes())
	Must(t, err)
	for _, n := range []chunkstore.Name{
		{}, {ID: id}, {Kind: chunkstore.Pack + 1, ID: id}, {Kind: chunkstore.Pack}, {Kind: chunkstore.Key},
		{Kind: chunkstore.Pack, ID: sm3}, {Kind: chunkstore.Config, ID: sm3},
	} {
		_, perr := files.Put(ctx, n, bytes.NewReader([]byte("x")))
		_, oerr := files.Open(ctx, n)
		for what, err := range map[string]error{
			"Put": perr, "Open": oerr, "ReadRange": files.ReadRange(ctx, n, 0, make([]byte, 1)), "Remove": files.Remove(ctx, n),
		} {
			if !errors.Is(err, chunkstore.ErrName) {
				t.Errorf("%s(%s %s) = %v; want ErrName", what, n.Kind, n.ID, err)
			}
		}
	}
	for _, k := range []chunkstore.Kind{0, chunkstore.Pack + 1} {
		if _, err := files.Stage(k); !errors.Is(err, chunkstore.ErrName) {
			t.Errorf("Stage(%s) = %v; want ErrName", k, err)
		}
		yields := 0
		for _, err := range files.List(ctx, k) {
			if yields++; !errors.Is(err, chunkstore.ErrName) {
				t.Errorf("List(%s) = %v; want ErrName", k, err)
			}
		}
		if yields != 1 {
			t.Errorf("List(%s) yields %d times; want one error", k, yields)
		}
	}
	s.clean(t, files)
}

func testContext(t *testing.T, s Suite) {
	files, b := s.New(t), Noise("context", 2<<20)
	stored := []byte("stored")
	Must(t, put(t.Context(), files, chunkstore.Pack, stored))
	name := NameOf(chunkstore.Pack, stored)

	ended, end := context.WithCancel(t.Context())
	end()
	_, oerr := files.Open(ended, name)
	var lerr error
	for _, err := range files.List(ended, chunkstore.Pack) {
		lerr = err
	}
	for what, err := range map[string]error{
		"Put": put(ended, files, chunkstore.Pack, b), "Open": oerr, "List": lerr,
		"ReadRange": files.ReadRange(ended, name, 0, make([]byte, 1)), "Remove": files.Remove(ended, name),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context = %v; want context.Canceled", what, err)
		}
	}

	// One that ends on the way.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source := io.MultiReader(bytes.NewReader(b[:1<<20]), readFunc(func([]byte) (int, error) { cancel(); return 0, io.EOF }),
		bytes.NewReader(b[1<<20:]))
	if _, err := files.Put(ctx, NameOf(chunkstore.Pack, b), source); !errors.Is(err, context.Canceled) {
		t.Errorf("Put whose context ends on the way = %v; want context.Canceled", err)
	}
	holds(t, files, chunkstore.Pack, stored)
	s.clean(t, files)

	Must(t, put(t.Context(), files, chunkstore.Pack, b))
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	r, err := files.Open(ctx, NameOf(chunkstore.Pack, b))
	Must(t, err)
	defer r.Close()
	_, err = io.ReadFull(r, make([]byte, 10))
	Must(t, err)
	cancel()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
		t.Errorf("reading on after the context's end = %v; want context.Canceled", err)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

func testWriters(t *testing.T, s Suite) {
	files, ctx := s.New(t), t.Context()
	same := Noise("same", 200_000)
	all := [][]byte{same}
	var wait sync.WaitGroup
	for i := range 6 {
		own := Noise(fmt.Sprint("own", i), 50_000)
		all = append(all, own)
		wait.Go(func() {
			if err := put(ctx, files, chunkstore.Pack, same); err != nil {
				t.Errorf("Put of what others put = %v", err)
			}
			if err := put(ctx, files, chunkstore.Pack, own); err != nil {
				t.Errorf("Put beside others = %v", err)
			}
		})
		wait.Go(func() {
			staged, err := files.Stage(chunkstore.Pack)
			if err != nil {
				t.Errorf("Stage beside others = %v", err)
				return
			}
			defer staged.Abort()
			if _, err := staged.Write(same); err != nil {
				t.Errorf("Write beside others = %v", err)
			}
			if _, err := staged.Commit(); err != nil {
				t.Errorf("Commit beside others = %v", err)
			}
		})
		wait.Go(func() {
			// Whoever looks on sees whole files only.
			for e, err := range files.List(ctx, chunkstore.Pack) {
				if err != nil {
					t.Errorf("List beside writers = %v", err)
					continue
				}
				if b, err := read(ctx, files, e.Name); err != nil || int64(len(b)) != e.SizeBytes {
					t.Errorf("reading %s beside writers = %d bytes, %v; want %d", e.Name, len(b), err, e.SizeBytes)
				}
			}
		})
	}
	wait.Wait()
	holds(t, files, chunkstore.Pack, all...)
	s.clean(t, files)
}

func testFull(t *testing.T, s Suite) {
	if s.Small == nil {
		t.Skip("this store cannot be made small: a full disk is NOT checked")
	}
	files, ctx := s.Small(t), t.Context()
	big, fits := Noise("big", 1<<20), Noise("fits", 32<<10)
	if err := put(ctx, files, chunkstore.Pack, big); !errors.Is(err, chunkstore.ErrFull) {
		t.Errorf("Put on a full disk = %v; want ErrFull", err)
	}
	staged, err := files.Stage(chunkstore.Pack)
	Must(t, err)
	if _, err = staged.Write(big); err == nil { // a store may notice at the end only
		_, err = staged.Commit()
	}
	if !errors.Is(err, chunkstore.ErrFull) {
		t.Errorf("Write and Commit on a full disk = %v; want ErrFull", err)
	}
	staged.Abort()
	holds(t, files, chunkstore.Pack)
	s.clean(t, files)
	Must(t, put(ctx, files, chunkstore.Pack, fits)) // what fits is still stored
	holds(t, files, chunkstore.Pack, fits)
}

func testRot(t *testing.T, s Suite) {
	if s.Rot == nil {
		t.Skip("nobody can get at this store's bytes: rot is NOT checked")
	}
	files, ctx := s.New(t), t.Context()
	b := Noise("rots", 300_000)
	name := NameOf(chunkstore.Pack, b)
	Must(t, put(ctx, files, chunkstore.Pack, b))
	s.Rot(t, files, name)
	if got, err := read(ctx, files, name); len(got) != len(b) || !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("reading a rotten file = %d bytes, %v; want all and digest.ErrMismatch", len(got), err)
	}
	// Sound bytes take the place of rotten ones.
	Must(t, put(ctx, files, chunkstore.Pack, b))
	holds(t, files, chunkstore.Pack, b)
}
