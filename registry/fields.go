package registry

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// OpenFieldCount is the number of open fields of a registration; they come before the hidden ones.
const OpenFieldCount = int(tlog.FieldRegistrant)

// HiddenFieldCount is the number of hidden fields, whose digests come ready-made with the command.
const HiddenFieldCount = tlog.RegistrationFieldCount - OpenFieldCount

// OpenFields returns the values of r's open fields, indexed by [tlog.FieldID], as the leaf commits to them.
func OpenFields(origin string, r *registrypb.Record) [OpenFieldCount]string {
	return [OpenFieldCount]string{
		tlog.FieldOrigin:       origin,
		tlog.FieldNumber:       r.GetNumber(),
		tlog.FieldRegisteredAt: FormatTime(r.GetRegisteredAtMillis()),
		tlog.FieldAuthority:    r.GetAuthority(),
		tlog.FieldSubmission:   submissionField(r.GetSubmission(), r.GetOrdinal()),
		tlog.FieldReceivedAt:   FormatTime(r.GetReceivedAtMillis()),
		tlog.FieldClass:        r.GetClass(),
		tlog.FieldDecision:     r.GetContent().GetDecisionSignature(),
	}
}

// FieldDigests returns the digests of all fields of r in the order of the commitment: the open ones are computed, the
// hidden ones are the record's.
func FieldDigests(origin string, r *registrypb.Record) ([][32]byte, error) {
	digests := make([][32]byte, 0, tlog.RegistrationFieldCount)
	content := r.GetContent()
	if len(content.GetOpenSeed()) != tlog.SeedSize || len(content.GetHidden()) != HiddenFieldCount {
		return nil, fmt.Errorf("record with %d bytes of seed and %d hidden fields: %w",
			len(content.GetOpenSeed()), len(content.GetHidden()), ErrMalformed)
	}
	// The same salts as tlog.Salt's, with the extraction done once for all fields.
	key, err := hkdf.Extract(sha256.New, content.GetOpenSeed(), nil)
	if err != nil {
		return nil, fmt.Errorf("derive salts: %w", err)
	}
	for i, value := range OpenFields(origin, r) {
		id := tlog.FieldID(i)
		info := string(binary.BigEndian.AppendUint16([]byte("dengbei/salt/v1"), uint16(id)))
		salt, err := hkdf.Expand(sha256.New, key, info, tlog.SaltSize)
		if err != nil {
			return nil, fmt.Errorf("derive salt of %s: %w", id, err)
		}
		digests = append(digests, tlog.FieldDigest(id, [tlog.SaltSize]byte(salt), []byte(value)))
	}
	for i, d := range content.GetHidden() {
		if len(d) != sha256.Size {
			return nil, fmt.Errorf("hidden field %s of %d bytes: %w", tlog.FieldID(OpenFieldCount+i), len(d), ErrMalformed)
		}
		digests = append(digests, [32]byte(d))
	}
	return digests, nil
}

// Commitment returns what r's leaf commits to.
func Commitment(origin string, r *registrypb.Record) ([32]byte, error) {
	digests, err := FieldDigests(origin, r)
	if err != nil {
		return [32]byte{}, err
	}
	return tlog.Commit(digests)
}
