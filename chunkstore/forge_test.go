package chunkstore_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"testing"

	"golang.org/x/crypto/poly1305" //lint:ignore SA1019 the format is defined with Poly1305-AES

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// forger writes what package repository never would, with the repository's own key: an implementation of its own of the
// parts of the format that hold everything else.
type forger struct {
	t     testing.TB
	files *chunkstore.Files
	key   struct {
		MAC     struct{ K, R []byte }
		Encrypt []byte
	}
}

func newForger(t testing.TB, repo *repository.Repository, files *chunkstore.Files) *forger {
	t.Helper()
	f := &forger{t: t, files: files}
	b, err := repo.MasterKey().Encode()
	if err == nil {
		err = json.Unmarshal(b, &f.key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// seal returns the envelope of plain.
func (f *forger) seal(plain []byte) []byte {
	f.t.Helper()
	env := make([]byte, 16+len(plain), 16+len(plain)+16)
	rand.Read(env[:16])
	block, err := aes.NewCipher(f.key.Encrypt)
	if err != nil {
		f.t.Fatal(err)
	}
	cipher.NewCTR(block, env[:16]).XORKeyStream(env[16:], plain)
	var key [32]byte
	copy(key[:16], f.key.MAC.R)
	if block, err = aes.NewCipher(f.key.MAC.K); err != nil {
		f.t.Fatal(err)
	}
	block.Encrypt(key[16:], env[:16])
	var tag [16]byte
	poly1305.Sum(&tag, env[16:], &key)
	return append(env, tag[:]...)
}

// put stores bytes under their own name.
func (f *forger) put(kind chunkstore.Kind, b []byte) chunkstore.Name {
	f.t.Helper()
	n := chunkstore.Name{Kind: kind, ID: digest.Of(b)}
	if err := f.files.PutBytes(f.t.Context(), n, b); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// unpacked stores an index or snapshot file with this JSON, or whatever else it is.
func (f *forger) unpacked(kind chunkstore.Kind, plain []byte) chunkstore.Name {
	f.t.Helper()
	return f.put(kind, f.seal(plain))
}

// forgedBlob is a blob as a pack is to hold it.
type forgedBlob struct {
	typ     repository.BlobType
	id      repository.ID // zero: the right one
	content []byte        // as stored: a frame if plain is not 0
	plain   uint32        // uncompressed length that the header claims
}

// pack stores a pack of blobs and returns its entry for an index. change, if not nil, has the last word on its bytes.
func (f *forger) pack(change func([]byte) []byte, blobs ...forgedBlob) repository.IndexedPack {
	f.t.Helper()
	var body, header []byte
	var listed []repository.PackedBlob
	for _, b := range blobs {
		if b.id.IsZero() {
			b.id = repository.IDOf(digest.Of(b.content))
		}
		env := f.seal(b.content)
		listed = append(listed, repository.PackedBlob{ID: b.id, Type: b.typ, Offset: uint32(len(body)), Length: uint32(len(env)), UncompressedBytes: b.plain})
		body = append(body, env...)
		kind := byte(b.typ)
		if b.plain != 0 {
			kind += 2
		}
		header = append(header, kind)
		header = binary.LittleEndian.AppendUint32(header, uint32(len(env)))
		if b.plain != 0 {
			header = binary.LittleEndian.AppendUint32(header, b.plain)
		}
		header = append(header, b.id[:]...)
	}
	env := f.seal(header)
	p := binary.LittleEndian.AppendUint32(append(body, env...), uint32(len(env)))
	if change != nil {
		p = change(p)
	}
	return repository.IndexedPack{ID: repository.IDOf(f.put(chunkstore.Pack, p).ID), Blobs: listed}
}

// index stores an index file.
func (f *forger) index(packs ...repository.IndexedPack) chunkstore.Name {
	f.t.Helper()
	b, err := json.Marshal(repository.IndexFile{Packs: packs})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.unpacked(chunkstore.Index, b)
}

// snapshot stores a snapshot of a tree.
func (f *forger) snapshot(tree repository.ID) digest.Digest {
	f.t.Helper()
	b, err := json.Marshal(repository.Snapshot{Tree: tree, Paths: []string{"/hostile"}, Hostname: "hostile"})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.unpacked(chunkstore.Snapshot, b).ID
}

// tree stores a snapshot of one tree with this JSON, with index and all.
func (f *forger) tree(content []byte) digest.Digest {
	f.t.Helper()
	p := f.pack(nil, forgedBlob{typ: repository.TreeBlob, content: content})
	f.index(p)
	return f.snapshot(p.Blobs[0].ID)
}

// bomb is a zstd frame that yields blocks × 128 KiB of one byte. claim, if not 0, is the size it announces.
func bomb(fill byte, blocks int, claim uint64) []byte {
	var b bytes.Buffer
	b.Write([]byte{0x28, 0xb5, 0x2f, 0xfd})
	if claim != 0 {
		b.Write([]byte{0xc0, 0x50})
		b.Write(binary.LittleEndian.AppendUint64(nil, claim))
	} else {
		b.Write([]byte{0x00, 0x50})
	}
	for i := range blocks {
		h := uint32(128<<10)<<3 | 1<<1 // a block of one byte repeated
		if i == blocks-1 {
			h |= 1
		}
		b.Write([]byte{byte(h), byte(h >> 8), byte(h >> 16), fill})
	}
	return b.Bytes()
}
