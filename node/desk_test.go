package node

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"google.golang.org/protobuf/proto"

	"dengbei/chunkstore/digest"
	"dengbei/node/config"
	"dengbei/node/identity"
	"dengbei/registry"
	"dengbei/registry/intake"
	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// acceptedSubmission puts a submission of one small file into q and accepts it.
func acceptedSubmission(t *testing.T, q *intake.Quarantine, title, class string, at time.Time) digest.Digest {
	t.Helper()
	sub := &intake.Submission{Registrant: "330102/unit", Authority: "330102", Class: class, Records: []intake.Record{{Title: title, Files: []intake.File{{
		Path: "正文.txt", SizeBytes: int64(len(title)), SHA256: digest.Of([]byte(title)), SM3: digest.OfSM3([]byte(title)),
	}}}}}
	in, err := q.Receive(sub, []byte("signature"), at)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Put(t.Context(), 0, "正文.txt", strings.NewReader(title)); err != nil {
		t.Fatal(err)
	}
	if err := in.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	id, err := intake.ID(sub)
	if err != nil {
		t.Fatal(err)
	}
	report, err := q.PutReport(id, []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	for _, phase := range []intake.Phase{intake.Inspected, intake.Accepted} {
		if err := q.SetState(id, func(s *intake.State) error {
			s.Phase, s.Report = phase, report
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// What cannot be registered must not hold up what can.
func TestNextBatchPassesOverWhatIsStuck(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "quarantine")
	q, err := intake.OpenQuarantine(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	damaged := acceptedSubmission(t, q, "damaged", "standard", at)
	first := acceptedSubmission(t, q, "first", "full", at.Add(time.Second))
	second := acceptedSubmission(t, q, "second", "standard", at.Add(2*time.Second))
	if err := os.WriteFile(filepath.Join(dir, damaged.Hex(), "submission.json"), []byte("rot"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDesk(config.Config{Centre: "330102"}, q, nil, nil, nil, nil, slog.New(slog.DiscardHandler))
	want := func(step string, id digest.Digest) {
		t.Helper()
		if _, batch := d.nextBatch(); len(batch) != 1 || batch[0].id != id {
			t.Fatalf("%s: a batch of %d; want submission %s alone", step, len(batch), id.Hex())
		}
	}
	want("a damaged one comes first", first)
	if d.LastError(damaged) == "" {
		t.Error("the damaged one does not say why it waits")
	}
	d.backClasses["full"] = time.Now().Add(time.Hour)
	want("a class that fails comes first", second)
	d.backClasses["full"] = time.Now()
	want("the class had its rest", first)
}

// A county hands its whole outbox over at once: it must fit into the messages of the peer port.
func TestCutGroupKeepsCallsSmall(t *testing.T) {
	command := func(n int) *registrypb.Command {
		return &registrypb.Command{Kind: &registrypb.Command_PutEscrow{PutEscrow: &registrypb.PutEscrow{Bundle: make([]byte, n)}}}
	}
	const large = 200 << 10
	var all []*registrypb.Command
	for range 64 {
		all = append(all, command(large))
	}
	all = append(all, command(registry.MaxCommandBytes), command(1))
	for range maxGroupCommands + 1 {
		all = append(all, command(1))
	}
	total := 0
	for rest := all; len(rest) > 0; {
		var group []*registrypb.Command
		group, rest = cutGroup(rest)
		size := 0
		for i, c := range group {
			if c != all[total+i] {
				t.Fatalf("command %d is not in its place", total+i)
			}
			size += proto.Size(c)
		}
		if len(group) == 0 || len(group) > maxGroupCommands || len(group) > 1 && size > maxGroupBytes {
			t.Fatalf("a group of %d commands, %d bytes", len(group), size)
		}
		if n := proto.Size(group[0]); n > registry.MaxCommandBytes && len(group) > 1 {
			t.Fatalf("a command of %d bytes goes with %d others; want it alone", n, len(group)-1)
		}
		total += len(group)
	}
	if total != len(all) {
		t.Errorf("groups hold %d commands; want %d", total, len(all))
	}
}

func TestProposeRefusesWhatNoLeaderAdmits(t *testing.T) {
	l := &ledger{} // asks nobody
	group, _ := cutGroup([]*registrypb.Command{{Kind: &registrypb.Command_PutEscrow{PutEscrow: &registrypb.PutEscrow{Bundle: make([]byte, 8<<20)}}}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	outcomes, err := l.Propose(ctx, group...)
	if err != nil || len(outcomes) != 1 || outcomes[0].GetReason() != "COMMAND_TOO_LARGE" {
		t.Errorf("Propose = %v, %v; want one refusal COMMAND_TOO_LARGE", outcomes, err)
	}
}

func TestFittingAgreesWithTheCommand(t *testing.T) {
	var recipients []age.Recipient
	for range 3 {
		k, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		recipients = append(recipients, k.Recipient())
	}
	sub := &intake.Submission{Registrant: "330102/unit", Authority: "330102"}
	for i := range 1000 {
		r := intake.Record{Title: strings.Repeat("题\"", i%40+1), Files: []intake.File{{SizeBytes: 1 << 40}}}
		if i%2 == 0 {
			r.Opening = intake.OpeningOpen
		}
		sub.Records = append(sub.Records, r)
	}
	fit, err := fitting(sub, "某单位", recipients)
	if err != nil {
		t.Fatal(err)
	}
	c := &registrypb.RegisterSubmission{Submission: make([]byte, 32), Authority: "330102", Registrant: sub.Registrant, Class: "standard", RegistrantSignature: make([]byte, 64)}
	size := func(records int) int {
		t.Helper()
		for i := len(c.Records); i < records; i++ {
			rec := &sub.Records[i]
			hidden := hiddenValues{Seed: make([]byte, tlog.SeedSize), Fields: map[string]string{}}
			for _, id := range hiddenFields() {
				hidden.Fields[id.String()] = digest.Of(nil).Hex()
			}
			hidden.Fields[tlog.FieldRegistrant.String()] = hiddenRegistrant(sub.Registrant, "某单位")
			hidden.Fields[tlog.FieldTitle.String()] = rec.Title
			hidden.Fields[tlog.FieldPayload.String()] = hiddenPayload(rec)
			plain, err := hidden.encode()
			if err != nil {
				t.Fatal(err)
			}
			n := &registrypb.NewRecord{OpenSeed: make([]byte, tlog.SeedSize), Path: bagPath(digest.Of(nil), i)[1:], Report: make([]byte, 32), ReportBytes: 1 << 16}
			if rec.Opening == intake.OpeningOpen {
				n.Title = rec.Title
			}
			if n.Sealed, err = identity.Seal(plain, recipients...); err != nil {
				t.Fatal(err)
			}
			if n.Hidden, err = hidden.digests(); err != nil {
				t.Fatal(err)
			}
			n.DecisionSignature = strings.Repeat("A", 88)
			c.Records = append(c.Records, n)
		}
		return proto.Size(c)
	}
	const spare = 16 << 10 // the reserve and a record
	if got := size(fit); fit == 0 || got > registry.MaxCommandBytes || got < registry.MaxCommandBytes-spare {
		t.Errorf("%d records make a command of %d bytes; want a little below %d", fit, got, registry.MaxCommandBytes)
	}
}
