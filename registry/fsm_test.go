package registry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"dengbei/registry/registrypb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openFSM(t *testing.T, dir string) *FSM {
	t.Helper()
	f, err := NewFSM(dir, Options{CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFSM(t, f) })
	return f
}

func closeFSM(t *testing.T, f *FSM) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func raftLog(t *testing.T, index uint64, commands ...*registrypb.Command) *raft.Log {
	t.Helper()
	return &raft.Log{Index: index, Type: raft.LogCommand, Data: must(EncodeEntry(commands...))(t)}
}

// sink is a raft.SnapshotSink in memory.
type sink struct {
	bytes.Buffer
	cancelled, closed bool
	fail              error
}

func (s *sink) Write(p []byte) (int, error) {
	if s.fail != nil {
		return 0, s.fail
	}
	return s.Buffer.Write(p)
}
func (s *sink) ID() string    { return "test" }
func (s *sink) Cancel() error { s.cancelled = true; return nil }
func (s *sink) Close() error  { s.closed = true; return nil }

func persist(t *testing.T, f *FSM) []byte {
	t.Helper()
	snap := must(f.Snapshot())(t)
	defer snap.Release()
	var s sink
	if err := snap.Persist(&s); err != nil || !s.closed || s.cancelled {
		t.Fatalf("Persist: %v, closed %v, cancelled %v", err, s.closed, s.cancelled)
	}
	return s.Bytes()
}

func TestFSMApplyBatch(t *testing.T) {
	f := openFSM(t, t.TempDir())
	out := f.ApplyBatch([]*raft.Log{
		{Index: 1, Type: raft.LogConfiguration, Data: []byte("not ours")},
		raftLog(t, 3, testNetwork()...),
		raftLog(t, 4, cmd(started, testSubmission("s1", 2, 1)), cmd(started, testSubmission("s1", 2, 1))),
		{Index: 5, Type: raft.LogCommand, Data: []byte{0xff}},
	})
	if len(out) != 4 || out[0] != nil {
		t.Fatalf("ApplyBatch = %v; want 4 values, the first nil", out)
	}
	if r := out[2].([]Result); len(r) != 2 || len(r[0].Records) != 2 || r[0].Existing || !r[1].Existing {
		t.Errorf("results of entry 4 = %+v; want registered and existing", r)
	}
	if r := out[3].([]Result); len(r) != 1 || r[0].Reject != RejectMalformed {
		t.Errorf("results of entry 5 = %+v; want MALFORMED", r)
	}
	if f.AppliedIndex() != 5 {
		t.Errorf("AppliedIndex() = %d; want 5", f.AppliedIndex())
	}
	if got := f.Apply(raftLog(t, 5, cmd(started, testSubmission("s2", 1, 2)))); got != nil {
		t.Errorf("Apply of an applied entry = %v; want nil", got)
	}
}

func TestFSMSnapshotRestore(t *testing.T) {
	from := openFSM(t, t.TempDir())
	from.Apply(raftLog(t, 7, append(testNetwork(), cmd(started, testSubmission("s1", 300, 1)))...))
	snap := must(from.Snapshot())(t)
	want := digest(t, from.State())
	from.Apply(raftLog(t, 8, cmd(started, testSubmission("s2", 5, 2)))) // while the snapshot is written
	var stream sink
	if err := snap.Persist(&stream); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	if left, _ := filepath.Glob(filepath.Join(from.dir, "snapshot-*")); left != nil {
		t.Errorf("Release left %v", left)
	}
	if i, err := SnapshotIndex(bytes.NewReader(stream.Bytes())); err != nil || i != 7 {
		t.Errorf("SnapshotIndex = %d, %v; want 7", i, err)
	}

	dir := t.TempDir()
	to := openFSM(t, dir)
	to.Apply(raftLog(t, 2, testNetwork()...))
	old, changed := to.State(), to.State().Changed()
	if err := to.Restore(io.NopCloser(&stream.Buffer)); err != nil {
		t.Fatal(err)
	}
	<-changed
	if to.AppliedIndex() != 7 || digest(t, to.State()) != want {
		t.Errorf("restored state at %d differs from the one at 7", to.AppliedIndex())
	}
	if _, err := old.Network(); !errors.Is(err, ErrClosed) {
		t.Errorf("reader of the replaced state: %v; want ErrClosed", err)
	}
	to.Apply(raftLog(t, 8, cmd(started, testSubmission("s2", 5, 2))))
	if digest(t, to.State()) != digest(t, from.State()) {
		t.Error("states differ after the next entry")
	}
	closeFSM(t, to)
	entries := must(os.ReadDir(dir))(t)
	if len(entries) != 2 {
		t.Errorf("directory holds %v; want the pointer and one state", entries)
	}
	again := openFSM(t, dir)
	if again.AppliedIndex() != 8 {
		t.Errorf("AppliedIndex() after a restart = %d; want 8", again.AppliedIndex())
	}
}

