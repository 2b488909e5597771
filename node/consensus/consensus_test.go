package consensus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"dengbei/node/identity"
)

func TestLeaderIsKilledAndReturns(t *testing.T) {
	n := newNetwork(t)
	ms := n.trio()
	leader := awaitLeader(t, ms...)
	index := propose(t, leader, 5)
	for _, m := range ms {
		sees(t, m, index, 5)
	}
	leader.stop(t, leader.Abort)
	rest := others(ms, leader)
	next := awaitLeader(t, rest...)
	index = propose(t, next, 7)
	for _, m := range rest {
		sees(t, m, index, 12)
	}
	back := n.start(leader.id[:6], identity.Voter)
	sees(t, back, index, 12)
	if _, _, err := back.Propose(t.Context(), number(1)); back.Leader() != back.id && !errors.Is(err, ErrNotLeader) {
		t.Errorf("Propose on a follower = %v; want ErrNotLeader", err)
	}
	if _, err := back.ReadIndex(t.Context()); back.Leader() != back.id && !errors.Is(err, ErrNotLeader) {
		t.Errorf("ReadIndex on a follower = %v; want ErrNotLeader", err)
	}
}

func TestCloseHandsLeadershipOver(t *testing.T) {
	n := newNetwork(t)
	n.pulse = time.Second // a busy machine must not take leadership away first
	ms := n.trio()
	leader := awaitLeader(t, ms...)
	rest := others(ms, leader)
	term := leader.Term()
	leader.stop(t, leader.Close)
	// The heir is elected when Close returns; a leader that merely stops is missed a heartbeat later.
	if a, b := rest[0].Term(), rest[1].Term(); max(a, b) <= term {
		t.Errorf("terms after Close = %d, %d; want one above %d", a, b, term)
	}
	awaitLeader(t, rest...)
	if _, _, err := leader.Propose(t.Context(), number(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Propose after Close = %v; want ErrClosed", err)
	}
	if _, err := leader.ReadIndex(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("ReadIndex after Close = %v; want ErrClosed", err)
	}
	if err := leader.WaitApplied(t.Context(), 1<<40); !errors.Is(err, ErrClosed) {
		t.Errorf("WaitApplied after Close = %v; want ErrClosed", err)
	}
}

func TestQuorumIsAway(t *testing.T) {
	n := newNetwork(t)
	ms := n.trio()
	leader := awaitLeader(t, ms...)
	index := propose(t, leader, 1)
	for _, m := range ms {
		sees(t, m, index, 1)
	}
	for _, m := range ms {
		m.stop(t, m.Abort)
	}
	alone := n.start("330000", identity.Voter) // starts without waiting
	until(t, "it has tried", func() bool { return alone.Stats()["state"] == "Candidate" || alone.Leader() == "" })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := alone.Propose(ctx, number(1)); !errors.Is(err, ErrNotLeader) {
		t.Errorf("Propose without a quorum = %v; want ErrNotLeader", err)
	}
	sees(t, alone, index, 1) // what it had
	second := n.start("330100", identity.Voter)
	next := awaitLeader(t, alone, second)
	sees(t, next, propose(t, next, 2), 3)
}

// A leader that is cut off from its followers cannot know what becomes of an entry.
func TestOutcomeUnknown(t *testing.T) {
	n := newNetwork(t)
	ms := n.trio()
	leader := awaitLeader(t, ms...)
	for _, m := range others(ms, leader) {
		m.stop(t, m.Abort)
	}
	_, _, err := leader.Propose(t.Context(), number(1))
	if !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrNotLeader) {
		t.Errorf("Propose = %v; want ErrOutcomeUnknown, or ErrNotLeader if it noticed before", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := leader.Propose(ctx, number(1)); !errors.Is(err, context.Canceled) || errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("Propose with an ended context = %v; want Canceled and nothing unknown", err)
	}
}

func TestProposeEndsWithItsContext(t *testing.T) {
	n := newNetwork(t)
	ms := n.trio()
	leader := awaitLeader(t, ms...)
	for _, m := range others(ms, leader) {
		m.stop(t, m.Abort)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond) // less than the lease
	defer cancel()
	_, _, err := leader.Propose(ctx, number(1))
	if unknown := errors.Is(err, ErrOutcomeUnknown) && errors.Is(err, context.DeadlineExceeded); !unknown && !errors.Is(err, ErrNotLeader) {
		t.Errorf("Propose = %v; want ErrOutcomeUnknown and DeadlineExceeded", err)
	}
	if _, _, err := leader.Propose(t.Context(), make([]byte, MaxEntryBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Propose of too much = %v; want ErrTooLarge", err)
	}
}

func TestMembership(t *testing.T) {
	n := newNetwork(t)
	ms := n.trio()
	leader := awaitLeader(t, ms...)
	index := propose(t, leader, 3)
	county := n.start("330102") // no voter role: it only listens
	if err := leader.AddNonvoter(t.Context(), county.id); err != nil {
		t.Fatal(err)
	}
	sees(t, county, index, 3)
	index, err := leader.ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sees(t, county, index, 3)
	voters := func() (out string) {
		servers, err := leader.Servers()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range servers {
			if s.Voter {
				out += "+"
			}
			out += s.ID[:6] + " "
		}
		return out
	}
	if got, want := voters(), "+330000 +330100 +330200 330102 "; got != want {
		t.Errorf("members = %q; want %q", got, want)
	}
	last := others(ms, leader)[0]
	for _, step := range []func(context.Context, string) error{leader.Demote, leader.AddVoter, leader.Demote, leader.Remove} {
		if err := step(t.Context(), last.id); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(voters(), last.id[:6]) {
		t.Errorf("members = %q; want none of %s", voters(), last.id)
	}
	if err := county.AddNonvoter(t.Context(), "330103-1"); !errors.Is(err, ErrNotLeader) {
		t.Errorf("AddNonvoter on a non-voter = %v; want ErrNotLeader", err)
	}
	if err := ms[0].Bootstrap(ms[0].id); !errors.Is(err, ErrBootstrapped) {
		t.Errorf("second Bootstrap = %v; want ErrBootstrapped", err)
	}
	heir := others(others(ms, leader), last)[0]
	if err := leader.TransferLeadership(t.Context(), heir.id); err != nil {
		t.Fatal(err)
	}
	until(t, "the heir leads", func() bool { _, err := heir.ReadIndex(t.Context()); return err == nil })
	until(t, "the change is told", func() bool {
		select {
		case id := <-county.LeaderChanges():
			return id == heir.id
		default:
			return false
		}
	})
}

func TestSnapshotBringsAMemberThatMissedTheLog(t *testing.T) {
	n := newNetwork(t)
	ms := n.trio()
	leader := awaitLeader(t, ms...)
	for range 20 {
		propose(t, leader, 1)
	}
	if err := leader.Snapshot(); err != nil {
		t.Fatal(err)
	}
	county := n.start("330102")
	if err := leader.AddNonvoter(t.Context(), county.id); err != nil {
		t.Fatal(err)
	}
	index, err := leader.ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sees(t, county, index, 20)
	county.fsm.mu.Lock()
	defer county.fsm.mu.Unlock()
	if county.fsm.restores != 1 {
		t.Errorf("restores = %d; want 1", county.fsm.restores)
	}
}

func TestReadersShareAndSeeWhatWasCommitted(t *testing.T) {
	n := newNetwork(t)
	leader := awaitLeader(t, n.trio()...)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				_, index, err := leader.Propose(t.Context(), number(1))
				if err != nil {
					t.Error(err)
					return
				}
				read, err := leader.ReadIndex(t.Context())
				if err != nil || read < index {
					t.Errorf("ReadIndex = %d, %v; want %d or more", read, err, index)
				}
			}
		})
	}
	wg.Wait()
	index, err := leader.ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sees(t, leader, index, 160)
}

