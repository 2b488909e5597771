package registry

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"

	xtlog "golang.org/x/mod/sumdb/tlog"

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
	salts := newSalter(content.GetOpenSeed())
	for i, value := range OpenFields(origin, r) {
		id := tlog.FieldID(i)
		digests = append(digests, tlog.FieldDigest(id, salts.salt(id), []byte(value)))
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
	return commit(digests), nil
}

// salter derives the salts of [tlog.Salt] for one seed. Most of HKDF's work is the same for every field, and this is the
// hottest code under Apply.
type salter struct{ mac hash.Hash }

func newSalter(seed []byte) salter {
	extract := hmac.New(sha256.New, make([]byte, sha256.Size)) // RFC 5869: no salt is a hash's length of zeros
	extract.Write(seed)
	return salter{hmac.New(sha256.New, extract.Sum(nil))}
}

func (s salter) salt(id tlog.FieldID) [tlog.SaltSize]byte {
	var sum [sha256.Size]byte
	s.mac.Reset()
	s.mac.Write([]byte("dengbei/salt/v1"))
	s.mac.Write([]byte{byte(id >> 8), byte(id), 1}) // the first block of the expansion is all that is needed
	return [tlog.SaltSize]byte(s.mac.Sum(sum[:0])[:tlog.SaltSize])
}

// commit is [tlog.Commit] for hashes that fit in memory: pairing neighbours level by level and carrying an odd one up
// gives the tree of RFC 6962.
func commit(digests [][32]byte) [32]byte {
	row := make([]tlog.Hash, len(digests))
	for i, d := range digests {
		var entry [1 + sha256.Size]byte // 0x00 marks a leaf
		copy(entry[1:], d[:])
		row[i] = sha256.Sum256(entry[:])
	}
	for n := len(row); n > 1; n = (n + 1) / 2 {
		for i := range n / 2 {
			row[i] = xtlog.NodeHash(row[2*i], row[2*i+1])
		}
		if n%2 == 1 {
			row[n/2] = row[n-1]
		}
	}
	return row[0]
}
