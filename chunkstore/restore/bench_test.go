package restore

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/repository"
)

// The targets lie in memory where that is possible: what is measured is the restore and not the disk.
func BenchmarkRestore(b *testing.B) {
	for name, files := range map[string]func() map[string][]byte{
		"small files": func() map[string][]byte {
			all := make(map[string][]byte)
			for i := range 2000 {
				all[fmt.Sprintf("d%02d/f%04d", i%20, i)] = noise(fmt.Sprint(i), 2000+i*40)
			}
			return all
		},
		"scans": func() map[string][]byte {
			return map[string][]byte{"1.tif": noise("1", 32<<20), "2.tif": noise("2", 32<<20)}
		},
		"dump": func() map[string][]byte {
			var dump bytes.Buffer
			for i := range 500_000 {
				fmt.Fprintf(&dump, "INSERT INTO record VALUES (%d, '登记 %x', %d, 'permanent', NULL);\n", i, i*7919, i%97)
			}
			return map[string][]byte{"dump.sql": dump.Bytes()}
		},
	} {
		b.Run(name, func(b *testing.B) {
			repo, _ := newRepo(b, repository.Options{})
			src := b.TempDir()
			write(b, src, files())
			r, err := archive.Backup(b.Context(), repo, archive.Options{Roots: []archive.Root{{Path: "/", Source: src}}})
			must(b, err)
			dir := tmpfs(b)
			b.SetBytes(r.Bytes)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				_, err := Restore(b.Context(), repo, r.SnapshotID, filepath.Join(dir, fmt.Sprint(n)), Options{})
				must(b, err)
				b.StopTimer()
				must(b, os.RemoveAll(filepath.Join(dir, fmt.Sprint(n))))
				b.StartTimer()
			}
		})
	}
}
