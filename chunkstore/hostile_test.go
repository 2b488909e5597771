package chunkstore_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/check"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repair"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
)

// victim is a sound repository that a row of the matrix damages or adds to.
type victim struct {
	*forger
	dir, src string
	snapshot digest.Digest
	planted  []digest.Digest // snapshots that the row added
	ownKey   string          // hex
}

// hostileSample makes the repository that all rows start from, once, and a pristine copy of it.
func hostileSample(t *testing.T) (dir, src string, snapshot digest.Digest) {
	t.Helper()
	src = t.TempDir()
	all := map[string][]byte{"empty": {}, "scan": chunktest.Noise("scan", 1<<20), "text": bytes.Repeat([]byte("登记 "), 50_000)}
	for i := range 12 {
		all[fmt.Sprintf("records/%02d/data", i)] = chunktest.Noise(fmt.Sprint(i), 1000+i)
	}
	chunktest.WriteFiles(t, src, all)
	repo, files := newRepo(t, repository.Options{})
	r := backup(t, repo, archive.Root{Path: "/", Source: src})
	for i := range 256 { // they are made as they are needed, and copying them takes most of the time
		_ = os.Remove(filepath.Join(files.Dir(), "data", fmt.Sprintf("%02x", i))) // those with packs stay
	}
	return files.Dir(), src, r.SnapshotID
}

// attack copies the sample and lets a row loose on the copy.
func attack(t *testing.T, dir, src string, snapshot digest.Digest, do func(v *victim)) *victim {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "repo")
	must(t, os.CopyFS(copied, os.DirFS(dir)))
	files, err := chunkstore.Open(copied)
	must(t, err)
	repo, err := repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	v := &victim{forger: newForger(t, repo, files), dir: copied, src: src, snapshot: snapshot, ownKey: repo.KeyName().ID.Hex()}
	do(v)
	return v
}

func (v *victim) list(kind chunkstore.Kind) []chunkstore.Name {
	v.t.Helper()
	var all []chunkstore.Name
	for e, err := range v.files.List(v.t.Context(), kind) {
		if err != nil {
			v.t.Fatal(err)
		}
		all = append(all, e.Name)
	}
	return all
}

func (v *victim) path(n chunkstore.Name) string {
	switch n.Kind {
	case chunkstore.Config:
		return filepath.Join(v.dir, "config")
	case chunkstore.Pack:
		return filepath.Join(v.dir, "data", n.ID.Hex()[:2], n.ID.Hex())
	}
	return filepath.Join(v.dir, n.String())
}