// one starts a network of a single voter with a sum of 10 in ten entries and a snapshot in the middle, and stops it.
func one(t *testing.T) (n *network, dir string) {
	t.Helper()
	n = newNetwork(t)
	m := n.start("330000", identity.Voter)
	if err := m.Bootstrap(m.id); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, m)
	for i := range 10 {
		if i == 5 {
			if err := m.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
		propose(t, m, 1)
	}
	m.stop(t, m.Close)
	return n, filepath.Join(n.dir, "330000")
}

func TestLastVoterIsNotRemoved(t *testing.T) {
	n := newNetwork(t)
	m := n.start("330000", identity.Voter)
	if err := m.Bootstrap(m.id); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, m)
	for name, change := range map[string]func(context.Context, string) error{"Remove": m.Remove, "Demote": m.Demote} {
		if err := change(t.Context(), m.id); err == nil || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%s of the last voter = %v; want a refusal and nothing unknown", name, err)
		}
	}
	awaitLeader(t, m)
}

func TestStartRule(t *testing.T) {
	for _, tt := range []struct {
		name         string
		change       func(t *testing.T, dir string)
		wantErr      error
		wantRestores int
	}{
		{"state as far as the log keeps its state", func(*testing.T, string) {}, nil, 0},
		{"lost state is restored and the log replayed", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "sum.json")); err != nil {
				t.Fatal(err)
			}
		}, nil, 1},
		{"state behind the snapshot is restored", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "sum.json"), []byte(`{"Sum":1,"Applied":3}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil, 1},
		{"state ahead of the log is refused", func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "raft")); err != nil {
				t.Fatal(err)
			}
		}, ErrStateAhead, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // they mostly wait for elections
			n, dir := one(t)
			tt.change(t, dir)
			m, err := n.tryStart("330000", identity.Voter)
			if !errors.Is(err, tt.wantErr) {
				t.Fatalf("Start = %v; want %v", err, tt.wantErr)
			}
			if err != nil {
				return
			}
			awaitLeader(t, m)
			sees(t, m, propose(t, m, 1), 11)
			if m.fsm.restores != tt.wantRestores {
				t.Errorf("restores = %d; want %d", m.fsm.restores, tt.wantRestores)
			}
			if servers, err := m.Servers(); err != nil || len(servers) != 1 {
				t.Errorf("members = %v, %v; want one", servers, err)
			}
		})
	}
}

func TestStartRefusesBadConfig(t *testing.T) {
	if _, err := Start(Config{}); !errors.Is(err, ErrConfig) {
		t.Errorf("Start = %v; want ErrConfig", err)
	}
	for name, timing := range map[string]Timing{"WAN": WAN(), "LAN": LAN()} {
		cfg, err := Config{
			Dir: "d", ServerID: "330000-1", FSM: &sumFSM{}, Listener: newSilentListener(), Applied: func() uint64 { return 0 },
			Dial: (&network{}).dial(nil), Timing: timing,
		}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if err := raft.ValidateConfig(cfg.raftConfig(newHCLog(cfg.Logger), nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
