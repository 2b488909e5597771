package registry

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// Limits that a leader keeps; a log may hold what an earlier build let in.
const (
	maxNoteBytes     = 64 << 10
	maxReasonBytes   = 1 << 10
	maxAddressBytes  = 255
	maxTitleBytes    = 4 << 10
	maxPathBytes     = 4 << 10
	maxSignatures    = 512
	maxRepositoryDoc = 64 << 10 // bytes of one config or key file
)

// Admit says whether the leader may propose a command. It refuses what no node would or should apply: sizes, names,
// codes that no division has, and signatures that do not verify with the keys that the state knows now. It reads the
// state and changes nothing; at_millis must be set, for a command is judged at the time that it carries.
//
// An admitted command can still be refused when it is applied, after commands that came before it.
func (s *State) Admit(c *registrypb.Command) error {
	if c == nil || c.GetKind() == nil {
		return fmt.Errorf("command without a kind: %w", ErrMalformed)
	}
	if n := proto.Size(c); n > MaxCommandBytes {
		return fmt.Errorf("command of %d bytes, at most %d: %w", n, MaxCommandBytes, ErrTooLarge)
	}
	if n := unknownField(c.ProtoReflect()); n > 0 {
		return fmt.Errorf("command with field %d: %w", n, ErrUnknownKind)
	}
	if !validMillis(c.GetAtMillis()) || c.GetAtMillis() == 0 {
		return fmt.Errorf("command at %d ms: %w", c.GetAtMillis(), ErrMalformed)
	}
	now := max(c.GetAtMillis(), s.NowMillis())
	switch k := c.GetKind().(type) {
	case *registrypb.Command_FoundNetwork:
		return admitFounding(k.FoundNetwork)
	case *registrypb.Command_InviteMember:
		return admitInvitation(k.InviteMember, now)
	case *registrypb.Command_EnrolMember:
		return s.admitEnrolment(k.EnrolMember, now)
	case *registrypb.Command_RevokeMember:
		return first(admitCode(k.RevokeMember.GetCode()), admitText("reason", k.RevokeMember.GetReason(), maxReasonBytes))
	case *registrypb.Command_PutRegistrant:
		return admitRegistrant(k.PutRegistrant.GetRegistrant())
	case *registrypb.Command_PutAgreement:
		a := k.PutAgreement.GetAgreement()
		if err := first(admitID("agreement", a.GetId()), admitCode(a.GetOwner()), admitCode(a.GetHolder())); err != nil || a.GetClass() == "" {
			return err
		}
		return admitClass(a.GetClass())
	case *registrypb.Command_PutRepository:
		return admitRepository(k.PutRepository.GetRepository())
	case *registrypb.Command_RegisterSubmission:
		return s.admitSubmission(k.RegisterSubmission)
	case *registrypb.Command_PutReceipt:
		return s.admitReceipt(k.PutReceipt.GetReceipt())
	case *registrypb.Command_PublishCheckpoint:
		return s.admitCheckpoint(k.PublishCheckpoint)
	case *registrypb.Command_SignStatement:
		return s.admitStatement(k.SignStatement)
	case *registrypb.Command_PutEscrow:
		return admitCode(k.PutEscrow.GetCode())
	default:
		return fmt.Errorf("command %T: %w", k, ErrUnknownKind)
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// unknownField returns the number of some field in m or below that this build does not know, or 0.
func unknownField(m protoreflect.Message) (found protowire.Number) {
	if b := m.GetUnknown(); len(b) > 0 {
		n, _, _ := protowire.ConsumeField(b)
		return max(n, 1)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Kind() != protoreflect.MessageKind:
		case f.IsList():
			for i := 0; i < v.List().Len() && found == 0; i++ {
				found = unknownField(v.List().Get(i).Message())
			}
		default:
			found = unknownField(v.Message())
		}
		return found == 0
	})
	return found
}

func admitCode(code string) error {
	_, err := DivisionOf(code)
	return err
}

