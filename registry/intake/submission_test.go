package intake

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore/digest"
)

func TestCheckPath(t *testing.T) {
	for name, row := range map[string]struct {
		path string
		ok   bool
	}{
		"plain":                   {"a/b.txt", true},
		"Chinese":                 {"请示/正文 (一).ofd", true},
		"newline":                 {"a\nb", true},
		"255 bytes":               {strings.Repeat("x", 255), true},
		"4096 bytes":              {strings.Repeat("0123456/", 511) + "01234567", true},
		"dots inside a name":      {"a..b/...", true},
		"device name":             {"NUL.txt", true},
		"colon later":             {"ab:c", true},
		"empty":                   {"", false},
		"256 bytes":               {strings.Repeat("x", 256), false},
		"4097 bytes":              {strings.Repeat("0123456/", 512) + "x", false},
		"parent":                  {"..", false},
		"parent inside":           {"a/../b", false},
		"parent at the end":       {"a/..", false},
		"current":                 {"./a", false},
		"absolute":                {"/a", false},
		"drive":                   {"C:/a", false},
		"bare drive":              {"c:", false},
		"double slash":            {"a//b", false},
		"trailing slash":          {"a/", false},
		"NUL":                     {"a\x00b", false},
		"backslash":               {`a\b`, false},
		"UNC":                     {`\\server\share`, false},
		"invalid UTF-8":           {"a\xff", false},
		"overlong encoding of ..": {"\xc0\xae\xc0\xae/a", false},
		"surrogate half":          {"\xed\xa0\x80", false},
	} {
		err := CheckPath(row.path)
		var refusal *RuleError
		if row.ok != (err == nil) || err != nil && (!errors.As(err, &refusal) || refusal.Rule != RulePathSafety || refusal.Way == "") {
			t.Errorf("%s: CheckPath(%.40q) = %v; want ok %v", name, row.path, err, row.ok)
		}
	}
}

