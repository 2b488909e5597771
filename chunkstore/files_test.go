package chunkstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dengbei/chunkstore/digest"
)

// sample is content that is not the same twice within itself.
func sample() []byte {
	var b []byte
	for d := digest.Of(nil); len(b) < 300_000; d = digest.Of(d.Bytes()) {
		b = append(b, d.Bytes()...)
	}
	return b
}

func packOf(b []byte) Name { return Name{Pack, digest.Of(b)} }

func TestNames(t *testing.T) {
	hex := digest.Of(nil).Hex()
	for _, s := range []string{"config", "keys/" + hex, "snapshots/" + hex, "index/" + hex, "locks/" + hex, "data/" + hex} {
		n, err := ParseName(s)
		if err != nil || n.String() != s {
			t.Errorf("ParseName(%q) = %v, %v; want it back", s, n, err)
		}
		if n.Kind == Config {
			n.ID = digest.Of(nil)
		}
		if got, ok := parseFlat(n.flat()); !ok || got != n {
			t.Errorf("parseFlat(%q) = %v, %v; want %v", n.flat(), got, ok, n)
		}
	}
	for _, s := range []string{"", "Config", "data", "data/", "data/" + hex[1:], "data/" + strings.ToUpper(hex), "data/e3/" + hex,
		"data/../config", "config/" + hex, "tmp/" + hex, "keys/sha256:" + hex, "/data/" + hex} {
		if n, err := ParseName(s); !errors.Is(err, ErrName) {
			t.Errorf("ParseName(%q) = %v, %v; want ErrName", s, n, err)
		}
	}
}

func TestPutAndRead(t *testing.T) {
	f, ctx, content := create(t), t.Context(), sample()
	name := packOf(content)
	for range 2 { // the second time it is there already
		n, err := f.Put(ctx, name, bytes.NewReader(content))
		if n != int64(len(content)) || err != nil {
			t.Fatalf("Put() = %d, %v; want %d", n, err, len(content))
		}
	}
	if _, err := os.Stat(filepath.Join(f.Dir(), "data", name.ID.Hex()[:2], name.ID.Hex())); err != nil {
		t.Error("file does not lie where restic looks for it:", err)
	}
	if n, err := f.Stat(name); n != int64(len(content)) || err != nil {
		t.Errorf("Stat() = %d, %v", n, err)
	}
	r, err := f.Open(ctx, name)
	must(t, err)
	got, err := io.ReadAll(r)
	must(t, err)
	must(t, r.Close())
	if !bytes.Equal(got, content) {
		t.Error("Open() yields other bytes")
	}
	buf := make([]byte, 100)
	must(t, f.ReadRange(ctx, name, 5000, buf))
	if !bytes.Equal(buf, content[5000:5100]) {
		t.Error("ReadRange() yields other bytes")
	}
	if err := f.ReadRange(ctx, name, int64(len(content))-99, buf); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("ReadRange past the end = %v; want io.ErrUnexpectedEOF", err)
	}
	must(t, f.Verify(ctx, name))
	ranges, err := f.OpenRanges(ctx, name)
	must(t, err)
	must(t, f.Remove(ctx, name))
	must(t, f.Remove(ctx, name))
	must(t, ranges.ReadRange(ctx, 6000, buf))
	if !bytes.Equal(buf, content[6000:6100]) {
		t.Error("ReadRange() of an open file yields other bytes")
	}
	must(t, ranges.Close())
	if _, err := f.OpenRanges(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenRanges after Remove = %v; want fs.ErrNotExist", err)
	}
	if _, err := f.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat after Remove = %v; want fs.ErrNotExist", err)
	}
	if _, err := f.Open(ctx, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open after Remove = %v; want fs.ErrNotExist", err)
	}
	if left := tempFiles(t, f); len(left) != 0 {
		t.Errorf("tmp/ holds %q; want nothing", left)
	}
}

