package identity

import (
	"bytes"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

// MaxShares bounds n of a split.
const MaxShares = 32

const (
	bundleInfo = "dengbei escrow bundle v1"
	checkInfo  = "dengbei escrow check v1"

	// bundleWorkFactor is low (2^10) because the passphrase is 256 random bits: stretching adds nothing.
	bundleWorkFactor = 10
)

// Secret opens an escrow bundle. It exists only as shares; in memory at the ceremony and at a recovery.
//
// The secret is a scalar of P-256 in 32 big-endian bytes; a share is a point of Shamir's polynomial over that field, its index
// the x. Splitting and combining are not constant time: they happen at a ceremony and at a recovery, never as an answer to
// somebody outside.
type Secret [scalarLen]byte

const scalarLen = 32

// Passphrase returns the text that opens the bundle in the age program (age -d): base32 (RFC 4648, lower case, no padding) of
// HKDF-SHA256 of the secret with no salt and info "dengbei escrow bundle v1", 32 bytes.
func (s Secret) Passphrase() string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(s.derive(bundleInfo, 32)))
}

// check returns 16 bytes that tell a right combination from a wrong one and tell nothing else.
func (s Secret) check() []byte { return s.derive(checkInfo, 16) }

func (s Secret) derive(info string, n int) []byte {
	out, err := hkdf.Key(sha256.New, s[:], nil, info, n)
	if err != nil {
		panic("identity: HKDF of a constant length: " + err.Error()) // only if n were above 255 hashes
	}
	return out
}

// Share is one officer's part of a [Secret].
type Share struct {
	Network   string // of which network
	Code      string // the centre whose keys are in the bundle
	Set       string // 32 hex digits, the same in all shares of one split
	Index     int    // 1 to 32
	Threshold int    // how many shares give the secret
	Value     [scalarLen]byte
	Check     [16]byte // the same in all shares of one split
}

// Split draws a random secret and n shares of it, of which any k give it back: 2 ≤ k ≤ n ≤ 32.
func Split(network, code string, n, k int) (Secret, []Share, error) {
	if k < 2 || k > n || n > MaxShares {
		return Secret{}, nil, fmt.Errorf("split into %d shares with threshold %d: want 2 ≤ threshold ≤ shares ≤ %d", n, k, MaxShares)
	}
	if !validName(network, maxNetworkLen, false) || !validCode(code) {
		return Secret{}, nil, fmt.Errorf("split for network %q, code %q: %w", network, code, ErrShare)
	}
	scalar := group.P256.RandomScalar(rand.Reader)
	var secret Secret
	if err := encodeScalar(secret[:], scalar); err != nil {
		return Secret{}, nil, err
	}
	var set [16]byte
	_, _ = rand.Read(set[:]) // never fails
	shares := make([]Share, n)
	for i, point := range secretsharing.New(rand.Reader, uint(k-1), scalar).Share(uint(n)) {
		s := &shares[i]
		s.Network, s.Code, s.Set, s.Index, s.Threshold = network, code, hex.EncodeToString(set[:]), i+1, k
		if err := encodeScalar(s.Value[:], point.Value); err != nil {
			return Secret{}, nil, err
		}
		copy(s.Check[:], secret.check())
	}
	return secret, shares, nil
}

// encodeScalar writes a scalar of P-256 as 32 big-endian bytes.
func encodeScalar(dst []byte, s group.Scalar) error {
	b, err := s.MarshalBinary()
	if err != nil || len(b) != scalarLen {
		return fmt.Errorf("encode a scalar of %d bytes: %w: %w", len(b), ErrShare, err)
	}
	copy(dst, b)
	return nil
}

func (s Share) validate() error {
	set, err := hex.DecodeString(s.Set)
	if err != nil || len(set) != 16 || s.Set != strings.ToLower(s.Set) || !validName(s.Network, maxNetworkLen, false) ||
		!validCode(s.Code) || s.Index < 1 || s.Index > MaxShares || s.Threshold < 2 || s.Threshold > MaxShares ||
		new(big.Int).SetBytes(s.Value[:]).Cmp(elliptic.P256().Params().N) >= 0 {
		return fmt.Errorf("share %d of %s: %w: a field is out of range", s.Index, s.Code, ErrShare)
	}
	return nil
}

// Combine returns the secret of shares; more than the threshold are welcome, and all must fit. Errors match [ErrTooFewShares],
// [ErrForeignShare], [ErrDuplicateShare] or [ErrShare].
func Combine(shares []Share) (Secret, error) {
	if len(shares) == 0 {
		return Secret{}, fmt.Errorf("combine: %w: none given", ErrTooFewShares)
	}
	first, seen := shares[0], map[int]bool{}
	for _, s := range shares {
		if err := s.validate(); err != nil {
			return Secret{}, fmt.Errorf("combine: %w", err)
		}
		if s.Network != first.Network || s.Code != first.Code || s.Set != first.Set || s.Threshold != first.Threshold || s.Check != first.Check {
			return Secret{}, fmt.Errorf("combine: %w: share %d is of %s %s, split %.8s; share %d is of %s %s, split %.8s", ErrForeignShare,
				first.Index, first.Network, first.Code, first.Set, s.Index, s.Network, s.Code, s.Set)
		}
		if seen[s.Index] {
			return Secret{}, fmt.Errorf("combine: %w: share %d", ErrDuplicateShare, s.Index)
		}
		seen[s.Index] = true
	}
	if len(shares) < first.Threshold {
		return Secret{}, fmt.Errorf("combine: %w: %d of the %d needed: ask %d more holders", ErrTooFewShares,
			len(shares), first.Threshold, first.Threshold-len(shares))
	}
	secret, err := recoverSecret(shares)
	if err != nil {
		return Secret{}, fmt.Errorf("combine: %w", err)
	}
	if subtle.ConstantTimeCompare(secret.check(), first.Check[:]) != 1 {
		return Secret{}, fmt.Errorf("combine: %w: the shares do not give the secret that was split: try another holder's in place of each",
			ErrShare)
	}
	return secret, nil
}

