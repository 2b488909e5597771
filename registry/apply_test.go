package registry

import (
	"encoding/base64"
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"dengbei/registry/registrypb"
)

// change returns a clone of m after f.
func change[T proto.Message](m T, f func(T)) T {
	m = proto.CloneOf(m)
	f(m)
	return m
}

func TestApplyRefusals(t *testing.T) {
	founding := testFounding()
	signed := &registrypb.SignStatement{Authority: shangcheng, Vkey: testMember(shangcheng, false, 1).GetAuthorityVkey(),
		Signatures: []*registrypb.StatementSignature{{Seq: 0, Signature: "c2ln"}}}
	full := slices.Clip(append(testNetwork(), cmd(started, testSubmission("s1", 3, 1)), cmd(started, testReceipt(1, 3))))
	for _, tt := range []struct {
		name   string
		before []*registrypb.Command // nil = full
		give   *registrypb.Command
		want   error
	}{
		{"anything before the founding", []*registrypb.Command{}, cmd(started, testRegistrant(shangcheng+"/rsj")), ErrNotFounded},
		{"founding by a code of five digits", []*registrypb.Command{},
			cmd(started, change(founding, func(c *registrypb.FoundNetwork) { c.Founder.Code = "33010" })), ErrMalformed},
		{"second founding", nil, cmd(started, founding), ErrFounded},
		{"time before 1970", nil, cmd(-1, testRegistrant(shangcheng+"/x")), ErrMalformed},
		{"time after the year 9999", nil, cmd(maxMillis+1, testRegistrant(shangcheng+"/x")), ErrMalformed},

		{"invitation with a short token", nil, cmd(started, &registrypb.InviteMember{TokenSha256: []byte{1}, Code: "330106"}), ErrMalformed},
		{"invitation that is over", nil, cmd(started+8*day, testInvitation("330106", 1, false)), ErrInvitationExpired},
		{"invitation of an active member", nil, cmd(started, testInvitation(wenzhou, 2, false)), ErrActiveMember},
		{"one token for two centres", nil, cmd(started, change(testInvitation(wenzhou, 1, false),
			func(c *registrypb.InviteMember) { c.Code = "330106" })), ErrInvitationUsed},
		{"enrolment with an unknown token", nil, cmd(started, testEnrolment("330106", 1)), ErrInvitation},
		{"enrolment as voter with an invitation for a non-voter", append(testNetwork(), cmd(started, testInvitation("330106", 1, false))),
			cmd(started, change(testEnrolment("330106", 1), func(c *registrypb.EnrolMember) { c.Member.Voter = true })), ErrInvitation},
		{"enrolment of another centre", append(testNetwork(), cmd(started, testInvitation("330106", 1, false))),
			cmd(started, change(testEnrolment("330106", 1), func(c *registrypb.EnrolMember) { c.Member.Code = "330105" })), ErrInvitation},
		{"enrolment at the end of the invitation", append(testNetwork(), cmd(started, testInvitation("330106", 1, false))),
			cmd(started+7*day, testEnrolment("330106", 1)), ErrInvitationExpired},
		{"enrolment with a token used by another credential", nil,
			cmd(started, change(testEnrolment(wenzhou, 1), func(c *registrypb.EnrolMember) { c.Member.CredentialSha256 = digestOf("x") })), ErrInvitationUsed},
		{"enrolment without a receipt key", append(testNetwork(), cmd(started, testInvitation("330106", 1, false))),
			cmd(started, change(testEnrolment("330106", 1), func(c *registrypb.EnrolMember) { c.Member.ReceiptKey = nil })), ErrMalformed},
		{"two open invitations, one place", append(testNetwork(), cmd(started, testInvitation("330106", 1, false)),
			cmd(started, testInvitation("330106", 2, false)), cmd(started, testEnrolment("330106", 1))),
			cmd(started, testEnrolment("330106", 2)), ErrActiveMember},
		{"revocation of a serial that never was", nil, cmd(started, &registrypb.RevokeMember{Code: wenzhou, Serial: 9}), ErrNotMember},

		{"registrant whose ID names no code", nil, cmd(started, change(testRegistrant(shangcheng+"/x"),
			func(r *registrypb.Registrant) { r.Id = "rsj" })), ErrMalformed},
		{"registrant without a key", nil, cmd(started, change(testRegistrant(shangcheng+"/x"),
			func(r *registrypb.Registrant) { r.PublicKey = nil })), ErrMalformed},
		{"agreement with oneself", nil, cmd(started, change(testAgreement("a2"),
			func(a *registrypb.Agreement) { a.Holder = a.Owner })), ErrMalformed},
		{"agreement that ends before it begins", nil, cmd(started, change(testAgreement("a2"),
			func(a *registrypb.Agreement) { a.UntilMillis = a.FromMillis })), ErrMalformed},
		{"agreement with a centre that never enrolled", nil, cmd(started, change(testAgreement("a2"),
			func(a *registrypb.Agreement) { a.Holder = "330106" })), ErrNotMember},
		{"agreement turned over to another holder", nil, cmd(started, change(testAgreement("a1"),
			func(a *registrypb.Agreement) { a.Holder = hangzhou })), ErrAgreementExists},
		{"repository whose ID is not its own", nil, cmd(started, change(testRepository(shangcheng, 2),
			func(r *registrypb.Repository) { r.Epoch = 3 })), ErrMalformed},
		{"repository with other content", nil, cmd(started, change(testRepository(shangcheng, 1),
			func(r *registrypb.Repository) { r.Files[0].Content = []byte("x") })), ErrRepositoryExists},
		{"repository of a centre that is no member", nil, cmd(started, testRepository("330106", 1)), ErrNotMember},

		{"submission with a short ID", nil, cmd(started, change(testSubmission("s2", 1, 2),
			func(c *registrypb.RegisterSubmission) { c.Submission = c.Submission[1:] })), ErrMalformed},
		{"submission without records", nil, cmd(started, testSubmission("s2", 0, 2)), ErrMalformed},
		{"submission without a manifest", nil, cmd(started, change(testSubmission("s2", 1, 2),
			func(c *registrypb.RegisterSubmission) { c.Manifest = nil })), ErrMalformed},
		{"submission with a short seed", nil, cmd(started, change(testSubmission("s2", 2, 2),
			func(c *registrypb.RegisterSubmission) { c.Records[1].OpenSeed = []byte{1} })), ErrMalformed},
		{"submission with a hidden field too many", nil, cmd(started, change(testSubmission("s2", 2, 2),
			func(c *registrypb.RegisterSubmission) {
				c.Records[1].Hidden = append(c.Records[1].Hidden, digestOf())
			})), ErrMalformed},
		{"submission with a short hidden field", nil, cmd(started, change(testSubmission("s2", 1, 2),
			func(c *registrypb.RegisterSubmission) { c.Records[0].Hidden[3] = []byte{1} })), ErrMalformed},
		{"submission whose manifest brings its own sequence", nil, cmd(started, change(testSubmission("s2", 1, 2),
			func(c *registrypb.RegisterSubmission) { c.Manifest.Sequence = 2 })), ErrMalformed},
		{"submission to an authority that is no member", nil, cmd(started, change(testSubmission("s2", 1, 2),
			func(c *registrypb.RegisterSubmission) { c.Authority = "330106" })), ErrNotMember},
		{"submission of an unknown registrant", nil, cmd(started, change(testSubmission("s2", 1, 2),
			func(c *registrypb.RegisterSubmission) { c.Registrant = shangcheng + "/who" })), ErrUnknownRegistrant},
		{"submission to an authority that is not the registrant's", nil, cmd(started, change(testSubmission("s2", 1, 2),
			func(c *registrypb.RegisterSubmission) { c.Authority = wenzhou })), ErrUnknownRegistrant},
		{"submission into an unknown repository", nil, cmd(started, change(testSubmission("s2", 1, 2),
			func(c *registrypb.RegisterSubmission) {
				c.Manifest.Repository = RepositoryID(shangcheng, "standard", 2)
			})), ErrUnknownRepository},
		{"submission into another centre's repository", append(testNetwork(), cmd(started, testRepository(wenzhou, 1))),
			cmd(started, change(testSubmission("s2", 1, 1),
				func(c *registrypb.RegisterSubmission) { c.Manifest.Repository = RepositoryID(wenzhou, "standard", 1) })), ErrUnknownRepository},
		{"submission on top of no manifest", nil, cmd(started, change(testSubmission("s2", 1, 2),
			func(c *registrypb.RegisterSubmission) { c.Manifest.Parent = nil })), ErrStaleManifest},
		{"submission on top of a manifest that is not the newest", nil, cmd(started, testSubmission("s2", 1, 3)), ErrStaleManifest},
		{"submission that tells a known manifest differently", nil, cmd(started, change(testSubmission("s2", 1, 1),
			func(c *registrypb.RegisterSubmission) { c.Manifest.Files++ })), ErrManifestExists},
		{"submission that puts a known manifest elsewhere", append(full, cmd(started, testRepository(shangcheng, 2))),
			cmd(started, change(testSubmission("s2", 1, 1),
				func(c *registrypb.RegisterSubmission) {
					c.Manifest.Repository = RepositoryID(shangcheng, "standard", 2)
				})), ErrManifestExists},

		{"receipt for an unknown repository", nil, cmd(started, change(testReceipt(1, 3),
			func(r *registrypb.Receipt) { r.Repository = "330102-standard-7" })), ErrUnknownRepository},
		{"receipt of a former enrolment", nil, cmd(started, testReceipt(1, 2)), ErrNotMember},
		{"receipt without an agreement", nil, cmd(started, change(testReceipt(1, 3),
			func(r *registrypb.Receipt) { r.Holder, r.HolderSerial = hangzhou, 1 })), ErrNoAgreement},
		{"receipt under an ended agreement", append(full, cmd(started, change(testAgreement("a1"), func(a *registrypb.Agreement) { a.Ended = true }))),
			cmd(started, testReceipt(1, 3)), ErrNoAgreement},
		{"receipt under an agreement of the past", append(full, cmd(started, change(testAgreement("a1"),
			func(a *registrypb.Agreement) { a.UntilMillis = started + day }))), cmd(started+day, testReceipt(1, 3)), ErrNoAgreement},
		{"receipt for an unknown manifest", nil, cmd(started, testReceipt(2, 3)), ErrUnknownManifest},
		{"receipt over another set", nil, cmd(started, change(testReceipt(1, 3),
			func(r *registrypb.Receipt) { r.SetRoot = digestOf("other") })), ErrUnknownManifest},
		{"receipt with a wrong count", nil, cmd(started, change(testReceipt(1, 3),
			func(r *registrypb.Receipt) { r.SizeBytes++ })), ErrUnknownManifest},

		{"checkpoint of nothing", nil, cmd(started, &registrypb.PublishCheckpoint{Root: digestOf(), Note: []byte("n")}), ErrMalformed},
		{"checkpoint beyond the log", nil, cmd(started, &registrypb.PublishCheckpoint{Size: 4, Root: digestOf(), Note: []byte("n")}), ErrCheckpointRoot},
		{"checkpoint with another root", nil, cmd(started, &registrypb.PublishCheckpoint{Size: 3, Root: digestOf(), Note: []byte("n")}), ErrCheckpointRoot},

		{"statement of a centre that is no member", nil, cmd(started, change(signed, func(c *registrypb.SignStatement) { c.Authority = "330106" })), ErrNotMember},
		{"statement with another key", nil, cmd(started, change(signed, func(c *registrypb.SignStatement) { c.Vkey += "x" })), ErrUnknownKey},
		{"statement without signatures", nil, cmd(started, change(signed, func(c *registrypb.SignStatement) { c.Signatures = nil })), ErrMalformed},
		{"statement for a position beyond the log", nil, cmd(started, change(signed, func(c *registrypb.SignStatement) { c.Signatures[0].Seq = 3 })), ErrUnknownRecord},
		{"statement for another authority's record", nil, cmd(started, change(signed, func(c *registrypb.SignStatement) {
			c.Authority, c.Vkey = wenzhou, testMember(wenzhou, false, 1).GetAuthorityVkey()
		})), ErrUnknownRecord},
		{"escrow with more shares needed than made", nil, cmd(started, &registrypb.PutEscrow{Code: wenzhou, Bundle: []byte("b"), Threshold: 3, Shares: 2}), ErrMalformed},
		{"escrow of a centre that is no member", nil, cmd(started, &registrypb.PutEscrow{Code: "330106", Bundle: []byte("b"), Threshold: 1, Shares: 1}), ErrNotMember},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.before == nil {
				tt.before = full
			}
			l := newLog(t, tt.before...)
			before, _ := l.s.Chain()
			size, serial := l.s.Size(), l.s.head().serial
			got := l.apply(tt.give)
			if len(got) != 1 || !errors.Is(got[0].Err(), tt.want) || got[0].Existing {
				t.Fatalf("Apply = %+v; want %v", got, tt.want)
			}
			if after, _ := l.s.Chain(); after == before {
				t.Error("a refusal left the chain as it was")
			}
			if l.s.Size() != size || l.s.head().serial != serial {
				t.Errorf("a refusal moved size to %d and serial to %d; want %d and %d", l.s.Size(), l.s.head().serial, size, serial)
			}
			// What was refused does not block the real thing.
			if len(tt.before) == len(full) {
				if r := l.apply(cmd(started, testSubmission("after", 1, 2)))[0]; r.Err() != nil || r.Records[0].Seq != size {
					t.Errorf("next submission = %+v; want position %d", r, size)
				}
			}
		})
	}
}

