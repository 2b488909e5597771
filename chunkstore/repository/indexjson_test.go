package repository

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// referenceIndex reads an index file with encoding/json.
func referenceIndex(b []byte) (*IndexFile, error) {
	f := new(IndexFile)
	if err := json.Unmarshal(b, f); err != nil {
		return nil, err
	}
	return f, f.check()
}

// sameIndex reports whether two index files say the same; an empty list and none do.
func sameIndex(a, b *IndexFile) bool {
	norm := func(f *IndexFile) *IndexFile {
		g := &IndexFile{}
		for _, p := range f.Packs {
			p.Blobs = append([]PackedBlob(nil), p.Blobs...)
			g.Packs = append(g.Packs, p)
		}
		for _, p := range f.PacksToDelete {
			p.Blobs = append([]PackedBlob(nil), p.Blobs...)
			g.PacksToDelete = append(g.PacksToDelete, p)
		}
		return g
	}
	return reflect.DeepEqual(norm(a), norm(b))
}

func compareIndexDecoders(t *testing.T, b []byte) {
	t.Helper()
	want, werr := referenceIndex(b)
	got, err := decodeIndex(b)
	switch {
	case err == nil && werr != nil:
		t.Errorf("%q is read as %+v; encoding/json says %v", b, got, werr)
	case err == nil && !sameIndex(got, want):
		t.Errorf("%q is read as %+v; encoding/json reads %+v", b, got, want)
	case err != nil && werr == nil && !strings.Contains(err.Error(), "stands twice"):
		t.Errorf("%q gives %v; encoding/json reads %+v", b, err, want)
	}
}

func indexCases() []string {
	id1, id2 := ID{1}.String(), ID{0xab, 0xcd}.String()
	blob := `{"id":"` + id2 + `","type":"data","offset":0,"length":40,"uncompressed_length":9}`
	pack := `{"id":"` + id1 + `","blobs":[` + blob + `]}`
	all := []string{
		`{"packs":[` + pack + `]}`,
		`{"packs":[` + pack + `,` + pack + `],"packs_to_delete":[{"id":"` + id2 + `","time":"2026-11-01T02:03:04.5Z","size":7,"blobs":[]}]}`,
		" {\t\"packs\" :\r\n[ " + strings.ReplaceAll(pack, ",", " , ") + " ] } ",
		`{"PACKS":[` + strings.ReplaceAll(pack, "length", "LENGTH") + `]}`,
		`{"pac` + "\u212a" + `s":[` + strings.ReplaceAll(pack, "offset", "off\u017fet") + `]}`,
		`{"p\u0061cks":[` + strings.ReplaceAll(pack, "data", `d\u0061ta`) + `]}`,
		`{"supersedes":["` + id1 + `"],"x":{"y":[1,-2.5e+10,true,false,null,{"z":"\"\\\/\b\u00e9"}]},"packs":[]}`,
		`{"packs":null,"packs_to_delete":null}`, `{}`, `null`, ` null `, ``, ` `, `[]`, `7`, `"x"`, `true`, `{`, `{"packs"`, `{"packs":[}`, `{,}`, `{"a":1,}`, `[1,]`,
		`{"packs":[null]}`, `{"packs":[{}]}`, `{"packs":[{"id":null}]}`, `{"packs":[{"id":"` + id1 + `","blobs":[null]}]}`,
		`{"packs":[{"id":"` + id1 + `","blobs":[{}]}]}`, `{"packs":[{"id":"` + id1 + `"}]}`, `{"packs":{}}`, `{"packs":"x"}`, `{"packs":[{"id":7}]}`,
		`{"packs":[{"id":"` + strings.ToUpper(id2) + `"}]}`, `{"packs":[{"id":"x"}]}`, `{"packs":[{"time":7}]}`, `{"packs":[{"id":"` + id1 + `","time":{}}]}`,
		`{"packs":[{"id":"` + id1 + `","time":null}]}`, `{"packs":[{"id":"` + id1 + `","time":"2026-13-01T00:00:00Z"}]}`,
		`{"packs":[` + pack + `]}x`, "{\"packs\":[" + pack + "]}\x00", "{\"x\x01\":1}", "{\"\xff\":1}", `{"x":"\x"}`, `{"x":"\u12g4"}`, `{"x":"\ud800"}`, `{"x":"\u123`, `{"x":"\`,
		`{"packs":[],"packs":[` + pack + `]}`,
		`{"x":` + strings.Repeat("[", 9_999) + strings.Repeat("]", 9_999) + `}`,
		`{"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`,
	}
	for _, n := range []string{"1.0", "1e3", "-0", "-1", "01", "00", "0", "4294967295", "4294967296", "99999999999999999999", `"5"`, "null", "true", "[]", "0x10", "1.", "1e", "+1", "5 5"} {
		all = append(all, strings.Replace(`{"packs":[`+pack+`]}`, `"offset":0`, `"offset":`+n, 1), `{"x":`+n+`}`)
	}
	for _, typ := range []string{`"tree"`, `"Data"`, `""`, `null`, `0`, `"da\u0074a"`, `"data`} {
		all = append(all, strings.Replace(`{"packs":[`+pack+`]}`, `"data"`, typ, 1))
	}
	return all
}

func TestIndexDecoderAgreesWithEncodingJSON(t *testing.T) {
	for _, c := range indexCases() {
		compareIndexDecoders(t, []byte(c))
		for i := range min(len(c), 400) { // cut anywhere
			compareIndexDecoders(t, []byte(c[:i]))
		}
	}
}

func TestIndexDecoderRefusesTwice(t *testing.T) {
	_, err := decodeIndex([]byte(`{"packs":[],"Packs":[]}`))
	if err == nil {
		t.Error("a field that stands twice is read")
	}
}

func TestNothingsDoNotInflate(t *testing.T) {
	for _, junk := range []string{`{"packs":[` + strings.Repeat("{},", 1<<20), `{"packs":[{"id":"` + ID{1}.String() + `","blobs":[` + strings.Repeat(`{"length":40},`, 1<<18)} {
		b := []byte(junk)
		n := testing.AllocsPerRun(1, func() {
			if _, err := decodeIndex(b); err == nil {
				t.Error("junk is read")
			}
		})
		if n > 50 {
			t.Errorf("junk costs %v allocations", n)
		}
	}
}

// FuzzIndexDecoder compares the decoder with encoding/json.
func FuzzIndexDecoder(f *testing.F) {
	for _, c := range indexCases() {
		if len(c) < 2000 {
			f.Add([]byte(c))
		}
	}
	f.Fuzz(compareIndexDecoders)
}

func indexText(packs, blobs int) []byte {
	f := &IndexFile{}
	for i := range packs {
		f.Packs = append(f.Packs, packOf(string(rune(i)), blobs))
	}
	b, _ := json.Marshal(f)
	return b
}

func BenchmarkDecodeIndex(b *testing.B) {
	text := indexText(500, 100)
	for name, decode := range map[string]func([]byte) (*IndexFile, error){"ours": decodeIndex, "encoding-json": referenceIndex} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(text); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/50_000, "ns/blob")
		})
	}
}
