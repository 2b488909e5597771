package main

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/registry"
	"dengbei/registry/intake"
)

// sink collects what a submission sends.
type sink struct {
	files map[[2]uint32]*bytes.Buffer
	ended int
}

func (s *sink) Send(m *nodepb.SubmitRequest) error {
	f := m.GetFile()
	key := [2]uint32{f.GetRecord(), f.GetFile()}
	if s.files[key] == nil {
		s.files[key] = &bytes.Buffer{}
	}
	s.files[key].Write(f.GetData())
	if f.GetLast() {
		s.ended++
	}
	return nil
}

func packFolders(t *testing.T, folders ...string) *parcel {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pack(t.Context(), delivery{folders: folders, class: classStandard}, packing{registrant: identity.Subject{Code: "330102", Account: "unit"}, signing: key})
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(key.Public().(ed25519.PublicKey), registry.SubmissionStatement(p.id.Bytes()), p.signature) {
		t.Error("the signature is not over the submission statement")
	}
	return p
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestParcelSendsEveryFileInOrder(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcdef"), sendBytes/8) // two messages
	write(t, filepath.Join(dir, "一", "空.txt"), nil)
	write(t, filepath.Join(dir, "一", "大.bin"), big)
	write(t, filepath.Join(dir, "二", "a.txt"), []byte("a"))
	p := packFolders(t, filepath.Join(dir, "一"), filepath.Join(dir, "二"))
	if got := p.submission.Records[0].Title; got != "一" {
		t.Errorf("title %q; want the folder's name", got)
	}
	s := &sink{files: map[[2]uint32]*bytes.Buffer{}}
	var sent int64
	if err := p.sendFiles(s, func(n int) { sent += int64(n) }); err != nil {
		t.Fatal(err)
	}
	if s.ended != 3 || sent != p.sizeBytes || p.files != 3 {
		t.Errorf("%d files ended, %d bytes; want 3 and %d", s.ended, sent, p.sizeBytes)
	}
	for i, r := range p.submission.Records {
		for j, f := range r.Files {
			want, err := os.ReadFile(filepath.Join(p.folders[i], f.Path))
			if err != nil || !bytes.Equal(s.files[[2]uint32{uint32(i), uint32(j)}].Bytes(), want) {
				t.Errorf("record %d, file %s: other bytes were sent (%v)", i, f.Path, err)
			}
		}
	}
}

func TestParcelRefusesAFileThatChangedAfterItWasRead(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, tt := range []struct {
		name   string
		change func(path string) error
	}{
		{"it grew", func(p string) error { return os.WriteFile(p, []byte("longer than it was"), 0o644) }},
		{"it shrank", func(p string) error { return os.Truncate(p, 1) }},
		{"it is gone", os.Remove},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "a.txt")
			write(t, file, []byte("as it was"))
			p := packFolders(t, dir)
			if err := tt.change(file); err != nil {
				t.Fatal(err)
			}
			err := p.sendFiles(&sink{files: map[[2]uint32]*bytes.Buffer{}}, func(int) {})
			var rule *intake.RuleError
			if !errors.As(err, &rule) || rule.Rule != intake.RuleContent || rule.Item != "a.txt" {
				t.Errorf("sendFiles() = %v; want rule %s on a.txt", err, intake.RuleContent)
			}
		})
	}
}

func TestCutRunsKeepsEveryFileOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, tt := range []struct {
		name  string
		sizes []int64
		n     int
	}{
		{"as many runs as files", []int64{1, 1, 1}, 3},
		{"one large file first", []int64{1 << 40, 1, 1, 1, 1}, 3},
		{"one large file last", []int64{1, 1, 1, 1, 1 << 40}, 3},
		{"even", make([]int64, 1000), 20},
		{"one run", []int64{5, 6}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var files []inputFile
			for _, s := range tt.sizes {
				files = append(files, inputFile{size: s})
			}
			runs := cutRuns(files, tt.n)
			total := 0
			for _, r := range runs {
				if len(r) == 0 {
					t.Error("an empty run")
				}
				total += len(r)
			}
			if len(runs) != tt.n || total != len(files) {
				t.Errorf("cutRuns gives %d runs with %d files; want %d with %d", len(runs), total, tt.n, len(files))
			}
			if tt.name == "even" && len(runs[0]) != 50 {
				t.Errorf("first run has %d files; want 50", len(runs[0]))
			}
		})
	}
}

func TestSafeShowsControlCharacters(t *testing.T) {
	defer goleak.VerifyNone(t)
	if got, want := term.Safe("办件·\x1b[31m\n\u202e."), `办件·\u001b[31m\u000a\u202e.`; got != want {
		t.Errorf("safe() = %q; want %q", got, want)
	}
}