func TestApplyFoundNetwork(t *testing.T) {
	l := newLog(t)
	r := l.apply(cmd(started, testFounding()))[0]
	if r.Err() != nil || r.Member != "330100-1" || r.AtMillis != started {
		t.Fatalf("FoundNetwork = %+v; want member 330100-1 at %d", r, started)
	}
	n := must(l.s.Network())(t)
	if n.GetOrigin() != testOrigin || n.GetFoundedAtMillis() != started {
		t.Errorf("Network() = %v", n)
	}
	m := must(l.s.Member(hangzhou))(t)
	if m.GetSerial() != 1 || !m.GetVoter() || m.GetEnrolledAtMillis() != started {
		t.Errorf("Member(%s) = %v; want the founder, a voter with serial 1", hangzhou, m)
	}
}

func TestApplyReplacesAMember(t *testing.T) {
	l := newLog(t, testNetwork()...)
	invite := testInvitation(wenzhou, 2, true)
	if r := l.apply(cmd(started+1, invite))[0]; r.Err() != nil {
		t.Fatal(r.Err())
	}
	if _, err := l.s.Member(wenzhou); !errors.Is(err, ErrNotFound) {
		t.Errorf("Member after the replacing invitation: %v; want ErrNotFound", err)
	}
	old := must(l.s.MemberByServerID("330300-3"))(t)
	if old.GetRevokedAtMillis() != started+1 || old.GetRevokedReason() == "" {
		t.Errorf("replaced member = %v; want it revoked at %d", old, started+1)
	}
	enrol := testEnrolment(wenzhou, 2)
	if r := l.apply(cmd(started+2, enrol))[0]; r.Member != "330300-4" {
		t.Errorf("EnrolMember = %+v; want 330300-4", r)
	}
	for _, again := range []struct {
		name string
		give *registrypb.Command
	}{{"invitation", cmd(started+3, invite)}, {"enrolment", cmd(started+3, enrol)}} {
		if r := l.apply(again.give)[0]; r.Err() != nil || !r.Existing {
			t.Errorf("%s sent again = %+v; want the first outcome", again.name, r)
		}
	}
	if m := must(l.s.Member(wenzhou))(t); m.GetSerial() != 4 {
		t.Errorf("Member(%s) = serial %d; want 4", wenzhou, m.GetSerial())
	}
	if got := must(l.s.AllMembers())(t); len(got) != 4 {
		t.Errorf("AllMembers() = %d; want 4", len(got))
	}
	if got := must(l.s.Members())(t); len(got) != 3 {
		t.Errorf("Members() = %d; want 3", len(got))
	}
	if got := must(l.s.Voters())(t); len(got) != 1 || got[0].GetCode() != hangzhou {
		t.Errorf("Voters() = %v; want the founder", got)
	}
	revoke := cmd(started+4, &registrypb.RevokeMember{Code: wenzhou, Serial: 4, Reason: "closed"})
	if r := l.apply(revoke, revoke); r[0].Err() != nil || r[0].Existing || !r[1].Existing {
		t.Errorf("RevokeMember twice = %+v; want done, then existing", r)
	}
	if inv := must(l.s.Invitation(invite.TokenSha256))(t); inv.GetUsedBySerial() != 4 {
		t.Errorf("Invitation() = %v; want it used by 4", inv)
	}
}

