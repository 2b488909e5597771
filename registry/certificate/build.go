package certificate

import (
	"fmt"

	"dengbei/registry/tlog"
)

// HiddenFieldCount is how many fields of a registration are salted from the hidden seed; they are the last ones.
const HiddenFieldCount = tlog.RegistrationFieldCount - int(tlog.FieldRegistrant)

// Input is what a certificate is made of.
type Input struct {
	Policy       *tlog.Policy                        // the certificate must hold under it
	Values       [tlog.RegistrationFieldCount]string // indexed by tlog.FieldID
	OpenSeed     []byte                              // salts of the open fields
	HiddenSeed   []byte                              // salts of the hidden fields; nil: they stay hidden and their values are not read
	Hidden       [HiddenFieldCount][32]byte          // digests of the hidden fields as registered, from tlog.FieldRegistrant on
	Index        uint64                              // position of the leaf in the log
	Hashes       []tlog.Hash                         // inclusion proof under Checkpoint
	Checkpoint   []byte                              // countersigned note
	AuthorityKey string                              // key that made Signature
	Signature    string                              // the authority's, over the certificate statement, base64
}

// Build makes a certificate that discloses every field whose seed is given; see [Certificate.Disclose] for fewer. It
// returns only what [Verify] accepts under in.Policy: nothing is certified that does not hold. A hidden field whose value
// does not give the registered digest makes an error that names it.
func Build(in Input) ([]byte, error) {
	if in.Policy == nil {
		return nil, fmt.Errorf("build certificate: no policy to hold under: %w", tlog.ErrPolicy)
	}
	c := &Certificate{Kind: tlog.LeafRegistration, Index: in.Index, Hashes: in.Hashes, Checkpoint: in.Checkpoint,
		AuthorityKey: in.AuthorityKey, Signature: in.Signature}
	for i, value := range in.Values {
		id := tlog.FieldID(i)
		seed := in.OpenSeed
		if id.Hidden() {
			registered := in.Hidden[id-tlog.FieldRegistrant]
			if in.HiddenSeed == nil {
				c.Fields[i] = HiddenField(registered)
				continue
			}
			seed = in.HiddenSeed
		}
		f, err := NewField(id, seed, value)
		if err != nil {
			return nil, fmt.Errorf("build certificate: %w", err)
		}
		if id.Hidden() && f.Digest(id) != in.Hidden[id-tlog.FieldRegistrant] {
			return nil, fmt.Errorf("build certificate: field %s: value and seed do not give the registered digest; unseal the record again: %w", id, tlog.ErrMalformed)
		}
		c.Fields[i] = f
	}
	raw, err := c.Encode()
	if err != nil {
		return nil, err
	}
	if _, err := Verify(raw, in.Policy); err != nil {
		return nil, fmt.Errorf("build certificate: %w", err)
	}
	return raw, nil
}