// admitCurrent also refuses codes that were replaced: nothing new begins under them.
func admitCurrent(code string) error {
	d, err := DivisionOf(code)
	if err == nil && !d.InUse() {
		return fmt.Errorf("code %s was replaced by %s: %w", code, d.Successor, ErrUnknownCode)
	}
	return err
}

func admitID(what, id string) error {
	if !validID(id) {
		return fmt.Errorf("%s %.80q: want 1 to 255 bytes without blanks: %w", what, id, ErrMalformed)
	}
	return nil
}

func admitName(what, name string) error {
	if !validName(name) {
		return fmt.Errorf("name of %s %.80q: want 1 to 255 bytes, no control characters, no blank around it: %w", what, name, ErrMalformed)
	}
	return nil
}

func admitClass(class string) error {
	if !ValidClass(class) {
		return fmt.Errorf("class %.80q: want 1 to %d of a-z 0-9 -, the first a letter: %w", class, maxClassBytes, ErrMalformed)
	}
	return nil
}

func admitText(what, text string, limit int) error {
	if len(text) > limit {
		return fmt.Errorf("%s of %d bytes, at most %d: %w", what, len(text), limit, ErrMalformed)
	}
	return nil
}

func admitLength(what string, b []byte, want int) error {
	if len(b) != want {
		return fmt.Errorf("%s of %d bytes, want %d: %w", what, len(b), want, ErrMalformed)
	}
	return nil
}

func admitFounding(c *registrypb.FoundNetwork) error {
	if !tlog.ValidKeyName(c.GetOrigin()) {
		return fmt.Errorf("log name %.80q: want UTF-8 without blanks or +: %w", c.GetOrigin(), ErrMalformed)
	}
	v, err := note.NewVerifier(c.GetLogVkey())
	if err != nil || v.Name() != c.GetOrigin() {
		return fmt.Errorf("log key %.80q is no verifier key of %s: %w", c.GetLogVkey(), c.GetOrigin(), ErrMalformed)
	}
	if len(c.GetCaCertificate()) == 0 {
		return fmt.Errorf("network without the certificate of its authority: %w", ErrMalformed)
	}
	return first(admitName("the network", c.GetName()), admitMember(c.GetFounder()))
}

func admitMember(m *registrypb.Member) error {
	for _, a := range []struct{ what, value string }{
		{"peer", m.GetPeerAddress()}, {"gossip", m.GetGossipAddress()}, {"web", m.GetWebAddress()},
	} {
		if a.value == "" && a.what != "peer" {
			continue
		}
		host, port, err := net.SplitHostPort(a.value)
		if err != nil || host == "" || port == "" || len(a.value) > maxAddressBytes {
			return fmt.Errorf("%s address %.80q of %s: want host:port: %w", a.what, a.value, m.GetCode(), ErrMalformed)
		}
	}
	if _, err := note.NewVerifier(m.GetAuthorityVkey()); err != nil {
		return fmt.Errorf("authority key of %s: not a signed-note verifier key: %w", m.GetCode(), ErrMalformed)
	}
	if m.GetCosignerVkey() == "" || !strings.HasPrefix(m.GetSealingRecipient(), "age1") {
		return fmt.Errorf("centre %s needs a cosigner key and an age recipient: %w", m.GetCode(), ErrMalformed)
	}
	if m.GetLongitudeE6() < -180e6 || m.GetLongitudeE6() > 180e6 || m.GetLatitudeE6() < -90e6 || m.GetLatitudeE6() > 90e6 {
		return fmt.Errorf("coordinates of %s: want micro-degrees: %w", m.GetCode(), ErrMalformed)
	}
	d := m.GetDomain()
	for _, text := range []string{d.GetSite(), d.GetPower(), d.GetArray(), d.GetAdministrator()} {
		if err := admitText("failure domain", text, 255); err != nil {
			return err
		}
	}
	return first(admitCurrent(m.GetCode()), admitLength("digest of the credential", m.GetCredentialSha256(), sha256.Size),
		admitLength("receipt key", m.GetReceiptKey(), ed25519.PublicKeySize),
		admitText("verifier key", m.GetCosignerVkey(), 1<<10), admitText("recipient", m.GetSealingRecipient(), 1<<10))
}

