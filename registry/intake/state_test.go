package intake

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore/digest"
)

// advance brings a submission to phase by the ordinary way.
func advance(t *testing.T, q *Quarantine, id digest.Digest, phase Phase) {
	t.Helper()
	for _, step := range []struct {
		phase  Phase
		change func(*State)
	}{
		{Inspected, func(s *State) { s.Report = digest.Of([]byte("report")) }},
		{Accepted, func(*State) {}},
		{Snapshotted, func(s *State) {
			s.Snapshot = &Snapshot{Repository: "r", Snapshot: "s", Path: "/", Manifest: digest.Of(nil), Command: []byte{1, 2}}
		}},
		{Registered, func(s *State) { s.Numbers = []string{"330102-2026-000001"} }},
	} {
		err := q.SetState(id, func(s *State) error {
			step.change(s)
			s.Phase, s.ChangedAt = step.phase, at().Add(time.Hour)
			return nil
		})
		if err != nil {
			t.Fatalf("SetState(%s) = %v", step.phase, err)
		}
		if step.phase == phase {
			return
		}
	}
}

func TestStateSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	q := openQuarantine(t, dir)
	id := receive(t, q, submission("x", contents()), contents())
	report := []byte("{\"report\":1}\n")
	d, err := q.PutReport(id, report)
	if err != nil || d != digest.Of(report) {
		t.Fatalf("PutReport = %v, %v", d, err)
	}
	if got, err := q.Report(id); err != nil || !bytes.Equal(got, report) {
		t.Fatalf("Report = %q, %v", got, err)
	}
	advance(t, q, id, Snapshotted)
	q.Close()
	q = openQuarantine(t, dir)
	s, err := q.Load(id)
	if err != nil || s.Phase != Snapshotted || !bytes.Equal(s.Snapshot.Command, []byte{1, 2}) || s.Snapshot.Manifest != digest.Of(nil) {
		t.Fatalf("Load = %+v, %v", s, err)
	}
	if got := q.List(Filter{Phases: []Phase{Snapshotted}, Unfreed: true}); len(got) != 1 || got[0].ID != id {
		t.Fatalf("List = %v", got)
	}
	for _, f := range []Filter{{Phases: []Phase{Received}}, {Registrant: "other"}, {Authority: "330103"}} {
		if got := q.List(f); len(got) != 0 {
			t.Errorf("List(%+v) = %v; want nothing", f, got)
		}
	}
}

func TestSetStateRefuses(t *testing.T) {
	reasons := []Reason{{Item: "2-7", Record: 0, Path: "a", Text: "file is empty", Way: "resend"}}
	for name, row := range map[string]struct {
		from   Phase
		change func(*State)
	}{
		"a leap":                      {Received, func(s *State) { s.Phase, s.Numbers, s.Snapshot = Registered, []string{"1"}, &Snapshot{} }},
		"a step back":                 {Accepted, func(s *State) { s.Phase = Received }},
		"leaving the end":             {Registered, func(s *State) { s.Phase, s.Reasons = Refused, reasons }},
		"an unknown phase":            {Received, func(s *State) { s.Phase = "LOST" }},
		"inspected without a report":  {Received, func(s *State) { s.Phase = Inspected }},
		"refused without a reason":    {Received, func(s *State) { s.Phase = Refused }},
		"returned without a reason":   {Inspected, func(s *State) { s.Phase = Returned }},
		"snapshotted without one":     {Accepted, func(s *State) { s.Phase = Snapshotted }},
		"fewer numbers than records":  {Snapshotted, func(s *State) { s.Phase, s.Numbers = Registered, nil }},
		"another registrant":          {Received, func(s *State) { s.Registrant = "other" }},
		"another time of receipt":     {Received, func(s *State) { s.ReceivedAt = s.ReceivedAt.Add(1) }},
		"freed by hand":               {Registered, func(s *State) { s.Freed = true }},
		"freed before it was certain": {Accepted, func(s *State) { s.Freed = true }},
	} {
		t.Run(name, func(t *testing.T) {
			q := openQuarantine(t, t.TempDir())
			id := receive(t, q, submission("x", contents()), contents())
			if row.from != Received {
				advance(t, q, id, row.from)
			}
			err := q.SetState(id, func(s *State) error { row.change(s); return nil })
			if !errors.Is(err, ErrState) {
				t.Fatalf("SetState = %v; want ErrState", err)
			}
			if s, err := q.Load(id); err != nil || s.Phase != row.from || s.Freed {
				t.Fatalf("Load = %+v, %v; want the old state", s, err)
			}
		})
	}
	q := openQuarantine(t, t.TempDir())
	id := receive(t, q, submission("x", contents()), contents())
	own := errors.New("own")
	if err := q.SetState(id, func(*State) error { return own }); !errors.Is(err, own) {
		t.Fatalf("SetState = %v; want the caller's error", err)
	}
	for _, p := range []Phase{Returned, Refused} {
		id := receive(t, q, submission(string(p), contents()), contents())
		if err := q.SetState(id, func(s *State) error { s.Phase, s.Reasons = p, reasons; return nil }); err != nil {
			t.Fatal(err)
		}
		if s, err := q.Load(id); err != nil || !slices.Equal(s.Reasons, reasons) {
			t.Fatalf("Load = %+v, %v", s, err)
		}
		if f, err := q.Open(id, 0, "空.txt"); err != nil {
			t.Fatalf("bytes of a %s submission: %v", p, err)
		} else {
			f.Close()
		}
		again := func(s *State) error { s.Phase, s.Reasons = Received, nil; return nil }
		if err := q.SetState(id, again); err != nil {
			t.Fatalf("SetState(RECEIVED) of a %s submission that was sent again = %v", p, err)
		}
	}
	if err := q.SetState(digest.Of([]byte("no")), func(*State) error { return nil }); !errors.Is(err, ErrNotFound) {
		t.Fatalf("SetState of nothing = %v; want ErrNotFound", err)
	}
}

