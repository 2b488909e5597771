package node

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"

	"filippo.io/age"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/digest"
	"dengbei/node/identity"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/intake"
	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// hiddenValues is what is sealed to the owning centre and its superiors: the seed that salts a record's hidden fields,
// and the fields.
type hiddenValues struct {
	Seed   []byte            `json:"seed"`
	Fields map[string]string `json:"fields"` // by field name
}

func (h hiddenValues) encode() ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("hidden fields: %w", err)
	}
	return b, nil
}

func hiddenFields() []tlog.FieldID {
	var out []tlog.FieldID
	for id := tlog.FieldID(0); id < tlog.RegistrationFieldCount; id++ {
		if id.Hidden() {
			out = append(out, id)
		}
	}
	return out
}

// digests returns the digests of the hidden fields in field order.
func (h hiddenValues) digests() ([][]byte, error) {
	var out [][]byte
	for _, id := range hiddenFields() {
		salt, err := tlog.Salt(h.Seed, id)
		if err != nil {
			return nil, err
		}
		d := tlog.FieldDigest(id, salt, []byte(h.Fields[id.String()]))
		out = append(out, d[:])
	}
	return out, nil
}

// openHidden opens sealed fields; without keys nothing opens.
func (k *keys) openHidden(sealed []byte) (hiddenValues, error) {
	var h hiddenValues
	if k == nil {
		return h, rpc.ErrDenied
	}
	b, err := k.Unseal(sealed)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("sealed fields: %w", err)
	}
	return h, nil
}

// readers lists the recipients of a centre's hidden values: its own key and those of its superiors that are members.
func readers(state *registry.State, code string) ([]age.Recipient, error) {
	members, err := state.Members()
	if err != nil {
		return nil, err
	}
	var out []age.Recipient
	for _, m := range members {
		if m.GetCode() != code && !registry.Supervises(m.GetCode(), code) {
			continue
		}
		r, err := identity.ParseRecipient(m.GetSealingRecipient())
		if err != nil {
			return nil, fmt.Errorf("sealing key of centre %s: %w", m.GetCode(), err)
		}
		out = append(out, r)
	}
	return out, nil
}

func signCertificate(authority, origin string, r *registrypb.Record, commitment [32]byte) (string, error) {
	return tlog.SignStatement(authority, registry.CertificateStatement(origin, r.GetNumber(), r.GetSeq(), commitment))
}

// bagRoot is the directory of a submission's bags inside a snapshot; each record is one below it.
func bagRoot(id digest.Digest) string { return "/records/" + id.Hex() }

func bagPath(id digest.Digest, ordinal int) string {
	return path.Join(bagRoot(id), strconv.Itoa(ordinal))
}

// prepare makes each record of an accepted submission a bag, signs the decision, and fills in the command that will
// register it, all but the manifest.
func (d *desk) prepare(own *ownRepository, a *accepted) ([]archive.Root, error) {
	state := d.ledger.state()
	recipients, err := readers(state, d.cfg.Centre)
	if err != nil {
		return nil, err
	}
	registrant, err := state.Registrant(a.sub.Registrant)
	if err != nil {
		return nil, err
	}
	report, err := d.quarantine.Report(a.id)
	if err != nil {
		return nil, err
	}
	if _, err := d.docs.PutBytes(report); err != nil {
		return nil, err
	}
	a.command = &registrypb.RegisterSubmission{
		Submission: a.id.Bytes(), Authority: d.cfg.Centre, Registrant: a.sub.Registrant,
		ReceivedAtMillis: a.state.ReceivedAt.UnixMilli(), Class: own.class, RegistrantSignature: a.signature,
	}
	var roots []archive.Root
	for i := range a.sub.Records {
		rec := &a.sub.Records[i]
		n, err := d.prepareRecord(a, i, registrant.GetName(), recipients)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		n.Report, n.ReportBytes = a.state.Report.Bytes(), uint64(len(report))
		if rec.Opening == intake.OpeningOpen {
			n.Title = rec.Title
		}
		a.command.Records = append(a.command.Records, n)
		roots = append(roots, archive.Root{Path: bagPath(a.id, i), Source: d.quarantine.RecordDir(a.id, i)})
	}
	return roots, nil
}

