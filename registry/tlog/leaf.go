package tlog

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	xtlog "golang.org/x/mod/sumdb/tlog"
)

// LeafKind says what a leaf is about. The numbers are part of the log: add, never change or reuse.
type LeafKind uint8

// The kinds of leaves.
const (
	LeafRegistration LeafKind = 1
)

// LeafSize is the length of every leaf in bytes.
const LeafSize = 37

const leafPrefix = "db1\n"

// Leaf returns the log entry that commits to something of the given kind: the prefix "db1\n", one byte of kind and the
// commitment. It says nothing about content.
func Leaf(kind LeafKind, commitment [32]byte) []byte {
	b := make([]byte, 0, LeafSize)
	b = append(b, leafPrefix...)
	b = append(b, byte(kind))
	return append(b, commitment[:]...)
}

// ParseLeaf is the inverse of [Leaf].
func ParseLeaf(b []byte) (LeafKind, [32]byte, error) {
	var c [32]byte
	if len(b) != LeafSize || string(b[:len(leafPrefix)]) != leafPrefix {
		return 0, c, fmt.Errorf("leaf of %d bytes: %w", len(b), ErrMalformed)
	}
	copy(c[:], b[len(leafPrefix)+1:])
	return LeafKind(b[len(leafPrefix)]), c, nil
}

// FieldID is the place of a field in a leaf's commitment. The numbers are part of the log: add at the end only.
type FieldID uint16

// The fields of a registration, in the order of the commitment. Open fields are salted from the open seed, which is
// known to every centre; hidden ones from the hidden seed, which is sealed to the owning centre and its superiors.
const (
	FieldOrigin         FieldID = 0  // open: name of the log
	FieldNumber         FieldID = 1  // open: registration number, assigned by Apply
	FieldRegisteredAt   FieldID = 2  // open: RFC 3339 with milliseconds in +08:00, assigned by Apply
	FieldAuthority      FieldID = 3  // open: code of the registering authority
	FieldSubmission     FieldID = 4  // open: submission ID, 64 hex digits, "/" and the record's ordinal from 0
	FieldReceivedAt     FieldID = 5  // open: RFC 3339 with milliseconds in +08:00, the centre's claim
	FieldClass          FieldID = 6  // open: protection class
	FieldDecision       FieldID = 7  // open: the authority's signature over its decision, base64
	FieldRegistrant     FieldID = 8  // hidden: registrant's ID and name, separated by a blank
	FieldTitle          FieldID = 9  // hidden: title (题名)
	FieldPayload        FieldID = 10 // hidden: "<bytes>.<files>", as BagIt's Payload-Oxum
	FieldManifestSHA256 FieldID = 11 // hidden: SHA-256 of the bag's manifest-sha256.txt, 64 hex digits
	FieldManifestSM3    FieldID = 12 // hidden: SM3 of the bag's manifest-sm3.txt, 64 hex digits
	FieldReport         FieldID = 13 // hidden: SHA-256 of the inspection report, 64 hex digits
	FieldMetadata       FieldID = 14 // hidden: SHA-256 of the canonical description of the record, 64 hex digits
)

// RegistrationFieldCount is how many fields a registration's commitment has.
const RegistrationFieldCount = 15

// Hidden reports whether field id of a registration is salted from the hidden seed.
func (id FieldID) Hidden() bool { return id >= FieldRegistrant }

var fieldNames = [RegistrationFieldCount]string{"origin", "number", "registered_at", "authority", "submission", "received_at", "class",
	"decision", "registrant", "title", "payload", "manifest_sha256", "manifest_sm3", "report", "metadata"}

// String returns the field's name in certificates ("manifest_sha256").
func (id FieldID) String() string {
	if int(id) < len(fieldNames) {
		return fieldNames[id]
	}
	return fmt.Sprintf("field-%d", uint16(id))
}

// SeedSize is the length of a seed in bytes. A seed comes from a cryptographic source and salts one leaf only.
const SeedSize = 32

// SaltSize is the length of a field's salt in bytes.
const SaltSize = 16

// Salt derives the salt of one field: the first 16 bytes of HKDF-SHA256 (RFC 5869) of the seed without a salt, with
// info "dengbei/salt/v1" and the field's number as two big-endian bytes.
func Salt(seed []byte, id FieldID) ([SaltSize]byte, error) {
	var salt [SaltSize]byte
	if len(seed) != SeedSize {
		return salt, fmt.Errorf("seed of %d bytes, want %d: %w", len(seed), SeedSize, ErrMalformed)
	}
	info := string(binary.BigEndian.AppendUint16([]byte("dengbei/salt/v1"), uint16(id)))
	b, err := hkdf.Key(sha256.New, seed, nil, info, SaltSize)
	if err != nil {
		return salt, fmt.Errorf("derive salt of %s: %w", id, err)
	}
	copy(salt[:], b)
	return salt, nil
}

// FieldDigest commits to one field: SHA-256 of "dengbei/field/v1", the number as two big-endian bytes, the salt, the
// value's length as four big-endian bytes, and the value.
func FieldDigest(id FieldID, salt [SaltSize]byte, value []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte("dengbei/field/v1"))
	var n [4]byte
	binary.BigEndian.PutUint16(n[:2], uint16(id))
	h.Write(n[:2])
	h.Write(salt[:])
	binary.BigEndian.PutUint32(n[:], uint32(len(value)))
	h.Write(n[:])
	h.Write(value)
	return [32]byte(h.Sum(nil))
}

// Commit returns the commitment over a leaf's field digests in field order: the RFC 6962 Merkle tree hash whose
// entries are the digests.
func Commit(digests [][32]byte) ([32]byte, error) {
	var hashes []xtlog.Hash
	read := xtlog.HashReaderFunc(func(indexes []int64) ([]xtlog.Hash, error) {
		out := make([]xtlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = hashes[x]
		}
		return out, nil
	})
	for i, d := range digests {
		more, err := xtlog.StoredHashes(int64(i), d[:], read)
		if err != nil {
			return [32]byte{}, fmt.Errorf("commit to field %d: %w", i, err)
		}
		hashes = append(hashes, more...)
	}
	root, err := xtlog.TreeHash(int64(len(digests)), read)
	if err != nil {
		return [32]byte{}, fmt.Errorf("commit to %d fields: %w", len(digests), err)
	}
	return root, nil
}