// edit changes a stored file in place.
func (v *victim) edit(n chunkstore.Name, change func([]byte) []byte) {
	v.t.Helper()
	b, err := os.ReadFile(v.path(n))
	if err == nil {
		err = errors.Join(os.Chmod(v.path(n), 0o600), os.WriteFile(v.path(n), change(b), 0o600))
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

// instead puts something else in the place of a file, or beside the others under a new name.
func (v *victim) instead(n chunkstore.Name, put func(path string) error) {
	v.t.Helper()
	if err := os.Remove(v.path(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		v.t.Fatal(err)
	}
	if err := put(v.path(n)); err != nil {
		v.t.Fatal(err)
	}
}

// reindex rewrites the index as change wants it.
func (v *victim) reindex(change func(packs []repository.IndexedPack) [][]repository.IndexedPack) {
	v.t.Helper()
	repo := v.open()
	var all []repository.IndexedPack
	for f, err := range repo.IndexFiles(v.t.Context()) {
		if err != nil {
			v.t.Fatal(err)
		}
		all = append(all, f.Packs...)
	}
	for _, n := range v.list(chunkstore.Index) {
		v.remove(n)
	}
	for _, packs := range change(all) {
		v.index(packs...)
	}
}

func (v *victim) remove(n chunkstore.Name) {
	v.t.Helper()
	if err := v.files.Remove(v.t.Context(), n); err != nil {
		v.t.Fatal(err)
	}
}

func (v *victim) open() *repository.Repository {
	v.t.Helper()
	repo, err := repository.Open(v.t.Context(), v.files, password, repository.Options{})
	if err != nil {
		v.t.Fatal(err)
	}
	return repo
}

// packOf returns the pack of one small record, which holds data of other files as well.
func (v *victim) packOf(record int) chunkstore.Name {
	v.t.Helper()
	content := chunktest.Noise(fmt.Sprint(record), 1000+record)
	return v.open().Locate(repository.DataBlob, repository.IDOf(digest.Of(content)))[0].Pack
}

func (v *victim) plant(tree []byte) { v.planted = append(v.planted, v.tree(tree)) }

// outcome is what came of a repository that was attacked.
type outcome struct {
	Open      string // why it did not open
	Snapshots int
	Findings  int  // not harmless
	Restored  bool // the sound snapshot came back whole
	Restore   string
	Wrong     []string // files that were restored with other bytes than they had
}

// tryAll opens, lists, checks and restores the repository in dir.
func tryAll(ctx context.Context, dir, src, target string, snapshot digest.Digest, readHeaders bool) (o outcome, err error) {
	files, err := chunkstore.Open(dir)
	if err != nil {
		return o, err
	}
	repo, err := repository.Open(ctx, files, password, repository.Options{ReadHeaders: readHeaders})
	if err != nil {
		o.Open = err.Error()
		return o, nil
	}
	all, unreadable, err := repo.Snapshots(ctx)
	if err != nil {
		return o, fmt.Errorf("list snapshots: %w", err)
	}
	o.Snapshots = len(all)
	_ = unreadable
	for _, sn := range all {
		steps := 0
		if err := restore.Walk(ctx, repo, sn.Tree, func(string, *repository.Node, error) error {
			if steps++; steps > 10_000 {
				return fs.SkipAll
			}
			return nil
		}); err != nil && ctx.Err() != nil {
			return o, err
		}
	}
	found, err := check.Check(ctx, repo, check.Options{ReadData: true})
	if err != nil {
		return o, fmt.Errorf("check: %w", err)
	}
	for _, f := range found {
		_ = f.String()
		if !f.Harmless {
			o.Findings++
		}
	}
	for _, sn := range all {
		if sn.ID != snapshot && !strings.HasSuffix(sn.Hostname, "endless") {
			// Whether it comes back does not matter: it must end, and stay inside.
			_, _ = restore.Restore(ctx, repo, sn.ID, filepath.Join(target, "hostile-"+sn.ID.Hex()[:8]), restore.Options{})
		}
	}
	whole := filepath.Join(target, "whole")
	if _, err := restore.Restore(ctx, repo, snapshot, whole, restore.Options{}); err != nil {
		o.Restore = err.Error()
	}
	o.Wrong, o.Restored = compareContent(whole, src)
	o.Restored = o.Restored && o.Restore == ""
	return o, nil
}

// compareContent returns the files below got that differ from those below want, and whether got has them all.
func compareContent(got, want string) (wrong []string, whole bool) {
	whole = true
	_ = filepath.WalkDir(want, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(want, p)
		w, _ := os.ReadFile(p)
		g, err := os.ReadFile(filepath.Join(got, name))
		switch {
		case err != nil:
			whole = false
		case !bytes.Equal(g, w):
			wrong, whole = append(wrong, name), false
		}
		return nil
	})
	return wrong, whole
}

// hostileRow is one row of the matrix.
type hostileRow struct {
	name string
	do   func(v *victim)

	closed  bool // it does not open
	hurt    bool // the sound snapshot suffers
	either  bool // it suffers or not: which blob is hit is chance
	silent  bool // a check finds nothing but harmless things
	headers bool // it is opened with what the packs' own headers say
	stays   bool // repair leaves findings behind
	stock   bool // stock restic is asked whether the repair is good
}

// mendAll repairs what it can without another copy.
func mendAll(t *testing.T, v *victim) {
	t.Helper()
	ctx := t.Context()
	repo := v.open()
	_, err := repair.Index(ctx, repo, repair.IndexOptions{ReadAllPacks: true})
	must(t, err)
	found, err := check.Check(ctx, repo, check.Options{ReadData: true})
	must(t, err)
	var broken []digest.Digest
	for _, f := range found {
		if f.Name.Kind == chunkstore.Pack && !f.Harmless {
			broken = append(broken, f.Name.ID)
		}
	}
	if len(broken) > 0 {
		_, err = repair.Packs(ctx, repo, broken, repair.PacksOptions{})
		must(t, err)
	}
	_, err = repair.Unreadable(ctx, repo, false)
	must(t, err)
	all, _, err := repo.Snapshots(ctx)
	must(t, err)
	_, err = repair.Snapshots(ctx, repo, all, repair.SnapshotsOptions{Forget: true})
	must(t, err)
}

// TestHostile is the matrix of hostile and damaged repositories that cost little. Each is opened, listed, checked and
// restored, then repaired, checked and restored again.
func TestHostile(t *testing.T) {
	dir, src, snapshot := hostileSample(t)
	junk := bytes.Repeat([]byte("junk"), 125)
	var rows []hostileRow
	rows = append(rows, hostileSmallFiles(junk)...)
	rows = append(rows, hostilePacks()...)
	rows = append(rows, hostileTrees()...)
	rows = append(rows, hostilePlaces()...)
	for i, row := range rows {
		if testing.Short() && i%4 != 0 {
			continue
		}
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			v := attack(t, dir, src, snapshot, row.do)
			o, err := tryAll(t.Context(), v.dir, src, t.TempDir(), snapshot, row.headers)
			must(t, err)
			switch {
			case len(o.Wrong) > 0:
				t.Errorf("wrong bytes in %q", o.Wrong)
			case row.closed:
				if o.Open == "" {
					t.Errorf("it opens: %+v; want a refusal", o)
				}
				restoredFromCopy(t, v, dir, src, snapshot)
				return
			case o.Open != "":
				t.Fatalf("it does not open: %s", o.Open)
			case o.Restored == row.hurt && !row.either:
				t.Errorf("restored is %v (%s); want %v", o.Restored, o.Restore, !row.hurt)
			case (o.Findings == 0) != row.silent:
				t.Errorf("%d findings; want none is %v", o.Findings, row.silent)
			}
			mendAll(t, v)
			again, err := tryAll(t.Context(), v.dir, src, t.TempDir(), snapshot, false)
			must(t, err)
			if again.Findings > 0 != row.stays {
				t.Errorf("after the repair %d findings remain", again.Findings)
			}
			if o.Restored && !again.Restored {
				t.Errorf("the repair made it worse: %s, wrong %q", again.Restore, again.Wrong)
			}
			if row.stock {
				restic(t, v.dir, "check", "--read-data")
			}
			if row.hurt {
				restoredFromCopy(t, v, dir, src, snapshot)
			}
		})
	}
}

