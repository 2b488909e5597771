package fournature

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"dengbei/chunkstore/digest"
	"dengbei/registry/intake"
)

// BenchmarkInspect reads large unknown files and many small known ones from disk, as an inspection does.
func BenchmarkInspect(b *testing.B) {
	for name, row := range map[string]struct {
		files int
		make  func(i int) []byte
	}{
		"large unknown": {4, func(i int) []byte {
			c := rand.NewChaCha8([32]byte{byte(i)})
			buf := make([]byte, 32<<20)
			c.Read(buf)
			return buf
		}},
		"small PDF": {200, func(int) []byte { return sample(b, "text_only_pdfa1b.pdf") }},
	} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			var r intake.Record
			r.Title = "bench"
			var total int64
			for i := range row.files {
				content := row.make(i)
				p := string(rune('a'+i/26)) + string(rune('a'+i%26)) + ".pdf"
				if err := os.WriteFile(filepath.Join(dir, p), content, 0o600); err != nil {
					b.Fatal(err)
				}
				total += int64(len(content))
				r.Files = append(r.Files, intake.File{Path: p, SizeBytes: int64(len(content)), SHA256: digest.Of(content), SM3: digest.OfSM3(content)})
			}
			sub := &intake.Submission{Registrant: "r", Authority: "330102", Records: []intake.Record{r}}
			id, err := intake.ID(sub)
			if err != nil {
				b.Fatal(err)
			}
			p := Package{ID: id, Submission: sub, Open: func(_ int, p string) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, p)) }}
			formats := new(Formats)
			formats.load()
			b.SetBytes(total)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Inspect(b.Context(), p, YJ(), Options{Formats: formats}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
