// Package formats holds the pages on dengbei's formats, and a test that computes their examples again.
package formats

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"dengbei/chunkstore/digest"
	"dengbei/registry"
	"dengbei/registry/intake"
	"dengbei/registry/tlog"
	"dengbei/replication/manifest"
)

// wantOnPage fails unless text stands on the page; lines of text are indented there as code.
func wantOnPage(t *testing.T, page, text string) {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.ReplaceAll(string(b), "\n    ", "\n")
	if !strings.Contains(plain, text) {
		t.Errorf("%s does not show what the code computes:\n%s", page, text)
	}
}

func TestLeafPage(t *testing.T) {
	seed := bytes.Repeat([]byte{1}, tlog.SeedSize)
	var digests [][32]byte
	for i := range tlog.RegistrationFieldCount {
		id := tlog.FieldID(i)
		salt, err := tlog.Salt(seed, id)
		if err != nil {
			t.Fatal(err)
		}
		if id == tlog.FieldOrigin || id == tlog.FieldTitle {
			wantOnPage(t, "leaf.md", hex.EncodeToString(salt[:]))
		}
		if id == tlog.FieldOrigin {
			d := tlog.FieldDigest(id, salt, []byte("example.org/log"))
			wantOnPage(t, "leaf.md", hex.EncodeToString(d[:]))
		}
		digests = append(digests, tlog.FieldDigest(id, salt, []byte(id.String())))
		wantOnPage(t, "leaf.md", "`"+id.String()+"`")
	}
	c, err := tlog.Commit(digests)
	if err != nil {
		t.Fatal(err)
	}
	wantOnPage(t, "leaf.md", "`"+hex.EncodeToString(c[:])+"`")
	wantOnPage(t, "leaf.md", hex.EncodeToString(tlog.Leaf(tlog.LeafRegistration, c)))
	wantOnPage(t, "checkpoint.md", tlog.Checkpoint{Origin: "example.org/log", Size: 1, Root: c}.String())
}

func TestNumberPage(t *testing.T) {
	for _, serial := range []uint64{1, 1234567} {
		n := registry.Number{Authority: "330102", Year: 2026, Serial: serial}
		wantOnPage(t, "registration-number.md", "`"+n.String()+"`")
	}
}

func TestSubmissionPage(t *testing.T) {
	abc := []byte("abc")
	s := &intake.Submission{Registrant: "330102/minzheng", Authority: "330102", Class: "standard", Records: []intake.Record{{
		Title: "二〇二五年收文", Metadata: []intake.Element{{Name: "年度", Value: "2025"}},
		Files: []intake.File{{Path: "a/b.txt", SizeBytes: 3, SHA256: digest.Of(abc), SM3: digest.OfSM3(abc)}},
	}}}
	text, err := intake.Canonical(s)
	if err != nil {
		t.Fatal(err)
	}
	id, err := intake.ID(s)
	if err != nil {
		t.Fatal(err)
	}
	wantOnPage(t, "submission.md", "\n"+string(text))
	wantOnPage(t, "submission.md", "`"+id.Hex()+"`")
}

func TestManifestPage(t *testing.T) {
	file := func(name string, content []byte) manifest.File {
		root, size, err := manifest.LeafRoot(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		return manifest.File{Name: name, SizeBytes: size, SHA256: digest.Of(content), LeafRoot: root}
	}
	abc := []byte("abc")
	pack := file("data/"+digest.Of(abc).Hex(), abc)
	wantOnPage(t, "backup-manifest.md", pack.LeafRoot.String())
	wantOnPage(t, "backup-manifest.md", file("", make([]byte, manifest.LeafBytes+1)).LeafRoot.String())

	files := []manifest.File{file("config", []byte("config bytes")), pack}
	doc, _, err := manifest.Next(manifest.Set{}, "330102-standard-1", strings.Repeat("0", 63)+"1", files, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := doc.Encode()
	if err != nil {
		t.Fatal(err)
	}
	wantOnPage(t, "backup-manifest.md", string(text))
	wantOnPage(t, "backup-manifest.md", "`"+digest.Of(text).Hex()+"`")
}