// restoredFromCopy wants that another copy mends everything.
func restoredFromCopy(t *testing.T, v *victim, dir, src string, snapshot digest.Digest) {
	t.Helper()
	other, err := chunkstore.Open(dir)
	must(t, err)
	if _, err := repository.Open(t.Context(), v.files, password, repository.Options{}); err != nil {
		_, err := repair.Entrance(t.Context(), v.files, other, false)
		must(t, err)
	}
	_, err = repair.From(t.Context(), v.open(), other, repair.FromOptions{ReadData: true, All: true})
	must(t, err)
	o, err := tryAll(t.Context(), v.dir, src, t.TempDir(), snapshot, false)
	must(t, err)
	if !o.Restored {
		t.Errorf("after repair from a copy: %+v", o)
	}
}

func hostileSmallFiles(junk []byte) []hostileRow {
	keyJSON := func(n, r, p, salt, data int) []byte {
		return fmt.Appendf(nil, `{"created":"2026-11-22T00:00:00Z","username":"","hostname":"","kdf":"scrypt","N":%d,"r":%d,"p":%d,"salt":"%s","data":"%s"}`, n, r, p,
			base64.StdEncoding.EncodeToString(make([]byte, salt)), base64.StdEncoding.EncodeToString(make([]byte, data)))
	}
	rows := []hostileRow{
		{name: "junk index", stock: true, do: func(v *victim) { v.put(chunkstore.Index, junk) }},
		{name: "empty index", do: func(v *victim) { v.put(chunkstore.Index, nil) }},
		{name: "index of another form", do: func(v *victim) { v.unpacked(chunkstore.Index, []byte(`[1,"two",{"three":null}]`)) }},
		{name: "junk snapshot", do: func(v *victim) { v.put(chunkstore.Snapshot, junk) }},
		{name: "empty snapshot", stock: true, do: func(v *victim) { v.put(chunkstore.Snapshot, nil) }},
		{name: "snapshot without a tree", stock: true, do: func(v *victim) { v.unpacked(chunkstore.Snapshot, []byte(`{"paths":["/"]}`)) }},
		{name: "snapshot of a tree that is nowhere", do: func(v *victim) { v.planted = append(v.planted, v.forger.snapshot(repository.ID{7})) }},
		{name: "junk key", do: func(v *victim) { v.first(chunkstore.Key, junk) }, stays: true},
		{name: "key with short salt", do: func(v *victim) { v.first(chunkstore.Key, keyJSON(1024, 8, 1, 3, 200)) }, stays: true},
		{name: "key with short data", do: func(v *victim) { v.first(chunkstore.Key, keyJSON(1024, 8, 1, 64, 3)) }, stays: true},
		{name: "truncated key", do: func(v *victim) {
			b, err := os.ReadFile(v.path(v.list(chunkstore.Key)[0]))
			if err != nil {
				v.t.Fatal(err)
			}
			v.first(chunkstore.Key, b[:len(b)/2])
		}, stays: true},
		{name: "keys of absurd scrypt cost", do: func(v *victim) {
			for i, c := range [][3]int{{1 << 30, 8, 1}, {1 << 62, 1 << 62, 1 << 62}, {1 << 20, 1, 1 << 40}, {-1, -1, -1}, {3, 0, 0}} {
				v.first(chunkstore.Key, keyJSON(c[0], c[1], c[2], 64, 200+i))
			}
		}, stays: true},
		{name: "40 keys listed first", do: func(v *victim) {
			for i := range 40 {
				v.first(chunkstore.Key, keyJSON(2, 1, 1, 64, 200+i))
			}
		}, silent: true},
		{name: "config missing", do: func(v *victim) {
			v.instead(chunkstore.Name{Kind: chunkstore.Config}, func(string) error { return nil })
		}, closed: true},
		{name: "config empty", do: func(v *victim) { v.edit(chunkstore.Name{Kind: chunkstore.Config}, func([]byte) []byte { return nil }) }, closed: true},
		{name: "config truncated", do: func(v *victim) {
			v.edit(chunkstore.Name{Kind: chunkstore.Config}, func(b []byte) []byte { return b[:20] })
		}, closed: true},
		{name: "config replaced by junk", do: func(v *victim) { v.edit(chunkstore.Name{Kind: chunkstore.Config}, func([]byte) []byte { return junk }) }, closed: true},
		{name: "no key left", do: func(v *victim) { v.remove(v.list(chunkstore.Key)[0]) }, closed: true},
		{name: "index lost entirely", do: func(v *victim) {
			for _, n := range v.list(chunkstore.Index) {
				v.remove(n)
			}
		}, hurt: true},
		{name: "index lost entirely, packs asked", do: func(v *victim) {
			for _, n := range v.list(chunkstore.Index) {
				v.remove(n)
			}
		}, headers: true, silent: true},
		{name: "snapshot lost", do: func(v *victim) { v.remove(chunkstore.Name{Kind: chunkstore.Snapshot, ID: v.snapshot}) }, hurt: true, silent: true},
	}
	// One flipped bit at many places of every kind of file.
	for _, kind := range []chunkstore.Kind{chunkstore.Config, chunkstore.Key, chunkstore.Snapshot, chunkstore.Index} {
		for _, at := range []int{0, 10, 25, 50, 75, 99} {
			rows = append(rows, hostileRow{name: fmt.Sprintf("flipped bit in %s at %d%%", kind, at), do: func(v *victim) {
				v.edit(v.list(kind)[0], func(b []byte) []byte {
					b[len(b)*at/100] ^= 1 << (at % 8)
					return b
				})
			}, closed: kind == chunkstore.Config || kind == chunkstore.Key, hurt: true})
		}
	}
	return rows
}

