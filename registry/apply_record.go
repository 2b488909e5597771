package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// outcome is what a submission got: records that follow each other in log and numbering.
type outcome struct {
	authority string
	year      int
	serial    uint64 // of the first record
	seq       uint64 // of the first record
	count     uint32
	sequence  uint64 // of the manifest
}

func (o outcome) encode() []byte {
	b := binary.BigEndian.AppendUint16([]byte(o.authority), uint16(o.year))
	b = binary.BigEndian.AppendUint64(b, o.serial)
	b = binary.BigEndian.AppendUint64(b, o.seq)
	b = binary.BigEndian.AppendUint32(b, o.count)
	return binary.BigEndian.AppendUint64(b, o.sequence)
}

func decodeOutcome(b []byte) (outcome, error) {
	if len(b) != 6+2+8+8+4+8 {
		return outcome{}, fmt.Errorf("outcome of %d bytes: %w", len(b), ErrCorrupt)
	}
	return outcome{string(b[:6]), int(binary.BigEndian.Uint16(b[6:])), binary.BigEndian.Uint64(b[8:]),
		binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint64(b[28:])}, nil
}

func (o outcome) number(i uint32) Number {
	return Number{Authority: o.authority, Year: o.year, Serial: o.serial + uint64(i)}
}

func (o outcome) result() Result {
	r := Result{Sequence: o.sequence, Records: make([]Registered, o.count)}
	for i := range o.count {
		r.Records[i] = Registered{Seq: o.seq + uint64(i), Number: o.number(i).String()}
	}
	return r
}

func (t *tx) registerSubmission(c *registrypb.RegisterSubmission) Result {
	if len(c.GetSubmission()) != sha256.Size {
		return refuse(RejectMalformed, "submission ID of %d bytes", len(c.GetSubmission()))
	}
	done := key(keySubmission, c.GetSubmission())
	if v, ok := t.get(done); ok { // a retry after a lost reply
		o, err := decodeOutcome(v)
		if err != nil {
			halt("read the state", err)
		}
		r := o.result()
		r.Existing = true
		return r
	}
	if !validSubmission(c) {
		return refuse(RejectMalformed, "submission %x", c.GetSubmission())
	}
	if _, ok := t.member(c.GetAuthority()); !ok {
		return refuse(RejectNotMember, "submission %x: authority %s", c.GetSubmission(), c.GetAuthority())
	}
	registrant, ok := load(t, key(keyRegistrant, c.GetRegistrant()), &registrypb.Registrant{})
	if !ok || registrant.GetAuthority() != c.GetAuthority() {
		return refuse(RejectUnknownRegistrant, "submission %x: registrant %q", c.GetSubmission(), c.GetRegistrant())
	}
	repository, ok := load(t, key(keyRepository, c.GetManifest().GetRepository()), &registrypb.Repository{})
	if !ok || repository.GetOwner() != c.GetAuthority() {
		return refuse(RejectUnknownRepository, "submission %x: repository %q", c.GetSubmission(), c.GetManifest().GetRepository())
	}
	manifest, refused := t.manifest(repository, c.GetManifest())
	if refused.Reject != RejectNone {
		return refused
	}

	sequence := manifest.GetSequence()
	if sequence == 0 {
		sequence = t.addManifest(manifest)
	}
	o := outcome{authority: c.GetAuthority(), year: Year(t.meta.now), seq: t.meta.size,
		count: uint32(len(c.GetRecords())), sequence: sequence}
	o.serial = t.takeSerials(o.authority, o.year, len(c.GetRecords()))
	r := o.result()
	for i, content := range c.GetRecords() {
		t.addRecord(&registrypb.Record{
			Seq: r.Records[i].Seq, Number: r.Records[i].Number, Authority: c.GetAuthority(), Registrant: c.GetRegistrant(),
			Submission: c.GetSubmission(), Ordinal: uint32(i), RegisteredAtMillis: t.meta.now,
			ReceivedAtMillis: c.GetReceivedAtMillis(), Class: c.GetClass(), Content: content,
			Repository: repository.GetId(), ManifestSequence: sequence, Snapshot: manifest.GetSnapshot(),
		}, o.number(uint32(i)))
	}
	t.set(done, o.encode())
	return r
}

// validSubmission checks what the state relies on; sequence is Apply's to assign.
func validSubmission(c *registrypb.RegisterSubmission) bool {
	m := c.GetManifest()
	if !validCode(c.GetAuthority()) || !validID(c.GetRegistrant()) || !validID(c.GetClass()) || !validMillis(c.GetReceivedAtMillis()) ||
		len(c.GetRecords()) == 0 || !validManifest(m) || !validID(m.GetRepository()) || m.GetSequence() != 0 {
		return false
	}
	for _, r := range c.GetRecords() {
		if len(r.GetOpenSeed()) != tlog.SeedSize || len(r.GetHidden()) != HiddenFieldCount || len(r.GetReport()) != sha256.Size {
			return false
		}
		for _, d := range r.GetHidden() {
			if len(d) != sha256.Size {
				return false
			}
		}
	}
	return true
}

