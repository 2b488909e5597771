package registry

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"dengbei/registry/registrypb"
)

const (
	testOrigin = "zj.example/registry/1"
	hangzhou   = "330100" // founds the network
	shangcheng = "330102" // owns the records
	wenzhou    = "330300" // holds its backups
	day        = int64(24 * 60 * 60 * 1000)
	started    = int64(1_790_000_000_000) // 2026-09-21 in Shanghai
)

// digestOf is 32 bytes that depend on what is said.
func digestOf(what ...any) []byte {
	d := sha256.Sum256([]byte(fmt.Sprint(what...)))
	return d[:]
}

func testKey(what ...any) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(digestOf(what...)) }

func publicKey(k ed25519.PrivateKey) []byte { return k.Public().(ed25519.PublicKey) }

// testVKey is the signed-note verifier key of k.
func testVKey(name string, k ed25519.PrivateKey) string {
	pub := append([]byte{1}, publicKey(k)...)
	sum := sha256.Sum256(append([]byte(name+"\n"), pub...))
	return fmt.Sprintf("%s+%08x+%s", name, binary.BigEndian.Uint32(sum[:]), base64.StdEncoding.EncodeToString(pub))
}

func cmd(atMillis int64, kind any) *registrypb.Command {
	c := &registrypb.Command{AtMillis: atMillis}
	switch k := kind.(type) {
	case *registrypb.FoundNetwork:
		c.Kind = &registrypb.Command_FoundNetwork{FoundNetwork: k}
	case *registrypb.InviteMember:
		c.Kind = &registrypb.Command_InviteMember{InviteMember: k}
	case *registrypb.EnrolMember:
		c.Kind = &registrypb.Command_EnrolMember{EnrolMember: k}
	case *registrypb.RevokeMember:
		c.Kind = &registrypb.Command_RevokeMember{RevokeMember: k}
	case *registrypb.Registrant:
		c.Kind = &registrypb.Command_PutRegistrant{PutRegistrant: &registrypb.PutRegistrant{Registrant: k}}
	case *registrypb.Agreement:
		c.Kind = &registrypb.Command_PutAgreement{PutAgreement: &registrypb.PutAgreement{Agreement: k}}
	case *registrypb.Repository:
		c.Kind = &registrypb.Command_PutRepository{PutRepository: &registrypb.PutRepository{Repository: k}}
	case *registrypb.RegisterSubmission:
		c.Kind = &registrypb.Command_RegisterSubmission{RegisterSubmission: k}
	case *registrypb.Receipt:
		c.Kind = &registrypb.Command_PutReceipt{PutReceipt: &registrypb.PutReceipt{Receipt: k}}
	case *registrypb.PublishCheckpoint:
		c.Kind = &registrypb.Command_PublishCheckpoint{PublishCheckpoint: k}
	case *registrypb.SignStatement:
		c.Kind = &registrypb.Command_SignStatement{SignStatement: k}
	case *registrypb.PutEscrow:
		c.Kind = &registrypb.Command_PutEscrow{PutEscrow: k}
	default:
		panic(fmt.Sprintf("no command for %T", kind))
	}
	return c
}

func testMember(code string, voter bool, enrolment int) *registrypb.Member {
	return &registrypb.Member{Code: code, Voter: voter, PeerAddress: "127.0.0.1:7400", CredentialSha256: digestOf("credential", code, enrolment),
		CosignerVkey: "cosigner-" + code, AuthorityVkey: testVKey(testOrigin+"/"+code+"/authority", testKey("authority", code)),
		ReceiptKey: publicKey(testKey("receipt", code)), SealingRecipient: "age1test"}
}

func testFounding() *registrypb.FoundNetwork {
	return &registrypb.FoundNetwork{Name: "浙江省登记备份网", Origin: testOrigin, CaCertificate: []byte("DER"),
		LogVkey: testVKey(testOrigin, testKey("log")), Founder: testMember(hangzhou, true, 1)}
}

func testInvitation(code string, n int, replace bool) *registrypb.InviteMember {
	return &registrypb.InviteMember{TokenSha256: digestOf("token", code, n), Code: code, Replace: replace, ExpiresAtMillis: started + 7*day}
}

func testEnrolment(code string, n int) *registrypb.EnrolMember {
	return &registrypb.EnrolMember{TokenSha256: digestOf("token", code, n), Member: testMember(code, false, n)}
}

func testRegistrant(id string) *registrypb.Registrant {
	return &registrypb.Registrant{Id: id, Authority: id[:6], Name: "上城区人力社保局", Fonds: "J019", PublicKey: publicKey(testKey("registrant", id))}
}

func testRepository(owner string, epoch uint32) *registrypb.Repository {
	return &registrypb.Repository{Id: RepositoryID(owner, "standard", epoch), Owner: owner, Class: "standard", Epoch: epoch,
		Files: []*registrypb.RepositoryFile{{Name: "config", Content: []byte("config")}, {Name: "keys/" + hex.EncodeToString(digestOf("key")), Content: []byte("key")}}}
}

