package repository

import (
	"encoding/hex"
	"fmt"

	"dengbei/chunkstore/digest"
)

// ID names a blob: the SHA-256 of its plaintext. As text it is 64 lower-case hex digits.
type ID [digest.Size]byte

// ParseID reads 64 lower-case hex digits.
func ParseID(s string) (ID, error) {
	var id ID
	err := id.UnmarshalText([]byte(s))
	return id, err
}

// IDOf returns d as an ID.
func IDOf(d digest.Digest) ID { return ID(d.Bytes()) }

// Digest returns id as a SHA-256 digest.
func (id ID) Digest() digest.Digest {
	d, _ := digest.FromBytes(digest.SHA256, id[:]) // the length is right by type
	return d
}

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// String returns 64 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (id ID) MarshalText() ([]byte, error) {
	return hex.AppendEncode(make([]byte, 0, 2*len(id)), id[:]), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *ID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return fmt.Errorf("ID of %d characters, want %d: %w", len(b), 2*len(id), digest.ErrSyntax)
	}
	for _, c := range b {
		if c >= 'A' && c <= 'F' {
			return fmt.Errorf("ID %q: %w", b, digest.ErrSyntax)
		}
	}
	if _, err := hex.Decode(id[:], b); err != nil {
		return fmt.Errorf("ID %q: %w", b, digest.ErrSyntax)
	}
	return nil
}