// recoverSecret interpolates the shares, whose indices differ. All of them take part: with more than the threshold, one
// damaged share does not go unnoticed.
func recoverSecret(shares []Share) (Secret, error) {
	points := make([]secretsharing.Share, len(shares))
	for i, s := range shares {
		points[i] = secretsharing.Share{
			ID:    group.P256.NewScalar().SetUint64(uint64(s.Index)),
			Value: group.P256.NewScalar().SetBigInt(new(big.Int).SetBytes(s.Value[:])),
		}
	}
	scalar, err := secretsharing.Recover(uint(len(points)-1), points)
	if err != nil {
		return Secret{}, fmt.Errorf("%w: %w", ErrShare, err)
	}
	var secret Secret
	if err := encodeScalar(secret[:], scalar); err != nil {
		return Secret{}, err
	}
	return secret, nil
}

// SealBundle encrypts plaintext under secret as an armored age file with a passphrase; anybody with the secret's [Secret.Passphrase]
// and the age program opens it without dengbei.
func SealBundle(secret Secret, plaintext []byte) ([]byte, error) {
	r, err := age.NewScryptRecipient(secret.Passphrase())
	if err != nil {
		return nil, fmt.Errorf("seal bundle: %w", err)
	}
	r.SetWorkFactor(bundleWorkFactor)
	return sealArmored(plaintext, r)
}

// OpenBundle returns what [SealBundle] was given. Errors match [ErrSealed].
func OpenBundle(secret Secret, bundle []byte) ([]byte, error) {
	id, err := age.NewScryptIdentity(secret.Passphrase())
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	id.SetMaxWorkFactor(bundleWorkFactor) // a forged header must not cost minutes
	out, err := openAge(armor.NewReader(bytes.NewReader(bundle)), id)
	if err != nil {
		return nil, fmt.Errorf("open bundle: %w", err)
	}
	return out, nil
}

func sealArmored(plaintext []byte, recipients ...age.Recipient) ([]byte, error) {
	if len(plaintext) > MaxSealedBytes {
		return nil, fmt.Errorf("seal: %d bytes; at most %d are sealed", len(plaintext), MaxSealedBytes)
	}
	var buf bytes.Buffer
	a := armor.NewWriter(&buf)
	if err := sealAge(a, plaintext, recipients...); err != nil {
		return nil, err
	}
	if err := a.Close(); err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return buf.Bytes(), nil
}

// shareFile is a share as written, JSON inside the age file.
type shareFile struct {
	Format    string `json:"format"`
	Network   string `json:"network"`
	Code      string `json:"code"`
	Set       string `json:"set"`
	Index     int    `json:"index"`
	Threshold int    `json:"threshold"`
	Share     string `json:"share"` // hex
	Check     string `json:"check"` // hex
}

const shareFormat = "dengbei-share-1"

// WriteShare creates path, an armored age file that only the officer behind recipient can open. A file that is there is not
// replaced: the error matches [io/fs.ErrExist].
func WriteShare(path string, s Share, recipient age.Recipient) error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("write share: %w", err)
	}
	text, err := json.Marshal(shareFile{
		Format: shareFormat, Network: s.Network, Code: s.Code, Set: s.Set, Index: s.Index, Threshold: s.Threshold,
		Share: hex.EncodeToString(s.Value[:]), Check: hex.EncodeToString(s.Check[:]),
	})
	if err != nil {
		return fmt.Errorf("write share: %w", err)
	}
	sealed, err := sealArmored(append(text, '\n'), recipient)
	if err != nil {
		return fmt.Errorf("write share: %w", err)
	}
	return createFile(path, sealed, privateMode)
}

// ReadShare opens a file that [WriteShare] created. Errors match [ErrSealed] if none of identities fits, [ErrShare] if the content
// is no share.
func ReadShare(path string, identities ...age.Identity) (Share, error) {
	data, err := readFile(path, false) // sealed: its mode protects nothing
	if err != nil {
		return Share{}, err
	}
	text, err := openAge(armor.NewReader(bytes.NewReader(data)), identities...)
	if err != nil {
		return Share{}, fmt.Errorf("read share %s: %w", path, err)
	}
	s, err := parseShare(text)
	if err != nil {
		return Share{}, fmt.Errorf("read share %s: %w", path, err)
	}
	return s, nil
}

func parseShare(text []byte) (Share, error) {
	var f shareFile
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Share{}, fmt.Errorf("%w: not the JSON of a share", ErrShare)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Share{}, fmt.Errorf("%w: something follows the JSON", ErrShare)
	}
	if f.Format != shareFormat {
		return Share{}, fmt.Errorf("%w: format %q; want %q", ErrShare, f.Format, shareFormat)
	}
	s := Share{Network: f.Network, Code: f.Code, Set: f.Set, Index: f.Index, Threshold: f.Threshold}
	value, err1 := hex.DecodeString(f.Share)
	check, err2 := hex.DecodeString(f.Check)
	if err1 != nil || err2 != nil || len(value) != len(s.Value) || len(check) != len(s.Check) {
		return Share{}, fmt.Errorf("%w: share or check is not hex of the right length", ErrShare)
	}
	copy(s.Value[:], value)
	copy(s.Check[:], check)
	return s, s.validate()
}
