package consensus

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"dengbei/node/identity"
)

// speak sends Raft's own calls to target under cred and returns their errors by name.
func (n *network) speak(cred *identity.Current, target *member) map[string]error {
	n.t.Helper()
	cfg := Config{ServerID: "330102-1", Listener: newSilentListener(), Dial: n.dial(cred)}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: newStreams(cfg), MaxPool: 1, Timeout: 2 * time.Second, Logger: hclog.NewNullLogger(),
	})
	defer func() {
		if err := trans.Close(); err != nil {
			n.t.Error(err)
		}
		trans.CloseStreams()
	}()
	id, addr := raft.ServerID(target.id), raft.ServerAddress(target.id)
	header := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("330102-1"), Addr: []byte("330102-1")}
	const term = 1000 // above all: whoever listens to it is deposed
	return map[string]error{
		"AppendEntries": trans.AppendEntries(id, addr, &raft.AppendEntriesRequest{
			RPCHeader: header, Term: term,
		}, &raft.AppendEntriesResponse{}),
		"RequestVote": trans.RequestVote(id, addr, &raft.RequestVoteRequest{
			RPCHeader: header, Term: term, LastLogIndex: 1 << 40, LastLogTerm: term, LeadershipTransfer: true,
		}, &raft.RequestVoteResponse{}),
		"RequestPreVote": trans.RequestPreVote(id, addr, &raft.RequestPreVoteRequest{
			RPCHeader: header, Term: term, LastLogIndex: 1 << 40, LastLogTerm: term,
		}, &raft.RequestPreVoteResponse{}),
		"InstallSnapshot": trans.InstallSnapshot(id, addr, &raft.InstallSnapshotRequest{
			RPCHeader: header, SnapshotVersion: 1, Term: term, Leader: []byte("330102-1"), LastLogIndex: 1 << 40, LastLogTerm: term,
			Configuration: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "330102-1", Address: "330102-1"}}}),
			Size:          2,
		}, &raft.InstallSnapshotResponse{}, bytes.NewReader([]byte("{}"))),
		"TimeoutNow": trans.TimeoutNow(id, addr, &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{}),
	}
}

func TestOnlyVotersSpeakRaft(t *testing.T) {
	n := newNetwork(t)
	foreign, err := identity.CreateCA("zj")
	if err != nil {
		t.Fatal(err)
	}
	m := n.start("330000", identity.Voter)
	if err := m.Bootstrap(m.id); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, m)
	propose(t, m, 4)
	term := m.Term()
	for name, cred := range map[string]*identity.Current{
		"a county":                n.credential(n.ca, "330102", identity.Centre),
		"a voter of another CA":   n.credential(foreign, "330100", identity.Centre, identity.Voter),
		"nobody":                  identity.NewCurrent(nil),
		"a voter that is revoked": n.credential(n.ca, "339999", identity.Centre, identity.Voter),
	} {
		n.mu.Lock()
		n.revoked["339999-1"] = true
		n.mu.Unlock()
		for call, err := range n.speak(cred, m) {
			if err == nil {
				t.Errorf("%s: %s was answered", name, call)
			}
		}
		if got := m.Term(); got != term || !m.IsLeader() {
			t.Errorf("%s: term = %d, leader = %v; want %d, true", name, got, m.IsLeader(), term)
		}
	}
	sees(t, m, propose(t, m, 1), 5)

	// The same calls under a voter's credential are heard: without the check above nothing would refuse them.
	if err := n.speak(n.credential(n.ca, "330100", identity.Centre, identity.Voter), m)["AppendEntries"]; err != nil {
		t.Errorf("a voter's AppendEntries = %v; want an answer", err)
	}
	until(t, "the leader heard the higher term", func() bool { return m.Term() >= 1000 })
}

func TestRevocationClosesALiveConnection(t *testing.T) {
	n := newNetwork(t)
	ms := n.trio()
	leader := awaitLeader(t, ms...)
	victim := others(ms, leader)[0]
	sees(t, victim, propose(t, leader, 1), 1)
	is := func(s identity.Subject) bool { return s.ServerID() == leader.id }

	// The victim stops listening to the leader: live connections end, new ones are refused.
	n.mu.Lock()
	n.revoked[leader.id] = true
	n.mu.Unlock()
	if closed := victim.mux.CloseWhere(is); closed == 0 {
		t.Error("no live connection was closed")
	}
	for call, err := range n.speak(leader.cred, victim) {
		if err == nil {
			t.Errorf("%s was answered after revocation", call)
		}
	}
}

// silentListener accepts nothing until it is closed.
type silentListener struct{ done chan struct{} }

func newSilentListener() silentListener { return silentListener{make(chan struct{})} }

func (l silentListener) Accept() (net.Conn, error) {
	<-l.done
	return nil, net.ErrClosed
}

func (l silentListener) Close() error {
	close(l.done)
	return nil
}

func (l silentListener) Addr() net.Addr { return serverAddr("silent") }
