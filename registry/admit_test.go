package registry

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"dengbei/registry/registrypb"
)

func TestAdmit(t *testing.T) {
	full := append(testNetwork(), cmd(started, testInvitation("330106", 1, false)), cmd(started, testSubmission("s1", 2, 1)))
	l := newLog(t, full...)
	authority := testKey("authority", shangcheng)
	vkey := testMember(shangcheng, false, 1).GetAuthorityVkey()
	signed := &registrypb.SignStatement{Authority: shangcheng, Vkey: vkey,
		Signatures: []*registrypb.StatementSignature{statementFor(t, l.s, 0, authority), statementFor(t, l.s, 1, authority)}}
	unknown := cmd(started, testRegistrant(shangcheng+"/x"))
	unknown.GetPutRegistrant().GetRegistrant().ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))

	for _, tt := range []struct {
		name string
		give *registrypb.Command
		want error
	}{
		{"nothing", nil, ErrMalformed},
		{"no kind", &registrypb.Command{AtMillis: started}, ErrMalformed},
		{"no time", cmd(0, testRegistrant(shangcheng+"/x")), ErrMalformed},
		{"a field of a later build, deep inside", unknown, ErrUnknownKind},
		{"more than 256 KiB", cmd(started, &registrypb.PutEscrow{Code: wenzhou, Bundle: make([]byte, MaxCommandBytes)}), ErrTooLarge},

		{"a founding", cmd(started, testFounding()), nil},
		{"a founding whose log key is another log's", cmd(started, change(testFounding(), func(c *registrypb.FoundNetwork) { c.Origin = "other" })), ErrMalformed},
		{"a founding of a blank name", cmd(started, change(testFounding(), func(c *registrypb.FoundNetwork) { c.Name = " " })), ErrMalformed},

		{"an invitation", cmd(started, testInvitation("330106", 2, false)), nil},
		{"an invitation of no division", cmd(started, testInvitation("330371", 1, false)), ErrUnknownCode},
		{"an invitation of a code that was replaced", cmd(started, testInvitation("330682", 1, false)), ErrUnknownCode},
		{"an invitation that is over", cmd(started+7*day, testInvitation("330106", 2, false)), ErrInvitationExpired},
		{"an enrolment", cmd(started, testEnrolment("330106", 1)), nil},
		{"an enrolment without invitation", cmd(started, testEnrolment("330106", 9)), ErrInvitation},
		{"an enrolment that comes too late", cmd(started+7*day, testEnrolment("330106", 1)), ErrInvitationExpired},
		{"an enrolment with an address without port", cmd(started, change(testEnrolment("330106", 1),
			func(c *registrypb.EnrolMember) { c.Member.PeerAddress = "host" })), ErrMalformed},
		{"an enrolment with a broken authority key", cmd(started, change(testEnrolment("330106", 1),
			func(c *registrypb.EnrolMember) { c.Member.AuthorityVkey += "x" })), ErrMalformed},
		{"an enrolment at no place on earth", cmd(started, change(testEnrolment("330106", 1),
			func(c *registrypb.EnrolMember) { c.Member.LatitudeE6 = 91_000_000 })), ErrMalformed},
		{"a revocation with a novel as reason", cmd(started, &registrypb.RevokeMember{Code: wenzhou, Serial: 3, Reason: strings.Repeat("x", 2000)}), ErrMalformed},

		{"a registrant", cmd(started, testRegistrant(shangcheng+"/x")), nil},
		{"a registrant without a name", cmd(started, change(testRegistrant(shangcheng+"/x"), func(r *registrypb.Registrant) { r.Name = "" })), ErrMalformed},
		{"a registrant of no division", cmd(started, change(testRegistrant(shangcheng+"/x"), func(r *registrypb.Registrant) { r.Authority = "110000" })), ErrUnknownCode},
		{"an agreement", cmd(started, testAgreement("a2")), nil},
		{"an agreement with no division", cmd(started, change(testAgreement("a2"), func(a *registrypb.Agreement) { a.Owner = "110000" })), ErrUnknownCode},
		{"an agreement about all classes", cmd(started, change(testAgreement("a2"), func(a *registrypb.Agreement) { a.Class = "" })), nil},
		{"an agreement about a class that would be a path", cmd(started, change(testAgreement("a2"), func(a *registrypb.Agreement) { a.Class = "../x" })), ErrMalformed},
		{"a repository of a class that would be a path", cmd(started, change(testRepository(shangcheng, 2), func(r *registrypb.Repository) {
			r.Class = "/../../x"
			r.Id = RepositoryID(r.Owner, r.Class, r.Epoch)
		})), ErrMalformed},
		{"a repository", cmd(started, testRepository(shangcheng, 2)), nil},
		{"a repository without its config", cmd(started, change(testRepository(shangcheng, 2), func(r *registrypb.Repository) { r.Files = r.Files[1:] })), ErrMalformed},
		{"a repository without a key", cmd(started, change(testRepository(shangcheng, 2), func(r *registrypb.Repository) { r.Files = r.Files[:1] })), ErrMalformed},
		{"a repository with a file outside", cmd(started, change(testRepository(shangcheng, 2),
			func(r *registrypb.Repository) { r.Files[1].Name = "keys/../" + hex.EncodeToString(digestOf())[:61] })), ErrMalformed},

		{"a submission", cmd(started, testSubmission("s2", 2, 2)), nil},
		{"a submission signed by another", cmd(started, change(testSubmission("s2", 1, 2), func(c *registrypb.RegisterSubmission) {
			c.RegistrantSignature = ed25519.Sign(testKey("other"), SubmissionStatement(c.Submission))
		})), ErrSignature},
		{"a submission whose signature is another's", cmd(started, change(testSubmission("s2", 1, 2), func(c *registrypb.RegisterSubmission) {
			c.RegistrantSignature = testSubmission("s3", 1, 2).RegistrantSignature
		})), ErrSignature},
		{"a submission of a stranger", cmd(started, change(testSubmission("s2", 1, 2), func(c *registrypb.RegisterSubmission) { c.Registrant = "330102/who" })), ErrUnknownRegistrant},
		{"a submission without a decision", cmd(started, change(testSubmission("s2", 1, 2), func(c *registrypb.RegisterSubmission) { c.Records[0].DecisionSignature = "" })), ErrMalformed},
		{"a submission with a short seed", cmd(started, change(testSubmission("s2", 1, 2), func(c *registrypb.RegisterSubmission) { c.Records[0].OpenSeed = nil })), ErrMalformed},
		{"a submission without sealed fields", cmd(started, change(testSubmission("s2", 1, 2), func(c *registrypb.RegisterSubmission) { c.Records[0].Sealed = nil })), ErrMalformed},

		{"a receipt", cmd(started, testReceipt(1, 3)), nil},
		{"a receipt that was changed", cmd(started, change(testReceipt(1, 3), func(r *registrypb.Receipt) { r.SizeBytes++ })), ErrSignature},
		{"a receipt of a former member", cmd(started, testReceipt(1, 2)), ErrNotMember},
		{"a receipt of a stranger", cmd(started, change(testReceipt(1, 3), func(r *registrypb.Receipt) { r.Holder = "330106" })), ErrNotMember},
		{"a checkpoint that the policy accepts", cmd(started, &registrypb.PublishCheckpoint{Size: 1, Root: digestOf(), Note: []byte("n")}), nil},
		{"a checkpoint with a note beyond bounds", cmd(started, &registrypb.PublishCheckpoint{Size: 1, Note: make([]byte, maxNoteBytes+1)}), ErrTooLarge},

		{"a statement", cmd(started, signed), nil},
		{"a statement for another position", cmd(started, change(signed, func(c *registrypb.SignStatement) { c.Signatures[0].Seq = 1 })), ErrSignature},
		{"a statement for no position", cmd(started, change(signed, func(c *registrypb.SignStatement) { c.Signatures[0].Seq = 7 })), ErrUnknownRecord},
		{"a statement with a key of one's own", cmd(started, change(signed, func(c *registrypb.SignStatement) { c.Vkey = testVKey("x", testKey("x")) })), ErrUnknownKey},
		{"a statement without signatures", cmd(started, change(signed, func(c *registrypb.SignStatement) { c.Signatures = nil })), ErrMalformed},
		{"an escrow", cmd(started, &registrypb.PutEscrow{Code: wenzhou, Bundle: []byte("b"), Threshold: 1, Shares: 1}), nil},
		{"an escrow of no division", cmd(started, &registrypb.PutEscrow{Code: "x", Bundle: []byte("b"), Threshold: 1, Shares: 1}), ErrUnknownCode},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := digest(t, l.s)
			if err := l.s.Admit(tt.give); !errors.Is(err, tt.want) {
				t.Errorf("Admit = %v; want %v", err, tt.want)
			}
			if digest(t, l.s) != before {
				t.Error("Admit changed the state")
			}
		})
	}
	l.s.check = nil
	if err := l.s.Admit(cmd(started, &registrypb.PublishCheckpoint{Size: 1, Note: []byte("n")})); !errors.Is(err, ErrSignature) {
		t.Errorf("checkpoint without a policy to check it: %v; want ErrSignature", err)
	}
}
