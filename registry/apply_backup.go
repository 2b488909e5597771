package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"

	"google.golang.org/protobuf/proto"

	"dengbei/registry/registrypb"
)

func (t *tx) putRegistrant(c *registrypb.PutRegistrant) Result {
	r := c.GetRegistrant()
	code, short, _ := strings.Cut(r.GetId(), "/")
	if !validID(r.GetId()) || !validCode(code) || short == "" || !validCode(r.GetAuthority()) ||
		r.GetName() == "" || len(r.GetPublicKey()) != keyBytes {
		return refuse(RejectMalformed, "registrant %q of %q", r.GetId(), r.GetAuthority())
	}
	known, ok := load(t, key(keyRegistrant, r.GetId()), &registrypb.Registrant{})
	if ok && proto.Equal(known, r) {
		return Result{Existing: true}
	}
	t.store(key(keyRegistrant, r.GetId()), r)
	return Result{}
}

func (t *tx) putAgreement(c *registrypb.PutAgreement) Result {
	a := c.GetAgreement()
	if !validID(a.GetId()) || a.GetOwner() == a.GetHolder() || !validMillis(a.GetFromMillis()) || !validMillis(a.GetUntilMillis()) ||
		(a.GetClass() != "" && !validID(a.GetClass())) || (a.GetUntilMillis() != 0 && a.GetUntilMillis() <= a.GetFromMillis()) {
		return refuse(RejectMalformed, "agreement %q", a.GetId())
	}
	for _, code := range []string{a.GetOwner(), a.GetHolder()} {
		if !t.everMember(code) {
			return refuse(RejectNotMember, "agreement %s: centre %q", a.GetId(), code)
		}
	}
	k := key(keyAgreement, a.GetId())
	known, ok := load(t, k, &registrypb.Agreement{})
	switch {
	case ok && proto.Equal(known, a):
		return Result{Existing: true}
	case ok && (known.GetOwner() != a.GetOwner() || known.GetHolder() != a.GetHolder() || known.GetClass() != a.GetClass()):
		return refuse(RejectAgreementExists, "agreement %s", a.GetId())
	case !ok:
		parties := key(keyParties, a.GetOwner(), a.GetHolder())
		ids, _ := t.value(parties)
		t.setValue(parties, append(append(bytes.Clone(ids), a.GetId()...), 0))
	}
	t.store(k, a)
	return Result{}
}

// covered reports whether an agreement in force lets holder keep repository r.
func (t *tx) covered(holder string, r *registrypb.Repository) bool {
	ids, _ := t.value(key(keyParties, r.GetOwner(), holder))
	for id := range bytes.SplitSeq(ids, []byte{0}) {
		a, ok := load(t, key(keyAgreement, id), &registrypb.Agreement{})
		if ok && InForce(a, t.meta.now) && (a.GetClass() == "" || a.GetClass() == r.GetClass()) {
			return true
		}
	}
	return false
}

// InForce reports whether an agreement binds at an instant.
func InForce(a *registrypb.Agreement, millis int64) bool {
	return !a.GetEnded() && a.GetFromMillis() <= millis && (a.GetUntilMillis() == 0 || millis < a.GetUntilMillis())
}

func (t *tx) putRepository(c *registrypb.PutRepository) Result {
	r := c.GetRepository()
	if !validID(r.GetId()) || r.GetId() != RepositoryID(r.GetOwner(), r.GetClass(), r.GetEpoch()) || !validCode(r.GetOwner()) || !validID(r.GetClass()) {
		return refuse(RejectMalformed, "repository %q", r.GetId())
	}
	if known, ok := load(t, key(keyRepository, r.GetId()), &registrypb.Repository{}); ok {
		if proto.Equal(known, r) {
			return Result{Existing: true}
		}
		return refuse(RejectRepositoryExists, "repository %s", r.GetId())
	}
	if _, ok := t.member(r.GetOwner()); !ok {
		return refuse(RejectNotMember, "repository %s: centre %s", r.GetId(), r.GetOwner())
	}
	t.store(key(keyRepository, r.GetId()), r)
	return Result{}
}

func validManifest(m *registrypb.Manifest) bool {
	return len(m.GetDigest()) == sha256.Size && len(m.GetSetRoot()) == sha256.Size && validHex(m.GetSnapshot(), 64) &&
		(len(m.GetParent()) == 0 || len(m.GetParent()) == sha256.Size)
}