// first stores bytes, with white space behind them, under a name that is listed before the key that opens the repository.
func (v *victim) first(kind chunkstore.Kind, b []byte) {
	v.t.Helper()
	for i := 0; ; i++ {
		n := append(slices.Clone(b), strings.NewReplacer("0", " ", "1", "\t").Replace(fmt.Sprintf("%b", i))...)
		if digest.Of(n).Hex() < v.ownKey {
			v.put(kind, n)
			return
		}
	}
}

func hostilePacks() []hostileRow {
	data := func(s string) forgedBlob { return forgedBlob{typ: repository.DataBlob, content: []byte(s)} }
	trailer := func(n uint32) func([]byte) []byte {
		return func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b[:len(b)-4], n) }
	}
	wreck := func(name string, hurt bool, change func([]byte) []byte) hostileRow {
		return hostileRow{name: name, do: func(v *victim) { v.edit(v.packOf(3), change) }, hurt: hurt, stock: name == "cut trailer"}
	}
	rows := []hostileRow{
		wreck("cut trailer", false, func(b []byte) []byte { return b[:len(b)-4] }),
		wreck("cut header", false, func(b []byte) []byte { return b[:len(b)-40] }),
		wreck("pack longer than it was", false, func(b []byte) []byte { return append(b, 1, 2, 3) }),
		wreck("empty pack", true, func([]byte) []byte { return nil }),
		wreck("half a pack", true, func(b []byte) []byte { return b[:len(b)/2] }),
		wreck("header length of 4 GiB", false, trailer(0xffffffff)),
		wreck("header length of 17 MiB", false, trailer(17<<20)),
		wreck("header length of nothing", false, trailer(0)),
		wreck("header length of the whole file", false, func(b []byte) []byte { return trailer(uint32(len(b) - 4))(b) }),
		{name: "missing pack", stock: true, do: func(v *victim) { v.remove(v.packOf(3)) }, hurt: true},
		{name: "junk pack", do: func(v *victim) { v.put(chunkstore.Pack, []byte("junk")) }, silent: true},
		{name: "sound packs of another repository", do: func(v *victim) {
			repo, files := newRepo(v.t.(*testing.T), repository.Options{})
			backup(v.t.(*testing.T), repo, archive.Root{Path: "/", Source: filepath.Join(v.src, "records")})
			for e, err := range files.List(v.t.Context(), chunkstore.Pack) {
				if err != nil {
					v.t.Fatal(err)
				}
				b, err := os.ReadFile((&victim{dir: files.Dir()}).path(e.Name))
				if err != nil {
					v.t.Fatal(err)
				}
				v.put(chunkstore.Pack, b)
			}
		}, silent: true},
		{name: "duplicate blobs", do: func(v *victim) {
			v.index(v.pack(nil, data("twice"), data("twice")), v.pack(nil, data("twice")))
		}, silent: true},
		{name: "pack with trees and data", do: func(v *victim) {
			v.index(v.pack(nil, data("x"), forgedBlob{typ: repository.TreeBlob, content: []byte("{\"nodes\":[]}\n")}))
		}, silent: true},
		{name: "pack without blobs", do: func(v *victim) { v.pack(nil) }, silent: true},
		{name: "pack split over index files", stock: true, do: func(v *victim) {
			v.reindex(func(packs []repository.IndexedPack) (files [][]repository.IndexedPack) {
				for _, p := range packs {
					for _, b := range p.Blobs {
						files = append(files, []repository.IndexedPack{{ID: p.ID, Blobs: []repository.PackedBlob{b}}})
					}
				}
				return files
			})
		}, silent: true},
		{name: "pack listed twice in one index file", do: func(v *victim) {
			v.reindex(func(packs []repository.IndexedPack) [][]repository.IndexedPack {
				return [][]repository.IndexedPack{append(packs, packs...)}
			})
		}, silent: true},
		{name: "blobs of overlapping places", do: func(v *victim) {
			p := v.pack(nil, data(strings.Repeat("a", 500)), data(strings.Repeat("b", 500)))
			p.Blobs[1].Offset -= 100
			v.index(p)
		}},
		{name: "two packs that claim one blob, one of them falsely", do: func(v *victim) {
			id := repository.IDOf(digest.Of(chunktest.Noise("3", 1003)))
			v.index(v.pack(nil, forgedBlob{typ: repository.DataBlob, id: id, content: chunktest.Noise("false", 1003)}))
		}},
		{name: "lengths near 2^32", stock: true, do: func(v *victim) {
			p := v.pack(nil, data("x"))
			for i, b := range [][3]uint32{{0xffffffff, 1, 0}, {0, 0xffffffff, 0}, {0xfffffff0, 0xfffffff0, 0}, {0, 33, 0xffffffff}, {0, 0, 0}, {0, 31, 0}} {
				q := p
				q.Blobs = []repository.PackedBlob{{ID: repository.ID{byte(i)}, Offset: b[0], Length: b[1], UncompressedBytes: b[2]}}
				v.index(q)
			}
		}},
		{name: "blobs past the end of the pack", do: func(v *victim) {
			p := v.pack(nil, data("x"))
			p.Blobs = append(p.Blobs, repository.PackedBlob{ID: repository.ID{9}, Offset: 400 << 20, Length: 100 << 20})
			v.index(p)
		}},
		{name: "index names packs that are not there", do: func(v *victim) {
			v.index(repository.IndexedPack{ID: repository.ID{1}, Blobs: []repository.PackedBlob{{ID: repository.ID{2}, Length: 100}}})
		}},
		{name: "index that sends a good blob to a missing pack", do: func(v *victim) {
			id := repository.IDOf(digest.Of(chunktest.Noise("3", 1003)))
			v.index(repository.IndexedPack{ID: repository.ID{1}, Blobs: []repository.PackedBlob{{ID: id, Length: 1035}}})
		}},
		{name: "header of an unknown blob type", do: func(v *victim) {
			v.put(chunkstore.Pack, binary.LittleEndian.AppendUint32(v.seal(append([]byte{9}, make([]byte, 36)...)), 69))
		}, silent: true},
	}
	for _, at := range []int{0, 5, 20, 40, 60, 80, 95, 100} {
		for which, record := range map[string]bool{"data": true, "tree": false} {
			rows = append(rows, hostileRow{name: fmt.Sprintf("flipped bit in a %s pack at %d%%", which, at), do: func(v *victim) {
				pack := v.packOf(3)
				if !record {
					sn, err := v.open().LoadSnapshot(v.t.Context(), v.snapshot)
					if err != nil {
						v.t.Fatal(err)
					}
					pack = v.open().Locate(repository.TreeBlob, sn.Tree)[0].Pack
				}
				v.edit(pack, func(b []byte) []byte {
					b[(len(b)-1)*at/100] ^= 0x10
					return b
				})
			}, hurt: at < 100, either: at == 95})
		}
	}
	return rows
}