func TestApplyRegisterSubmission(t *testing.T) {
	l := newLog(t, testNetwork()...)
	first := l.apply(cmd(started+5, testSubmission("s1", 3, 1)))[0]
	if first.Err() != nil || len(first.Records) != 3 || first.Sequence != 1 {
		t.Fatalf("RegisterSubmission = %+v; want 3 records under manifest 1", first)
	}
	for i, want := range []string{"330102-2026-000001-", "330102-2026-000002-", "330102-2026-000003-"} {
		got := first.Records[i]
		if got.Seq != uint64(i) || got.Number[:len(want)] != want {
			t.Errorf("record %d = %+v; want position %d, number %s…", i, got, i, want)
		}
		rec := must(l.s.RecordByNumber(got.Number))(t)
		if rec.GetSeq() != got.Seq || rec.GetOrdinal() != uint32(i) || rec.GetRegisteredAtMillis() != started+5 {
			t.Errorf("RecordByNumber(%s) = %v", got.Number, rec)
		}
	}
	known := l.apply(cmd(started+6, testSubmission("s2", 1, 1)))[0] // the same backup holds both
	next := l.apply(cmd(started-day, testSubmission("s3", 1, 2)))[0]
	if known.Err() != nil || known.Sequence != 1 || next.Err() != nil || next.Sequence != 2 {
		t.Errorf("manifests of s2 and s3 = %d, %d (%v, %v); want 1, 2", known.Sequence, next.Sequence, known.Err(), next.Err())
	}
	if next.AtMillis != started+6 {
		t.Errorf("time after a clock that ran back = %d; want %d", next.AtMillis, started+6)
	}
	again := l.apply(cmd(started+400*day, testSubmission("s1", 3, 1)))[0]
	if !again.Existing || len(again.Records) != 3 || again.Records[2] != first.Records[2] || again.Sequence != 1 {
		t.Errorf("s1 again = %+v; want %+v", again, first)
	}
	if got := must(l.s.RecordsBySubmission(digestOf("submission", "s1")))(t); len(got) != 3 || got[2].GetNumber() != first.Records[2].Number {
		t.Errorf("RecordsBySubmission(s1) = %v", got)
	}
	if l.s.Size() != 5 {
		t.Errorf("Size() = %d; want 5", l.s.Size())
	}
	if got := must(l.s.Head(RepositoryID(shangcheng, "standard", 1)))(t); got.GetSequence() != 2 {
		t.Errorf("Head() = %v; want manifest 2", got)
	}
	if got := must(l.s.Manifests(RepositoryID(shangcheng, "standard", 1), 0, 0))(t); len(got) != 2 || got[0].GetSequence() != 1 {
		t.Errorf("Manifests() = %v; want 1 and 2", got)
	}
	if got := must(l.s.ManifestByDigest(testManifest(RepositoryID(shangcheng, "standard", 1), 2).Digest))(t); got.GetSequence() != 2 {
		t.Errorf("ManifestByDigest(2) = %v", got)
	}
}

