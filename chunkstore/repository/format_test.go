package repository

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore/digest"
)

func TestEnvelope(t *testing.T) {
	s := randomSecret()
	for _, n := range []int{0, 1, 15, 16, 17, 1000} {
		plain := noise("p", n)
		env := s.seal(append(make([]byte, ivBytes), plain...))
		if len(env) != n+32 {
			t.Errorf("envelope of %d bytes takes %d", n, len(env))
		}
		got, err := s.open(nil, env)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("open(seal(%d bytes)) = %x, %v", n, got, err)
		}
		for i := range env {
			bad := bytes.Clone(env)
			bad[i] ^= 0x80
			if _, err := s.open(nil, bad); !errors.Is(err, ErrUnreadable) {
				t.Fatalf("open with byte %d of %d changed = %v; want ErrUnreadable", i, len(env), err)
			}
		}
		if _, err := s.open(nil, env[:31]); !errors.Is(err, ErrUnreadable) {
			t.Errorf("open of 31 bytes = %v; want ErrUnreadable", err)
		}
	}
}

// A tree that stock restic 0.14 wrote.
const stockTree = `{"nodes":[{"name":"a","type":"file","mode":420,"mtime":"2026-11-22T14:51:15.738523509Z","atime":"2026-11-22T14:51:15.738523509Z","ctime":"2026-11-22T14:51:15.738523509Z","uid":0,"gid":0,"user":"root","group":"root","inode":10003208,"device_id":65024,"size":6,"links":1,"content":["5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"]},{"name":"l","type":"symlink","mode":134218239,"mtime":"2026-11-22T14:51:15.742523509Z","atime":"2026-11-22T14:51:15.742523509Z","ctime":"2026-11-22T14:51:15.742523509Z","uid":0,"gid":0,"user":"root","group":"root","inode":10003209,"device_id":65024,"links":1,"linktarget":"a","content":null}]}
`

func TestTreesAreEqualToStock(t *testing.T) {
	tree, err := DecodeTree([]byte(stockTree))
	must(t, err)
	b, err := tree.Encode()
	must(t, err)
	if string(b) != stockTree {
		t.Errorf("Encode(DecodeTree(x)) = %s; want %s", b, stockTree)
	}
	if b, err := (&Tree{}).Encode(); string(b) != "{\"nodes\":[]}\n" || err != nil {
		t.Errorf("Encode(empty) = %q, %v", b, err)
	}
	if tree.Find("l") == nil || tree.Find("b") != nil {
		t.Error("Find does not find")
	}
}