func hostileTrees() []hostileRow {
	node := func(name, kind, more string) string {
		return fmt.Sprintf(`{"name":%s,"type":%q,"mtime":"2026-11-22T00:00:00Z","atime":"2026-11-22T00:00:00Z","ctime":"2026-11-22T00:00:00Z","uid":0,"gid":0,"content":[]%s}`, name, kind, more)
	}
	tree := func(nodes ...string) []byte { return []byte(`{"nodes":[` + strings.Join(nodes, ",") + "]}\n") }
	rows := []hostileRow{
		{name: "tree in the wrong order", stock: true, do: func(v *victim) { v.plant(tree(node(`"b"`, "file", ""), node(`"a"`, "file", ""))) }},
		{name: "tree with duplicates", do: func(v *victim) { v.plant(tree(node(`"a"`, "file", ""), node(`"a"`, "dir", ""))) }},
		{name: "tree that is no tree", do: func(v *victim) { v.plant([]byte("junk")) }},
		{name: "tree without nodes", do: func(v *victim) { v.plant([]byte("null")) }, silent: true},
		{name: "directory without a tree", do: func(v *victim) { v.plant(tree(node(`"a"`, "dir", ""))) }},
		{name: "file without content", do: func(v *victim) {
			v.plant(bytes.ReplaceAll(tree(node(`"a"`, "file", "")), []byte(`"content":[]`), []byte(`"content":null`)))
		}},
		{name: "file of a blob that is nowhere", do: func(v *victim) {
			v.plant(bytes.ReplaceAll(tree(node(`"a"`, "file", "")), []byte(`"content":[]`), []byte(`"content":["`+repository.ID{5}.String()+`"]`)))
		}},
		{name: "file of a false size", do: func(v *victim) { v.plant(tree(node(`"a"`, "file", `,"size":18446744073709551615`))) }},
		{name: "tree that names itself", stock: true, do: func(v *victim) {
			// No tree can hold its own hash: the index and the header claim it.
			id := repository.ID{0xcc}
			p := v.pack(nil, forgedBlob{typ: repository.TreeBlob, id: id, content: tree(node(`"again"`, "dir", `,"subtree":"`+id.String()+`"`))})
			v.index(p)
			v.planted = append(v.planted, v.forger.snapshot(id))
		}},
		{name: "two trees that name each other", do: func(v *victim) {
			a, b := repository.ID{0xaa}, repository.ID{0xbb}
			p := v.pack(nil,
				forgedBlob{typ: repository.TreeBlob, id: a, content: tree(node(`"b"`, "dir", `,"subtree":"`+b.String()+`"`))},
				forgedBlob{typ: repository.TreeBlob, id: b, content: tree(node(`"a"`, "dir", `,"subtree":"`+a.String()+`"`))})
			v.index(p)
			v.planted = append(v.planted, v.forger.snapshot(a))
		}},
		{name: "a data blob named as a tree", do: func(v *victim) {
			p := v.pack(nil, forgedBlob{typ: repository.DataBlob, content: tree(node(`"a"`, "file", ""))})
			v.index(p)
			v.planted = append(v.planted, v.forger.snapshot(p.Blobs[0].ID))
		}},
		{name: "directories 4,200 deep", do: func(v *victim) {
			var blobs []forgedBlob
			b := tree(node(`"end"`, "file", ""))
			for range 4200 {
				blobs = append(blobs, forgedBlob{typ: repository.TreeBlob, content: b})
				b = tree(node(`"d"`, "dir", `,"subtree":"`+repository.IDOf(digest.Of(b)).String()+`"`))
			}
			p := v.pack(nil, append(blobs, forgedBlob{typ: repository.TreeBlob, content: b})...)
			v.index(p)
			v.planted = append(v.planted, v.endless(repository.IDOf(digest.Of(b))))
		}},
		{name: "2^40 paths in 40 trees, all of them lost", do: func(v *victim) {
			var blobs []forgedBlob
			b := bytes.ReplaceAll(tree(node(`"lost"`, "file", "")), []byte(`"content":[]`), []byte(`"content":["`+repository.ID{5}.String()+`"]`))
			for range 40 {
				blobs = append(blobs, forgedBlob{typ: repository.TreeBlob, content: b})
				sub := `,"subtree":"` + repository.IDOf(digest.Of(b)).String() + `"`
				b = tree(node(`"a"`, "dir", sub), node(`"b"`, "dir", sub))
			}
			p := v.pack(nil, append(blobs, forgedBlob{typ: repository.TreeBlob, content: b})...)
			v.index(p)
			v.planted = append(v.planted, v.endless(repository.IDOf(digest.Of(b))))
		}},
	}
	for _, name := range []string{`""`, `"."`, `".."`, `"a/b"`, `"/etc/passwd"`, `"../../x"`, `"a\\x00b"`, `"\\"`, `"\\xzz"`, `"` + strings.Repeat("n", 70_000) + `"`} {
		short := name
		if len(short) > 20 {
			short = short[:20]
		}
		rows = append(rows, hostileRow{name: "tree with the name " + strings.ReplaceAll(short, "/", "∕"), do: func(v *victim) { v.plant(tree(node(name, "file", ""))) },
			silent: len(name) > 1000, stays: false})
	}
	return rows
}

