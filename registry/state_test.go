package registry

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	xtlog "golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// drawEntry draws an entry that makes sense, or one that does not.
func drawEntry(t *rapid.T) []byte {
	at := started + rapid.Int64Range(-10, 400).Draw(t, "day")*day
	draw := func() *registrypb.Command {
		n := rapid.IntRange(1, 4).Draw(t, "n")
		code := rapid.SampledFrom([]string{shangcheng, wenzhou, hangzhou, "330106"}).Draw(t, "code")
		switch rapid.IntRange(0, 10).Draw(t, "kind") {
		case 0:
			return cmd(at, testInvitation(code, n, rapid.Bool().Draw(t, "replace")))
		case 1:
			return cmd(at, testEnrolment(code, n))
		case 2:
			return cmd(at, &registrypb.RevokeMember{Code: code, Serial: uint64(n)})
		case 3:
			return cmd(at, testRepository(code, uint32(n)))
		case 4:
			return cmd(at, testReceipt(n, uint64(n)))
		case 5:
			return cmd(at, &registrypb.PublishCheckpoint{Size: uint64(n), Root: digestOf("root"), Note: []byte("note")})
		case 6:
			return cmd(at, &registrypb.SignStatement{Authority: shangcheng, Vkey: testMember(shangcheng, false, 1).GetAuthorityVkey(),
				Signatures: []*registrypb.StatementSignature{{Seq: uint64(n), Signature: "x"}}})
		case 7:
			return cmd(at, change(testAgreement("a1"), func(a *registrypb.Agreement) { a.Ended = n == 1 }))
		case 8:
			return &registrypb.Command{AtMillis: at}
		default:
			return cmd(at, testSubmission(rapid.IntRange(0, 20).Draw(t, "submission"), rapid.IntRange(0, 40).Draw(t, "records"), n))
		}
	}
	var commands []*registrypb.Command
	for range rapid.IntRange(0, 4).Draw(t, "commands") {
		commands = append(commands, draw())
	}
	b, err := EncodeEntry(commands...)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 0 && rapid.IntRange(0, 9).Draw(t, "damage") == 0 {
		b = b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]
	}
	return b
}

// drawLog draws a log that begins with a founded network; some entries change the configuration only.
func drawLog(t *rapid.T) []LogEntry {
	founding, err := EncodeEntry(testNetwork()...)
	if err != nil {
		t.Fatal(err)
	}
	log := []LogEntry{{Index: 3, Data: founding}}
	for range rapid.IntRange(1, 25).Draw(t, "entries") {
		e := LogEntry{Index: log[len(log)-1].Index + rapid.Uint64Range(1, 3).Draw(t, "gap")}
		if e.Configuration = rapid.IntRange(0, 9).Draw(t, "configuration") == 0; !e.Configuration {
			e.Data = drawEntry(t)
		}
		log = append(log, e)
	}
	return log
}

// applyAll applies entries in groups of drawn size.
func applyAll(t *rapid.T, s *State, log []LogEntry) [][]Result {
	var out [][]Result
	for len(log) > 0 {
		n := rapid.IntRange(1, len(log)).Draw(t, "group")
		out = append(out, s.Apply(log[:n])...)
		log = log[n:]
	}
	return out
}

func stateOn(t *rapid.T, disk vfs.FS) *State {
	s, err := openOn(disk, "state", Options{CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReplicasAgree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		log := drawLog(rt)
		disk := vfs.NewMem()
		a, b := stateOn(rt, vfs.NewMem()), stateOn(rt, disk)
		ra := applyAll(rt, a, log)
		// b is restarted on the way and gets entries twice, as after a kill.
		half := rapid.IntRange(0, len(log)).Draw(rt, "half")
		applyAll(rt, b, log[:half])
		if rapid.Bool().Draw(rt, "restart") {
			if err := b.Close(); err != nil {
				rt.Fatal(err)
			}
			b = stateOn(rt, disk)
		}
		again := rapid.IntRange(0, half).Draw(rt, "again")
		rb := applyAll(rt, b, log[again:])
		for i, r := range rb[half-again:] {
			if fmt.Sprint(r) != fmt.Sprint(ra[half+i]) {
				rt.Errorf("entry %d: results %v and %v", log[half+i].Index, r, ra[half+i])
			}
		}
		if da, db := digest(t, a), digest(t, b); da != db {
			rt.Errorf("digests %x and %x after one log", da, db)
		}
		checkInvariants(rt, a)
		for _, s := range []*State{a, b} {
			if err := s.Close(); err != nil {
				rt.Error(err)
			}
		}
	})
}