func TestFree(t *testing.T) {
	dir := t.TempDir()
	q := openQuarantine(t, dir)
	id := receive(t, q, submission("x", contents()), contents())
	advance(t, q, id, Snapshotted)
	if err := q.Free(id, at()); !errors.Is(err, ErrState) {
		t.Fatalf("Free before registration = %v; want ErrState", err)
	}
	if _, err := os.Stat(q.RecordDir(id, 0)); err != nil {
		t.Fatal(err)
	}
	if err := q.SetState(id, func(s *State) error { s.Phase, s.Numbers = Registered, []string{"1"}; return nil }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := q.Free(id, at()); err != nil {
			t.Fatal(err)
		}
	}
	// A crash between the state and the removal leaves payload behind.
	if err := os.MkdirAll(filepath.Join(q.RecordDir(id, 0), "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	q.Close()
	q = openQuarantine(t, dir)
	if _, err := os.Stat(filepath.Join(dir, id.Hex(), recordsName)); !os.IsNotExist(err) {
		t.Fatalf("payload after reopening: %v", err)
	}
	if s, err := q.Load(id); err != nil || !s.Freed || s.Snapshot.Command != nil || s.Numbers[0] != "1" {
		t.Fatalf("Load = %+v, %v", s, err)
	}
	if _, _, err := q.Submission(id); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Open(id, 0, "空.txt"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Open after Free = %v; want ErrNotFound", err)
	}
}

func TestWipe(t *testing.T) {
	dir := t.TempDir()
	q := openQuarantine(t, dir)
	sub := submission("x", contents())
	id := receive(t, q, sub, contents())
	if err := q.Wipe(id); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Fatalf("after Wipe lie %v", left)
	}
	if _, err := q.Load(id); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Load after Wipe = %v", err)
	}
	receive(t, q, sub, contents())
	if err := q.SetState(id, func(s *State) error { s.Receipt = []byte("receipt"); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := q.Wipe(id); !errors.Is(err, ErrState) {
		t.Fatalf("Wipe after the receipt = %v; want ErrState", err)
	}
}

func TestOverwriteLeavesZeros(t *testing.T) {
	dir := t.TempDir()
	q := openQuarantine(t, dir)
	if err := os.MkdirAll(filepath.Join(dir, "d", "e"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "d", "e", "f")
	if err := os.WriteFile(p, bytes.Repeat([]byte("x"), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := q.overwrite("d"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(p); err != nil || !bytes.Equal(b, make([]byte, 100_000)) {
		t.Fatalf("after overwrite: %d bytes, %v", len(b), err)
	}
}

func TestDamagedStateIsListedAndKept(t *testing.T) {
	dir := t.TempDir()
	q := openQuarantine(t, dir)
	sub := submission("x", contents())
	id, other := receive(t, q, sub, contents()), receive(t, q, submission("y", contents()), contents())
	q.Close()
	if err := os.WriteFile(filepath.Join(dir, id.Hex(), stateName), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, other.Hex(), stateName+".tmp"), []byte("half"), 0o600); err != nil { // a crash before the rename
		t.Fatal(err)
	}
	q = openQuarantine(t, dir)
	if d := q.Damaged(); len(d) != 1 || !errors.Is(d[id], ErrDamaged) {
		t.Fatalf("Damaged = %v", d)
	}
	if _, err := q.Load(id); !errors.Is(err, ErrDamaged) {
		t.Fatalf("Load = %v; want ErrDamaged", err)
	}
	if _, err := q.Receive(sub, nil, at()); !errors.Is(err, ErrDamaged) {
		t.Fatalf("Receive over damage = %v; want ErrDamaged", err)
	}
	if s, err := q.Load(other); err != nil || s.Phase != Received {
		t.Fatalf("Load of the other = %+v, %v", s, err)
	}
}

func TestListIsOldestFirst(t *testing.T) {
	q := openQuarantine(t, t.TempDir())
	files := map[string]string{"a": "a"}
	var want []digest.Digest
	for i, title := range []string{"third", "first", "second"} {
		in, err := q.Receive(submission(title, files), nil, at().Add(time.Duration((i+2)%3)*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		putAll(t, in, files)
		if err := in.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		want = append(want, in.ID())
	}
	got := q.List(Filter{})
	if len(got) != 3 || got[0].ID != want[1] || got[1].ID != want[2] || got[2].ID != want[0] {
		t.Fatalf("List = %v; want oldest first", got)
	}
}

func TestPaths(t *testing.T) {
	q := openQuarantine(t, t.TempDir())
	id := receive(t, q, submission("x", contents()), contents())
	if err := os.WriteFile(filepath.Join(q.RecordDir(id, 0), "data", "zz-extra"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := q.Paths(id, 0)
	if err != nil || len(got) != len(contents())+1 || !slices.Contains(got, "zz-extra") || !slices.IsSorted(got) || strings.HasPrefix(got[0], "/") {
		t.Fatalf("Paths = %q, %v", got, err)
	}
	if _, err := q.Paths(id, 7); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Paths of record 7 = %v; want ErrNotFound", err)
	}
}
