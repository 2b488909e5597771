// Package digest names content: an algorithm and its 32 bytes.
//
// SHA-256 (FIPS 180-4) names files everywhere in dengbei; SM3 (GB/T 32905) stands beside it in bags and certificates.
// Values are comparable and safe for concurrent use.
package digest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/emmansun/gmsm/sm3"
)

// ErrMismatch is returned when bytes do not hash to the digest they were announced under.
var ErrMismatch = errors.New("content does not match its digest")

// ErrSyntax is returned by [Parse] for text that is no digest.
var ErrSyntax = errors.New("malformed digest")

// Size is the length of every supported digest in bytes.
const Size = 32

// Algorithm is a supported hash function. The numbers are part of stored formats: add, never change.
type Algorithm uint8

// The supported algorithms. The zero Algorithm is none.
const (
	SHA256 Algorithm = 1
	SM3    Algorithm = 2
)

// String returns the lower-case name used in files and on the wire ("sha256", "sm3").
func (a Algorithm) String() string {
	switch a {
	case SHA256:
		return "sha256"
	case SM3:
		return "sm3"
	default:
		return fmt.Sprintf("algorithm-%d", uint8(a))
	}
}

// New returns a running hash of algorithm a. It panics if a is none of the constants.
func (a Algorithm) New() hash.Hash {
	switch a {
	case SHA256:
		return sha256.New()
	case SM3:
		return sm3.New()
	default:
		panic("digest: unknown " + a.String())
	}
}

// Digest is the name of some content. The zero Digest names nothing.
type Digest struct {
	alg Algorithm
	sum [Size]byte
}

// Of returns the SHA-256 of b.
func Of(b []byte) Digest { return Digest{SHA256, sha256.Sum256(b)} }

// OfSM3 returns the SM3 of b.
func OfSM3(b []byte) Digest { return Digest{SM3, sm3.Sum(b)} }

// FromBytes returns the digest of algorithm alg with the given 32 bytes, or [ErrSyntax].
func FromBytes(alg Algorithm, sum []byte) (Digest, error) {
	if len(sum) != Size {
		return Digest{}, fmt.Errorf("%w: %d bytes, want %d", ErrSyntax, len(sum), Size)
	}
	if alg != SHA256 && alg != SM3 {
		return Digest{}, fmt.Errorf("%w: unknown %s", ErrSyntax, alg)
	}
	d := Digest{alg: alg}
	copy(d.sum[:], sum)
	return d, nil
}

// FromHash returns the digest of what was written to h, a hash made by alg.New.
func FromHash(alg Algorithm, h hash.Hash) Digest {
	d := Digest{alg: alg}
	h.Sum(d.sum[:0])
	return d
}

// Parse reads "sha256:<64 hex>", "sm3:<64 hex>" or a bare 64 hex digits (SHA-256). Hex is lower case only, so that a
// digest has one spelling.
func Parse(s string) (Digest, error) {
	alg := SHA256
	if name, rest, ok := strings.Cut(s, ":"); ok {
		switch name {
		case "sha256":
		case "sm3":
			alg = SM3
		default:
			return Digest{}, fmt.Errorf("%w: unknown algorithm in %q", ErrSyntax, s)
		}
		s = rest
	}
	if len(s) != 2*Size || strings.ToLower(s) != s {
		return Digest{}, fmt.Errorf("%w: %q is not %d lower-case hex digits", ErrSyntax, s, 2*Size)
	}
	sum, err := hex.DecodeString(s)
	if err != nil {
		return Digest{}, fmt.Errorf("%w: %q", ErrSyntax, s)
	}
	return FromBytes(alg, sum)
}

// Algorithm returns d's algorithm, 0 for the zero Digest.
func (d Digest) Algorithm() Algorithm { return d.alg }

// Bytes returns a copy of the 32 bytes.
func (d Digest) Bytes() []byte { return bytes.Clone(d.sum[:]) }

// Hex returns 64 lower-case hex digits.
func (d Digest) Hex() string { return hex.EncodeToString(d.sum[:]) }

// String returns "<algorithm>:<hex>".
func (d Digest) String() string { return d.alg.String() + ":" + d.Hex() }

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// Compare orders digests by algorithm, then bytes.
func (d Digest) Compare(e Digest) int {
	if d.alg != e.alg {
		return int(d.alg) - int(e.alg)
	}
	return bytes.Compare(d.sum[:], e.sum[:])
}

// MarshalText implements [encoding.TextMarshaler] with [Digest.String]; the zero Digest is empty text.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler] with [Parse].
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	p, err := Parse(string(b))
	if err != nil {
		return err
	}
	*d = p
	return nil
}

// Pair hashes one stream with both algorithms in one pass. The zero Pair is not usable; see [NewPair].
type Pair struct{ sha, sm hash.Hash }

// NewPair returns an empty Pair.
func NewPair() *Pair { return &Pair{SHA256.New(), SM3.New()} }

// Write implements [io.Writer]; it never fails.
func (p *Pair) Write(b []byte) (int, error) {
	p.sha.Write(b)
	p.sm.Write(b)
	return len(b), nil
}

// Sums returns the digests of what was written so far.
func (p *Pair) Sums() (sha256, sm3 Digest) { return FromHash(SHA256, p.sha), FromHash(SM3, p.sm) }

var _ io.Writer = (*Pair)(nil)
