package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"dengbei/node/identity"
	"dengbei/node/nodepb"
)

// MaxMessageBytes is the largest message either side takes. Files travel in many.
const MaxMessageBytes = 4 << 20

// Target says whom to talk to and as whom.
type Target struct {
	// Address is the host:port of a node's peer port.
	Address string

	// CredentialDir and Name are where the caller's credential lies: CredentialDir/Name.crt and .key. An empty Name is
	// "client". The CA in the credential is the only one trusted.
	CredentialDir, Name string

	// Proxy, if set, is the host:port of an HTTP CONNECT proxy. TLS runs end to end through it.
	Proxy string

	// Expect decides whether the one who answered is the one meant. Nil takes any centre of the credential's network.
	Expect func(identity.Subject) error
}

// Client speaks to one node. It is safe for concurrent use. Errors of its calls are [*Error] values.
type Client struct {
	Enrolment   nodepb.EnrolmentClient
	Network     nodepb.NetworkClient
	Submissions nodepb.SubmissionsClient
	Records     nodepb.RecordsClient
	Backups     nodepb.BackupsClient
	Peering     nodepb.PeeringClient

	// Subject is who the caller is, by its credential.
	Subject identity.Subject

	conn *grpc.ClientConn
}

// Dial loads the credential and returns a client of the node at t.Address. The connection is made by the first call, and made again
// when it was lost, so an unreachable node shows there.
func Dial(ctx context.Context, t Target) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(t.Address); err != nil {
		return nil, fmt.Errorf("dial node %q: want host:port: %w", t.Address, err)
	}
	name := t.Name
	if name == "" {
		name = "client"
	}
	cred, err := identity.Load(t.CredentialDir, name)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", t.Address, err)
	}
	expect := t.Expect
	if expect == nil {
		expect = identity.ExpectCentre
	}
	trust := identity.NewTrust(cred.Subject.Network, cred.CA)
	c, err := dial(t.Address, t.Proxy, identity.ClientTLS(identity.NewCurrent(cred), trust, expect, identity.ProtoGRPC))
	if err != nil {
		return nil, err
	}
	c.Subject = cred.Subject
	return c, nil
}

func dial(address, proxy string, conf *tls.Config) (*Client, error) {
	d := identity.Dialer{Proxy: proxyURL(proxy)}
	opts := []grpc.DialOption{
		grpc.WithContextDialer(d.DialContext), // so only the configured proxy counts, not the environment's
		grpc.WithTransportCredentials(credentials.NewTLS(conf)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		grpc.WithUnaryInterceptor(unaryErrors),
		grpc.WithStreamInterceptor(streamErrors),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(2 * streamWindow),
	}
	conn, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial node %s: %w", address, err)
	}
	return &Client{
		Enrolment:   nodepb.NewEnrolmentClient(conn),
		Network:     nodepb.NewNetworkClient(conn),
		Submissions: nodepb.NewSubmissionsClient(conn),
		Records:     nodepb.NewRecordsClient(conn),
		Backups:     nodepb.NewBackupsClient(conn),
		Peering:     nodepb.NewPeeringClient(conn),
		conn:        conn,
	}, nil
}

// proxyURL is a proxy's host:port as a URL; one that has a scheme stays.
func proxyURL(proxy string) string {
	if proxy == "" || strings.Contains(proxy, "://") {
		return proxy
	}
	return "http://" + proxy
}

// streamWindow is how many bytes may be on their way unread: 1 MiB fills 100 Mbit/s at 80 ms.
const streamWindow = 1 << 20

// Close ends the connection. Calls under way fail.
func (c *Client) Close() error { return c.conn.Close() }

// Error is what a node answered instead of a result.
type Error struct {
	Code    codes.Code
	Reason  string // machine-readable and stable ("NOT_PUBLISHED"); empty if the node gave none or was not reached
	Message string
}

// Error returns the node's message and its reason.
func (e *Error) Error() string {
	switch {
	case e.Reason != "":
		return e.Message + " (" + e.Reason + ")"
	case e.Code == codes.Unavailable:
		return "node cannot be reached: " + e.Message
	default:
		return e.Message
	}
}

// Unwrap lets a call that ended with its context match the context's error.
func (e *Error) Unwrap() error {
	switch e.Code {
	case codes.Canceled:
		return context.Canceled
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	}
	return nil
}

// GRPCStatus lets [status.Code] see the code.
func (e *Error) GRPCStatus() *status.Status { return status.New(e.Code, e.Message) }

// Reason returns the reason code in err, and "" if there is none.
func Reason(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// fromStatus turns what gRPC gives into an [*Error]. io.EOF is no error but the end of a stream.
func fromStatus(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	e := &Error{Code: s.Code(), Message: s.Message()}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			e.Reason = info.GetReason()
		}
	}
	return e
}

func unaryErrors(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return fromStatus(invoke(ctx, method, req, reply, cc, opts...))
}

func streamErrors(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, fromStatus(err)
	}
	return &clientStream{s}, nil
}

// clientStream is a stream whose errors are [*Error] values.
type clientStream struct{ grpc.ClientStream }

func (s *clientStream) RecvMsg(m any) error { return fromStatus(s.ClientStream.RecvMsg(m)) }
func (s *clientStream) SendMsg(m any) error { return fromStatus(s.ClientStream.SendMsg(m)) }
