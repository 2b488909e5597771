package registry

import (
	"encoding/hex"
	"testing"

	"dengbei/registry/registrypb"
)

// TestGoldenLog applies one log that must have the same outcome in every build: a release that changes it would fork
// the networks that run it. A new rule gets a new command kind or field; this log is added to, never edited.
func TestGoldenLog(t *testing.T) {
	l := newLog(t, append(testNetwork(),
		cmd(started+1, testSubmission("s1", 3, 1)), cmd(started+2, testSubmission("s2", 260, 2)), cmd(started+3, testReceipt(2, 3)))...)
	root := must(l.s.Root(263))(t)
	results := l.apply(
		cmd(started+4, &registrypb.PublishCheckpoint{Size: 263, Root: root[:], Note: []byte("note")}),
		cmd(started+4, testSubmission("s1", 3, 1)),
		cmd(started+4, testSubmission("s3", 1, 9)),
		cmd(started+5, &registrypb.SignStatement{Authority: shangcheng, Vkey: testMember(shangcheng, false, 1).GetAuthorityVkey(),
			Signatures: []*registrypb.StatementSignature{{Seq: 5, Signature: "c2ln"}}}),
		cmd(started+6, testInvitation(wenzhou, 2, true)), cmd(started+7, testEnrolment(wenzhou, 2)),
		cmd(started+8, &registrypb.RevokeMember{Code: wenzhou, Serial: 4, Reason: "closed"}),
		cmd(started+9, &registrypb.PutEscrow{Code: shangcheng, Bundle: []byte("b"), Threshold: 2, Shares: 3}),
	)
	if results[1].Records[2].Number != goldenNumber {
		t.Errorf("number of the third record = %s; want %s", results[1].Records[2].Number, goldenNumber)
	}
	if got := hex.EncodeToString(root[:]); got != goldenRoot {
		t.Errorf("root of 263 records = %s; want %s", got, goldenRoot)
	}
	chain, _ := l.s.Chain()
	if got := hex.EncodeToString(chain[:]); got != goldenChain {
		t.Errorf("chain after the log = %s; want %s", got, goldenChain)
	}
}

const (
	goldenNumber = "330102-2026-000003-4"
	goldenRoot   = "0de8c8e98c17521982c90be0c92c8c0feaef6cf1cafb8edc74cfeb44677ea85e"
	goldenChain  = "0bd79ca9cd29fd3fa9f10038a33667f28d3f0c2741a9432744a0067aac3bcc54"
)
