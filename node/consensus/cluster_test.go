package consensus

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"dengbei/node/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sumFSM adds numbers up. Its state is durable in a file, as the real one's is.
type sumFSM struct {
	path string

	mu       sync.Mutex // guards the rest
	state    sumState
	restores int
}

type sumState struct {
	Sum, Applied uint64
}

func openSum(t *testing.T, path string) *sumFSM {
	t.Helper()
	f := &sumFSM{path: path}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &f.state)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return f
}

func (f *sumFSM) save() {
	data, err := json.Marshal(f.state)
	if err == nil {
		err = os.WriteFile(f.path, data, 0o600)
	}
	if err != nil {
		panic(err)
	}
}

func (f *sumFSM) applied() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.Applied
}

func (f *sumFSM) sum() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.Sum
}

func (f *sumFSM) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

func (f *sumFSM) ApplyBatch(logs []*raft.Log) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]any, len(logs))
	for i, l := range logs {
		if l.Index <= f.state.Applied {
			continue
		}
		if l.Type == raft.LogCommand && len(l.Data) == 8 {
			f.state.Sum += binary.BigEndian.Uint64(l.Data)
			out[i] = f.state.Sum
		}
		f.state.Applied = l.Index
	}
	f.save()
	return out
}

func (f *sumFSM) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return sumSnapshot(f.state), nil
}

func (f *sumFSM) Restore(rc io.ReadCloser) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.restores++
	f.state = sumState{}
	err := json.NewDecoder(rc).Decode(&f.state)
	f.save()
	return err
}

type sumSnapshot sumState

func (s sumSnapshot) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(sumState(s)); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (sumSnapshot) Release() {}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// network is a CA and the addresses of its nodes, on loopback under real TLS.
type network struct {
	t     *testing.T
	dir   string
	ca    *identity.CA
	trust *identity.Trust
	pulse time.Duration // heartbeat, election and almost the lease

	mu        sync.Mutex // guards the maps
	addresses map[string]string
	revoked   map[string]bool
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	ca, err := identity.CreateCA("zj")
	if err != nil {
		t.Fatal(err)
	}
	return &network{
		t: t, dir: t.TempDir(), pulse: 300 * time.Millisecond, ca: ca, trust: identity.NewTrust("zj", ca.Cert), addresses: map[string]string{}, revoked: map[string]bool{},
	}
}

func (n *network) credential(ca *identity.CA, code string, roles ...identity.Role) *identity.Current {
	n.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	csr, err := identity.CSR(key)
	if err != nil {
		n.t.Fatal(err)
	}
	der, err := ca.Issue(csr, identity.Subject{Network: "zj", Code: code, Serial: 1, Roles: roles})
	if err != nil {
		n.t.Fatal(err)
	}
	c, err := identity.NewCredential(key, der, ca.Cert)
	if err != nil {
		n.t.Fatal(err)
	}
	return identity.NewCurrent(c)
}

// dial returns a Config.Dial that shows cred.
func (n *network) dial(cred *identity.Current) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, id string) (net.Conn, error) {
		n.mu.Lock()
		addr := n.addresses[id]
		n.mu.Unlock()
		if addr == "" {
			return nil, fmt.Errorf("no address of %s", id)
		}
		var d identity.Dialer
		c, err := d.DialTLS(ctx, addr, identity.ClientTLS(cred, n.trust, identity.ExpectServer(id), identity.ProtoRaft))
		if err != nil {
			return nil, err // not the nil *tls.Conn
		}
		return c, nil
	}
}

type member struct {
	*Raft
	id   string
	cred *identity.Current
	fsm  *sumFSM
	mux  *identity.Mux
}

// start runs the member of code from its directory, again after it was stopped.
func (n *network) start(code string, roles ...identity.Role) *member {
	n.t.Helper()
	m, err := n.tryStart(code, roles...)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

func (n *network) tryStart(code string, roles ...identity.Role) (*member, error) {
	n.t.Helper()
	m := &member{id: code + "-1", cred: n.credential(n.ca, code, append([]identity.Role{identity.Centre}, roles...)...)}
	dir := filepath.Join(n.dir, code)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		n.t.Fatal(err)
	}
	m.fsm = openSum(n.t, filepath.Join(dir, "sum.json"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	m.mux = identity.NewMux(l, identity.ServerTLS(m.cred, n.trust, identity.ProtoRaft, identity.ProtoGRPC), nil)
	m.mux.Allow(identity.ProtoRaft, func(p identity.Peer) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.revoked[p.Subject.ServerID()] {
			return identity.ErrNotAllowed
		}
		return nil
	})
	n.mu.Lock()
	n.addresses[m.id] = m.mux.Addr().String()
	n.mu.Unlock()
	m.Raft, err = Start(Config{
		Dir: filepath.Join(dir, "raft"), ServerID: m.id, FSM: m.fsm, Listener: m.mux.Listener(identity.ProtoRaft),
		Dial: n.dial(m.cred), Applied: m.fsm.applied, TrailingLogs: 4, Logger: slog.New(slog.DiscardHandler),
		Timing: Timing{
			Heartbeat: n.pulse, Election: n.pulse, LeaderLease: n.pulse * 5 / 6,
			Commit: 10 * time.Millisecond, Transport: 2 * time.Second,
		},
	})
	if err != nil {
		if cerr := m.mux.Close(); cerr != nil {
			n.t.Error(cerr)
		}
		return nil, err
	}
	n.t.Cleanup(func() { m.stop(n.t, m.Abort) })
	return m, nil
}

func (m *member) stop(t *testing.T, how func() error) {
	t.Helper()
	if err := how(); err != nil {
		t.Errorf("stop %s: %v", m.id, err)
	}
	if err := m.mux.Close(); err != nil {
		t.Errorf("close port of %s: %v", m.id, err)
	}
}

// trio starts three voters.
func (n *network) trio() []*member {
	n.t.Helper()
	ms := []*member{n.start("330000", identity.Voter), n.start("330100", identity.Voter), n.start("330200", identity.Voter)}
	if err := ms[0].Bootstrap(ms[0].id); err != nil {
		n.t.Fatal(err)
	}
	for _, m := range ms[1:] {
		until(n.t, "add "+m.id, func() bool { return awaitLeader(n.t, ms...).AddVoter(n.t.Context(), m.id) == nil })
	}
	return ms
}

func awaitLeader(t *testing.T, ms ...*member) *member {
	t.Helper()
	var leader *member
	until(t, "a leader that a majority confirms", func() bool {
		for _, m := range ms {
			if _, err := m.ReadIndex(t.Context()); err == nil {
				leader = m
				return true
			}
		}
		return false
	})
	return leader
}

func others(ms []*member, not *member) []*member {
	var out []*member
	for _, m := range ms {
		if m != not {
			out = append(out, m)
		}
	}
	return out
}

func propose(t *testing.T, m *member, n uint64) uint64 {
	t.Helper()
	_, index, err := m.Propose(t.Context(), number(n))
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// sees waits until m's state machine is done with index and checks its sum.
func sees(t *testing.T, m *member, index, sum uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := m.WaitApplied(ctx, index); err != nil {
		t.Fatalf("%s: %v", m.id, err)
	}
	if got := m.fsm.sum(); got != sum {
		t.Errorf("%s: sum = %d; want %d", m.id, got, sum)
	}
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
