package chunkstore

import (
	"bytes"
	"testing"
	"testing/iotest"

	"golang.org/x/mod/sumdb/tlog"
)

func TestLeafRootIsThatOfRFC6962(t *testing.T) {
	content := bytes.Repeat(sample(), 4)
	for _, n := range []int{0, 1, LeafBytes - 1, LeafBytes, LeafBytes + 1, 2 * LeafBytes, 3*LeafBytes + 5, 7 * LeafBytes, 8 * LeafBytes, 13*LeafBytes + 1} {
		var hashes []tlog.Hash
		read := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
			var out []tlog.Hash
			for _, i := range at {
				out = append(out, hashes[i])
			}
			return out, nil
		})
		leaves := int64(0)
		for rest := content[:n]; len(rest) > 0; leaves++ {
			leaf := rest[:min(LeafBytes, len(rest))]
			rest = rest[len(leaf):]
			more, err := tlog.StoredHashes(leaves, leaf, read)
			must(t, err)
			hashes = append(hashes, more...)
		}
		want, err := tlog.TreeHash(leaves, read)
		must(t, err)
		got, size, err := LeafRoot(iotest.HalfReader(bytes.NewReader(content[:n])))
		if tlog.Hash(got) != want || size != int64(n) || err != nil {
			t.Errorf("LeafRoot(%d bytes) = %x, %d, %v; want %v", n, got, size, err, want)
		}
	}
	if _, _, err := LeafRoot(iotest.ErrReader(iotest.ErrTimeout)); err == nil {
		t.Error("LeafRoot of a broken reader gives no error")
	}
}
