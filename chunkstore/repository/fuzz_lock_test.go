package repository

import (
	"bytes"
	"testing"
)

func FuzzLock(f *testing.F) {
	s := newSecret(new([64]byte))
	for _, plain := range []string{
		`{"time":"2026-11-22T14:51:18Z","exclusive":true,"hostname":"h","username":"u","pid":7,"uid":1,"gid":1}`,
		`{"time":"9999-99-99T99:99:99Z","pid":-1}`, "null", "", "\x02junk",
	} {
		f.Add([]byte(plain))
	}
	r := &Repository{master: s}
	var err error
	if r.codec, err = newCodec(CompressOff); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(_ *testing.T, plain []byte) {
		sealed := s.seal(append(make([]byte, ivBytes), plain...))
		if info, err := r.DecodeLock(sealed); err == nil {
			_ = info.Stale() // must not panic
			_ = info.String()
		}
		_, _ = r.DecodeLock(plain)
	})
}

func FuzzMasterKey(f *testing.F) {
	b, err := MasterKey{newSecret(&[64]byte{1, 2, 3})}.Encode()
	must(f, err)
	f.Add(b)
	f.Add([]byte(`{"mac":{"k":"","r":""},"encrypt":""}`))
	f.Add([]byte(`{"mac":null,"encrypt":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseMasterKey(b)
		if err != nil {
			return
		}
		again, err := k.Encode()
		must(t, err)
		k2, err := ParseMasterKey(again)
		must(t, err)
		if got, err := k2.Encode(); err != nil || !bytes.Equal(got, again) {
			t.Errorf("key %q changes when it is written and read: %v", b, err)
		}
	})
}

// FuzzUnpacked is the way of index files and snapshots before their JSON is looked at.
func FuzzUnpacked(f *testing.F) {
	c, err := newCodec(CompressFast)
	must(f, err)
	r := &Repository{codec: c}
	f.Add([]byte("{}"))
	f.Add(c.encoder.EncodeAll([]byte("{}"), []byte{zstdMark}))
	f.Add([]byte{zstdMark, 0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0x50, 0, 0, 0, 0, 2, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := r.decodeUnpacked(b)
		if err == nil && len(out) > maxUnpackedBytes {
			t.Errorf("%d bytes came of %d", len(out), len(b))
		}
	})
}

// FuzzVerifier wants that the verifier and the decoder are of one opinion.
func FuzzVerifier(f *testing.F) {
	c, err := newCodec(CompressFast)
	must(f, err)
	r := &Repository{codec: c, master: newSecret(new([64]byte)), buffers: newBuffers()}
	plain := bytes.Repeat([]byte("text "), 100)
	f.Add(plain, uint32(0))
	f.Add(c.encoder.EncodeAll(plain, nil), uint32(len(plain)))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50, 0x03, 0x00, 0x10, 'x'}, uint32(100))
	v := r.NewVerifiers(1)[0]
	f.Fuzz(func(t *testing.T, stored []byte, uncompressed uint32) {
		if uncompressed > 1<<20 || len(stored) > 1<<20 {
			return
		}
		env := r.master.seal(append(make([]byte, ivBytes), stored...))
		b := PackedBlob{Length: uint32(len(env)), UncompressedBytes: uncompressed}
		out, err := r.DecodeBlob(nil, bytes.Clone(env), b)
		if verr := v.Verify(bytes.Clone(env), b); (verr == nil) != (err == nil) {
			t.Errorf("Verify = %v, DecodeBlob = %d bytes, %v", verr, len(out), err)
		}
	})
}
