package tlog

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"golang.org/x/mod/sumdb/note"
)

const cosignatureSize = 8 + ed25519.SignatureSize

// Cosigner signs checkpoints with a time, as in C2SP tlog-cosignature, version 1 with Ed25519. It does not judge: the
// caller has recomputed the root, and has made durable what it is about to sign. A key serves one cosigner only.
type Cosigner struct {
	verifier CosignatureVerifier
	key      ed25519.PrivateKey
}

// NewCosigner returns the cosigner of that name and key.
func NewCosigner(name string, key ed25519.PrivateKey) (*Cosigner, error) {
	if !ValidKeyName(name) || len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("cosigner %.80q: want a name without blanks or + and an Ed25519 private key: %w", name, ErrMalformed)
	}
	return &Cosigner{verifier: newCosignatureVerifier(name, key.Public().(ed25519.PublicKey)), key: key}, nil
}

// Name returns the cosigner's key name.
func (c *Cosigner) Name() string { return c.verifier.name }

// VKey returns the cosigner's public key for a policy.
func (c *Cosigner) VKey() string { return c.verifier.String() }

// Cosign returns the signature line for a checkpoint's note text, saying that it was seen at the given time in seconds
// since 1970-01-01 UTC. It signs nothing that is not a checkpoint.
func (c *Cosigner) Cosign(text string, unixSeconds int64) (line string, err error) {
	if unixSeconds < 0 {
		return "", fmt.Errorf("cosign as %s: time %d is before 1970, check the clock: %w", c.Name(), unixSeconds, ErrMalformed)
	}
	if _, err := ParseCheckpoint(text); err != nil {
		return "", fmt.Errorf("cosign as %s: %w", c.Name(), err)
	}
	sig := binary.BigEndian.AppendUint64(make([]byte, 0, cosignatureSize), uint64(unixSeconds))
	sig = append(sig, ed25519.Sign(c.key, cosignedMessage(uint64(unixSeconds), text))...)
	return formatSignatureLine(c.verifier.name, c.verifier.hash, sig), nil
}

// cosignedMessage is what a version 1 cosignature signs.
func cosignedMessage(seconds uint64, text string) []byte {
	b := strconv.AppendUint([]byte("cosignature/v1\ntime "), seconds, 10)
	b = append(b, '\n')
	return append(b, text...)
}

// CosignatureVerifier checks the cosignatures of one cosigner. It implements [note.Verifier].
type CosignatureVerifier struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

var _ note.Verifier = (*CosignatureVerifier)(nil)

func newCosignatureVerifier(name string, key ed25519.PublicKey) CosignatureVerifier {
	return CosignatureVerifier{name: name, hash: keyHash(name, algCosignature, key), key: key}
}

// NewCosignatureVerifier reads a cosigner's public key.
func NewCosignatureVerifier(vkey string) (*CosignatureVerifier, error) {
	name, key, err := parseVKey(vkey, algCosignature)
	if err != nil {
		return nil, err
	}
	v := newCosignatureVerifier(name, key)
	return &v, nil
}

// Name implements [note.Verifier].
func (v *CosignatureVerifier) Name() string { return v.name }

// KeyHash implements [note.Verifier].
func (v *CosignatureVerifier) KeyHash() uint32 { return v.hash }

// String returns the verifier key.
func (v *CosignatureVerifier) String() string { return formatVKey(v.name, algCosignature, v.key) }

// Verify implements [note.Verifier]: msg is a checkpoint's text, sig the time and the signature.
func (v *CosignatureVerifier) Verify(msg, sig []byte) bool {
	if len(sig) != cosignatureSize {
		return false
	}
	seconds := binary.BigEndian.Uint64(sig)
	if seconds > math.MaxInt64 {
		return false
	}
	if _, err := ParseCheckpoint(string(msg)); err != nil {
		return false
	}
	return ed25519.Verify(v.key, cosignedMessage(seconds, string(msg)), sig[8:])
}

// VerifyLine checks one signature line over a checkpoint's text and returns the time it states, in seconds since
// 1970-01-01 UTC.
func (v *CosignatureVerifier) VerifyLine(text, line string) (unixSeconds int64, err error) {
	sig, err := parseSignatureLine(line)
	if err != nil {
		return 0, err
	}
	if sig.Name != v.name || sig.Hash != v.hash || !v.Verify([]byte(text), signatureBytes(sig)) {
		return 0, fmt.Errorf("cosignature of %s: %w", v.name, ErrSignature)
	}
	return CosignatureTime(sig)
}

// CosignatureTime returns the time stated in a cosignature, in seconds since 1970-01-01 UTC. It checks no signature.
func CosignatureTime(sig note.Signature) (int64, error) {
	b := signatureBytes(sig)
	if len(b) != cosignatureSize || binary.BigEndian.Uint64(b) > math.MaxInt64 {
		return 0, fmt.Errorf("cosignature of %s: want 8 bytes of time and 64 of signature: %w", sig.Name, ErrMalformed)
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}