func TestApplyNumbersBeginAnewInShanghaisYear(t *testing.T) {
	const newYear = 1_798_732_800_000 // 2027-01-01T00:00:00+08:00, still 2026 in UTC
	l := newLog(t, testNetwork()...)
	var got []string
	for i, at := range []int64{newYear - 1, newYear, newYear + 1, newYear - 5} {
		r := l.apply(cmd(at, testSubmission(i, 1, 1)))[0]
		got = append(got, r.Records[0].Number[:18])
	}
	want := []string{"330102-2026-000001", "330102-2027-000001", "330102-2027-000002", "330102-2027-000003"}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("numbers = %v; want %v", got, want)
		}
	}
}

func TestApplyReceipts(t *testing.T) {
	l := newLog(t, append(testNetwork(), cmd(started, testSubmission("s1", 1, 1)), cmd(started, testSubmission("s2", 1, 2)))...)
	older, newer := must(l.s.RecordBySeq(0))(t), must(l.s.RecordBySeq(1))(t)
	copies := func() [2]int {
		return [2]int{len(must(l.s.OffsiteCopies(older))(t)), len(must(l.s.OffsiteCopies(newer))(t))}
	}
	if got := copies(); got != [2]int{0, 0} {
		t.Errorf("copies before a receipt = %v; want none", got)
	}
	l.apply(cmd(started, testReceipt(1, 3)))
	if got := copies(); got != [2]int{1, 0} {
		t.Errorf("copies after a receipt for manifest 1 = %v; want 1 0", got)
	}
	if r := l.apply(cmd(started, testReceipt(2, 3)), cmd(started+1, testReceipt(2, 3))); r[0].Existing || !r[1].Existing || r[1].Sequence != 2 {
		t.Errorf("receipt twice = %+v; want the second existing", r)
	}
	l.apply(cmd(started, testReceipt(1, 3))) // late; it must not hide the newer one
	if got := copies(); got != [2]int{1, 1} {
		t.Errorf("copies after a receipt for manifest 2 = %v; want 1 1", got)
	}
	if got := must(l.s.ReceiptHistory(older.GetRepository(), wenzhou))(t); len(got) != 2 {
		t.Errorf("ReceiptHistory() = %d; want 2", len(got))
	}
	l.apply(cmd(started+1, testInvitation(wenzhou, 2, true)), cmd(started+1, testEnrolment(wenzhou, 2)))
	if got := copies(); got != [2]int{0, 0} {
		t.Errorf("copies once the holder enrolled again = %v; want none before its next receipt", got)
	}
	if r := l.apply(cmd(started+2, testReceipt(1, 4)))[0]; r.Err() != nil {
		t.Fatal(r.Err())
	}
	if got := copies(); got != [2]int{1, 0} {
		t.Errorf("copies after the new member's receipt = %v; want 1 0", got)
	}
	if got := must(l.s.Receipts(older.GetRepository()))(t); len(got) != 1 || got[0].GetHolderSerial() != 4 {
		t.Errorf("Receipts() = %v; want the new member's", got)
	}
}

