package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"dengbei/deploy/e2e/network"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
)

// badCredentials are good for something else, or somewhere else.
func badCredentials(t *testing.T, b *badNetwork) {
	waiting := b.handIn(t, folder(t, map[string]string{"正文.txt": "to be decided"}), "registered")
	county, city := b.county.Config.Peer.Listen, b.city.Config.Path("credentials")
	foreign := b.foreign(t)
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		says   []string
	}{
		{"a unit invites", []string{"network", "invite", "330102", "--node", b.province.Config.Peer.Listen, "--credential", b.unit}, 1,
			[]string{"may not call", "Network/Invite", "operator", "DENIED"}},
		{"a unit decides", []string{"record", "accept", waiting.ID, "--node", county, "--credential", b.unit}, 1, []string{"Submissions/Decide", "registrar", "DENIED"}},
		{"an operator decides", []string{"record", "accept", waiting.ID, "--config", b.county.File, "--as", "operator"}, 1, []string{"Submissions/Decide", "registrar", "DENIED"}},
		{"a registrar invites", []string{"network", "invite", "330102", "--config", b.province.File, "--as", "registrar"}, 1, []string{"Network/Invite", "operator", "DENIED"}},
		{"an officer of another centre decides", []string{"record", "accept", waiting.ID, "--node", county, "--credential", city, "--as", "registrar"}, 1,
			[]string{"decides at centre 330100, not at 330282", "DENIED"}},
		{"a unit hands in at another centre", []string{"submit", folder(t, map[string]string{"正文.txt": "elsewhere"}), "--node", b.city.Config.Peer.Listen, "--credential", b.unit}, 1,
			[]string{"records of authority 330282 are handed in at that centre's node", "ELSEWHERE"}},
		{"of another network", []string{"network", "status", "--node", county, "--credential", filepath.Join(foreign.DataDir, "credentials"), "--as", "operator"}, 3,
			[]string{"certificate is not trusted"}},
		{"there is none", []string{"network", "status", "--node", county, "--credential", t.TempDir()}, 3, []string{"load credential client"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.refused(t, func() { b.dengbei(t, tt.args...).want(t, tt.status, tt.says...) })
		})
	}
	t.Run("a forged one", func(t *testing.T) {
		forger, err := identity.CreateCA(b.credential(t, b.county, "node").Subject.Network)
		if err != nil {
			t.Fatal(err)
		}
		genuine := b.credential(t, b.province, "node")
		forged := issue(t, forger, genuine.Subject)
		for _, proto := range []string{identity.ProtoGRPC, identity.ProtoRaft} {
			if err := b.knock(t, b.county, forged, genuine.CA, proto); err == nil {
				t.Errorf("the county accepted a province of a forged CA for %s", proto)
			}
		}
	})
}

// foreign founds another network, which never runs.
func (b *badNetwork) foreign(t *testing.T) centreFile {
	t.Helper()
	c := writeConfig(t, "330000", "")
	b.dengbei(t, "network", "init", "--config", c.File, "--name", "other").want(t, 0)
	return c
}

// centreFile is a configuration of a centre outside the network.
type centreFile struct {
	File, DataDir string
	Ports         map[string]string
}

