package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"dengbei/node/identity"
	"dengbei/node/nodepb"
)

// answers is a node that answers what the test wants.
type answers struct {
	nodepb.UnimplementedNetworkServer
	nodepb.UnimplementedSubmissionsServer
	err error
}

func (a answers) Status(ctx context.Context, _ *nodepb.StatusRequest) (*nodepb.StatusReply, error) {
	if a.err == nil {
		return &nodepb.StatusReply{Network: "test"}, nil
	}
	return nil, a.err
}

func (a answers) Watch(_ *nodepb.WatchSubmissionRequest, s grpc.ServerStreamingServer[nodepb.Submission]) error {
	if err := s.Send(&nodepb.Submission{Id: "1"}); err != nil {
		return err
	}
	return a.err
}

// network is a CA with one centre's credential in memory and one person's on disk.
type network struct {
	ca  *identity.CA
	dir string
}

func newNetwork(t *testing.T, name string) *network {
	t.Helper()
	ca, err := identity.CreateCA(name)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{ca: ca, dir: t.TempDir()}
	if err := n.issue(t, "client", identity.Operator).Save(n.dir, "client"); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *network) issue(t *testing.T, keyName string, r identity.Role) *identity.Credential {
	t.Helper()
	key, err := identity.LoadOrCreateKey(n.dir, keyName)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := identity.CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	s := identity.Subject{Network: n.ca.Network(), Code: "330102", Serial: 3, Roles: []identity.Role{r}}
	if r != identity.Centre {
		s.Account = string(r)
	}
	der, err := n.ca.Issue(csr, s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := identity.NewCredential(key, der, n.ca.Cert)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// serve runs a node and returns its address.
func (n *network) serve(t *testing.T, a answers) string {
	t.Helper()
	trust := identity.NewTrust(n.ca.Network(), n.ca.Cert)
	conf := identity.ServerTLS(identity.NewCurrent(n.issue(t, "node", identity.Centre)), trust, identity.ProtoGRPC)
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(conf)))
	nodepb.RegisterNetworkServer(s, a)
	nodepb.RegisterSubmissionsServer(s, a)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String()
}

func (n *network) dial(t *testing.T, target Target) *Client {
	t.Helper()
	target.CredentialDir = n.dir
	c, err := Dial(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestClientKeepsReasonAndCode(t *testing.T) {
	n := newNetwork(t, "test")
	addr := n.serve(t, answers{err: withReason(codes.NotFound, "NOT_PUBLISHED", "not yet")})
	c := n.dial(t, Target{Address: addr})
	check := func(what string, err error) {
		t.Helper()
		if Reason(err) != "NOT_PUBLISHED" || status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "not yet") {
			t.Errorf("%s: %v, reason %q, code %v; want NOT_PUBLISHED, NotFound", what, err, Reason(err), status.Code(err))
		}
	}
	_, err := c.Network.Status(t.Context(), &nodepb.StatusRequest{})
	check("call", err)
	stream, err := c.Submissions.Watch(t.Context(), &nodepb.WatchSubmissionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := stream.Recv(); err != nil || s.GetId() != "1" {
		t.Fatalf("first message: %v, %v", s, err)
	}
	_, err = stream.Recv()
	check("stream", err)
	if c.Subject.Account != "operator" {
		t.Errorf("subject %s; want the credential's", c.Subject)
	}
}

func TestClientStreamEndsWithEOF(t *testing.T) {
	n := newNetwork(t, "test")
	c := n.dial(t, Target{Address: n.serve(t, answers{})})
	stream, err := c.Submissions.Watch(t.Context(), &nodepb.WatchSubmissionRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, err := stream.Recv()
		if err == nil {
			continue
		}
		if err != io.EOF {
			t.Errorf("end of stream: %v; want io.EOF itself", err)
		}
		return
	}
}

func TestClientRefusesWhoIsNotMeant(t *testing.T) {
	n, other := newNetwork(t, "test"), newNetwork(t, "other")
	for _, tt := range []struct {
		name   string
		target Target
		want   string
	}{
		{"another centre answers", Target{Address: n.serve(t, answers{}), Expect: identity.ExpectServer("330000-1")}, "asked for centre 330000-1"},
		{"a node of another network answers", Target{Address: other.serve(t, answers{})}, "untrusted"},
		{"nobody answers", Target{Address: "127.0.0.1:1"}, "cannot be reached"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := n.dial(t, tt.target).Network.Status(ctx, &nodepb.StatusRequest{})
			if err == nil || Reason(err) != "" || status.Code(err) != codes.Unavailable {
				t.Fatalf("Status() = %v; want Unavailable without a reason", err)
			}
			if tt.want != "untrusted" && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Status() = %v; want %q in it", err, tt.want)
			}
		})
	}
}

func TestClientErrorMatchesTheContext(t *testing.T) {
	n := newNetwork(t, "test")
	c := n.dial(t, Target{Address: n.serve(t, answers{})})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Network.Status(ctx, &nodepb.StatusRequest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Status() = %v; want an error that matches context.Canceled", err)
	}
	if _, err := Dial(ctx, Target{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Dial() = %v; want an error that matches context.Canceled", err)
	}
}

func TestDialNeedsACredentialAndAnAddress(t *testing.T) {
	if _, err := Dial(t.Context(), Target{Address: "127.0.0.1:1", CredentialDir: t.TempDir()}); err == nil {
		t.Error("Dial without a credential succeeds")
	}
	n := newNetwork(t, "test")
	if _, err := Dial(t.Context(), Target{Address: "nonsense", CredentialDir: n.dir}); err == nil {
		t.Error("Dial of an address without a port succeeds")
	}
}