func admitInvitation(c *registrypb.InviteMember, now int64) error {
	if c.GetExpiresAtMillis() <= now {
		return fmt.Errorf("invitation for %s: %w", c.GetCode(), ErrInvitationExpired)
	}
	return first(admitLength("hash of the token", c.GetTokenSha256(), sha256.Size), admitCurrent(c.GetCode()))
}

func (s *State) admitEnrolment(c *registrypb.EnrolMember, now int64) error {
	inv, err := s.Invitation(c.GetTokenSha256())
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("enrolment of %.12q: %w", c.GetMember().GetCode(), ErrInvitation)
	}
	if err != nil {
		return err
	}
	if inv.GetUsedBySerial() == 0 && inv.GetInvite().GetExpiresAtMillis() <= now {
		return fmt.Errorf("enrolment of %.12q: %w", c.GetMember().GetCode(), ErrInvitationExpired)
	}
	return admitMember(c.GetMember())
}

func admitRegistrant(r *registrypb.Registrant) error {
	return first(admitID("registrant", r.GetId()), admitCode(strings.SplitN(r.GetId(), "/", 2)[0]), admitCurrent(r.GetAuthority()),
		admitName("registrant", r.GetName()), admitText("fonds", r.GetFonds(), 255),
		admitLength("public key of the registrant", r.GetPublicKey(), ed25519.PublicKeySize))
}

func admitRepository(r *registrypb.Repository) error {
	seen := make(map[string]bool, len(r.GetFiles()))
	keys := 0
	for _, f := range r.GetFiles() {
		name, isKey := strings.CutPrefix(f.GetName(), "keys/")
		if seen[f.GetName()] || (isKey && !validHex(name, 64)) || (!isKey && name != "config") {
			return fmt.Errorf("file %.80q of repository %s: want config and keys/<64 hex>, each once: %w", f.GetName(), r.GetId(), ErrMalformed)
		}
		if len(f.GetContent()) == 0 || len(f.GetContent()) > maxRepositoryDoc {
			return fmt.Errorf("file %s of repository %s has %d bytes: %w", f.GetName(), r.GetId(), len(f.GetContent()), ErrMalformed)
		}
		seen[f.GetName()] = true
		if isKey {
			keys++
		}
	}
	if !seen["config"] || keys == 0 {
		return fmt.Errorf("repository %s: config and at least one key cannot be rebuilt and must be registered: %w", r.GetId(), ErrMalformed)
	}
	return first(admitID("repository", r.GetId()), admitCode(r.GetOwner()), admitClass(r.GetClass()))
}

func (s *State) admitSubmission(c *registrypb.RegisterSubmission) error {
	if len(c.GetSubmission()) != sha256.Size || !validSubmission(c) {
		return fmt.Errorf("submission %x of %.12q: lengths of seeds, digests and names: %w", c.GetSubmission(), c.GetAuthority(), ErrMalformed)
	}
	if err := admitCode(c.GetAuthority()); err != nil {
		return err
	}
	for i, r := range c.GetRecords() {
		sig, err := base64.StdEncoding.DecodeString(r.GetDecisionSignature())
		if err != nil || len(sig) != ed25519.SignatureSize || base64.StdEncoding.EncodeToString(sig) != r.GetDecisionSignature() {
			return fmt.Errorf("record %d of submission %x: decision is not the base64 of a signature: %w", i, c.GetSubmission(), ErrMalformed)
		}
		if err := first(admitText("title", r.GetTitle(), maxTitleBytes), admitText("path", r.GetPath(), maxPathBytes)); err != nil {
			return err
		}
		if len(r.GetSealed()) == 0 || r.GetPath() == "" {
			return fmt.Errorf("record %d of submission %x: sealed fields and path are missing: %w", i, c.GetSubmission(), ErrMalformed)
		}
	}
	registrant, err := s.Registrant(c.GetRegistrant())
	if errors.Is(err, ErrNotFound) || (err == nil && registrant.GetAuthority() != c.GetAuthority()) {
		return fmt.Errorf("registrant %.80q: %w", c.GetRegistrant(), ErrUnknownRegistrant)
	}
	if err != nil {
		return err
	}
	if len(registrant.GetPublicKey()) != ed25519.PublicKeySize ||
		!ed25519.Verify(registrant.GetPublicKey(), SubmissionStatement(c.GetSubmission()), c.GetRegistrantSignature()) {
		return fmt.Errorf("submission %x of %s: %w", c.GetSubmission(), c.GetRegistrant(), ErrSignature)
	}
	return nil
}

