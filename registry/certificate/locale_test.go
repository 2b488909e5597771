package certificate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dengbei/registry/certificate"
	"dengbei/registry/tlog"
)

func catalogue(t *testing.T, lang string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("locale", lang+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestCataloguesAreComplete wants every key that the code uses in every language, with the same places, and no other.
func TestCataloguesAreComplete(t *testing.T) {
	used := map[string]bool{}
	for i := range tlog.RegistrationFieldCount {
		used["field."+tlog.FieldID(i).String()] = true
	}
	for _, r := range certificate.Rules() {
		used["rule."+string(r)] = true
	}
	for _, p := range certificate.Problems() {
		used["problem."+string(p)] = true
	}
	key := regexp.MustCompile(`(?:Text\(|\$?\.T )"([a-z_]+\.[a-z_]+)"`)
	for _, pattern := range []string{"*.go", "page.html", "../../cmd/dengbei-verify/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range key.FindAllSubmatch(b, -1) {
				used[string(m[1])] = true
			}
		}
	}
	if len(used) < 60 {
		t.Fatalf("found only %d keys in the code; does the pattern still fit?", len(used))
	}
	places := regexp.MustCompile(`\{[a-z]+\}`)
	first := catalogue(t, certificate.DefaultLanguage)
	for _, lang := range certificate.Languages() {
		texts := catalogue(t, lang)
		for k := range used {
			if strings.TrimSpace(texts[k]) == "" {
				t.Errorf("%s: no text for %s", lang, k)
			}
			want, got := places.FindAllString(first[k], -1), places.FindAllString(texts[k], -1)
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %s has places %v; want %v", lang, k, got, want)
			}
		}
		for k := range texts {
			if !used[k] {
				t.Errorf("%s: nothing uses %s", lang, k)
			}
		}
	}
	if _, err := certificate.LoadTexts("fr"); !errors.Is(err, certificate.ErrLanguage) {
		t.Errorf("LoadTexts(fr) = %v; want ErrLanguage", err)
	}
}

func TestPageSaysWhatIsProvenAndWhatIsNot(t *testing.T) {
	n := newNetwork(t, 5, 3)
	raw := mustBuild(t, goldenBag(t, n))
	c, err := certificate.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Disclose(tlog.FieldTitle, tlog.FieldClass)
	if err != nil {
		t.Fatal(err)
	}
	less, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		golden string
		raw    []byte
		page   certificate.Page
		want   []string
		not    []string
	}{
		{"page-zh-CN.html", raw, certificate.Page{}, []string{`<html lang="zh-CN">`, "<h1>登记证书</h1>", "330102-2026-000217-4", "&lt;附件&gt;", "不证明什么"}, []string{"未公开</td>", "http"}},
		{"page-en.html", less, certificate.Page{Lang: "en", Title: "登记证明"}, []string{`<html lang="en">`, "<h1>登记证明</h1>", "not disclosed</td>", "does not prove"}, []string{"区政府办公室", "http"}},
	} {
		v, err := certificate.Verify(tt.raw, n.policy(t))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := certificate.RenderHTML(&b, v, tt.page); err != nil {
			t.Fatal(err)
		}
		for _, s := range tt.want {
			if !strings.Contains(b.String(), s) {
				t.Errorf("%s: %q is not on the page", tt.golden, s)
			}
		}
		for _, s := range tt.not {
			if strings.Contains(b.String(), s) {
				t.Errorf("%s: %q is on the page", tt.golden, s)
			}
		}
		checkGolden(t, tt.golden, b.Bytes())
	}
	if err := certificate.RenderHTML(&bytes.Buffer{}, &certificate.Verified{}, certificate.Page{Lang: "fr"}); !errors.Is(err, certificate.ErrLanguage) {
		t.Errorf("RenderHTML in French = %v; want ErrLanguage", err)
	}
}

func TestPrintableHasNoControl(t *testing.T) {
	if got, want := certificate.Printable("a\x1b[2Jb\u202ec\nd\u200dé"), "a\ufffd[2Jb\ufffdc\ufffdd\u200dé"; got != want {
		t.Errorf("Printable = %q; want %q", got, want)
	}
}
