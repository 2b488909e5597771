// Package certificate makes and checks registration certificates (登记证书).
//
// A certificate is one file that proves offline, to anyone with a policy file of keys, that an authority registered a
// record: the fields of the record's leaf, each with value and salt or as a bare digest; the authority's signature over
// number, position and commitment; the inclusion proof; and a checkpoint that other centres countersigned. It proves
// what was registered, when and by whom. It does not prove that the content of the record is true.
//
// The file is a C2SP tlog-proof, version 1, whose extra data is JSON in one fixed spelling. A certificate has one
// encoding: what [Parse] accepts encodes to the same bytes again, so that every changed byte is noticed.
//
// The package reads no clock and no network. Instants are printed in UTC+8.
package certificate

import (
	"bytes"
	"fmt"
	"slices"

	"dengbei/registry/tlog"
)

// Certificate is the content of one certificate. Parsing it verifies nothing; see [Verify].
type Certificate struct {
	Kind         tlog.LeafKind
	Fields       [tlog.RegistrationFieldCount]Field // indexed by tlog.FieldID
	Index        uint64                             // position of the leaf in the log, from 0
	Hashes       []tlog.Hash                        // inclusion proof
	Checkpoint   []byte                             // countersigned note
	AuthorityKey string                             // verifier key of the authority that signed the statement
	Signature    string                             // over the certificate statement, base64
}

// Field is one field of a leaf. A disclosed field has a value and a salt, from which its digest follows; a hidden one
// has its digest only.
type Field struct {
	Disclosed bool
	Value     string
	Salt      [tlog.SaltSize]byte
	Hidden    [32]byte // digest of a hidden field
}

// NewField returns a field that is disclosed: its value, with the salt derived from seed.
func NewField(id tlog.FieldID, seed []byte, value string) (Field, error) {
	salt, err := tlog.Salt(seed, id)
	if err != nil {
		return Field{}, fmt.Errorf("field %s: %w", id, err)
	}
	return Field{Disclosed: true, Value: value, Salt: salt}, nil
}

// HiddenField returns a field of which only the digest is known.
func HiddenField(digest [32]byte) Field { return Field{Hidden: digest} }

// Digest returns what the leaf's commitment holds for the field.
func (f Field) Digest(id tlog.FieldID) [32]byte {
	if !f.Disclosed {
		return f.Hidden
	}
	return tlog.FieldDigest(id, f.Salt, []byte(f.Value))
}

// AlwaysDisclosed returns the fields without which a certificate says nothing. They are never hidden.
func AlwaysDisclosed() []tlog.FieldID {
	return []tlog.FieldID{tlog.FieldOrigin, tlog.FieldNumber, tlog.FieldRegisteredAt, tlog.FieldAuthority}
}

// Value returns the value of a disclosed field.
func (c *Certificate) Value(id tlog.FieldID) (string, bool) {
	if int(id) >= len(c.Fields) || !c.Fields[id].Disclosed {
		return "", false
	}
	return c.Fields[id].Value, true
}

// Commitment returns the commitment over all fields, which is in the leaf.
func (c *Certificate) Commitment() ([32]byte, error) {
	digests := make([][32]byte, len(c.Fields))
	for i, f := range c.Fields {
		digests[i] = f.Digest(tlog.FieldID(i))
	}
	return tlog.Commit(digests)
}

// Disclose returns a certificate of the same record that shows only the given fields and [AlwaysDisclosed]; the rest is
// left as digests. It proves the same. Asking for a field that is hidden already gives an error matching [ErrHidden].
func (c *Certificate) Disclose(ids ...tlog.FieldID) (*Certificate, error) {
	for _, id := range ids {
		if _, ok := c.Value(id); !ok {
			return nil, fmt.Errorf("disclose %s: %w; start from a certificate that shows it", id, ErrHidden)
		}
	}
	keep := append(AlwaysDisclosed(), ids...)
	d := *c
	d.Hashes, d.Checkpoint = slices.Clone(c.Hashes), slices.Clone(c.Checkpoint)
	for i, f := range c.Fields {
		if id := tlog.FieldID(i); !slices.Contains(keep, id) {
			d.Fields[i] = HiddenField(f.Digest(id))
		}
	}
	return &d, nil
}

// Encode returns the certificate file. It checks the form as [Parse] does, and no signature.
func (c *Certificate) Encode() ([]byte, error) {
	if err := c.checkForm(); err != nil {
		return nil, fmt.Errorf("encode certificate: %w", err)
	}
	raw := c.encode()
	if _, err := Parse(raw); err != nil {
		return nil, fmt.Errorf("encode certificate: %w", err)
	}
	return raw, nil
}

func (c *Certificate) encode() []byte {
	return tlog.FormatProof(tlog.ProofFile{Extra: c.encodeExtra(), Index: c.Index, Hashes: c.Hashes, Checkpoint: c.Checkpoint})
}

// Parse reads a certificate file and refuses every spelling but the one that [Certificate.Encode] writes. It verifies
// nothing. An error matches [tlog.ErrMalformed].
func Parse(raw []byte) (*Certificate, error) {
	p, err := tlog.ParseProof(raw)
	if err != nil {
		return nil, err
	}
	c, err := parseExtra(p.Extra)
	if err != nil {
		return nil, err
	}
	c.Index, c.Hashes, c.Checkpoint = p.Index, p.Hashes, p.Checkpoint
	if err := c.checkForm(); err != nil {
		return nil, err
	}
	if !bytes.Equal(c.encode(), raw) {
		return nil, fmt.Errorf("certificate: not in its only spelling; it was changed, get the original: %w", tlog.ErrMalformed)
	}
	return c, nil
}