func TestPutOfOtherBytesLeavesNoTrace(t *testing.T) {
	f, ctx := create(t), t.Context()
	name := packOf([]byte("announced"))
	if err := f.PutBytes(ctx, name, []byte("delivered")); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Put of other bytes = %v; want digest.ErrMismatch", err)
	}
	broken := io.MultiReader(strings.NewReader("annou"), errReader{io.ErrClosedPipe})
	if _, err := f.Put(ctx, name, broken); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Put from a broken reader = %v; want its error", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := f.PutBytes(cancelled, name, []byte("announced")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put with a cancelled context = %v; want context.Canceled", err)
	}
	if _, err := f.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat() = %v; want fs.ErrNotExist", err)
	}
	if left := tempFiles(t, f); len(left) != 0 {
		t.Errorf("tmp/ holds %q; want nothing", left)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestConfigIsNeverReplaced(t *testing.T) {
	f, ctx := create(t), t.Context()
	one, two := []byte("config one"), []byte("config two")
	name := Name{Config, digest.Of(one)}
	must(t, f.PutBytes(ctx, name, one))
	must(t, f.PutBytes(ctx, name, one))
	if err := f.PutBytes(ctx, Name{Config, digest.Of(two)}, two); !errors.Is(err, ErrConfigExists) {
		t.Errorf("Put of another config = %v; want ErrConfigExists", err)
	}
	if err := f.PutBytes(ctx, Name{Kind: Config}, two); !errors.Is(err, ErrName) {
		t.Errorf("Put of a config without digest = %v; want ErrName", err)
	}
	for e, err := range f.List(ctx, Config) {
		if e != (Entry{name, int64(len(one))}) || err != nil {
			t.Errorf("List(Config) yields %v, %v; want %v", e, err, name)
		}
	}
	for _, n := range []Name{name, {Kind: Config}} {
		r, err := f.Open(ctx, n)
		must(t, err)
		b, err := io.ReadAll(r)
		r.Close()
		if !bytes.Equal(b, one) || err != nil {
			t.Errorf("config = %q, %v; want %q", b, err, one)
		}
	}
	if err := f.Verify(ctx, Name{Config, digest.Of(two)}); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Verify of another config's digest = %v; want digest.ErrMismatch", err)
	}
}

func TestRotIsNoticed(t *testing.T) {
	f, ctx, content := create(t), t.Context(), sample()
	name := packOf(content)
	must(t, f.PutBytes(ctx, name, content))
	rot(t, f, name, 1000)
	r, err := f.Open(ctx, name)
	must(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	if len(got) != len(content) || !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("reading a rotten file = %d bytes, %v; want all and digest.ErrMismatch", len(got), err)
	}
	if err := f.Verify(ctx, name); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Verify() = %v; want digest.ErrMismatch", err)
	}

	must(t, f.Quarantine(name))
	if _, err := f.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of a quarantined file = %v; want fs.ErrNotExist", err)
	}
	damaged, err := f.Damaged()
	must(t, err)
	if len(damaged) != 1 || damaged[0] != (Entry{name, int64(len(content))}) {
		t.Errorf("Damaged() = %v; want %v", damaged, name)
	}
	must(t, f.PutBytes(ctx, name, content))
	must(t, f.Verify(ctx, name))
	must(t, f.DropDamaged(name))
	must(t, f.DropDamaged(name))
	if damaged, err := f.Damaged(); len(damaged) != 0 || err != nil {
		t.Errorf("Damaged() = %v, %v; want none", damaged, err)
	}
}

