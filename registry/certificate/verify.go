package certificate

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"dengbei/registry/tlog"
)

// Verified is what a certificate proved under a policy.
type Verified struct {
	Origin       string        // name of the log
	Number       string        // registration number
	RegisteredAt time.Time     // by the registry's clock, in UTC+8
	Authority    string        // code of the registering authority
	AuthorityKey string        // key that signed the statement
	Seq          uint64        // position in the log, from 0
	TreeSize     uint64        // leaves under the checkpoint
	Root         [32]byte      // root of the checkpoint
	Commitment   [32]byte      // of the record's fields
	Cosigned     []Cosigned    // in the policy's order
	Fields       []FieldValue  // every field, in the order of the commitment
	PayloadBytes int64         // -1 = hidden
	PayloadFiles int64         // -1 = hidden
	Decision     DecisionCheck // of the signature under the decision
}

// Cosigned says that another centre stood for the checkpoint.
type Cosigned struct {
	Witness string    // name in the policy
	Name    string    // name of the key
	At      time.Time // stated by the cosigner, in UTC+8
}

// FieldValue is one field of the record.
type FieldValue struct {
	ID        tlog.FieldID
	Disclosed bool
	Value     string // empty if hidden
}

// DecisionCheck says whether the signature under the decision was checked. A wrong one makes [Verify] fail.
type DecisionCheck struct {
	Checked bool
	Key     string         // authority key that signed it, if checked
	Missing []tlog.FieldID // hidden fields for want of which it was not
}

// Value returns the value of a disclosed field.
func (v *Verified) Value(id tlog.FieldID) (string, bool) {
	if int(id) >= len(v.Fields) || !v.Fields[id].Disclosed {
		return "", false
	}
	return v.Fields[id].Value, true
}

// Hidden returns the fields of which the certificate shows the digest only.
func (v *Verified) Hidden() []tlog.FieldID {
	var ids []tlog.FieldID
	for _, f := range v.Fields {
		if !f.Disclosed {
			ids = append(ids, f.ID)
		}
	}
	return ids
}

// Verify checks a certificate file against a policy: its form, the checkpoint's signatures, that the leaf made of its
// fields is in the log where it says, and the authority's signatures with keys that the policy gives that authority. If
// any of it fails the error is a [*RefusedError]. It needs no network and no clock.
func Verify(raw []byte, policy *tlog.Policy) (*Verified, error) {
	c, err := Parse(raw)
	if err != nil {
		return nil, refuse(RuleForm, err)
	}
	return c.verify(policy)
}

func (c *Certificate) verify(policy *tlog.Policy) (*Verified, error) {
	signed, err := policy.Open(c.Checkpoint)
	if err != nil {
		return nil, refuse(RulePolicy, err)
	}
	origin, number, authority := c.Fields[tlog.FieldOrigin].Value, c.Fields[tlog.FieldNumber].Value, c.Fields[tlog.FieldAuthority].Value
	if origin != signed.Checkpoint.Origin {
		return nil, refuse(RuleInclusion, fmt.Errorf("the record names log %s, the checkpoint is of %s: %w", origin, signed.Checkpoint.Origin, tlog.ErrPolicy))
	}
	commitment, err := c.Commitment()
	if err != nil {
		return nil, refuse(RuleInclusion, err)
	}
	proof := tlog.ProofFile{Index: c.Index, Hashes: c.Hashes}
	if err := proof.CheckInclusion(signed.Checkpoint, tlog.Leaf(c.Kind, commitment)); err != nil {
		return nil, refuse(RuleInclusion, err)
	}
	keys := policy.AuthorityKeys(authority)
	if !slices.Contains(keys, c.AuthorityKey) {
		return nil, refuse(RuleStatement, fmt.Errorf("key %.80s is none of the %d keys of authority %s in the policy; get the network's current policy file: %w",
			c.AuthorityKey, len(keys), authority, tlog.ErrPolicy))
	}
	if err := tlog.VerifyStatement(c.AuthorityKey, tlog.CertificateStatement(origin, number, c.Index, commitment), c.Signature); err != nil {
		return nil, refuse(RuleStatement, err)
	}
	decision, err := c.checkDecision(keys)
	if err != nil {
		return nil, refuse(RuleDecision, err)
	}
	registeredAt, err := parseTime(c.Fields[tlog.FieldRegisteredAt].Value)
	if err != nil {
		return nil, refuse(RuleForm, err)
	}
	v := &Verified{
		Origin: origin, Number: number, RegisteredAt: registeredAt, Authority: authority, AuthorityKey: c.AuthorityKey,
		Seq: c.Index, TreeSize: signed.Checkpoint.Size, Root: signed.Checkpoint.Root, Commitment: commitment,
		PayloadBytes: -1, PayloadFiles: -1, Decision: decision,
	}
	for _, s := range signed.Cosignatures {
		v.Cosigned = append(v.Cosigned, Cosigned{Witness: s.Witness, Name: s.Name, At: time.Unix(s.UnixSeconds, 0).In(shanghai())})
	}
	for i, f := range c.Fields {
		v.Fields = append(v.Fields, FieldValue{ID: tlog.FieldID(i), Disclosed: f.Disclosed, Value: f.Value})
	}
	if payload, ok := c.Value(tlog.FieldPayload); ok {
		if v.PayloadBytes, v.PayloadFiles, err = parsePayload(payload); err != nil {
			return nil, refuse(RuleForm, err)
		}
	}
	return v, nil
}

// checkDecision checks the decision's signature if everything that it signs is disclosed. The leaf does not name the
// key, so any key that the authority ever had will do.
func (c *Certificate) checkDecision(keys []string) (DecisionCheck, error) {
	var d DecisionCheck
	value := func(id tlog.FieldID) string {
		v, ok := c.Value(id)
		if !ok {
			d.Missing = append(d.Missing, id)
		}
		return v
	}
	signature := value(tlog.FieldDecision)
	statement := tlog.DecisionStatement(value(tlog.FieldAuthority), value(tlog.FieldSubmission),
		value(tlog.FieldManifestSHA256), value(tlog.FieldManifestSM3), value(tlog.FieldReport))
	if len(d.Missing) > 0 {
		return d, nil
	}
	tries := append([]string{c.AuthorityKey}, keys...) // most often one key signs both
	for i, key := range tries {
		if i > 0 && key == c.AuthorityKey {
			continue
		}
		err := tlog.VerifyStatement(key, statement, signature)
		if err == nil {
			return DecisionCheck{Checked: true, Key: key}, nil
		}
		if !errors.Is(err, tlog.ErrSignature) {
			return d, err
		}
	}
	return d, fmt.Errorf("no key of authority %s signed the decision that the record states: %w", c.Fields[tlog.FieldAuthority].Value, tlog.ErrSignature)
}