func (s *State) admitReceipt(r *registrypb.Receipt) error {
	if err := first(admitCode(r.GetHolder()), admitID("repository", r.GetRepository()),
		admitLength("digest of the manifest", r.GetManifest(), sha256.Size)); err != nil {
		return err
	}
	holder, err := s.Member(r.GetHolder())
	if errors.Is(err, ErrNotFound) || (err == nil && holder.GetSerial() != r.GetHolderSerial()) {
		return fmt.Errorf("receipt of %s: %w", ServerID(r.GetHolder(), r.GetHolderSerial()), ErrNotMember)
	}
	if err != nil {
		return err
	}
	if len(holder.GetReceiptKey()) != ed25519.PublicKeySize || !ed25519.Verify(holder.GetReceiptKey(), ReceiptStatement(r), r.GetSignature()) {
		return fmt.Errorf("receipt of %s for %s: %w", r.GetHolder(), r.GetRepository(), ErrSignature)
	}
	return nil
}

func (s *State) admitCheckpoint(c *registrypb.PublishCheckpoint) error {
	if len(c.GetNote()) > maxNoteBytes {
		return fmt.Errorf("note of %d bytes, at most %d: %w", len(c.GetNote()), maxNoteBytes, ErrTooLarge)
	}
	if s.check == nil {
		return fmt.Errorf("checkpoint of size %d: this node has no policy to check it with: %w", c.GetSize(), ErrSignature)
	}
	if err := s.check(c); err != nil {
		return fmt.Errorf("checkpoint of size %d: %w", c.GetSize(), err)
	}
	return nil
}

func (s *State) admitStatement(c *registrypb.SignStatement) error {
	if n := len(c.GetSignatures()); n == 0 || n > maxSignatures {
		return fmt.Errorf("%d signatures of %.12q, want 1 to %d: %w", n, c.GetAuthority(), maxSignatures, ErrMalformed)
	}
	if err := admitCode(c.GetAuthority()); err != nil {
		return err
	}
	m, err := s.Member(c.GetAuthority())
	if errors.Is(err, ErrNotFound) {
		return fmt.Errorf("statements of %s: %w", c.GetAuthority(), ErrNotMember)
	}
	if err != nil {
		return err
	}
	if m.GetAuthorityVkey() != c.GetVkey() {
		return fmt.Errorf("statements of %s with %.80q: %w", c.GetAuthority(), c.GetVkey(), ErrUnknownKey)
	}
	n, err := s.Network()
	if err != nil {
		return err
	}
	for _, sig := range c.GetSignatures() {
		rec, err := s.RecordBySeq(sig.GetSeq())
		if errors.Is(err, ErrNotFound) || (err == nil && rec.GetAuthority() != c.GetAuthority()) {
			return fmt.Errorf("statement of %s for position %d: %w", c.GetAuthority(), sig.GetSeq(), ErrUnknownRecord)
		}
		if err != nil {
			return err
		}
		commitment, err := Commitment(n.GetOrigin(), rec)
		if err != nil {
			return err
		}
		statement := CertificateStatement(n.GetOrigin(), rec.GetNumber(), rec.GetSeq(), commitment)
		if err := tlog.VerifyStatement(c.GetVkey(), statement, sig.GetSignature()); err != nil {
			return fmt.Errorf("statement for %s: %w (%w)", rec.GetNumber(), ErrSignature, err)
		}
	}
	return nil
}