// checkInvariants checks numbers, positions, leaves and root against a plain reading of all records.
func checkInvariants(t *rapid.T, s *State) {
	records, err := s.Records(0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if uint64(len(records)) != s.Size() {
		t.Errorf("%d records, log of size %d", len(records), s.Size())
	}
	next := map[string]uint64{}
	var leaves [][]byte
	for i, r := range records {
		n, err := ParseNumber(r.GetNumber())
		if err != nil || n.Year != Year(r.GetRegisteredAtMillis()) || n.Authority != r.GetAuthority() || r.GetSeq() != uint64(i) {
			t.Errorf("record %d = %v, %v", i, r, err)
		}
		k := fmt.Sprint(n.Authority, n.Year)
		if next[k]++; n.Serial != next[k] {
			t.Errorf("serial of %s = %d; want %d: numbers have a gap", r.GetNumber(), n.Serial, next[k])
		}
		if i > 0 && r.GetRegisteredAtMillis() < records[i-1].GetRegisteredAtMillis() {
			t.Errorf("time of record %d ran back", i)
		}
		c, err := Commitment(testOrigin, r)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, tlog.Leaf(tlog.LeafRegistration, c))
	}
	if err := s.Leaves(0, func(seq uint64, leaf []byte) error {
		if !bytes.Equal(leaf, leaves[seq]) {
			t.Errorf("leaf %d differs from its record", seq)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	root, err := s.Root(s.Size())
	if err != nil || root != naiveRoot(leaves) {
		t.Errorf("Root(%d) = %x, %v; want %x", s.Size(), root, err, naiveRoot(leaves))
	}
}

// naiveRoot is RFC 6962 section 2.1 as it is written.
func naiveRoot(leaves [][]byte) xtlog.Hash {
	switch n := len(leaves); n {
	case 0:
		h, _ := xtlog.TreeHash(0, nil)
		return h
	case 1:
		return xtlog.RecordHash(leaves[0])
	default:
		k := 1
		for k*2 < n {
			k *= 2
		}
		return xtlog.NodeHash(naiveRoot(leaves[:k]), naiveRoot(leaves[k:]))
	}
}

func TestProofsOfTheLog(t *testing.T) {
	l := newLog(t, append(testNetwork(), cmd(started, testSubmission("s1", 700, 1)))...)
	root := must(l.s.Root(600))(t)
	leaf := must(l.s.Leaf(300))(t)
	p := must(l.s.ProveRecord(600, 300))(t)
	if err := xtlog.CheckRecord(p, 600, root, 300, xtlog.RecordHash(leaf)); err != nil {
		t.Errorf("inclusion of 300 in 600: %v", err)
	}
	old := must(l.s.Root(255))(t)
	tp := must(l.s.ProveTree(600, 255))(t)
	if err := xtlog.CheckTree(tp, 600, root, 255, old); err != nil {
		t.Errorf("consistency of 255 with 600: %v", err)
	}
	bundle := must(l.s.EntryBundle(700, 2, 188))(t)
	if len(bundle) != 188*(2+tlog.LeafSize) || !bytes.Equal(bundle[2:2+tlog.LeafSize], must(l.s.Leaf(512))(t)) || bundle[1] != tlog.LeafSize {
		t.Errorf("EntryBundle(2) = %d bytes; want 188 entries from leaf 512", len(bundle))
	}
	if tile := must(l.s.TileData(700, xtlog.Tile{H: 8, L: 1, N: 0, W: 2}))(t); len(tile) != 64 {
		t.Errorf("TileData(level 1) = %d bytes; want 64", len(tile))
	}
	for name, f := range map[string]func() error{
		"root beyond the log":        func() error { _, err := l.s.Root(701); return err },
		"record beyond the size":     func() error { _, err := l.s.ProveRecord(600, 600); return err },
		"older size beyond the size": func() error { _, err := l.s.ProveTree(600, 601); return err },
		"bundle beyond the size":     func() error { _, err := l.s.EntryBundle(700, 2, 189); return err },
		"bundle that overflows":      func() error { _, err := l.s.EntryBundle(700, 1<<63, 1); return err },
		"tile beyond the size":       func() error { _, err := l.s.TileData(600, xtlog.Tile{H: 8, N: 2, W: 89}); return err },
	} {
		if err := f(); !errors.Is(err, tlog.ErrOutOfRange) {
			t.Errorf("%s: %v; want ErrOutOfRange", name, err)
		}
	}
}

func TestReopenContinuesAtTheAppliedIndex(t *testing.T) {
	dir := t.TempDir()
	var entries []LogEntry
	for i, c := range append(testNetwork(), cmd(started, testSubmission("s1", 3, 1)), cmd(started, testSubmission("s2", 300, 2))) {
		entries = append(entries, LogEntry{Index: uint64(i + 1), Data: must(EncodeEntry(c))(t)})
	}
	s := openState(t, dir)
	s.Apply(entries[:9])
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := openState(t, dir)
	if again.Applied() != 9 || again.Size() != 3 || again.NowMillis() != started {
		t.Fatalf("reopened at entry %d, size %d, time %d; want 9, 3, %d", again.Applied(), again.Size(), again.NowMillis(), started)
	}
	results := again.Apply(entries) // Raft replays from its last snapshot
	if results[8] != nil || len(results[9][0].Records) != 300 {
		t.Errorf("replay = %v, %d records; want skipped, 300", results[8], len(results[9][0].Records))
	}
	whole := openState(t, t.TempDir())
	whole.Apply(entries)
	if digest(t, again) != digest(t, whole) {
		t.Error("a restarted state differs from one that ran through")
	}
}

// TestKilledStateReplays takes the directory as a kill leaves it: without a sync, and without closing.
func TestKilledStateReplays(t *testing.T) {
	dir := t.TempDir()
	var entries []LogEntry
	for i, c := range append(testNetwork(), cmd(started, testSubmission("s1", 3, 1))) {
		entries = append(entries, LogEntry{Index: uint64(i + 1), Data: must(EncodeEntry(c))(t)})
	}
	for i := range 40 {
		entries = append(entries, LogEntry{Index: uint64(20 + i), Data: must(EncodeEntry(cmd(started, testSubmission(i, 10, 1))))(t)})
	}
	s := openState(t, dir)
	for _, e := range entries {
		s.Apply([]LogEntry{e})
	}
	want := digest(t, s)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no write-ahead log in %s: %v", dir, err)
	}
	whole, err := os.Stat(logs[len(logs)-1])
	if err != nil {
		t.Fatal(err)
	}
	for cut := int64(0); cut <= 10; cut++ {
		killed := filepath.Join(t.TempDir(), "killed")
		if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(killed, filepath.Base(logs[len(logs)-1])), whole.Size()*cut/10); err != nil {
			t.Fatal(err)
		}
		r := openState(t, killed)
		if r.Applied() > s.Applied() {
			t.Fatalf("applied index %d after the cut at %d/10; want at most %d", r.Applied(), cut, s.Applied())
		}
		if cut == 10 && r.Applied() != s.Applied() {
			t.Errorf("applied index %d of the whole log; want %d", r.Applied(), s.Applied())
		}
		r.Apply(entries)
		if digest(t, r) != want {
			t.Errorf("cut at %d/10: the replayed state differs", cut)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestViewIsOneMoment(t *testing.T) {
	l := newLog(t, append(testNetwork(), cmd(started, testSubmission("s1", 2, 1)))...)
	v := must(l.s.View())(t)
	l.apply(cmd(started, testSubmission("s2", 5, 2)))
	if got := must(v.Records(0, 100))(t); len(got) != 2 || v.Size() != 2 || v.Applied() != l.s.Applied()-1 {
		t.Errorf("view sees %d records, size %d, entry %d; want 2, 2, %d", len(got), v.Size(), v.Applied(), l.s.Applied()-1)
	}
	if _, err := v.Root(7); !errors.Is(err, tlog.ErrOutOfRange) {
		t.Errorf("Root(7) of the view: %v; want ErrOutOfRange", err)
	}
	done, changed := make(chan error), l.s.Changed()
	go func() { done <- l.s.Close() }()
	<-changed // whoever waits for a change wakes up before the view is gone
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := l.s.Network(); !errors.Is(err, ErrClosed) {
		t.Errorf("Network() of a closed state: %v; want ErrClosed", err)
	}
	if _, err := l.s.View(); !errors.Is(err, ErrClosed) {
		t.Errorf("View() of a closed state: %v; want ErrClosed", err)
	}
}

func TestReadersBesideApply(t *testing.T) {
	l := newLog(t, append(testNetwork(), cmd(started, testSubmission("s0", 1, 1)))...)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				size := l.s.Size()
				root, err := l.s.Root(size)
				if err != nil {
					t.Error(err)
					return
				}
				p, err := l.s.ProveRecord(size, size-1)
				if err != nil {
					t.Error(err)
					return
				}
				leaf, err := l.s.Leaf(size - 1)
				if err != nil {
					t.Error(err)
					return
				}
				if err := xtlog.CheckRecord(p, int64(size), root, int64(size-1), xtlog.RecordHash(leaf)); err != nil {
					t.Errorf("proof at size %d: %v", size, err)
					return
				}
			}
		})
	}
	for i := range 40 {
		changed := l.s.Changed()
		l.apply(cmd(started, testSubmission(i, 17, 1)))
		<-changed
	}
	close(stop)
	wg.Wait()
}

func TestOpenRefusesDamage(t *testing.T) {
	newer := filepath.Join(t.TempDir(), "newer")
	s := openState(t, newer)
	if err := s.pebble.Set(key(keyMeta), slices.Insert(meta{}.encode()[1:], 0, stateFormat+1), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(newer, Options{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Open of a newer format: %v; want ErrCorrupt", err)
	}
	l := newLog(t, testNetwork()...)
	if err := l.s.pebble.Set(key(keyNetwork), []byte{0xff}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.s.Network(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Network() with damaged bytes: %v; want ErrCorrupt", err)
	}
	if err := l.s.pebble.Set(edgeKey(0, 0), []byte{1}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := l.s.Root(0); err != nil {
		t.Errorf("Root(0) needs no edge: %v", err)
	}
}