func TestRestoreWaitsForNoReader(t *testing.T) {
	f := openFSM(t, t.TempDir())
	f.Apply(raftLog(t, 1, testNetwork()...))
	stream := persist(t, f)
	v := must(f.State().View())(t)
	if err := f.Restore(io.NopCloser(bytes.NewReader(stream))); err != nil {
		t.Fatal(err)
	}
	if f.State().Applied() != 1 {
		t.Error("no restored state while an old view is open")
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

func TestRestoreRefusesDamage(t *testing.T) {
	from := openFSM(t, t.TempDir())
	from.Apply(raftLog(t, 1, append(testNetwork(), cmd(started, testSubmission("s1", 30, 1)))...))
	good := persist(t, from)
	flip := func(i int) []byte {
		b := bytes.Clone(good)
		b[(i+len(b))%len(b)] ^= 1
		return b
	}
	file := func(name string, size uint64) []byte {
		b := binary.BigEndian.AppendUint16(bytes.Clone(good[:26]), uint16(len(name)))
		return binary.BigEndian.AppendUint64(append(b, name...), size)
	}
	dir := t.TempDir()
	to := openFSM(t, dir)
	to.Apply(raftLog(t, 1, testNetwork()...))
	want := digest(t, to.State())
	for _, tt := range []struct {
		name string
		give []byte
	}{
		{"nothing", nil},
		{"another stream", []byte(strings.Repeat("x", 100))},
		{"a later format", flip(17)},
		{"another index", flip(25)},
		{"a flipped bit in a file", flip(len(good) / 2)},
		{"a flipped bit in the digest", flip(-1)},
		{"an end before the digest", good[:len(good)-5]},
		{"an end inside a file", good[:len(good)/2]},
		{"a file outside the directory", file("../../evil", 0)},
		{"a hidden file", file(".evil", 0)},
		{"a file larger than the stream", file("a", 1<<40)},
		{"a file of absurd size", file("a", 1<<63)},
		{"files out of order", append(file("b", 0), file("a", 0)[26:]...)},
		{"no files", append(bytes.Clone(good[:26]), 0, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := to.Restore(io.NopCloser(bytes.NewReader(tt.give))); !errors.Is(err, ErrCorrupt) {
				t.Errorf("Restore = %v; want ErrCorrupt", err)
			}
			if digest(t, to.State()) != want {
				t.Error("a refused snapshot changed the state")
			}
			if entries := must(os.ReadDir(dir))(t); len(entries) != 2 {
				t.Errorf("directory holds %v; want the pointer and one state", entries)
			}
		})
	}
}

func TestPersistCancelsOnFailure(t *testing.T) {
	f := openFSM(t, t.TempDir())
	f.Apply(raftLog(t, 1, testNetwork()...))
	snap := must(f.Snapshot())(t)
	defer snap.Release()
	s := sink{fail: errors.New("disk full")}
	if err := snap.Persist(&s); err == nil || !s.cancelled || s.closed {
		t.Errorf("Persist to a full disk: %v, cancelled %v; want an error and a cancelled sink", err, s.cancelled)
	}
}

func TestNewFSMClearsLeftovers(t *testing.T) {
	dir := t.TempDir()
	f := openFSM(t, dir)
	f.Apply(raftLog(t, 4, testNetwork()...))
	closeFSM(t, f)
	for _, left := range []string{"state-000002", "snapshot-000001"} { // a restore and a snapshot that were killed
		if err := os.Mkdir(filepath.Join(dir, left), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, pointerFile+".new"), []byte("state-0000"), 0o640); err != nil {
		t.Fatal(err)
	}
	again := openFSM(t, dir)
	if again.AppliedIndex() != 4 {
		t.Errorf("AppliedIndex() = %d; want 4", again.AppliedIndex())
	}
	for _, left := range []string{"state-000002", "snapshot-000001"} {
		if _, err := os.Stat(filepath.Join(dir, left)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", left, err)
		}
	}
	closeFSM(t, again)
	for _, pointer := range []string{"../elsewhere\n", "state-000009\n", "state-9\n", ""} {
		if err := os.WriteFile(filepath.Join(dir, pointerFile), []byte(pointer), 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := NewFSM(dir, Options{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("NewFSM with the pointer %q: %v; want ErrCorrupt", pointer, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, pointerFile)); err != nil {
		t.Fatal(err)
	}
	if f, err := NewFSM(dir, Options{}); err != nil || f.AppliedIndex() != 4 {
		t.Errorf("NewFSM without a pointer beside state-000001: %v; want that state", err)
	} else {
		closeFSM(t, f)
	}
}

// TestFSMUnderRaft runs one voter: registrations, a snapshot, a restart without restoring it, and one with.
func TestFSMUnderRaft(t *testing.T) {
	dir := t.TempDir()
	logs := raft.NewInmemStore()
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(filepath.Join(dir, "snapshots"), 1, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	addr, transport := raft.NewInmemTransport("")
	start := func(state string, noRestore bool) (*raft.Raft, *FSM) {
		t.Helper()
		f, err := NewFSM(filepath.Join(dir, state), Options{CacheBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		c := raft.DefaultConfig()
		c.LocalID = "330100-1"
		c.Logger = hclog.NewNullLogger()
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout, c.CommitTimeout = 50*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond, 5*time.Millisecond
		c.NoSnapshotRestoreOnStart = noRestore
		c.TrailingLogs = 1
		r, err := raft.NewRaft(c, f, logs, logs, snapshots, transport)
		if err != nil {
			t.Fatal(err)
		}
		return r, f
	}
	stop := func(r *raft.Raft, f *FSM) {
		t.Helper()
		if err := r.Shutdown().Error(); err != nil {
			t.Fatal(err)
		}
		closeFSM(t, f)
	}
	propose := func(r *raft.Raft, commands ...*registrypb.Command) []Result {
		t.Helper()
		select {
		case <-r.LeaderCh():
		case <-time.After(10 * time.Second):
			if r.State() != raft.Leader {
				t.Fatal("no leader within 10 s")
			}
		}
		future := r.Apply(must(EncodeEntry(commands...))(t), 10*time.Second)
		if err := future.Error(); err != nil {
			t.Fatal(err)
		}
		return future.Response().([]Result)
	}

	r, f := start("state", false)
	if err := r.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{ID: "330100-1", Address: addr}}}).Error(); err != nil {
		t.Fatal(err)
	}
	got := propose(r, append(testNetwork(), cmd(started, testSubmission("s1", 3, 1)))...)
	if last := got[len(got)-1]; last.Err() != nil || len(last.Records) != 3 {
		t.Fatalf("registration through Raft = %+v; want 3 records", last)
	}
	if err := r.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	stop(r, f)

	r, f = start("state", true) // the state is as new as the snapshot
	again := propose(r, cmd(started, testSubmission("s1", 3, 1)))
	if !again[0].Existing || again[0].Records[2] != got[len(got)-1].Records[2] {
		t.Errorf("the same submission after a restart = %+v; want the first outcome", again[0])
	}
	chain, index := f.State().Chain()
	stop(r, f)

	r, f = start("another", false) // the state was lost: snapshot, then the log behind it
	if err := r.Barrier(10 * time.Second).Error(); err != nil {
		<-r.LeaderCh()
		if err := r.Barrier(10 * time.Second).Error(); err != nil {
			t.Fatal(err)
		}
	}
	if f.State().Size() != 3 || f.AppliedIndex() < index {
		t.Errorf("rebuilt state at entry %d of size %d; want %d or later, 3", f.AppliedIndex(), f.State().Size(), index)
	}
	if got, _ := f.State().Chain(); got != chain {
		t.Error("chain of the rebuilt state differs")
	}
	stop(r, f)
	if err := transport.Close(); err != nil {
		t.Error(err)
	}
}
