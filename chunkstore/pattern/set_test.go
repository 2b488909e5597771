package pattern

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, path  string
		matched, below bool
	}{
		// Relative patterns match anywhere, and what lies below a match.
		{"*.tif", "/fonds/1/scan.tif", true, true},
		{"*.tif", "/fonds/1/scan.jpg", false, true},
		{"*.tif", "/fonds/a.tif/inside", true, true},
		{"fonds", "/deep/fonds/1", true, true},
		{"fonds/1", "/deep/fonds/1", true, true},
		{"fonds/2", "/deep/fonds/1", false, true},
		{"fonds/2", "fonds/2", true, true},
		{"*", "/a", true, true},
		{"*", "/", false, true},
		{"**", "/", false, true},
		{"**", "/a/b", true, true},
		// Anchored ones begin at the root.
		{"/fonds", "/fonds/1/x", true, true},
		{"/fonds", "/deep/fonds", false, false},
		{"/fonds", "fonds", false, false},
		{"/fonds/", "/fonds/1", true, true},
		{"/fonds///1", "/fonds/1", true, true},
		{"/a/../fonds", "/fonds", true, true},
		{"/fonds/*", "/fonds", false, true},
		{"/fonds/*/x", "/fonds/1", false, true},
		{"/fonds/*/x", "/fonds/1/y", false, false},
		{"/fonds/*/x", "/fonds/1/y/x", false, false},
		{"/", "/a", true, true},
		{"/", "/", true, true},
		// ** stands for any number of directories.
		{"/fonds/**/x", "/fonds/x", true, true},
		{"/fonds/**/x", "/fonds/1/2/3/x", true, true},
		{"/fonds/**/x", "/fonds/1/2/3", false, true},
		{"/fonds/**/x", "/other/x", false, false},
		{"/fonds/**", "/fonds", true, true},
		{"fonds/**/bag/*.xml", "/a/fonds/1/bag/2/bag/m.xml", true, true},
		{"fonds/**/bag/*.xml", "/a/fonds/bag/m.xml", true, true},
		{"fonds/**/bag/*.xml", "/a/bag/fonds/m.xml", false, true},
		{"a/**/b/**/c", "/a/x/b/y/z/c", true, true},
		{"a/**/b/**/c", "/a/x/c/y/z/b", false, true},
		{"/**/*", "/a", true, true},
		{"/**/*", "/", false, true},
		// Elements are those of path.Match.
		{"[ab]?.txt", "/a1.txt", true, true},
		{"[ab]?.txt", "/c1.txt", false, true},
		{`a\*b`, "/a*b", true, true},
		{`a\*b`, "/axb", false, true},
		{"目录/*", "/x/目录/甲", true, true},
		{"*.bin", "/x/\xff\xfe.bin", true, true},
	} {
		s, err := Parse([]string{c.pattern})
		if err != nil {
			t.Fatal(err)
		}
		matched, below := s.MatchBelow(c.path)
		if matched != c.matched || below != c.below || s.Match(c.path) != matched {
			t.Errorf("%q.MatchBelow(%q) = %v, %v; want %v, %v", c.pattern, c.path, matched, below, c.matched, c.below)
		}
	}
}

func TestSets(t *testing.T) {
	for _, c := range []struct {
		patterns []string
		path     string
		want     bool
	}{
		{nil, "/a", false},
		{[]string{""}, "/a", false},
		{[]string{"*.c", "*.go"}, "/a.go", true},
		{[]string{"*.tmp", "!keep.tmp"}, "/x/keep.tmp", false},
		{[]string{"*.tmp", "!keep.tmp"}, "/x/other.tmp", true},
		{[]string{"!keep.tmp", "*.tmp"}, "/x/keep.tmp", true},
		{[]string{"*.tmp", "!keep.tmp", "/x/keep.tmp"}, "/x/keep.tmp", true},
	} {
		s, err := Parse(c.patterns)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Match(c.path); got != c.want {
			t.Errorf("%q.Match(%q) = %v; want %v", c.patterns, c.path, got, c.want)
		}
	}
	var none *Set
	if none.Match("/a") || !none.Empty() {
		t.Error("a nil set matches")
	}
	fold, err := ParseFold([]string{"*.JPG"})
	if err != nil || !fold.Match("/A/b.jPg") {
		t.Errorf("ParseFold does not match another case, %v", err)
	}
	for _, bad := range []string{"a/[", "a/**/[", "[]a]", `a\`} {
		if _, err := Parse([]string{"fine", bad}); !errors.Is(err, ErrPattern) || !strings.Contains(err.Error(), "pattern ") {
			t.Errorf("Parse(%q) = %v; want ErrPattern", bad, err)
		}
	}
}

func TestManyStarsStayFast(t *testing.T) {
	s, err := Parse([]string{strings.Repeat("**/a/", 200) + "b"})
	if err != nil {
		t.Fatal(err)
	}
	if s.Match(strings.Repeat("/a", 4000)) {
		t.Error("matched")
	}
}

func TestReadLines(t *testing.T) {
	env := func(name string) string { return map[string]string{"HOME": "/home/office"}[name] }
	got, err := ReadLines(strings.NewReader("\ufeff# made by hand\r\n\n  $HOME/tmp \r\n${HOME}x\n$$cash\nlast"), env)
	want := []string{"/home/office/tmp", "/home/officex", "$cash", "last"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("ReadLines() = %q, %v; want %q", got, err, want)
	}
	if _, err := ReadLines(strings.NewReader("\xff\xfea\x00"), env); !errors.Is(err, ErrPattern) {
		t.Errorf("ReadLines of UTF-16 = %v; want ErrPattern", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("/a/**/*.x", "/a/b/c.x")
	f.Add("!a[", "a")
	f.Fuzz(func(t *testing.T, pattern, p string) {
		s, err := Parse([]string{"**", pattern})
		if err == nil && !s.Empty() {
			s.MatchBelow(p)
		}
	})
}
