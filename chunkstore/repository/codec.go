package repository

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"runtime"
	"slices"

	"github.com/klauspost/compress/zstd"

	"dengbei/chunkstore/digest"
)

// Compression says how much effort goes into making blobs smaller.
type Compression uint8

// The levels of compression. Reading needs none of them: any level reads all.
const (
	CompressAuto   Compression = iota // fast, and better for what [Session.SaveVersion] saves; the default
	CompressFast                      // zstd's fastest level
	CompressBetter                    // zstd's default level: about half the speed, mostly a few percent smaller
	CompressOff
)

const (
	zstdWindow = 512 << 10 // stock restic's

	// Blobs from probeMin on are probed with samples before the whole is compressed: scans and films do not shrink.
	probeMin     = 64 << 10
	probeSample  = 8 << 10
	probeSamples = 3
)

// codec turns blobs into what packs hold and back.
type codec struct {
	encoder  *zstd.Encoder // nil with CompressOff
	versions *zstd.Encoder // for new versions of what is stored; nil with CompressOff
	blobs    *zstd.Decoder // never writes past the capacity it is given
	unpacked *zstd.Decoder
}

func newCodec(c Compression) (*codec, error) {
	n := runtime.GOMAXPROCS(0)
	blobs, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(n), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(maxBlobBytes))
	if err != nil {
		return nil, err
	}
	unpacked, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpackedBytes))
	if err != nil {
		return nil, err
	}
	k := &codec{blobs: blobs, unpacked: unpacked}
	if c == CompressOff {
		return k, nil
	}
	if k.encoder, err = newEncoder(c == CompressBetter, n); err != nil {
		return nil, err
	}
	k.versions = k.encoder
	if c == CompressAuto {
		k.versions, err = newEncoder(true, n)
	}
	return k, err
}

// newEncoder returns an encoder for n goroutines at once. It takes memory only when it is used.
func newEncoder(better bool, n int) (*zstd.Encoder, error) {
	level := zstd.SpeedFastest
	if better {
		level = zstd.SpeedDefault
	}
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithWindowSize(zstdWindow),
		zstd.WithEncoderConcurrency(n), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
}

// compress appends a frame of plain, made by encoder, to dst and reports true, or returns dst and false if that saves too
// little.
func (k *codec) compress(dst, plain []byte, encoder *zstd.Encoder) ([]byte, bool) {
	if encoder == nil || len(plain) == 0 || dense(plain) || k.hopeless(plain, dst) {
		return dst, false
	}
	start := len(dst)
	out := encoder.EncodeAll(plain, dst)
	if len(out)-start > len(plain)-len(plain)/64 {
		return out[:start], false
	}
	return out, true
}

// dense reports whether plain begins like a file of a kind that is compressed already.
func dense(plain []byte) bool {
	if len(plain) < 16 {
		return false
	}
	switch string(plain[:4]) {
	case "\x89PNG", "\x28\xb5\x2f\xfd", "\xfd7zX", "7z\xbc\xaf", "Rar!":
		return true
	case "PK\x03\x04": // also OFD, OOXML and ODF; the first member may be stored, then the samples decide
		return plain[8] == 8
	}
	return plain[0] == 0xff && plain[1] == 0xd8 && plain[2] == 0xff || // JPEG
		plain[0] == 0x1f && plain[1] == 0x8b && plain[2] == 8 || // gzip
		string(plain[:3]) == "BZh" || string(plain[4:8]) == "ftyp" // bzip2; MP4 and its kin
}

// hopeless reports whether samples from all over plain do not shrink. It uses the unused capacity of room.
func (k *codec) hopeless(plain, room []byte) bool {
	if len(plain) < probeMin {
		return false
	}
	sample := room[len(room):]
	for i := range probeSamples {
		at := (len(plain) - probeSample) / (probeSamples - 1) * i
		sample = append(sample, plain[at:at+probeSample]...)
	}
	n := len(sample)
	return len(k.encoder.EncodeAll(sample, sample[n:])) > n-n/64
}

// witness is what a blob was when it was named. The sum tells cheaply whether it still is.
type witness struct {
	id  ID
	sum uint32
}

func witnessOf(plain []byte) witness {
	return witness{ID(sha256.Sum256(plain)), crc32.Checksum(plain, crc32.MakeTable(crc32.Castagnoli))}
}

// check reports whether plain is still what was named.
func (w witness) check(plain []byte) error {
	if crc32.Checksum(plain, crc32.MakeTable(crc32.Castagnoli)) != w.sum {
		return ErrEncoding
	}
	return nil
}

// encodeBlob returns the envelope of plain, which is what w was made of, built in buf's memory if that is large enough, and the
// uncompressed size for the pack's header: 0 if it is stored as it is. The envelope was decoded again and compared.
func (r *Repository) encodeBlob(buf, plain []byte, w witness, encoder *zstd.Encoder) (env []byte, uncompressed uint32, err error) {
	out, ok := r.codec.compress(append(buf[:0], make([]byte, ivBytes)...), plain, encoder)
	if ok {
		uncompressed = uint32(len(plain))
		env = r.master.seal(out)
	} else {
		env = r.master.sealed(out, plain)
	}

	// Verify what will be written, not what was meant: compressors and memory have been wrong before.
	if !ok {
		err = r.master.check(env, plain)
	} else {
		err = r.checkFrame(env, plain)
	}
	if err == nil {
		err = w.check(plain)
	}
	if err != nil {
		return env, 0, fmt.Errorf("blob %s: %w", w.id, ErrEncoding)
	}
	return env, uncompressed, nil
}

// checkFrame sees to it that the envelope env of a frame opens to plain.
func (r *Repository) checkFrame(env, plain []byte) error {
	opened := r.buffers.borrow(len(env))
	defer r.buffers.giveBack(opened)
	frame, err := r.master.open(*opened, env)
	if err != nil {
		return err
	}
	decoded := r.buffers.borrow(len(plain))
	defer r.buffers.giveBack(decoded)
	got, err := r.codec.blobs.DecodeAll(frame, (*decoded)[:0:len(plain)])
	if err == nil && !bytes.Equal(got, plain) {
		err = ErrEncoding
	}
	return err
}

// DecodeBlob opens the envelope env of blob b and returns its content, which hashes to b.ID, in dst's memory if that is
// large enough. It overwrites env, where dst must not lie. Anything else gives [ErrDamaged].
func (r *Repository) DecodeBlob(dst, env []byte, b PackedBlob) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	body, stream, err := r.master.authentic(env)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w: %w", b.ID, err, ErrDamaged)
	}
	if b.UncompressedBytes != 0 {
		stream.XORKeyStream(body, body)
		dst = slices.Grow(dst[:0], int(b.UncompressedBytes))
		dst, err = r.codec.blobs.DecodeAll(body, dst[:0:b.UncompressedBytes])
		if err != nil {
			return nil, fmt.Errorf("blob %s: decompress: %w: %w", b.ID, err, ErrDamaged)
		}
	} else {
		dst = slices.Grow(dst[:0], len(body))[:len(body)]
		stream.XORKeyStream(dst, body)
	}
	if sha256.Sum256(dst) != b.ID {
		return nil, fmt.Errorf("blob %s: %w: %w", b.ID, digest.ErrMismatch, ErrDamaged)
	}
	return dst, nil
}
