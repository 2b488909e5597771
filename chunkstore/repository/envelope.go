package repository

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"slices"

	"golang.org/x/crypto/poly1305" //lint:ignore SA1019 the format is defined with Poly1305-AES
)

// An envelope is IV ‖ AES-256-CTR(plaintext) ‖ Poly1305-AES(ciphertext).
const (
	ivBytes       = aes.BlockSize
	macBytes      = poly1305.TagSize
	envelopeBytes = ivBytes + macBytes
)

// secret is a key of the format: 32 bytes for AES-256-CTR and two times 16 for Poly1305-AES. Create it with newSecret.
type secret struct {
	encrypt [32]byte
	macK    [16]byte
	macR    [16]byte

	block    cipher.Block // AES-256 under encrypt
	macBlock cipher.Block // AES-128 under macK
}

// newSecret cuts 64 bytes into a key, in the order in which scrypt yields them.
func newSecret(b *[64]byte) *secret {
	s := &secret{encrypt: [32]byte(b[:32]), macK: [16]byte(b[32:48]), macR: [16]byte(b[48:])}
	clamp(&s.macR)
	s.block, _ = aes.NewCipher(s.encrypt[:]) // 16 and 32 bytes are never refused
	s.macBlock, _ = aes.NewCipher(s.macK[:])
	return s
}

func randomSecret() *secret {
	var b [64]byte
	rand.Read(b[:])
	return newSecret(&b)
}

// clamp clears the bits of r that Poly1305 ignores, as stock restic wants to find them.
func clamp(r *[16]byte) {
	for _, i := range []int{3, 7, 11, 15} {
		r[i] &= 15
	}
	for _, i := range []int{4, 8, 12} {
		r[i] &= 252
	}
}

// seal turns buf, ivBytes of room followed by plaintext, into an envelope in place, and returns it with the MAC
// appended.
func (s *secret) seal(buf []byte) []byte {
	return s.finish(buf, buf[ivBytes:])
}

// sealed returns the envelope of plain in buf's memory if that is large enough. plain must lie elsewhere.
func (s *secret) sealed(buf, plain []byte) []byte {
	return s.finish(slices.Grow(buf[:0], len(plain)+envelopeBytes)[:ivBytes+len(plain)], plain)
}

// finish makes an envelope in buf, which is as long as IV and plain; plain lies at its place there or elsewhere.
func (s *secret) finish(buf, plain []byte) []byte {
	iv, body := buf[:ivBytes], buf[ivBytes:]
	for {
		rand.Read(iv)
		if [ivBytes]byte(iv) != [ivBytes]byte{} { // all zero is illegal
			break
		}
	}
	cipher.NewCTR(s.block, iv).XORKeyStream(body, plain)
	tag := s.mac(iv, body)
	return append(buf, tag[:]...)
}

// authentic returns the ciphertext of an envelope with its key stream, or ErrUnreadable.
func (s *secret) authentic(env []byte) (body []byte, stream cipher.Stream, err error) {
	if len(env) < envelopeBytes {
		return nil, nil, fmt.Errorf("envelope of %d bytes: %w", len(env), ErrUnreadable)
	}
	iv := [ivBytes]byte(env)
	body = env[ivBytes : len(env)-macBytes]
	tag := s.mac(iv[:], body)
	if subtle.ConstantTimeCompare(tag[:], env[len(env)-macBytes:]) != 1 || iv == [ivBytes]byte{} {
		return nil, nil, fmt.Errorf("envelope is not authentic: %w", ErrUnreadable)
	}
	return body, cipher.NewCTR(s.block, iv[:]), nil
}

// open authenticates an envelope and appends its plaintext to dst. dst may be env[:0]: then the plaintext starts where
// the IV was.
func (s *secret) open(dst, env []byte) ([]byte, error) {
	body, stream, err := s.authentic(env)
	if err != nil {
		return nil, err
	}
	start := len(dst)
	dst = append(dst, body...) // moves down when dst shares env's memory
	stream.XORKeyStream(dst[start:], dst[start:])
	return dst, nil
}

// check sees to it that env is an envelope of plain.
func (s *secret) check(env, plain []byte) error {
	if len(env) != len(plain)+envelopeBytes {
		return ErrEncoding
	}
	iv, body := env[:ivBytes], env[ivBytes:len(env)-macBytes]
	tag := s.mac(iv, body)
	if subtle.ConstantTimeCompare(tag[:], env[len(env)-macBytes:]) != 1 {
		return ErrEncoding
	}
	var piece [16 << 10]byte // stays in the processor's cache
	stream := cipher.NewCTR(s.block, iv)
	for len(body) > 0 {
		n := min(len(body), len(piece))
		stream.XORKeyStream(piece[:n], body[:n])
		if !bytes.Equal(piece[:n], plain[:n]) {
			return ErrEncoding
		}
		body, plain = body[n:], plain[n:]
	}
	return nil
}

func (s *secret) mac(iv, body []byte) (tag [macBytes]byte) {
	var key [32]byte
	copy(key[:16], s.macR[:])
	s.macBlock.Encrypt(key[16:], iv)
	poly1305.Sum(&tag, body, &key)
	return tag
}

// secretJSON is the form in which key files hold the master key.
type secretJSON struct {
	MAC struct {
		K []byte `json:"k"`
		R []byte `json:"r"`
	} `json:"mac"`
	Encrypt []byte `json:"encrypt"`
}

func (s *secret) marshal() ([]byte, error) {
	var j secretJSON
	j.MAC.K, j.MAC.R, j.Encrypt = s.macK[:], s.macR[:], s.encrypt[:]
	return json.Marshal(j)
}

func unmarshalSecret(b []byte) (*secret, error) {
	var j secretJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("master key: %w: %w", err, ErrUnreadable)
	}
	if len(j.Encrypt) != 32 || len(j.MAC.K) != 16 || len(j.MAC.R) != 16 {
		return nil, fmt.Errorf("master key has parts of wrong length: %w", ErrUnreadable)
	}
	var raw [64]byte
	copy(raw[:], j.Encrypt)
	copy(raw[32:], j.MAC.K)
	copy(raw[48:], j.MAC.R)
	return newSecret(&raw), nil
}