func TestPathWarnings(t *testing.T) {
	for path, want := range map[string][]PathWarning{
		"a/b.txt":       nil,
		"con":           {WarnDeviceName},
		"x/LPT9.tar.gz": {WarnDeviceName},
		"COM0":          nil,
		"COM10":         nil,
		"aux .txt":      {WarnDeviceName},
		"what?":         {WarnWindowsName},
		"dot./x":        {WarnWindowsName},
		"a\nb":          {WarnControlChars},
		"\u202Efdp.exe": {WarnInvisible},
	} {
		if got := PathWarnings(path); !slices.Equal(got, want) {
			t.Errorf("PathWarnings(%q) = %v; want %v", path, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*Submission)
		rule   Rule
	}{
		"no registrant":           {func(s *Submission) { s.Registrant = "" }, RuleForm},
		"newline in registrant":   {func(s *Submission) { s.Registrant = "a\nb" }, RuleForm},
		"region of five digits":   {func(s *Submission) { s.Authority = "33010" }, RuleForm},
		"region of letters":       {func(s *Submission) { s.Authority = "33010x" }, RuleForm},
		"note that is no UTF-8":   {func(s *Submission) { s.Note = "\xff" }, RuleForm},
		"note too long":           {func(s *Submission) { s.Note = strings.Repeat("x", MaxTextBytes+1) }, RuleForm},
		"batch too long":          {func(s *Submission) { s.Batch = strings.Repeat("x", MaxNameBytes+1) }, RuleForm},
		"corrects an SM3":         {func(s *Submission) { s.Corrects = digest.OfSM3(nil) }, RuleForm},
		"no record":               {func(s *Submission) { s.Records = nil }, RuleCount},
		"no title":                {func(s *Submission) { s.Records[0].Title = "" }, RuleForm},
		"unknown opening":         {func(s *Submission) { s.Records[0].Opening = "open" }, RuleForm},
		"unknown secrecy":         {func(s *Submission) { s.Records[0].Secrecy = "公开" }, RuleForm},
		"too many elements":       {func(s *Submission) { s.Records[0].Metadata = make([]Element, MaxElements+1) }, RuleForm},
		"element without name":    {func(s *Submission) { s.Records[0].Metadata = []Element{{"", "x"}} }, RuleForm},
		"no file":                 {func(s *Submission) { s.Records[0].Files = nil }, RuleStructure},
		"path out":                {func(s *Submission) { s.Records[0].Files[0].Path = "../x" }, RulePathSafety},
		"same path twice":         {func(s *Submission) { s.Records[0].Files[1].Path = s.Records[0].Files[0].Path }, RulePathSafety},
		"file and folder":         {func(s *Submission) { s.Records[0].Files[0].Path, s.Records[0].Files[1].Path = "a", "a/b/c" }, RulePathSafety},
		"negative size":           {func(s *Submission) { s.Records[0].Files[0].SizeBytes = -1 }, RuleBytes},
		"absurd size":             {func(s *Submission) { s.Records[0].Files[0].SizeBytes = 1 << 62 }, RuleBytes},
		"no digest":               {func(s *Submission) { s.Records[0].Files[0].SM3 = digest.Digest{} }, RuleDigest},
		"digests in each's place": {func(s *Submission) { f := &s.Records[0].Files[0]; f.SHA256, f.SM3 = f.SM3, f.SHA256 }, RuleDigest},
		"too many files":          {func(s *Submission) { s.Records[0].Files = make([]File, MaxFiles+1) }, RuleCount},
		"too many records":        {func(s *Submission) { s.Records = make([]Record, MaxRecords+1) }, RuleCount},
		"too many elements in all": {func(s *Submission) {
			s.Records = slices.Repeat([]Record{{Metadata: make([]Element, MaxElements)}}, 1001)
		}, RuleForm},
	} {
		s := submission("x", contents())
		row.change(s)
		var refusal *RuleError
		if err := s.Validate(); !errors.As(err, &refusal) || refusal.Rule != row.rule || refusal.Way == "" || !errors.Is(err, ErrRule) {
			t.Errorf("%s: Validate = %v; want rule %s", name, err, row.rule)
		}
	}
	if err := submission("x", contents()).Validate(); err != nil {
		t.Errorf("Validate of a good one = %v", err)
	}
}

// golden is a fixed submission; its encoding is part of the format.
func golden() *Submission {
	s := submission("题名 <&> \" \\ \u2028", map[string]string{"b.txt": "b", "a/正文.txt": "正文"})
	s.Note, s.Class, s.Corrects = "第一行\n第二行", "文书", digest.Of([]byte("old"))
	s.Records = append(s.Records, submission("second", map[string]string{"空": ""}).Records[0])
	s.Records[1].Secrecy, s.Records[1].Metadata = SecrecyRestricted, nil
	slices.SortFunc(s.Records[0].Files, func(a, b File) int { return strings.Compare(b.Path, a.Path) }) // not the canonical order
	s.Records[0].Files[0].ModTime = time.Date(2025, 12, 31, 23, 59, 59, 5000, time.FixedZone("", 8*3600))
	return s
}

func TestCanonicalEncodingIsFixed(t *testing.T) {
	for name, encode := range map[string]func(*Submission) ([]byte, error){"submission.json": Encode, "canonical.json": Canonical} {
		got, err := encode(golden())
		must(t, err)
		want, err := os.ReadFile("testdata/" + name)
		must(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		s, err := Parse(want)
		must(t, err)
		if id, err := ID(s); err != nil || id.Hex() != goldenID {
			t.Errorf("ID of %s = %s, %v; want %s", name, id.Hex(), err, goldenID)
		}
	}
}

const goldenID = "beb251fcac3406c2a666c7116e482b8cac6d25621226aa261361f8628d5743f6"

func TestIDDependsOnContentOnly(t *testing.T) {
	base, err := ID(golden())
	must(t, err)
	same := golden()
	slices.Reverse(same.Records[0].Files)
	same.Records[0].Files[0].ModTime = at()
	same.Records[0].Secrecy = SecrecyPublic // the default, spelled out
	if id, _ := ID(same); id != base {
		t.Error("order of files, time or default changed the ID")
	}
	for name, change := range map[string]func(*Submission){
		"registrant": func(s *Submission) { s.Registrant += "x" },
		"authority":  func(s *Submission) { s.Authority = "330103" },
		"batch":      func(s *Submission) { s.Batch += "x" },
		"note":       func(s *Submission) { s.Note += "x" },
		"class":      func(s *Submission) { s.Class += "x" },
		"corrects":   func(s *Submission) { s.Corrects = digest.Digest{} },
		"records":    func(s *Submission) { slices.Reverse(s.Records) },
		"title":      func(s *Submission) { s.Records[1].Title += "x" },
		"opening":    func(s *Submission) { s.Records[1].Opening = "" },
		"secrecy":    func(s *Submission) { s.Records[1].Secrecy = "" },
		"metadata":   func(s *Submission) { slices.Reverse(s.Records[0].Metadata) },
		"path":       func(s *Submission) { s.Records[0].Files[0].Path += "x" },
		"size":       func(s *Submission) { s.Records[0].Files[0].SizeBytes++ },
		"SHA-256":    func(s *Submission) { s.Records[0].Files[0].SHA256 = digest.Of([]byte("x")) },
		"SM3":        func(s *Submission) { s.Records[0].Files[0].SM3 = digest.OfSM3([]byte("x")) },
	} {
		s := golden()
		change(s)
		if id, err := ID(s); err != nil || id == base {
			t.Errorf("another %s: ID = %v, %v; want another", name, id, err)
		}
	}
}

func TestParseIsStrict(t *testing.T) {
	good, err := Encode(golden())
	must(t, err)
	for name, b := range map[string][]byte{
		"nothing":           nil,
		"no line end":       bytes.TrimSuffix(good, []byte("\n")),
		"bytes after it":    append(bytes.Clone(good), '{'),
		"a blank":           bytes.Replace(good, []byte(`"batch":`), []byte(`"batch": `), 1),
		"an unknown member": bytes.Replace(good, []byte(`"batch":`), []byte(`"other":"","batch":`), 1),
		"a member twice":    bytes.Replace(good, []byte(`"batch":`), []byte(`"batch":"","batch":`), 1),
		"another case":      bytes.Replace(good, []byte(`"batch":`), []byte(`"Batch":`), 1),
		"another escape":    bytes.Replace(good, []byte(`second`), []byte(`\u0073econd`), 1),
		"half a surrogate":  bytes.Replace(good, []byte(`second`), []byte(`\ud800`), 1),
		"invalid UTF-8":     bytes.Replace(good, []byte(`second`), []byte("\xff"), 1),
		"another format":    bytes.Replace(good, []byte("submission/1"), []byte("submission/2"), 1),
		"a local time":      bytes.Replace(good, []byte("Z\"}"), []byte("+08:00\"}"), 1),
		"no secrecy":        bytes.Replace(good, []byte(`"secrecy":"GK"`), []byte(`"secrecy":""`), 1),
		"upper-case digest": bytes.Replace(good, []byte("sha256:"), []byte("SHA256:"), 1),
		"a float":           bytes.Replace(good, []byte(`"size":6`), []byte(`"size":6.0`), 1),
		"null":              []byte("null\n"),
		"too many values":   append(append([]byte(`{"format":"dengbei-submission/1","records":[{"files":[`), bytes.Repeat([]byte("{},"), MaxFiles+MaxRecords+1)...), "{}]}]}"...),
	} {
		if bytes.Equal(b, good) {
			t.Fatalf("%s: the row changes nothing", name)
		}
		if s, err := Parse(b); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: Parse = %v, %v; want ErrSyntax", name, s, err)
		}
	}
	if _, err := Parse(bytes.Replace(good, []byte(`b.txt`), []byte(`../txt`), 1)); !errors.Is(err, ErrRule) {
		t.Errorf("Parse with a path out = %v; want ErrRule", err)
	}
}

func FuzzParse(f *testing.F) {
	good, err := Encode(golden())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"format":"dengbei-submission/1","records":[{"files":[{"path":"a"}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		if again, err := Encode(s); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("Encode(Parse(b)) = %q, %v; want b", again, err)
		}
		if _, err := ID(s); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzCheckPath(f *testing.F) {
	for _, p := range []string{"a/b", "../a", "/a", `a\b`, "a//b", "C:/x", "\xff", "请示/正文"} {
		f.Add(p)
	}
	dir := f.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { root.Close() })
	f.Fuzz(func(t *testing.T, p string) {
		if CheckPath(p) != nil {
			return
		}
		PathWarnings(p)
		if _, err := root.Lstat(p); err != nil && strings.Contains(err.Error(), "escapes") {
			t.Fatalf("CheckPath(%q) = nil, but it leaves the folder", p)
		}
	})
}