func TestApplySignStatement(t *testing.T) {
	l := newLog(t, append(testNetwork(), cmd(started, testSubmission("s1", 3, 1)))...)
	sign := func(sig string, seqs ...uint64) *registrypb.Command {
		c := &registrypb.SignStatement{Authority: shangcheng, Vkey: testMember(shangcheng, false, 1).GetAuthorityVkey()}
		for _, seq := range seqs {
			c.Signatures = append(c.Signatures, &registrypb.StatementSignature{Seq: seq, Signature: base64.StdEncoding.EncodeToString([]byte(sig))})
		}
		return cmd(started, c)
	}
	if got := must(l.s.Unsigned(shangcheng, 10))(t); len(got) != 3 {
		t.Fatalf("Unsigned() = %d; want 3", len(got))
	}
	r := l.apply(sign("first", 0, 2, 2), sign("second", 0, 2))
	if r[0].Err() != nil || r[0].Existing || !r[1].Existing {
		t.Errorf("SignStatement twice = %+v; want done, then existing", r)
	}
	if got := must(l.s.Unsigned(shangcheng, 10))(t); len(got) != 1 || got[0].GetSeq() != 1 {
		t.Errorf("Unsigned() = %v; want position 1", got)
	}
	for _, rec := range must(l.s.Records(0, 3))(t) {
		want := map[uint64]string{0: "Zmlyc3Q=", 1: "", 2: "Zmlyc3Q="}[rec.GetSeq()]
		if rec.GetStatementSignature() != want || (want == "") != (rec.GetStatementVkey() == "") {
			t.Errorf("signature of %d = %q; want %q", rec.GetSeq(), rec.GetStatementSignature(), want)
		}
	}
}