// writeConfig writes a configuration with free ports; lines are put at its end.
func writeConfig(t *testing.T, code, lines string) centreFile {
	t.Helper()
	dir := t.TempDir()
	c := centreFile{File: filepath.Join(dir, "node.yaml"), DataDir: filepath.Join(dir, "data"), Ports: map[string]string{}}
	text := fmt.Sprintf("data_dir: %q\ncentre: %q\n", c.DataDir, code)
	for _, port := range []string{"peer", "gossip", "web"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.Ports[port] = l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("%s:\n  listen: %q\n", port, c.Ports[port])
	}
	if err := os.WriteFile(c.File, []byte(text+lines), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func (b *badNetwork) credential(t *testing.T, c *network.Centre, name string) *identity.Credential {
	t.Helper()
	cred, err := identity.Load(c.Config.Path("credentials"), name)
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

// issue has a CA certify a fresh key.
func issue(t *testing.T, ca *identity.CA, s identity.Subject) *identity.Credential {
	t.Helper()
	key, err := identity.LoadOrCreateKey(t.TempDir(), "key")
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Issue(csr, s)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := identity.NewCredential(key, der, ca.Cert)
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

// knock opens a connection of a protocol and returns nil if the node keeps it open. In TLS 1.3 a client learns only by
// reading that the server refused it.
func (b *badNetwork) knock(t *testing.T, at *network.Centre, cred *identity.Credential, ca *x509.Certificate, proto string) error {
	t.Helper()
	trust := identity.NewTrust(b.credential(t, b.county, "node").Subject.Network, ca)
	conn, err := (&identity.Dialer{}).DialTLS(t.Context(), at.Config.Peer.Listen, identity.ClientTLS(identity.NewCurrent(cred), trust, identity.ExpectCentre, proto))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = conn.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// badTokens enrol nobody.
func badTokens(t *testing.T, b *badNetwork) {
	invite := func(t *testing.T, code, valid string) (token string, expires time.Time) {
		t.Helper()
		r := b.dengbei(t, "network", "invite", code, "--config", b.province.File, "--valid", valid, "--json")
		var v struct {
			Token string `json:"token"`
		}
		if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || r.status != 0 {
			t.Fatalf("invite %s: %v\n%s", code, err, r)
		}
		d, err := time.ParseDuration(valid)
		if err != nil {
			t.Fatal(err)
		}
		return v.Token, time.Now().Add(d)
	}
	enrol := func(t *testing.T, c centreFile, token string) ran {
		t.Helper()
		return b.dengbei(t, "node", "enrol", "--config", c.File, "--token", token)
	}
	// nothing fails the test if a directory became that of a member.
	nothing := func(t *testing.T, c centreFile) {
		t.Helper()
		for _, name := range []string{"credentials/node.crt", "keys/gossip.key"} {
			if _, err := os.Stat(filepath.Join(c.DataDir, name)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("stat %s = %v; want that nothing was handed out", name, err)
			}
		}
	}
	members := func(t *testing.T) int {
		t.Helper()
		r, err := b.province.Operator.Network.Members(t.Context(), &nodepb.MembersRequest{All: true, Level: nodepb.ReadLevel_LEADER})
		if err != nil {
			t.Fatal(err)
		}
		return len(r.GetMembers())
	}
	t.Run("expired", func(t *testing.T) {
		token, expires := invite(t, "330111", "1s")
		network.Until(t, 10*time.Second, "the token expires", func(context.Context) error {
			if left := time.Until(expires.Add(500 * time.Millisecond)); left > 0 {
				return fmt.Errorf("in %v", left)
			}
			return nil
		})
		before, c := members(t), writeConfig(t, "330111", "")
		enrol(t, c, token).want(t, 1, "330111", "invitation expired", "ask for a new one", "INVITATION_EXPIRED")
		nothing(t, c)
		if got := members(t); got != before {
			t.Errorf("there are %d members; before there were %d", got, before)
		}
	})
	t.Run("for another code", func(t *testing.T) {
		token, _ := invite(t, "330105", "10m")
		before, c := members(t), writeConfig(t, "330106", "")
		enrol(t, c, token).want(t, 1, "the token invites centre 330105", "330106", "ask for a new one")
		nothing(t, c)
		if got := members(t); got != before {
			t.Errorf("there are %d members; before there were %d", got, before)
		}
	})
	t.Run("one character changed", func(t *testing.T) {
		token, _ := invite(t, "330112", "10m") // never used
		changed := []byte(token)
		changed[len(changed)/2] ^= 1
		c := writeConfig(t, "330112", "")
		enrol(t, c, string(changed)).want(t, 1, "malformed enrolment token", "a character is missing or wrong")
		nothing(t, c)
	})
	t.Run("of another network", func(t *testing.T) {
		token, _ := invite(t, "330108", "10m")
		secret, err := identity.ParseToken(token)
		if err != nil {
			t.Fatal(err)
		}
		secret.CAFingerprint[0] ^= 1
		c := writeConfig(t, "330108", "")
		enrol(t, c, secret.String()).want(t, 3, "the token is of another network, or somebody is in between")
		nothing(t, c)
	})
	t.Run("guessed", func(t *testing.T) {
		token, _ := invite(t, "330109", "10m")
		guess, err := identity.ParseToken(token)
		if err != nil {
			t.Fatal(err)
		}
		guess.Secret[0] ^= 1
		c := writeConfig(t, "330109", "")
		enrol(t, c, guess.String()).want(t, 1, "no invitation for this token", "ask for a new one", "INVITATION")
		nothing(t, c)
	})
	t.Run("used twice", func(t *testing.T) {
		token, _ := invite(t, "330110", "10m")
		first, second := writeConfig(t, "330110", ""), writeConfig(t, "330110", "")
		enrol(t, first, token).want(t, 0)
		before := members(t)
		enrol(t, second, token).want(t, 1, "330110", "invitation already given out or used", "ask for a new one", "INVITATION_USED")
		nothing(t, second)
		if got := members(t); got != before {
			t.Errorf("there are %d members; before there were %d", got, before)
		}
		// The directory that was enrolled is left as it is by a second try.
		enrol(t, first, token).want(t, 1, "already part of a network", "use an empty data_dir, or start the node")
	})
}

// badCentreCodes are of no division.
func badCentreCodes(t *testing.T, b *badNetwork) {
	for _, tt := range []struct {
		name, code, reason string
		says               []string
	}{
		{"no such county", "330199", "UNKNOWN_CODE", []string{"330199", "GB/T 2260"}},
		{"five digits", "33010", "UNKNOWN_CODE", []string{"33010", "GB/T 2260"}},
		{"no digits", "../etc", "UNKNOWN_CODE", []string{"../etc", "GB/T 2260"}},
		{"there already", "330282", "ACTIVE_MEMBER", []string{"330282", "has an active member", "invite with replacement"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b.dengbei(t, "network", "invite", tt.code, "--config", b.province.File).want(t, 1, append(tt.says, tt.reason)...)
		})
	}
	t.Run("founding", func(t *testing.T) {
		c := writeConfig(t, "330199", "")
		b.dengbei(t, "network", "init", "--config", c.File, "--name", "other").want(t, 1, "330199", "GB/T 2260")
		if _, err := os.Stat(filepath.Join(c.DataDir, "ca")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("stat ca = %v; want that nothing was made", err)
		}
	})
}

// badRaftCallers speak Raft to the leader without being voters: the handshake is refused, and the calls themselves, made
// with Raft's own client, change nothing.
func badRaftCallers(t *testing.T, b *badNetwork) {
	leader := b.Leader(t)
	county := b.credential(t, b.county, "node")
	term := b.term(t, leader)
	if err := b.knock(t, leader, county, county.CA, identity.ProtoRaft); err == nil {
		t.Error("the leader keeps a county's Raft connection open")
	}
	if err := b.knock(t, leader, county, county.CA, identity.ProtoGRPC); err != nil {
		t.Errorf("the leader refuses a county's calls: %v", err)
	}
	for call, err := range b.speakRaft(t, leader, county, term+1000) {
		if err == nil {
			t.Errorf("%s of a county was answered", call)
		}
	}
	// A voter's credential, the same calls, an old term: it is heard. Without it the refusals above would prove nothing.
	if got := b.term(t, leader); got != term {
		t.Errorf("the leader's term is %d; before it was %d", got, term)
	}
	if now := b.Leader(t); now != leader {
		t.Errorf("%s leads; before it was %s", now.Code, leader.Code)
	}
	for _, c := range b.Centres {
		if err := b.knock(t, c, county, county.CA, identity.ProtoRaft); err == nil {
			t.Errorf("%s keeps a county's Raft connection open", c.Code)
		}
	}
}

// term asks a voter for its term, as another voter does: a heartbeat of term 0 is answered with it and changes nothing.
func (b *badNetwork) term(t *testing.T, at *network.Centre) uint64 {
	t.Helper()
	voter := b.city
	if at == voter {
		voter = b.province
	}
	cred := b.credential(t, voter, "node")
	trans, closeAll := raftTransport(cred, at)
	defer closeAll()
	var reply raft.AppendEntriesResponse
	id := cred.Subject.ServerID()
	err := trans.AppendEntries(raft.ServerID(at.ServerID()), raft.ServerAddress(at.ServerID()), &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: 3, ID: []byte(id), Addr: []byte(id)},
	}, &reply)
	if err != nil {
		t.Fatalf("ask %s for its term with a voter's credential: %v", at.Code, err)
	}
	if reply.Success || reply.Term == 0 {
		t.Fatalf("the answer to a heartbeat of term 0 is %+v; want the term and no success", reply)
	}
	return reply.Term
}

// speakRaft makes Raft's own calls under cred.
func (b *badNetwork) speakRaft(t *testing.T, at *network.Centre, cred *identity.Credential, term uint64) map[string]error {
	t.Helper()
	trans, closeAll := raftTransport(cred, at)
	defer closeAll()
	self := []byte(cred.Subject.ServerID())
	id, addr := raft.ServerID(at.ServerID()), raft.ServerAddress(at.ServerID())
	header := raft.RPCHeader{ProtocolVersion: 3, ID: self, Addr: self}
	return map[string]error{
		"AppendEntries": trans.AppendEntries(id, addr, &raft.AppendEntriesRequest{RPCHeader: header, Term: term}, &raft.AppendEntriesResponse{}),
		"RequestVote": trans.RequestVote(id, addr, &raft.RequestVoteRequest{
			RPCHeader: header, Term: term, LastLogIndex: 1 << 40, LastLogTerm: term, LeadershipTransfer: true,
		}, &raft.RequestVoteResponse{}),
		"RequestPreVote": trans.RequestPreVote(id, addr, &raft.RequestPreVoteRequest{RPCHeader: header, Term: term, LastLogIndex: 1 << 40, LastLogTerm: term}, &raft.RequestPreVoteResponse{}),
		"InstallSnapshot": trans.InstallSnapshot(id, addr, &raft.InstallSnapshotRequest{
			RPCHeader: header, SnapshotVersion: 1, Term: term, Leader: self, LastLogIndex: 1 << 40, LastLogTerm: term,
			Configuration: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(self), Address: raft.ServerAddress(self)}}}),
			Size:          2,
		}, &raft.InstallSnapshotResponse{}, bytes.NewReader([]byte("{}"))),
		"TimeoutNow": trans.TimeoutNow(id, addr, &raft.TimeoutNowRequest{RPCHeader: header}, &raft.TimeoutNowResponse{}),
	}
}

// raftTransport is Raft's own client over a credential. Whatever address it is asked to call, it calls at.
func raftTransport(cred *identity.Credential, at *network.Centre) (*raft.NetworkTransport, func()) {
	s := &raftStream{cred: cred, address: at.Config.Peer.Listen, done: make(chan struct{})}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: s, MaxPool: 1, Timeout: 5 * time.Second, Logger: hclog.NewNullLogger()})
	return trans, func() {
		_ = trans.Close() // it only ends this end of connections
		trans.CloseStreams()
	}
}

// raftStream is a [raft.StreamLayer] that accepts nothing.
type raftStream struct {
	cred    *identity.Credential
	address string
	done    chan struct{}
}

func (s *raftStream) Dial(_ raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	trust := identity.NewTrust(s.cred.Subject.Network, s.cred.CA)
	c, err := (&identity.Dialer{}).DialTLS(ctx, s.address, identity.ClientTLS(identity.NewCurrent(s.cred), trust, identity.ExpectCentre, identity.ProtoRaft))
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (s *raftStream) Accept() (net.Conn, error) {
	<-s.done
	return nil, io.EOF
}

func (s *raftStream) Close() error {
	close(s.done)
	return nil
}

func (s *raftStream) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