func (d *desk) prepareRecord(a *accepted, ordinal int, registrantName string, recipients []age.Recipient) (*registrypb.NewRecord, error) {
	rec := &a.sub.Records[ordinal]
	openSeed, hiddenSeed := make([]byte, tlog.SeedSize), make([]byte, tlog.SeedSize)
	rand.Read(openSeed)
	rand.Read(hiddenSeed)
	inBag, err := recordJSON{
		Format: "dengbei/record/v1", Submission: a.id.Hex(), Ordinal: ordinal, Registrant: a.sub.Registrant, Title: rec.Title,
		Opening: rec.Opening, Secrecy: rec.Secrecy, Metadata: rec.Metadata, Report: a.state.Report.Hex(),
		OpenSeed: openSeed, HiddenSeed: hiddenSeed,
	}.encode()
	if err != nil {
		return nil, err
	}
	bag, err := intake.WriteBag(d.quarantine.RecordDir(a.id, ordinal), rec, intake.BagInfo{
		Submission: a.id, Ordinal: ordinal, Registrant: a.sub.Registrant, At: a.state.ReceivedAt, RecordJSON: inBag,
	})
	if err != nil {
		return nil, err
	}
	one := *a.sub
	one.Records = []intake.Record{*rec}
	description, err := intake.ID(&one)
	if err != nil {
		return nil, err
	}
	hidden := hiddenValues{Seed: hiddenSeed, Fields: map[string]string{
		tlog.FieldRegistrant.String():     hiddenRegistrant(a.sub.Registrant, registrantName),
		tlog.FieldTitle.String():          rec.Title,
		tlog.FieldPayload.String():        hiddenPayload(rec),
		tlog.FieldManifestSHA256.String(): bag.ManifestSHA256.Hex(),
		tlog.FieldManifestSM3.String():    bag.ManifestSM3.Hex(),
		tlog.FieldReport.String():         a.state.Report.Hex(),
		tlog.FieldMetadata.String():       description.Hex(),
	}}
	plain, err := hidden.encode()
	if err != nil {
		return nil, err
	}
	n := &registrypb.NewRecord{OpenSeed: openSeed, Path: bagPath(a.id, ordinal)[1:]}
	if n.Sealed, err = identity.Seal(plain, recipients...); err != nil {
		return nil, err
	}
	if n.Hidden, err = hidden.digests(); err != nil {
		return nil, err
	}
	statement := registry.DecisionStatement(d.cfg.Centre, a.id.Bytes(), uint32(ordinal), bag.ManifestSHA256.Hex(), bag.ManifestSM3.Hex(), a.state.Report.Hex())
	if n.DecisionSignature, err = tlog.SignStatement(d.keys.Authority, statement); err != nil {
		return nil, err
	}
	return n, nil
}

func hiddenRegistrant(id, name string) string { return id + " " + name }

func hiddenPayload(rec *intake.Record) string {
	var size int64
	for _, f := range rec.Files {
		size += f.SizeBytes
	}
	return fmt.Sprintf("%d.%d", size, len(rec.Files))
}

// commandReserve is room in a registration for all but its records: the manifest, names, a signature.
const commandReserve = 4 << 10

// fitting returns how many of a submission's first records fit into one registration, which is one command. Lengths are
// all that counts, so digests and signatures are made up.
func fitting(sub *intake.Submission, registrantName string, recipients []age.Recipient) (int, error) {
	header, err := identity.Seal(nil, recipients...)
	if err != nil {
		return 0, err
	}
	hidden := hiddenValues{Seed: make([]byte, tlog.SeedSize), Fields: map[string]string{}}
	sum := strings.Repeat("0", 2*sha256.Size)
	for _, id := range hiddenFields() {
		hidden.Fields[id.String()] = sum
	}
	hidden.Fields[tlog.FieldRegistrant.String()] = hiddenRegistrant(sub.Registrant, registrantName)
	n := &registrypb.NewRecord{
		OpenSeed: make([]byte, tlog.SeedSize), Report: make([]byte, sha256.Size), ReportBytes: math.MaxUint64,
		DecisionSignature: strings.Repeat("0", base64.StdEncoding.EncodedLen(ed25519.SignatureSize)),
	}
	if n.Hidden, err = hidden.digests(); err != nil {
		return 0, err
	}
	left := registry.MaxCommandBytes - commandReserve
	for i := range sub.Records {
		rec := &sub.Records[i]
		hidden.Fields[tlog.FieldTitle.String()] = rec.Title
		hidden.Fields[tlog.FieldPayload.String()] = hiddenPayload(rec)
		plain, err := hidden.encode()
		if err != nil {
			return 0, err
		}
		n.Sealed, n.Path, n.Title = make([]byte, len(header)+len(plain)), bagPath(digest.Of(nil), i)[1:], ""
		if rec.Opening == intake.OpeningOpen {
			n.Title = rec.Title
		}
		size := proto.Size(n)
		if left -= size + 1 + protowire.SizeVarint(uint64(size)); left < 0 {
			return i, nil
		}
	}
	return len(sub.Records), nil
}