func TestApplyPublishCheckpoint(t *testing.T) {
	l := newLog(t, append(testNetwork(), cmd(started, testSubmission("s1", 300, 1)))...)
	publish := func(size uint64) *registrypb.Command {
		root := must(l.s.Root(size))(t)
		return cmd(started, &registrypb.PublishCheckpoint{Size: size, Root: root[:], Note: []byte("note")})
	}
	r := l.apply(publish(200), publish(200), publish(100), publish(300))
	for i, want := range []error{nil, nil, ErrCheckpointOrder, nil} {
		if !errors.Is(r[i].Err(), want) || r[i].Existing != (i == 1) {
			t.Errorf("checkpoint %d = %+v; want %v", i, r[i], want)
		}
	}
	for seq, want := range map[uint64]uint64{0: 200, 199: 200, 200: 300, 299: 300} {
		if got := must(l.s.CheckpointCovering(seq))(t); got.GetSize() != want {
			t.Errorf("CheckpointCovering(%d) = %d; want %d", seq, got.GetSize(), want)
		}
	}
	for _, seq := range []uint64{300, ^uint64(0)} {
		if _, err := l.s.CheckpointCovering(seq); !errors.Is(err, ErrNotFound) {
			t.Errorf("CheckpointCovering(%d): %v; want ErrNotFound", seq, err)
		}
	}
	if got := must(l.s.LatestCheckpoint())(t); got.GetSize() != 300 {
		t.Errorf("LatestCheckpoint() = %d; want 300", got.GetSize())
	}
}

