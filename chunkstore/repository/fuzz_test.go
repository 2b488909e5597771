package repository

import (
	"bytes"
	"testing"
)

func FuzzHeader(f *testing.F) {
	f.Add(encodeHeader(nil, []PackedBlob{{ID: ID{1}, Length: 40}, {ID: ID{2}, Type: TreeBlob, Offset: 40, Length: 50, UncompressedBytes: 9}}), int64(90))
	f.Add([]byte{3, 0xff, 0xff, 0xff, 0xff}, int64(0))
	f.Fuzz(func(t *testing.T, h []byte, body int64) {
		blobs, err := decodeHeader(h, body)
		if err == nil && !bytes.Equal(encodeHeader(nil, blobs), h) {
			t.Errorf("header %x is read as %v", h, blobs)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"packs":[{"id":"` + ID{1}.String() + `","blobs":[{"id":"` + ID{2}.String() + `","type":"data","offset":0,"length":40}]}]}`))
	f.Add([]byte(`{"packs":[{"blobs":[{"length":4294967295,"offset":1}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		f, err := decodeIndex(b)
		if err != nil {
			return
		}
		table := newTable()
		table.addFile(f)
		for _, p := range f.Packs {
			for _, b := range p.Blobs {
				if !table.has(b.Type, b.ID) {
					t.Errorf("%v is not found", b)
				}
			}
		}
	})
}

func FuzzTree(f *testing.F) {
	f.Add([]byte(stockTree))
	f.Add([]byte(`{"nodes":[{"name":"\\x00"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := DecodeTree(b)
		if err != nil {
			return
		}
		enc, err := tree.Encode()
		if err != nil {
			return // instants with odd zones
		}
		again, err := DecodeTree(enc)
		if err != nil || len(again.Nodes) != len(tree.Nodes) {
			t.Errorf("%q is written as %q: %v", b, enc, err)
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(`{"kdf":"scrypt","N":2,"r":1,"p":1,"salt":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==","data":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`))
	f.Add([]byte(`{"kdf":"scrypt","N":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeKeyFile(b)
		if err != nil || k.N*k.R*k.P > 1<<12 {
			return
		}
		if _, err := k.open("x"); err == nil {
			t.Error("a key file made of noise opens")
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"version":2,"id":"6fc3171d4c2e3a27ec0e2bb206bd1086e7959895a6c3165115aebc6909c2c4b1","chunker_polynomial":"3541384a9a232b"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeConfig(b)
		if err != nil {
			return
		}
		enc, err := c.encode()
		must(t, err)
		if again, err := decodeConfig(enc); err != nil || again != c {
			t.Errorf("%s is written as %s: %v", b, enc, err)
		}
	})
}

func FuzzSnapshot(f *testing.F) {
	f.Add([]byte(`{"time":"2026-11-22T14:51:18Z","tree":"` + ID{1}.String() + `","paths":["/x"]}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = decodeSnapshot(b) // must not panic
	})
}

func FuzzEnvelope(f *testing.F) {
	s := newSecret(new([64]byte))
	f.Add(s.seal(make([]byte, 20)))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = s.open(b[:0], b) // must not panic
	})
}