func testAgreement(id string) *registrypb.Agreement {
	return &registrypb.Agreement{Id: id, Owner: shangcheng, Holder: wenzhou, Class: "standard", FromMillis: started - day}
}

// testManifest is manifest n of a repository, from 1.
func testManifest(repository string, n int) *registrypb.Manifest {
	m := &registrypb.Manifest{Digest: digestOf("manifest", repository, n), Repository: repository, Snapshot: hex.EncodeToString(digestOf("snapshot", n)),
		SetRoot: digestOf("set", n), Files: uint64(n), SizeBytes: uint64(n) * 1000, DocumentBytes: 700}
	if n > 1 {
		m.Parent = digestOf("manifest", repository, n-1)
	}
	return m
}

// testSubmission is a submission of some records under manifest n of shangcheng's first repository.
func testSubmission(name any, records, manifest int) *registrypb.RegisterSubmission {
	id := shangcheng + "/rsj"
	c := &registrypb.RegisterSubmission{Submission: digestOf("submission", name), Authority: shangcheng, Registrant: id,
		ReceivedAtMillis: started - 1000, Class: "STANDARD", Manifest: testManifest(RepositoryID(shangcheng, "standard", 1), manifest)}
	c.RegistrantSignature = ed25519.Sign(testKey("registrant", id), SubmissionStatement(c.Submission))
	for i := range records {
		r := &registrypb.NewRecord{OpenSeed: digestOf("seed", name, i), Title: "关于档案登记备份的通知",
			DecisionSignature: base64.StdEncoding.EncodeToString(ed25519.Sign(testKey("authority", shangcheng), []byte("decision"))),
			Sealed:            []byte("sealed"), Path: "/a", Report: digestOf("report", name, i)}
		for f := range HiddenFieldCount {
			r.Hidden = append(r.Hidden, digestOf("hidden", name, i, f))
		}
		c.Records = append(c.Records, r)
	}
	return c
}

func testReceipt(manifest int, serial uint64) *registrypb.Receipt {
	m := testManifest(RepositoryID(shangcheng, "standard", 1), manifest)
	r := &registrypb.Receipt{Repository: m.Repository, Manifest: m.Digest, ManifestSequence: uint64(manifest), Holder: wenzhou, HolderSerial: serial,
		SetRoot: m.SetRoot, Files: m.Files, SizeBytes: m.SizeBytes, VerifiedAtMillis: started}
	r.Signature = ed25519.Sign(testKey("receipt", wenzhou), ReceiptStatement(r))
	return r
}

// testNetwork founds a network in which shangcheng can register and wenzhou holds.
func testNetwork() []*registrypb.Command {
	return []*registrypb.Command{
		cmd(started, testFounding()),
		cmd(started, testInvitation(shangcheng, 1, false)), cmd(started, testEnrolment(shangcheng, 1)),
		cmd(started, testInvitation(wenzhou, 1, false)), cmd(started, testEnrolment(wenzhou, 1)),
		cmd(started, testRegistrant(shangcheng+"/rsj")),
		cmd(started, testRepository(shangcheng, 1)),
		cmd(started, testAgreement("a1")),
	}
}

// log applies commands to a state, one entry each.
type log struct {
	t testing.TB
	s *State
}

func newLog(t testing.TB, commands ...*registrypb.Command) *log {
	t.Helper()
	l := &log{t, openStateOn(t, vfs.NewMem(), "state")}
	for _, r := range l.apply(commands...) {
		if r.Err() != nil {
			t.Fatalf("prepare: %v", r.Err())
		}
	}
	return l
}

func openState(t testing.TB, dir string) *State { return openStateOn(t, vfs.Default, dir) }

func openStateOn(t testing.TB, disk vfs.FS, dir string) *State {
	t.Helper()
	s, err := openOn(disk, dir, Options{CacheBytes: 1 << 20, CheckNote: func(*registrypb.PublishCheckpoint) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (l *log) apply(commands ...*registrypb.Command) []Result {
	l.t.Helper()
	var out []Result
	for _, c := range commands {
		data, err := EncodeEntry(proto.CloneOf(c))
		if err != nil {
			l.t.Fatal(err)
		}
		out = append(out, l.s.Apply([]LogEntry{{Index: l.s.Applied() + 1, Data: data}})[0]...)
	}
	return out
}

func digest(t testing.TB, s *State) [32]byte {
	t.Helper()
	d, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// must fails the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func statementFor(t testing.TB, s *State, seq uint64, by ed25519.PrivateKey) *registrypb.StatementSignature {
	rec := must(s.RecordBySeq(seq))(t)
	commitment := must(Commitment(testOrigin, rec))(t)
	sig := ed25519.Sign(by, CertificateStatement(testOrigin, rec.GetNumber(), seq, commitment))
	return &registrypb.StatementSignature{Seq: seq, Signature: base64.StdEncoding.EncodeToString(sig)}
}
