package fournature

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
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dengbei/chunkstore/digest"
	"dengbei/registry/intake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func at() time.Time { return time.Date(2026, 3, 1, 1, 2, 3, 0, time.UTC) }

// sharedFormats are loaded once for all tests: under the race detector it takes long.
var sharedFormats = sync.OnceValue(func() *Formats { return new(Formats) })

// sample returns a file of testdata.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pack describes files as one record and serves their content.
func pack(t testing.TB, files map[string][]byte) Package {
	t.Helper()
	r := intake.Record{Title: "关于登记备份的请示"}
	for p, b := range files {
		r.Files = append(r.Files, intake.File{Path: p, SizeBytes: int64(len(b)), SHA256: digest.Of(b), SM3: digest.OfSM3(b)})
	}
	sub := &intake.Submission{Registrant: "330102-office", Authority: "330102", Records: []intake.Record{r}}
	id, _ := intake.ID(sub)
	return Package{ID: id, Submission: sub, Open: func(_ int, p string) (io.ReadCloser, error) {
		b, ok := files[p]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return struct {
			io.Reader
			io.ReaderAt
			io.Closer
		}{bytes.NewReader(b), bytes.NewReader(b), io.NopCloser(nil)}, nil
	}}
}

func inspect(t testing.TB, p Package) *Report {
	t.Helper()
	r, err := Inspect(t.Context(), p, YJ(), Options{Now: at(), Formats: sharedFormats()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// found lists "item code result path" of all findings.
func found(r *Report) []string {
	var out []string
	for _, i := range r.Items {
		for _, f := range i.Findings {
			out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", i.ID, f.Code, f.Result, f.Path)))
		}
	}
	return out
}

func TestInspectGoodPackage(t *testing.T) {
	files := map[string][]byte{}
	for _, n := range []string{"发票示例.ofd", "text_only_pdfa1b.pdf", "lorem-ipsum.im.png", "lorem-ipsum.oo3.2.odt", "lorem-ipsum.doc"} {
		files[n] = sample(t, n)
	}
	files["说明.txt"] = []byte("本卷共五件,均为电子原件。\n")
	p := pack(t, files)
	p.List = func(int) ([]string, error) {
		var names []string
		for n := range files {
			names = append(names, n)
		}
		return names, nil
	}
	r := inspect(t, p)
	if r.Overall != Pass {
		t.Fatalf("overall = %s, findings %v; want PASS", r.Overall, found(r))
	}
	want := map[string]string{"发票示例.ofd": "dengbei ofd", "text_only_pdfa1b.pdf": "pronom fmt/354", "lorem-ipsum.im.png": "pronom fmt/12",
		"lorem-ipsum.oo3.2.odt": "pronom fmt/291", "lorem-ipsum.doc": "pronom fmt/40", "说明.txt": "pronom x-fmt/111"}
	for _, f := range r.Files {
		if got := f.Registry + " " + f.ID; got != want[f.Path] || f.Size != int64(len(files[f.Path])) {
			t.Errorf("format of %s = %s, %d bytes; want %s, %d", f.Path, got, f.Size, want[f.Path], len(files[f.Path]))
		}
	}
	if len(r.Files) != len(want) {
		t.Errorf("%d files in the report; want %d", len(r.Files), len(want))
	}
	if data := r.Tools[1].Data; !strings.Contains(data, "DROID_SignatureFile") {
		t.Errorf("signature version = %q", data)
	}
}

func TestInspectFindings(t *testing.T) {
	png := sample(t, "lorem-ipsum.im.png")
	odt := sample(t, "lorem-ipsum.oo3.2.odt")
	for name, row := range map[string]struct {
		files   map[string][]byte
		change  func(*Package)
		overall Result
		want    []string
	}{
		"a missing file": {map[string][]byte{"a.txt": []byte("text text"), "b.png": png}, func(p *Package) {
			open := p.Open
			p.Open = func(r int, path string) (io.ReadCloser, error) {
				if path == "b.png" {
					return nil, fmt.Errorf("%s: %w", path, intake.ErrNotFound)
				}
				return open(r, path)
			}
		}, Fail, []string{"2-1 count_differs FAIL", "2-7 file_missing FAIL b.png"}},
		"a changed byte": {map[string][]byte{"b.png": png}, func(p *Package) {
			p.Submission.Records[0].Files[0].SHA256 = digest.Of([]byte("other"))
			p.Submission.Records[0].Files[0].SM3 = digest.OfSM3([]byte("other"))
			p.ID, _ = intake.ID(p.Submission)
		}, Fail, []string{"1-1a digest_differs FAIL b.png", "1-1a digest_differs FAIL b.png"}},
		"another SM3 only": {map[string][]byte{"b.png": png}, func(p *Package) {
			p.Submission.Records[0].Files[0].SM3 = digest.OfSM3([]byte("other"))
			p.ID, _ = intake.ID(p.Submission)
		}, Fail, []string{"1-1a digest_differs FAIL b.png"}},
		"another size": {map[string][]byte{"b.png": png}, func(p *Package) {
			p.Submission.Records[0].Files[0].SizeBytes++
			p.ID, _ = intake.ID(p.Submission)
		}, Fail, []string{"2-2 bytes_differ FAIL b.png"}},
		"another ID": {map[string][]byte{"b.png": png}, func(p *Package) { p.ID = digest.Of(nil) }, Fail, []string{"1-14 identity_differs FAIL"}},
		"a file beyond the description": {map[string][]byte{"b.png": png}, func(p *Package) {
			p.List = func(int) ([]string, error) { return []string{"b.png", "z.exe"}, nil }
		}, Fail, []string{"2-1 count_differs FAIL", "2-1 file_extra FAIL z.exe"}},
		"secrecy MM": {map[string][]byte{"b.png": png}, func(p *Package) {
			p.Submission.Records[0].Secrecy = "MM"
			p.ID, _ = intake.ID(p.Submission)
		}, Fail, []string{"X-1 secrecy_refused FAIL"}},
		"mark words": {map[string][]byte{"绝密/b.png": png}, func(p *Package) {
			p.Submission.Records[0].Title = "机密文件"
			p.ID, _ = intake.ID(p.Submission)
		}, Warn, []string{"X-2 secrecy_mark_title WARN", "X-2 secrecy_mark_path WARN 绝密/b.png"}},
		"a path out of the package": {map[string][]byte{"b.png": png}, func(p *Package) { p.Submission.Records[0].Files[0].Path = "../b.png" }, Fail,
			[]string{"1-14 description_invalid FAIL", "2-1 count_differs FAIL", "2-7 file_missing FAIL ../b.png", "X-7 path_unsafe FAIL ../b.png"}},
		"a device name":           {map[string][]byte{"aux.png": png}, nil, Warn, []string{"X-7 path_device_name WARN aux.png"}},
		"an empty file":           {map[string][]byte{"a.txt": nil}, nil, Warn, []string{"2-7 file_empty WARN a.txt"}},
		"an unknown format":       {map[string][]byte{"a.qqq": {0, 1, 2, 3, 250, 251, 252, 253}}, nil, Warn, []string{"3-3 format_unknown WARN a.qqq"}},
		"a wrong extension":       {map[string][]byte{"a.pdf": png}, nil, Warn, []string{"3-3 format_extension WARN a.pdf"}},
		"an OFD called zip":       {map[string][]byte{"a.zip": sample(t, "发票示例.ofd")}, nil, Warn, []string{"3-3 format_extension WARN a.zip"}},
		"a PDF without header":    {map[string][]byte{"a.pdf": sample(t, "T01_006_header-invalid-syntax-no-pdf.pdf")}, nil, Warn, []string{"3-3 format_unknown WARN a.pdf"}},
		"a PDF without xref":      {map[string][]byte{"a.pdf": sample(t, "T03_001_no-cross-reference-table.pdf")}, nil, Pass, nil},
		"a PDF cut off":           {map[string][]byte{"a.pdf": sample(t, "text_only_pdfa1b.pdf")[:30000]}, nil, Warn, []string{"3-4 structure_damaged WARN a.pdf"}},
		"a PNG cut off":           {map[string][]byte{"b.png": png[:len(png)-500]}, nil, Warn, []string{"3-3 format_unknown WARN b.png", "3-4 structure_damaged WARN b.png"}},
		"an ODT cut off":          {map[string][]byte{"a.odt": odt[:len(odt)-100]}, nil, Warn, []string{"3-4 structure_damaged WARN a.odt"}},
		"a container that is one": {map[string][]byte{"a.odt": odt}, nil, Pass, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := pack(t, row.files)
			if row.change != nil {
				row.change(&p)
			}
			r := inspect(t, p)
			if got := found(r); r.Overall != row.overall || !slices.Equal(got, row.want) {
				t.Fatalf("overall = %s, findings %q; want %s, %q", r.Overall, got, row.overall, row.want)
			}
		})
	}
}

func TestEveryItemIsAccountedForAndNoneIsInvented(t *testing.T) {
	r := inspect(t, pack(t, map[string][]byte{"b.png": sample(t, "lorem-ipsum.im.png")}))
	seen := map[string]int{}
	for _, i := range r.Items {
		seen[i.ID]++
		if i.Result == Pass && !checks(i.ID) {
			t.Errorf("item %s passed without a check", i.ID)
		}
		if i.Kind != Automatic && (i.Result != Open || i.Reason == nil || i.Code == "") {
			t.Errorf("item %s of kind %s = %s; want MANUAL with a reason", i.ID, i.Kind, i.Result)
		}
	}
	for _, n := range r.NotRun {
		seen[n.ID]++
		if n.Code == "" || n.Reason.Zh == "" || checks(n.ID) {
			t.Errorf("not run %+v", n)
		}
	}
	for _, i := range YJ().Items {
		if seen[i.ID] != 1 {
			t.Errorf("item %s is reported %d times; want once", i.ID, seen[i.ID])
		}
	}
}

func TestOverall(t *testing.T) {
	for name, row := range map[string]struct {
		items []ItemResult
		want  Result
	}{
		"nothing":                {nil, Pass},
		"open without blocking":  {[]ItemResult{{Result: Pass}, {Result: Open}}, Pass},
		"blocking open":          {[]ItemResult{{Result: Warn}, {Result: Open, Blocking: true}}, Pending},
		"fail above all":         {[]ItemResult{{Result: Open, Blocking: true}, {Result: Fail}, {Result: Warn}}, Fail},
		"warn":                   {[]ItemResult{{Result: Pass}, {Result: Warn}, {Result: Skip}}, Warn},
		"a non-blocking failure": {[]ItemResult{{Result: Fail}}, Fail},
	} {
		if got := overall(row.items); got != row.want {
			t.Errorf("%s: overall = %s; want %s", name, got, row.want)
		}
	}
}

func TestUnknownItemOfASchemeIsNotRun(t *testing.T) {
	s := Scheme{Link: "YJ", Version: "local", Items: []Item{{ID: "3-5", Kind: Automatic, Blocking: true}, {ID: "4-2", Kind: External, Blocking: true, Reason: "no_engine"}}}
	r, err := Inspect(t.Context(), pack(t, map[string][]byte{"b.png": sample(t, "lorem-ipsum.im.png")}), s, Options{Now: at(), Formats: sharedFormats()})
	if err != nil {
		t.Fatal(err)
	}
	if r.Overall != Pending || len(r.NotRun) != 1 || r.NotRun[0].ID != "3-5" {
		t.Fatalf("overall %s, not run %v; want PENDING and 3-5", r.Overall, r.NotRun)
	}
}

func TestDiskErrorEndsTheInspection(t *testing.T) {
	p := pack(t, map[string][]byte{"b.png": []byte("x")})
	broken := errors.New("input/output error")
	p.Open = func(int, string) (io.ReadCloser, error) { return nil, broken }
	if _, err := Inspect(t.Context(), p, YJ(), Options{}); !errors.Is(err, broken) {
		t.Fatalf("Inspect = %v; want the disk's error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Inspect(ctx, pack(t, map[string][]byte{"b.png": []byte("x")}), YJ(), Options{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Inspect after cancel = %v", err)
	}
}

func TestReportIsDeterministic(t *testing.T) {
	files := map[string][]byte{}
	for i := range 60 {
		files[fmt.Sprintf("秘密 %d.txt", i)] = fmt.Appendf(nil, "file number %d with some text", i)
	}
	var first []byte
	for i := range 5 {
		p := pack(t, files)
		slices.SortFunc(p.Submission.Records[0].Files, func(a, b intake.File) int { return strings.Compare(b.Path, a.Path) })
		r, err := Inspect(t.Context(), p, YJ(), Options{Now: at(), Workers: 1 + i, Formats: sharedFormats()})
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if !bytes.Equal(b, first) {
			t.Fatalf("report %d differs from the first", i)
		}
	}
	r, err := ParseReport(first)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := r.Encode(); !bytes.Equal(again, first) {
		t.Fatal("a parsed report encodes to other bytes")
	}
	for _, bad := range []string{"", "{}", `{"schema":2}`, string(first) + "x", `{"schema":1,"other":1}`} {
		if _, err := ParseReport([]byte(bad)); !errors.Is(err, ErrSyntax) {
			t.Errorf("ParseReport(%.20q) = %v; want ErrSyntax", bad, err)
		}
	}
}

func TestFindingsAreBounded(t *testing.T) {
	i := ItemResult{Result: Pass}
	for range MaxFindings + 5 {
		i.add(Finding{Code: "file_empty", Result: Warn})
	}
	if len(i.Findings) != MaxFindings || i.Omitted != 5 || i.Result != Warn {
		t.Fatalf("%d findings, %d omitted, %s", len(i.Findings), i.Omitted, i.Result)
	}
}

// TestEveryCodeHasATextInBothLanguages takes the codes from the sources, so a new one cannot be forgotten.
func TestEveryCodeHasATextInBothLanguages(t *testing.T) {
	var want []string
	for _, i := range YJ().Items {
		want = append(want, "item."+i.ID)
		if i.Reason != "" {
			want = append(want, "not_run."+i.Reason)
		}
	}
	for _, w := range []intake.PathWarning{intake.WarnDeviceName, intake.WarnWindowsName, intake.WarnControlChars, intake.WarnInvisible} {
		want = append(want, "finding.path_"+string(w))
	}
	want = append(want, codesInSources(t)...)
	for lang, texts := range catalogue() {
		used := map[string]bool{}
		for _, code := range want {
			used[code] = true
			if texts[code] == "" {
				t.Errorf("%s has no text for %s", lang, code)
			}
		}
		for code := range texts {
			if !used[code] {
				t.Errorf("%s has a text for %s, which nothing gives", lang, code)
			}
		}
	}
	for code := range catalogue()[LangEn] {
		if p, q := parameters(catalogue()[LangEn][code]), parameters(catalogue()[LangZh][code]); !slices.Equal(p, q) {
			t.Errorf("%s takes %v in English and %v in Chinese", code, p, q)
		}
	}
}
