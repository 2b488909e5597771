package chunkstore_test

import (
	"fmt"
	"testing"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
)

// BenchmarkPut stores files of the sizes of a snapshot, of an index and of a pack, durably.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			files := chunktest.NewFiles(b, chunkstore.LocalDisk{})
			content := chunktest.Noise("put", size)
			b.SetBytes(int64(size))
			for i := 0; b.Loop(); i++ {
				content[0], content[1], content[2] = byte(i), byte(i>>8), byte(i>>16)
				name := chunktest.NameOf(chunkstore.Pack, content)
				chunktest.Must(b, files.PutBytes(b.Context(), name, content))
				b.StopTimer() // a disk full of packs is nothing to measure
				chunktest.Must(b, files.Remove(b.Context(), name))
				b.StartTimer()
			}
		})
	}
}

// BenchmarkReadRange reads ranges of the size of a chunk of a small file out of a pack, with the pack opened for each and
// with the pack open.
func BenchmarkReadRange(b *testing.B) {
	files := chunktest.NewFiles(b, chunkstore.LocalDisk{})
	content := chunktest.Noise("ranges", 16<<20)
	name := chunktest.NameOf(chunkstore.Pack, content)
	chunktest.Must(b, files.PutBytes(b.Context(), name, content))
	buf := make([]byte, 4<<10)
	offset := func(i int) int64 { return int64(i*7919%(len(content)-len(buf))) &^ 511 }
	b.Run("opened for each", func(b *testing.B) {
		b.SetBytes(int64(len(buf)))
		for i := 0; b.Loop(); i++ {
			chunktest.Must(b, files.ReadRange(b.Context(), name, offset(i), buf))
		}
	})
	b.Run("open", func(b *testing.B) {
		ranges, err := files.OpenRanges(b.Context(), name)
		chunktest.Must(b, err)
		defer ranges.Close()
		b.SetBytes(int64(len(buf)))
		for i := 0; b.Loop(); i++ {
			chunktest.Must(b, ranges.ReadRange(b.Context(), offset(i), buf))
		}
	})
}

// BenchmarkList lists the packs of a repository of 160 GB.
func BenchmarkList(b *testing.B) {
	const packs = 10_000
	files := chunktest.NewFiles(b, chunktest.LazyDisk{})
	for i := range packs {
		content := fmt.Append(nil, i)
		chunktest.Must(b, files.PutBytes(b.Context(), chunktest.NameOf(chunkstore.Pack, content), content))
	}
	for b.Loop() {
		n := 0
		var last digest.Digest
		for e, err := range files.List(b.Context(), chunkstore.Pack) {
			chunktest.Must(b, err)
			n, last = n+1, e.Name.ID
		}
		if n != packs || last.IsZero() {
			b.Fatalf("List yields %d; want %d", n, packs)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packs, "ns/file")
}
