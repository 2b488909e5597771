package manifest

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"dengbei/chunkstore/digest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fileOf returns a file of the backup with the given content.
func fileOf(dir string, content []byte) File {
	root, size, err := LeafRoot(bytes.NewReader(content))
	if err != nil {
		panic(err)
	}
	d := digest.Of(content)
	name := dir + "/" + d.Hex()
	if dir == configName {
		name = configName
	}
	return File{Name: name, SizeBytes: size, SHA256: d, LeafRoot: root}
}

func text(s string) []byte { return []byte(s) }

func TestGoldenChain(t *testing.T) {
	first, set, err := Next(Set{}, "330102-permanent-1", digest.Of(text("snapshot")).Hex(), []File{
		fileOf("config", text("config")), fileOf("keys", text("key")), fileOf("data", bytes.Repeat(text("pack"), 50_000)),
		fileOf("index", text("index")), fileOf("snapshots", text("snapshot")), fileOf("documents", text("")),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, set, err := Next(set, "", "", []File{fileOf("index", text("index 2"))}, []string{fileOf("index", text("index")).Name})
	if err != nil {
		t.Fatal(err)
	}
	for name, encode := range map[string]func() ([]byte, error){
		"first.manifest": first.Encode, "second.manifest": second.Encode,
		"second.set": func() ([]byte, error) { return set.Encode(), nil },
	} {
		got, err := encode()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is now\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "first.manifest"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(golden); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(golden), "\n")
	var config, data string
	for _, l := range lines {
		if strings.HasPrefix(l, "+ config") {
			config = l
		}
		if strings.HasPrefix(l, "+ data/") {
			data = l
		}
	}
	replace := func(old, new string) string { return strings.Replace(string(golden), old, new, 1) }
	for _, tt := range []struct{ name, give string }{
		{"nothing", ""},
		{"another version", replace("manifest/v1", "manifest/v2")},
		{"carriage returns", strings.ReplaceAll(string(golden), "\n", "\r\n")},
		{"no last LF", strings.TrimSuffix(string(golden), "\n")},
		{"text behind the end", string(golden) + "\n"},
		{"repository that climbs", replace("330102-permanent-1", "../330102")},
		{"repository with a slash", replace("330102-permanent-1", "a/b")},
		{"empty repository", replace("330102-permanent-1", "")},
		{"upper-case hex", replace(data[7:20], strings.ToUpper(data[7:19])+"A")},
		{"short hash", replace(data[7:20], data[7:19])},
		{"unknown directory", replace("+ data/", "+ locks/")},
		{"name that climbs", replace("+ data/", "+ ../data/")},
		{"leading zero", replace("+ config 6", "+ config 06")},
		{"sign", replace("+ config 6", "+ config +6")},
		{"size that overflows", replace("+ config 6", "+ config 9223372036854775808")},
		{"sum that overflows", replace("+ config 6", "+ config 9223372036854775807")},
		{"config without its hash", replace(config, config[:len(config)-66]+"\n")},
		{"config with one column more", replace(config, strings.TrimSuffix(config, "\n")+" x\n")},
		{"pack with a hash column", replace(data, strings.TrimSuffix(data, "\n")+config[len(config)-66:])},
		{"count of files", replace("added 6", "added 7")},
		{"bytes of files", replace("added 6 2", "added 6 3")},
		{"a line twice", replace(data, data+data)},
		{"lines out of order", replace(config+data, data+config)},
		{"unknown sign", replace("+ data/", "* data/")},
		{"two spaces", replace("+ config 6", "+ config  6")},
		{"snapshot that is none", replace("snapshot ", "snapshot x")},
		{"added and released", strings.Replace(string(golden)+"- config\n", "released 0", "released 1", 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.give == string(golden) {
				t.Fatal("the row changes nothing")
			}
			if d, err := Parse([]byte(tt.give)); !errors.Is(err, ErrSyntax) {
				t.Errorf("Parse = %+v, %v; want %v", d, err, ErrSyntax)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	a, b := fileOf("data", text("a")), fileOf("data", text("b"))
	first, set, err := Next(Set{}, "r", "", []File{a}, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := Next(set, "", "", []File{b}, nil)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*Document)) Document {
		d := second
		d.Added, d.Released = slices.Clone(d.Added), slices.Clone(d.Released)
		change(&d)
		return d
	}
	for _, tt := range []struct {
		name string
		give Document
	}{
		{"the first one again", first},
		{"another parent", with(func(d *Document) { d.Parent = digest.Of(text("x")) })},
		{"another repository", with(func(d *Document) { d.Repository = "s" })},
		{"a file that is there", with(func(d *Document) { d.Added = []File{a}; d.SetFiles = 1 })},
		{"release of a stranger", with(func(d *Document) { d.Released = []string{fileOf("data", text("c")).Name} })},
		{"count of the set", with(func(d *Document) { d.SetFiles++ })},
		{"bytes of the set", with(func(d *Document) { d.SetBytes++ })},
		{"bytes released", with(func(d *Document) { d.ReleasedBytes++ })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Apply(set, tt.give); !errors.Is(err, ErrChain) {
				t.Errorf("Apply = %v; want %v", err, ErrChain)
			}
		})
	}
	bad := with(func(d *Document) { d.SetRoot[0] ^= 1 })
	next, err := Apply(set, bad)
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Check(bad); !errors.Is(err, ErrRoot) {
		t.Errorf("Check = %v; want %v", err, ErrRoot)
	}
	if err := next.Check(second); err != nil {
		t.Errorf("Check of the true document = %v", err)
	}
}

func TestNextRefuses(t *testing.T) {
	a := fileOf("data", text("a"))
	_, set, err := Next(Set{}, "r", "", []File{a}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wrong := a
	wrong.SHA256 = digest.Of(text("x"))
	for _, tt := range []struct {
		name     string
		added    []File
		released []string
	}{
		{"a file that is there", []File{a}, nil},
		{"one file twice", []File{fileOf("data", text("b")), fileOf("data", text("b"))}, nil},
		{"hash that is not the name", []File{wrong}, nil},
		{"release of a stranger", nil, []string{"config"}},
		{"release twice", nil, []string{a.Name, a.Name}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d, _, err := Next(set, "", "", tt.added, tt.released); err == nil {
				t.Errorf("Next = %+v; want an error", d)
			}
		})
	}
}

// TestChainProperty compares sets along random chains with a map, folded one by one and all at once.
func TestChainProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		model := make(map[string]File)
		var set Set
		var docs []Document
		for i := range rapid.IntRange(1, 6).Draw(t, "manifests") {
			var added []File
			var released []string
			for j := range rapid.IntRange(0, 8).Draw(t, "added") {
				added = append(added, fileOf(rapid.SampledFrom([]string{"data", "index", "keys"}).Draw(t, "dir"),
					fmt.Appendf(nil, "%d/%d", i, j)))
			}
			for name := range model {
				if rapid.Bool().Draw(t, "release") {
					released = append(released, name)
				}
			}
			d, next, err := Next(set, "r", "", added, released)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range added {
				model[f.Name] = f
			}
			for _, name := range released {
				delete(model, name)
			}
			b, err := d.Encode()
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := Read(bytes.NewReader(b), digest.Of(b))
			if err != nil {
				t.Fatal(err)
			}
			set, docs = next, append(docs, parsed)
			if err := set.Check(parsed); err != nil {
				t.Fatal(err)
			}
		}
		folded, err := Apply(Set{}, docs...)
		if err != nil {
			t.Fatal(err)
		}
		var leaves [][]byte
		for f := range folded.Files() {
			if model[f.Name] != f {
				t.Fatalf("set has %+v; want %+v", f, model[f.Name])
			}
			leaves = append(leaves, f.appendLine(nil))
		}
		if len(leaves) != len(model) || folded.Root() != set.Root() || folded.Tip() != set.Tip() {
			t.Fatalf("folded set has %d files, root %s; want %d, %s", len(leaves), folded.Root(), len(model), set.Root())
		}
		if want := naive(t, leaves); folded.Root() != want {
			t.Fatalf("root %s; want %s", folded.Root(), want)
		}
		back, err := ParseSet(folded.Encode())
		if err != nil || back.Root() != folded.Root() || back.Tip() != folded.Tip() || back.SizeBytes() != folded.SizeBytes() {
			t.Fatalf("ParseSet(Encode) = %+v, %v", back, err)
		}
	})
}

// naive computes a root with another implementation of RFC 6962.
func naive(t interface{ Fatal(...any) }, leaves [][]byte) Root {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for i, leaf := range leaves {
		hashes, err := tlog.StoredHashes(int64(i), leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	if len(leaves) == 0 {
		return Root(digest.Of(nil).Bytes())
	}
	h, err := tlog.TreeHash(int64(len(leaves)), reader)
	if err != nil {
		t.Fatal(err)
	}
	return Root(h)
}

func TestLeafRootProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.SampledFrom([]int{0, 1, LeafBytes - 1, LeafBytes, LeafBytes + 1, 7 * LeafBytes}),
			rapid.IntRange(0, 5*LeafBytes)).Draw(t, "size")
		content := make([]byte, size)
		for i := range content {
			content[i] = byte(i * 7 >> 3)
		}
		leaves := slices.Collect(slices.Chunk(content, LeafBytes))
		want := naive(t, leaves)
		got, n, err := LeafRoot(bytes.NewReader(content))
		if got != want || n != int64(size) || err != nil {
			t.Fatalf("LeafRoot of %d bytes = %s, %d, %v; want %s", size, got, n, err, want)
		}
		var h LeafHasher
		h.Write([]byte("rest of another file"))
		h.Reset()
		step := rapid.IntRange(4000, 3*LeafBytes).Draw(t, "step")
		for i, piece := range slices.Collect(slices.Chunk(content, step)) {
			if h.Write(piece); i == 1 {
				h.Root() // asking in between changes nothing
			}
		}
		if h.Root() != want || h.Size() != int64(size) {
			t.Fatalf("LeafHasher in steps of %d = %s, %d; want %s, %d", step, h.Root(), h.Size(), want, size)
		}
	})
}

