package archive

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"dengbei/chunkstore/repository"
)

// corpus is files to back up.
type corpus struct {
	name  string
	write func(dir string) error
}

// corpora are small ones of the kinds that an archive centre has.
func corpora() []corpus {
	random := func(seed uint64) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{byte(seed)}) }
	words := func(r *rand.Rand, n int) []byte {
		var b bytes.Buffer
		for b.Len() < n {
			fmt.Fprintf(&b, "record-%d box %d; ", r.IntN(5000), r.IntN(300))
		}
		return b.Bytes()[:n]
	}
	return []corpus{
		{"small", func(dir string) error {
			src := random(1)
			r := rand.New(src)
			for i := range 1500 {
				b := words(r, 1000+r.IntN(40_000))
				if i%3 == 0 {
					b = b[:len(b)/2]
					_, _ = src.Read(b) // never fails
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), b, 0o600); err != nil {
					return err
				}
			}
			return nil
		}},
		{"scans", func(dir string) error {
			b := make([]byte, 64<<20)
			_, _ = random(2).Read(b) // never fails
			return os.WriteFile(filepath.Join(dir, "scan"), b, 0o600)
		}},
		{"dump", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "dump.sql"), words(rand.New(random(3)), 48<<20), 0o600)
		}},
	}
}

// BenchmarkBackup tells, beside time, processor seconds for each GiB of source.
func BenchmarkBackup(b *testing.B) {
	for _, c := range corpora() {
		b.Run(c.name, func(b *testing.B) {
			src := b.TempDir()
			must(b, c.write(src))
			var bytesRead int64
			var spent float64
			for b.Loop() {
				b.StopTimer()
				repo, _ := newRepo(b, repository.Options{})
				b.StartTimer()
				before := processorSeconds(b)
				r, err := Backup(b.Context(), repo, Options{Roots: []Root{{Path: "/", Source: src}}})
				must(b, err)
				spent += processorSeconds(b) - before
				bytesRead += r.Bytes
			}
			b.SetBytes(bytesRead / int64(b.N))
			b.ReportMetric(spent/(float64(bytesRead)/(1<<30)), "cpu-s/GiB")
		})
	}
}

func processorSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