func TestNodeNames(t *testing.T) {
	for _, name := range []string{"plain", "with \"quotes\"", "back\\slash", "line\nfeed", "latin-\xe9", "登记", "<&>", "\u2028", "\x01"} {
		tree := &Tree{Nodes: []Node{{Name: name, Type: TypeSymlink, LinkTarget: name, ModTime: time.Now().Round(0)}}}
		b, err := tree.Encode()
		must(t, err)
		got, err := DecodeTree(b)
		if err != nil || got.Nodes[0].Name != name || got.Nodes[0].LinkTarget != name {
			t.Errorf("decode(encode(%q)) = %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00b"} {
		if err := (&Node{Name: name}).CheckName(); !errors.Is(err, ErrName) {
			t.Errorf("CheckName(%q) = %v; want ErrName", name, err)
		}
	}
	for _, names := range [][]string{{"b", "a"}, {"a", "a"}} {
		tree := &Tree{Nodes: []Node{{Name: names[0]}, {Name: names[1]}}}
		if _, err := tree.Encode(); !errors.Is(err, ErrUnreadable) {
			t.Errorf("Encode(%q) = %v; want ErrUnreadable", names, err)
		}
	}
	for _, year := range []int{-5, 0, 9999, 12000} {
		tree := &Tree{Nodes: []Node{{Name: "x", ModTime: time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)}}}
		if _, err := tree.Encode(); err != nil {
			t.Errorf("Encode with year %d = %v", year, err)
		}
	}
}

func TestHeaders(t *testing.T) {
	blobs := []PackedBlob{
		{ID: ID{1}, Type: DataBlob, Offset: 0, Length: 50},
		{ID: ID{2}, Type: TreeBlob, Offset: 50, Length: 60, UncompressedBytes: 1000},
	}
	h := encodeHeader(nil, blobs)
	if len(h) != 37+41 || headerSize(blobs) != 32+37+41+4 {
		t.Errorf("header of %d bytes, headerSize %d", len(h), headerSize(blobs))
	}
	got, err := decodeHeader(h, 110)
	if err != nil || len(got) != 2 || got[0] != blobs[0] || got[1] != blobs[1] {
		t.Errorf("decodeHeader = %v, %v; want %v", got, err, blobs)
	}
	kind := bytes.Clone(h)
	kind[0] = 4
	for what, bad := range map[string]struct {
		h    []byte
		body int64
	}{
		"too short a pack": {h, 109}, "too long a pack": {h, 111}, "cut entry": {h[:77], 110}, "unknown type": {kind, 110},
	} {
		if got, err := decodeHeader(bad.h, bad.body); !errors.Is(err, ErrUnreadable) {
			t.Errorf("decodeHeader(%s) = %v, %v; want ErrUnreadable", what, got, err)
		}
	}
}

func TestKeyFilesThatCostTooMuch(t *testing.T) {
	for _, c := range []Scrypt{{1 << 30, 8, 1}, {1 << 40, 1, 1}, {1024, 1 << 40, 1}, {1024, 8, 1 << 20}, {32768, 8, 33}, {1023, 8, 1}, {0, 8, 1}, {1024, 0, 1}, {1024, 8, 0}, {-2, -8, -1}} {
		if err := c.check(); !errors.Is(err, ErrUnreadable) {
			t.Errorf("%+v.check() = %v; want ErrUnreadable", c, err)
		}
	}
	for _, c := range []Scrypt{{32768, 8, 1}, {32768, 8, 5}, {65536, 8, 11}} {
		must(t, c.check())
	}
}

func TestConfigs(t *testing.T) {
	const stock = `{"version":2,"id":"6fc3171d4c2e3a27ec0e2bb206bd1086e7959895a6c3165115aebc6909c2c4b1","chunker_polynomial":"3541384a9a232b","append_only":true}`
	c, err := decodeConfig([]byte(stock))
	must(t, err)
	if c.Chunks != StandardChunks() || c.ID.String()[:4] != "6fc3" {
		t.Errorf("decodeConfig(stock) = %+v", c)
	}
	b, err := c.encode()
	must(t, err)
	if string(b) != strings.Replace(stock, `,"append_only":true`, "", 1) {
		t.Errorf("encode() = %s; want what stock restic writes", b)
	}
	for _, bad := range []string{
		``, `null`, `{}`, strings.Replace(stock, "2,", "1,", 1), strings.Replace(stock, "3541384a9a232b", "3541384a9a232a", 1),
		strings.Replace(stock, "3541384a9a232b", "1", 1), strings.Replace(stock, "6fc3", "", 1),
		strings.Replace(stock, `"append_only":true`, `"dengbei_chunks":{"min_bytes":1,"max_bytes":2}`, 1),
	} {
		if c, err := decodeConfig([]byte(bad)); err == nil {
			t.Errorf("decodeConfig(%s) = %+v; want an error", bad, c)
		}
	}
}

func TestIDs(t *testing.T) {
	id := IDOf(digest.Of(nil))
	if got, err := ParseID(id.String()); got != id || err != nil {
		t.Errorf("ParseID(%s) = %s, %v", id, got, err)
	}
	if id.Digest() != digest.Of(nil) {
		t.Error("Digest() differs")
	}
	for _, s := range []string{"", id.String()[1:], strings.ToUpper(id.String()), strings.Repeat("x", 64)} {
		if _, err := ParseID(s); !errors.Is(err, digest.ErrSyntax) {
			t.Errorf("ParseID(%q) = %v; want digest.ErrSyntax", s, err)
		}
	}
}