// manifest finds the manifest of a submission, or checks that it can follow. Sequence is 0 for one that is not stored.
func (t *tx) manifest(r *registrypb.Repository, m *registrypb.Manifest) (*registrypb.Manifest, Result) {
	if at, ok := t.value(key(keyDocument, m.GetDigest())); ok {
		if string(at[8:]) == r.GetId() {
			known, ok := load(t, manifestKey(r.GetId(), binary.BigEndian.Uint64(at)), &registrypb.Manifest{})
			want := proto.CloneOf(m)
			want.Sequence = known.GetSequence()
			if ok && proto.Equal(known, want) {
				return known, Result{}
			}
		}
		return nil, refuse(RejectManifestExists, "manifest %x of %s", m.GetDigest(), r.GetId())
	}
	head, _ := t.value(key(keyHead, r.GetId()))
	sequence, digest := decodeHead(head)
	if !bytes.Equal(m.GetParent(), digest) {
		return nil, refuse(RejectStaleManifest, "repository %s: newest is %d %s, parent given is %q",
			r.GetId(), sequence, hex.EncodeToString(digest), hex.EncodeToString(m.GetParent()))
	}
	return m, Result{}
}

// addManifest makes m the newest of its repository and returns its sequence.
func (t *tx) addManifest(m *registrypb.Manifest) uint64 {
	head, _ := t.value(key(keyHead, m.GetRepository()))
	sequence, _ := decodeHead(head)
	sequence++
	m = proto.CloneOf(m)
	m.Sequence = sequence
	t.store(manifestKey(m.GetRepository(), sequence), m)
	at := binary.BigEndian.AppendUint64(nil, sequence)
	t.setValue(key(keyDocument, m.GetDigest()), append(bytes.Clone(at), m.GetRepository()...))
	t.setValue(key(keyHead, m.GetRepository()), append(bytes.Clone(at), m.GetDigest()...))
	return sequence
}

func manifestKey(repository string, sequence uint64) []byte {
	return key(keyManifest, repository, byte(0), sequence)
}

func decodeHead(b []byte) (sequence uint64, digest []byte) {
	if len(b) < 8 {
		return 0, nil
	}
	return binary.BigEndian.Uint64(b), b[8:]
}

func (t *tx) putReceipt(c *registrypb.PutReceipt) Result {
	r := c.GetReceipt()
	if !validID(r.GetRepository()) || len(r.GetManifest()) != sha256.Size || !validMillis(r.GetVerifiedAtMillis()) {
		return refuse(RejectMalformed, "receipt of %q for %q", r.GetHolder(), r.GetRepository())
	}
	repository, ok := load(t, key(keyRepository, r.GetRepository()), &registrypb.Repository{})
	if !ok {
		return refuse(RejectUnknownRepository, "receipt for %s", r.GetRepository())
	}
	holder, ok := t.member(r.GetHolder())
	if !ok || holder.GetSerial() != r.GetHolderSerial() {
		return refuse(RejectNotMember, "receipt of %q", ServerID(r.GetHolder(), r.GetHolderSerial()))
	}
	if !t.covered(r.GetHolder(), repository) {
		return refuse(RejectNoAgreement, "receipt of %s for %s", r.GetHolder(), r.GetRepository())
	}
	at, _ := t.value(key(keyDocument, r.GetManifest()))
	sequence, id := decodeHead(at)
	m, ok := load(t, manifestKey(r.GetRepository(), sequence), &registrypb.Manifest{})
	if !ok || string(id) != r.GetRepository() || sequence != r.GetManifestSequence() ||
		!bytes.Equal(m.GetSetRoot(), r.GetSetRoot()) || m.GetFiles() != r.GetFiles() || m.GetSizeBytes() != r.GetSizeBytes() {
		return refuse(RejectUnknownManifest, "receipt of %s for manifest %x of %s", r.GetHolder(), r.GetManifest(), r.GetRepository())
	}
	newest := key(keyReceipt, r.GetRepository(), byte(0), r.GetHolder())
	known, ok := load(t, newest, &registrypb.Receipt{})
	r = proto.CloneOf(r)
	if ok {
		r.RegisteredAtMillis = known.GetRegisteredAtMillis()
		if proto.Equal(known, r) {
			return Result{Existing: true, Sequence: sequence}
		}
	}
	r.RegisteredAtMillis = t.meta.now
	t.write(key(keyHistory, r.GetRepository(), byte(0), r.GetHolder(), sequence), marshal(r))
	if !ok || known.GetHolderSerial() != r.GetHolderSerial() || known.GetManifestSequence() <= sequence {
		t.store(newest, r)
	}
	return Result{Sequence: sequence}
}
