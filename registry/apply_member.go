package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	"dengbei/registry/registrypb"
)

const keyBytes = 32 // length of an Ed25519 public key

func (t *tx) foundNetwork(c *registrypb.FoundNetwork) Result {
	if t.net != nil {
		return refuse(RejectFounded, "network %s", t.net.GetName())
	}
	f := c.GetFounder()
	if c.GetName() == "" || !validID(c.GetOrigin()) || !validMember(f) {
		return refuse(RejectMalformed, "network %q, log %q, founder %q", c.GetName(), c.GetOrigin(), f.GetCode())
	}
	t.net = &registrypb.Network{Name: c.GetName(), Origin: c.GetOrigin(), CaCertificate: c.GetCaCertificate(),
		LogVkey: c.GetLogVkey(), Quorum: c.GetQuorum(), FoundedAtMillis: t.meta.now}
	t.store(key(keyNetwork), t.net)
	return Result{Member: t.addMember(f, true)}
}

// validMember checks what the state relies on. Whether names and keys make sense is checked before the append.
func validMember(m *registrypb.Member) bool {
	return validCode(m.GetCode()) && len(m.GetCredentialSha256()) == sha256.Size && len(m.GetReceiptKey()) == keyBytes
}

// addMember makes m an active member with the next serial and returns its server ID.
func (t *tx) addMember(m *registrypb.Member, voter bool) string {
	t.meta.serial++
	m = proto.CloneOf(m)
	m.Serial, m.Voter, m.EnrolledAtMillis, m.RevokedAtMillis, m.RevokedReason = t.meta.serial, voter, t.meta.now, 0, ""
	t.store(memberKey(m.GetCode(), m.GetSerial()), m)
	t.setValue(key(keyPlace, m.GetCode()), placeValue(m.GetSerial(), true))
	return MemberID(m)
}

func memberKey(code string, serial uint64) []byte { return key(keyMember, code, serial) }

// placeValue says which member of a code is the newest, and whether it is active.
func placeValue(serial uint64, active bool) []byte {
	b := binary.BigEndian.AppendUint64(nil, serial)
	if active {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodePlace(b []byte) (serial uint64, active bool) {
	if len(b) != 9 {
		return 0, false
	}
	return binary.BigEndian.Uint64(b), b[8] == 1
}

// member returns the active member of a code.
func (t *tx) member(code string) (*registrypb.Member, bool) {
	if !validCode(code) {
		return nil, false
	}
	v, _ := t.value(key(keyPlace, code))
	serial, active := decodePlace(v)
	if !active {
		return nil, false
	}
	return load(t, memberKey(code, serial), &registrypb.Member{})
}

// everMember reports whether a code has or had a member.
func (t *tx) everMember(code string) bool {
	if !validCode(code) {
		return false
	}
	_, ok := t.value(key(keyPlace, code))
	return ok
}

func (t *tx) inviteMember(c *registrypb.InviteMember) Result {
	if len(c.GetTokenSha256()) != sha256.Size || !validCode(c.GetCode()) || !validMillis(c.GetExpiresAtMillis()) {
		return refuse(RejectMalformed, "invitation for %q", c.GetCode())
	}
	k := key(keyInvitation, c.GetTokenSha256())
	if known, ok := load(t, k, &registrypb.Invitation{}); ok {
		if proto.Equal(known.GetInvite(), c) {
			return Result{Existing: true} // a retry; it must not revoke the member that enrolled meanwhile
		}
		return refuse(RejectInvitationUsed, "invitation for %s", c.GetCode())
	}
	if c.GetExpiresAtMillis() <= t.meta.now {
		return refuse(RejectInvitationExpired, "invitation for %s", c.GetCode())
	}
	if m, ok := t.member(c.GetCode()); ok {
		if !c.GetReplace() {
			return refuse(RejectActiveMember, "centre %s", c.GetCode())
		}
		t.revoke(m, "replaced")
	}
	t.store(k, &registrypb.Invitation{Invite: c})
	return Result{}
}

func (t *tx) enrolMember(c *registrypb.EnrolMember) Result {
	m := c.GetMember()
	if len(c.GetTokenSha256()) != sha256.Size || !validMember(m) {
		return refuse(RejectMalformed, "enrolment of %q", m.GetCode())
	}
	k := key(keyInvitation, c.GetTokenSha256())
	inv, ok := load(t, k, &registrypb.Invitation{})
	if !ok || inv.GetInvite().GetCode() != m.GetCode() || inv.GetInvite().GetVoter() != m.GetVoter() {
		return refuse(RejectInvitation, "centre %s", m.GetCode())
	}
	if serial := inv.GetUsedBySerial(); serial != 0 {
		known, ok := load(t, memberKey(m.GetCode(), serial), &registrypb.Member{})
		if ok && bytes.Equal(known.GetCredentialSha256(), m.GetCredentialSha256()) {
			return Result{Existing: true, Member: MemberID(known)}
		}
		return refuse(RejectInvitationUsed, "centre %s", m.GetCode())
	}
	if inv.GetInvite().GetExpiresAtMillis() <= t.meta.now {
		return refuse(RejectInvitationExpired, "centre %s", m.GetCode())
	}
	if _, active := t.member(m.GetCode()); active {
		return refuse(RejectActiveMember, "centre %s", m.GetCode())
	}
	id := t.addMember(m, inv.GetInvite().GetVoter())
	t.store(k, &registrypb.Invitation{Invite: inv.GetInvite(), UsedBySerial: t.meta.serial})
	return Result{Member: id}
}

func (t *tx) revokeMember(c *registrypb.RevokeMember) Result {
	if !validCode(c.GetCode()) {
		return refuse(RejectMalformed, "revocation of %q", c.GetCode())
	}
	m, ok := load(t, memberKey(c.GetCode(), c.GetSerial()), &registrypb.Member{})
	if !ok {
		return refuse(RejectNotMember, "%s", ServerID(c.GetCode(), c.GetSerial()))
	}
	if m.GetRevokedAtMillis() != 0 {
		return Result{Existing: true, Member: MemberID(m)}
	}
	t.revoke(m, c.GetReason())
	return Result{Member: MemberID(m)}
}

func (t *tx) revoke(m *registrypb.Member, reason string) {
	m = proto.CloneOf(m)
	m.RevokedAtMillis, m.RevokedReason = max(t.meta.now, 1), reason // 0 would mean active
	t.store(memberKey(m.GetCode(), m.GetSerial()), m)
	t.setValue(key(keyPlace, m.GetCode()), placeValue(m.GetSerial(), false))
}

func (t *tx) putEscrow(c *registrypb.PutEscrow) Result {
	if len(c.GetBundle()) == 0 || c.GetThreshold() == 0 || c.GetThreshold() > c.GetShares() || c.GetShares() > 255 {
		return refuse(RejectMalformed, "escrow of %q: %d of %d shares", c.GetCode(), c.GetThreshold(), c.GetShares())
	}
	if _, ok := t.member(c.GetCode()); !ok {
		return refuse(RejectNotMember, "centre %q", c.GetCode())
	}
	t.write(key(keyEscrow, c.GetCode()), marshal(&registrypb.Escrow{Code: c.GetCode(), Bundle: c.GetBundle(),
		Threshold: c.GetThreshold(), Shares: c.GetShares(), RegisteredAtMillis: t.meta.now}))
	return Result{}
}