// endless plants a snapshot that nobody tries to restore: it would not end.
func (v *victim) endless(tree repository.ID) digest.Digest {
	v.t.Helper()
	b, err := json.Marshal(repository.Snapshot{Tree: tree, Paths: []string{"/hostile"}, Hostname: "endless"})
	if err != nil {
		v.t.Fatal(err)
	}
	return v.unpacked(chunkstore.Snapshot, b).ID
}

// hostilePlaces are other things in the places of files.
func hostilePlaces() []hostileRow {
	things := map[string]func(path string) error{
		"a directory":            func(p string) error { return os.Mkdir(p, 0o700) },
		"a fifo":                 func(p string) error { return syscall.Mkfifo(p, 0o600) },
		"a link to nowhere":      func(p string) error { return os.Symlink("/nonexistent", p) },
		"a link to endless zero": func(p string) error { return os.Symlink("/dev/zero", p) },
	}
	var rows []hostileRow
	for what, put := range things {
		for _, kind := range []chunkstore.Kind{chunkstore.Key, chunkstore.Snapshot, chunkstore.Index, chunkstore.Pack, chunkstore.Lock} {
			rows = append(rows, hostileRow{name: fmt.Sprintf("%s among %s", what, kind), do: func(v *victim) {
				n := chunkstore.Name{Kind: kind, ID: digest.Of([]byte(what))}
				if err := os.MkdirAll(filepath.Dir(v.path(n)), 0o700); err != nil {
					v.t.Fatal(err)
				}
				v.instead(n, put)
			}, silent: true})
		}
		rows = append(rows,
			hostileRow{name: what + " in place of a pack", do: func(v *victim) { v.instead(v.packOf(3), put) }, hurt: true},
			hostileRow{name: what + " in place of the config", do: func(v *victim) { v.instead(chunkstore.Name{Kind: chunkstore.Config}, put) }, closed: true},
			hostileRow{name: what + " in place of the key", do: func(v *victim) { v.instead(v.list(chunkstore.Key)[0], put) }, closed: true},
		)
	}
	return rows
}