func TestReadChecksDigest(t *testing.T) {
	if _, err := Read(strings.NewReader("x"), digest.Of(text("y"))); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Read = %v; want %v", err, digest.ErrMismatch)
	}
}

func TestParseSetRefusesRot(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "second.set"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		s, err := ParseSet(c)
		if err == nil && bytes.Contains(b[:i], []byte("set-root")) {
			t.Fatalf("ParseSet accepts a flipped bit at byte %d: %+v", i, s)
		}
	}
}

func TestUrgency(t *testing.T) {
	hex := strings.Repeat("0", 64)
	want := []string{"config", "keys/" + hex, "documents/" + hex, "snapshots/" + hex, "index/" + hex, "data/" + hex,
		"data/" + strings.Repeat("f", 64)}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, Urgency)
	if !slices.Equal(got, want) {
		t.Errorf("sorted by Urgency: %q; want %q", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"first.manifest", "second.manifest"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Fatalf("Parse(%q) = %v, which is not %v", b, err, ErrSyntax)
			}
			return
		}
		again, err := d.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("Encode(Parse(%q)) = %q, %v", b, again, err)
		}
		Apply(Set{}, d)
	})
}

func FuzzParseSet(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "second.set"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSet(b); err == nil && !bytes.Equal(s.Encode(), b) {
			t.Fatalf("Encode(ParseSet(%q)) = %q", b, s.Encode())
		}
	})
}

func BenchmarkLeafRoot(b *testing.B) {
	content := make([]byte, 16<<20)
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		LeafRoot(bytes.NewReader(content))
	}
}

func BenchmarkSetRoot(b *testing.B) {
	var set Set
	for i := range 10_000 {
		d := digest.Of(fmt.Append(nil, i))
		set.files = append(set.files, File{Name: "data/" + d.Hex(), SizeBytes: 16 << 20, SHA256: d})
	}
	for b.Loop() {
		set.Root()
	}
}