// rot flips one bit of a stored file.
func rot(t *testing.T, f *Files, name Name, at int64) {
	t.Helper()
	p := f.abs(name)
	must(t, os.Chmod(p, 0o600))
	file, err := os.OpenFile(p, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	var b [1]byte
	_, err = file.ReadAt(b[:], at)
	must(t, err)
	b[0] ^= 1
	_, err = file.WriteAt(b[:], at)
	must(t, err)
}

func TestListPassesOverForeignNames(t *testing.T) {
	f, ctx := create(t), t.Context()
	want := make(map[Name]int64)
	for _, s := range []string{"a", "bb", "ccc", "dddd"} {
		n := packOf([]byte(s))
		must(t, f.PutBytes(ctx, n, []byte(s)))
		want[n] = int64(len(s))
	}
	hex := digest.Of([]byte("x")).Hex()
	for _, sub := range []string{"ab", hex[:2]} {
		must(t, os.MkdirAll(filepath.Join(f.Dir(), "data", sub), 0o700))
	}
	for _, p := range []string{"data/stray", "data/ab/" + hex[:63], "data/ab/" + hex + ".tmp", "data/zz", "keys/README"} {
		must(t, os.WriteFile(filepath.Join(f.Dir(), p), nil, 0o600))
	}
	must(t, os.Mkdir(filepath.Join(f.Dir(), "data/ab/ab"+hex[2:]), 0o700))
	must(t, os.Symlink("stray", filepath.Join(f.Dir(), "data", hex[:2], hex)))
	var last Name
	for e, err := range f.List(ctx, Pack) {
		must(t, err)
		if want[e.Name] != e.SizeBytes {
			t.Errorf("List yields %v of %d bytes; want %d", e.Name, e.SizeBytes, want[e.Name])
		}
		if last.ID.Compare(e.Name.ID) >= 0 {
			t.Error("List is not ascending")
		}
		last = e.Name
		delete(want, e.Name)
	}
	if len(want) != 0 {
		t.Errorf("List leaves out %v", want)
	}
	for e, err := range f.List(ctx, Key) {
		t.Errorf("List(Key) yields %v, %v; want nothing", e, err)
	}
}

func TestOpenSweepsWhatACrashLeft(t *testing.T) {
	f := create(t)
	must(t, os.Mkdir(filepath.Join(f.Dir(), tmpDir), 0o700))
	must(t, os.WriteFile(filepath.Join(f.Dir(), tmpDir, stagePrefix+"old"), sample(), 0o400))
	must(t, os.WriteFile(filepath.Join(f.Dir(), tmpDir, "foreign"), nil, 0o400))
	live, err := f.Stage(Pack)
	must(t, err)
	if _, err := Open(f.Dir()); err != nil {
		t.Fatal(err)
	}
	if left := strings.Join(tempFiles(t, f), " "); left != "foreign "+filepath.Base(live.(*stagedFile).file.Name()) {
		t.Errorf("tmp/ holds %q; want the foreign and the live file", left)
	}
	_, err = live.Write([]byte("goes on"))
	must(t, err)
	e, err := live.Commit()
	must(t, err)
	must(t, f.Verify(t.Context(), e.Name))
	live.Abort()
	must(t, f.Verify(t.Context(), e.Name))
}

func TestCreateAndOpenRefuseOtherDirectories(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); !errors.Is(err, ErrNotRepository) {
		t.Errorf("Open(empty) = %v; want ErrNotRepository", err)
	}
	if _, err := Create(dir); err != nil {
		t.Error(err)
	}
	if _, err := Create(dir); err != nil {
		t.Error("Create of what an interrupted Create left:", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "README.txt"))
	must(t, err)
	for _, want := range []string{"restic -r", "--no-lock", "备份库口令", "sha256sum"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("README.txt does not say %q", want)
		}
	}
	if lines := bytes.Count(b, []byte("\n")); lines > 66 {
		t.Errorf("README.txt has %d lines; want one page of 66", lines)
	}
	must(t, os.WriteFile(filepath.Join(dir, "thesis.doc"), nil, 0o600))
	if _, err := Create(dir); !errors.Is(err, ErrNotRepository) {
		t.Errorf("Create beside a stranger's file = %v; want ErrNotRepository", err)
	}
}

func TestFullDiskLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root: a full disk is NOT checked")
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skip("cannot mount a small file system, a full disk is NOT checked:", err)
	}
	defer func() { must(t, syscall.Unmount(dir, 0)) }()
	f, err := Create(filepath.Join(dir, "repo"))
	must(t, err)
	big := bytes.Repeat(sample(), 10)
	if err := f.PutBytes(t.Context(), packOf(big), big); !errors.Is(err, ErrFull) {
		t.Errorf("Put on a full disk = %v; want ErrFull", err)
	}
	for e := range f.List(t.Context(), Pack) {
		t.Errorf("%v is there", e)
	}
	if left := tempFiles(t, f); len(left) != 0 {
		t.Errorf("tmp/ holds %q; want nothing", left)
	}
	must(t, f.PutBytes(t.Context(), packOf(sample()), sample())) // what fits is still stored

	in, err := f.Receive(packOf(big), int64(len(big)))
	must(t, err)
	_, err = in.Write(big)
	if !errors.Is(err, ErrFull) {
		t.Errorf("Incoming.Write on a full disk = %v; want ErrFull", err)
	}
	must(t, in.Discard())
}