// hostileChild, set in the environment, makes TestHostileChild try a repository: directory, source, target and snapshot
// in lines.
const hostileChild = "CHUNKSTORE_TEST_HOSTILE"

// TestHostileChild is the process whose memory TestHostileMemory measures. By itself it does nothing.
func TestHostileChild(t *testing.T) {
	args := strings.Split(os.Getenv(hostileChild), "\n")
	if len(args) != 4 {
		return
	}
	snapshot, err := digest.Parse(args[3])
	must(t, err)
	o, err := tryAll(t.Context(), args[0], args[1], args[2], snapshot, false)
	must(t, err)
	must(t, json.NewEncoder(os.Stdout).Encode(o))
}

// maxHostileRSS is what a process may need for a repository made to exhaust memory.
const maxHostileRSS = 1280 << 20

// TestHostileMemory is the part of the matrix that aims at memory: each repository is opened, listed, checked and
// restored by a process of its own, whose peak memory is measured.
func TestHostileMemory(t *testing.T) {
	chunktest.Long(t) // builds repositories of hundreds of megabytes
	dir, src, snapshot := hostileSample(t)
	frame := func(typ repository.BlobType, plain uint32, content []byte) func(v *victim) {
		return func(v *victim) {
			p := v.pack(nil, forgedBlob{typ: typ, id: repository.ID{0xb0}, content: content, plain: plain})
			v.index(p)
			v.planted = append(v.planted, v.forger.snapshot(p.Blobs[0].ID))
		}
	}
	packed := func(b []byte) []byte { return append([]byte{2}, b...) }
	rows := []hostileRow{
		{name: "index that claims 8 GiB", do: func(v *victim) { v.unpacked(chunkstore.Index, packed(bomb('{', 4, 8<<30))) }},
		{name: "index that yields 8 GiB", do: func(v *victim) { v.unpacked(chunkstore.Index, packed(bomb('{', 65536, 0))) }},
		{name: "index that yields and claims 8 GiB", do: func(v *victim) { v.unpacked(chunkstore.Index, packed(bomb('{', 65536, 8<<30))) }},
		{name: "snapshot that yields 8 GiB", do: func(v *victim) { v.unpacked(chunkstore.Snapshot, packed(bomb('[', 65536, 0))) }},
		{name: "40 snapshots that yield 200 MiB each", do: func(v *victim) {
			for range 40 {
				v.unpacked(chunkstore.Snapshot, packed(bomb(' ', 1600, 200<<20)))
			}
		}},
		{name: "tree that yields 8 GiB and claims 100 bytes", do: frame(repository.TreeBlob, 100, bomb(' ', 65536, 0))},
		{name: "tree that yields 8 GiB and claims 4 GiB less one", do: frame(repository.TreeBlob, 0xffffffff, bomb(' ', 65536, 0))},
		{name: "data blob that yields 500 MiB", do: frame(repository.DataBlob, 500<<20, bomb(' ', 4000, 500<<20))},
		{name: "giant JSON: 15 million empty strings in a snapshot", do: func(v *victim) {
			v.unpacked(chunkstore.Snapshot, []byte(`{"tree":"`+repository.ID{1}.String()+`","paths":[`+strings.Repeat(`"",`, 15_000_000)+`""]}`))
		}},
		{name: "giant JSON: 50 million brackets in an index", do: func(v *victim) { v.unpacked(chunkstore.Index, bytes.Repeat([]byte("["), 50_000_000)) }},
		{name: "giant JSON: 15 million empty packs in an index", do: func(v *victim) {
			v.unpacked(chunkstore.Index, []byte(`{"packs":[`+strings.Repeat(`{},`, 15_000_000)+`{}]}`))
		}},
		{name: "giant JSON: 15 million empty nodes in a tree", do: func(v *victim) {
			v.plant([]byte(`{"nodes":[` + strings.Repeat(`{},`, 15_000_000) + `{}]}`))
		}},
		{name: "giant JSON: 5 million small nodes in a tree", do: func(v *victim) {
			var b bytes.Buffer
			b.WriteString(`{"nodes":[{"name":"a"}`)
			for i := range 5_000_000 {
				fmt.Fprintf(&b, `,{"name":"b%07d"}`, i)
			}
			b.WriteString("]}")
			v.plant(b.Bytes())
		}},
		{name: "index with 1,000,000 bogus entries", do: func(v *victim) {
			var packs []repository.IndexedPack
			for i := range 1000 {
				p := repository.IndexedPack{ID: repository.IDOf(digest.Of(fmt.Append(nil, i)))}
				for j := range 1000 {
					p.Blobs = append(p.Blobs, repository.PackedBlob{ID: repository.IDOf(digest.Of(fmt.Append(nil, i, j))), Offset: uint32(j) * 100, Length: 100})
				}
				packs = append(packs, p)
			}
			v.index(packs...)
		}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			v := attack(t, dir, src, snapshot, row.do)
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
			defer stop()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHostileChild$")
			cmd.Env = append(os.Environ(), hostileChild+"="+strings.Join([]string{v.dir, src, t.TempDir(), snapshot.Hex()}, "\n"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out[:min(len(out), 4000)])
			}
			peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
			t.Logf("peak memory %d MiB", peak>>20)
			if peak > maxHostileRSS {
				t.Errorf("peak memory %d MiB; want at most %d", peak>>20, maxHostileRSS>>20)
			}
			var o outcome
			must(t, json.NewDecoder(bytes.NewReader(out)).Decode(&o))
			if !o.Restored || o.Findings == 0 || len(o.Wrong) > 0 {
				t.Errorf("%+v; want the sound snapshot restored and the hostile file found", o)
			}
		})
	}
}