func TestApplyCheckpointOfTheSameBatch(t *testing.T) {
	grow := append(testNetwork(), cmd(started, testSubmission("s1", 300, 1)))
	other := newLog(t, grow...)
	root := must(other.s.Root(300))(t)
	publish := cmd(started, &registrypb.PublishCheckpoint{Size: 300, Root: root[:], Note: []byte("note")})

	l := newLog(t)
	data := must(EncodeEntry(append(grow, publish, cmd(started, testSubmission("s2", 1, 1)))...))(t)
	r := l.s.Apply([]LogEntry{{Index: 1, Data: data}})[0]
	if err := r[len(r)-2].Err(); err != nil {
		t.Errorf("checkpoint over records of its own entry: %v", err)
	}
	if l.s.Size() != 301 {
		t.Errorf("Size() = %d; want 301", l.s.Size())
	}
}

func TestApplyUnknownKindPanics(t *testing.T) {
	l := newLog(t, testNetwork()...)
	defer func() {
		if recover() == nil {
			t.Error("a command of kind 99 was skipped; want a panic")
		}
	}()
	l.s.Apply([]LogEntry{{Index: 100, Data: []byte{0x0a, 0x03, 0x9a, 0x06, 0x00}}}) // commands { 99: "" }
}

func TestEscrowAndLists(t *testing.T) {
	l := newLog(t, append(testNetwork(), cmd(started, &registrypb.PutEscrow{Code: wenzhou, Bundle: []byte("b"), Threshold: 2, Shares: 3}))...)
	if e := must(l.s.Escrow(wenzhou))(t); string(e.GetBundle()) != "b" || e.GetRegisteredAtMillis() != started {
		t.Errorf("Escrow() = %v", e)
	}
	if _, err := l.s.Escrow(shangcheng); !errors.Is(err, ErrNotFound) {
		t.Errorf("Escrow of another centre: %v; want ErrNotFound", err)
	}
	for _, tt := range []struct {
		name string
		got  int
		want int
	}{
		{"registrants of shangcheng", len(must(l.s.Registrants(shangcheng))(t)), 1},
		{"registrants of wenzhou", len(must(l.s.Registrants(wenzhou))(t)), 0},
		{"all registrants", len(must(l.s.Registrants(""))(t)), 1},
		{"agreements by owner", len(must(l.s.Agreements(shangcheng, ""))(t)), 1},
		{"agreements by holder", len(must(l.s.Agreements("", wenzhou))(t)), 1},
		{"agreements of another owner", len(must(l.s.Agreements(wenzhou, ""))(t)), 0},
		{"repositories of shangcheng", len(must(l.s.Repositories(shangcheng))(t)), 1},
		{"repositories of nobody", len(must(l.s.Repositories("33010"))(t)), 0},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %d; want %d", tt.name, tt.got, tt.want)
		}
	}
}