// takeSerials takes the next n serials of an authority's year and returns the first.
func (t *tx) takeSerials(authority string, year, n int) uint64 {
	k := key(keyCounter, authority, uint16(year))
	last := uint64(0)
	if v, ok := t.value(k); ok && len(v) == 8 {
		last = binary.BigEndian.Uint64(v)
	}
	t.setValue(k, binary.BigEndian.AppendUint64(nil, last+uint64(n)))
	return last + 1
}

// addRecord appends r's leaf to the log and stores r with its indexes.
func (t *tx) addRecord(r *registrypb.Record, n Number) {
	commitment, err := Commitment(t.net.GetOrigin(), r)
	if err != nil {
		halt("commit to a record", err) // its lengths were checked
	}
	leaf := tlog.Leaf(tlog.LeafRegistration, commitment)
	t.leaves = append(t.leaves, leaf)
	seq := binary.BigEndian.AppendUint64(nil, r.GetSeq())
	t.set(seqKey(keyRecord, r.GetSeq()), marshal(r))
	t.write(seqKey(keyLeaf, r.GetSeq()), leaf)
	t.write(numberKey(n), seq)
	t.set(unsignedKey(r.GetAuthority(), r.GetSeq()), []byte{})
	t.meta.size++
}

func unsignedKey(authority string, seq uint64) []byte { return key(keyUnsigned, authority, seq) }

func (t *tx) signStatement(c *registrypb.SignStatement) Result {
	m, ok := t.member(c.GetAuthority())
	if !ok {
		return refuse(RejectNotMember, "statement of %q", c.GetAuthority())
	}
	if c.GetVkey() == "" || m.GetAuthorityVkey() != c.GetVkey() {
		return refuse(RejectUnknownKey, "statement of %s with %q", c.GetAuthority(), c.GetVkey())
	}
	if len(c.GetSignatures()) == 0 {
		return refuse(RejectMalformed, "statement of %s without a signature", c.GetAuthority())
	}
	var unsigned []*registrypb.StatementSignature
	for _, s := range c.GetSignatures() {
		if s.GetSignature() == "" {
			return refuse(RejectMalformed, "statement of %s for %d", c.GetAuthority(), s.GetSeq())
		}
		if t.has(unsignedKey(c.GetAuthority(), s.GetSeq())) {
			unsigned = append(unsigned, s)
			continue
		}
		v, ok := t.get(seqKey(keyRecord, s.GetSeq()))
		r := &registrypb.Record{}
		if ok {
			if err := proto.Unmarshal(v, r); err != nil {
				halt("read the state", err)
			}
		}
		if !ok || r.GetAuthority() != c.GetAuthority() {
			return refuse(RejectUnknownRecord, "statement of %s for %d", c.GetAuthority(), s.GetSeq())
		}
	}
	for _, s := range unsigned { // what is signed stays as it was signed first
		k := unsignedKey(c.GetAuthority(), s.GetSeq())
		if !t.has(k) {
			continue // twice in one command
		}
		t.write(seqKey(keyStatement, s.GetSeq()), marshal(&registrypb.SignStatement{Authority: c.GetAuthority(),
			Vkey: c.GetVkey(), Signatures: []*registrypb.StatementSignature{s}}))
		t.remove(k)
	}
	return Result{Existing: len(unsigned) == 0}
}

func (t *tx) publishCheckpoint(c *registrypb.PublishCheckpoint) Result {
	if len(c.GetRoot()) != sha256.Size || len(c.GetNote()) == 0 || c.GetSize() == 0 {
		return refuse(RejectMalformed, "checkpoint of size %d", c.GetSize())
	}
	k := key(keyCheckpoint, c.GetSize())
	if c.GetSize() <= t.meta.checkpoint {
		if known, ok := load(t, k, &registrypb.Checkpoint{}); ok && bytes.Equal(known.GetNote(), c.GetNote()) && bytes.Equal(known.GetRoot(), c.GetRoot()) {
			return Result{Existing: true}
		}
		return refuse(RejectCheckpointOrder, "checkpoint of size %d, published %d", c.GetSize(), t.meta.checkpoint)
	}
	if c.GetSize() > t.meta.size {
		return refuse(RejectCheckpointRoot, "checkpoint of size %d, log has %d", c.GetSize(), t.meta.size)
	}
	t.growTree()
	root, err := tlog.Root(applyStore{t}, int64(c.GetSize()))
	if err != nil {
		halt("compute a root", err)
	}
	if !bytes.Equal(root[:], c.GetRoot()) {
		return refuse(RejectCheckpointRoot, "checkpoint of size %d: root %x, own %x", c.GetSize(), c.GetRoot(), root[:])
	}
	t.store(k, &registrypb.Checkpoint{Size: c.GetSize(), Root: c.GetRoot(), Note: c.GetNote(), PublishedAtMillis: t.meta.now})
	t.meta.checkpoint = c.GetSize()
	return Result{}
}
