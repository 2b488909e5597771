package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"dengbei/node/access"
	"dengbei/node/identity"
)

// ErrDenied is returned when the caller's credential does not allow the method. Its text says which roles do.
var ErrDenied = errors.New("not allowed")

// ServerConfig is what a server needs besides its services.
type ServerConfig struct {
	// Current reports whether the enrolment in a credential is that of an active member. It is asked about centres and
	// their officers.
	Current func(identity.Subject) error
	// Logger gets refusals (Warn) and internal errors (Error). Required.
	Logger *slog.Logger
}

// NewServer returns a gRPC server for connections that the peer port's multiplexer has accepted. Every call is checked
// against the table of rights before its handler runs.
func NewServer(cfg ServerConfig, opts ...grpc.ServerOption) *grpc.Server {
	g := guard{cfg}
	return grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(accepted{}),
		grpc.MaxRecvMsgSize(MaxMessageBytes),
		grpc.MaxSendMsgSize(MaxMessageBytes),
		grpc.ChainUnaryInterceptor(g.unary),
		grpc.ChainStreamInterceptor(g.stream),
		grpc.MaxConcurrentStreams(4096),
		grpc.InitialWindowSize(1 << 20),
		grpc.InitialConnWindowSize(4 << 20),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	}, opts...)...)
}

type guard struct{ cfg ServerConfig }

func (g guard) check(ctx context.Context, method string) error {
	caller := CallerOf(ctx)
	if !access.Allowed(method, caller.Subject.Roles) {
		who := "a caller without a credential"
		if caller.Verified {
			who = caller.Subject.String()
		}
		g.cfg.Logger.Warn("call refused", "method", method, "centre", who)
		return fmt.Errorf("%s may not call %s, which is for %s: %w", who, method, access.Roles(method), ErrDenied)
	}
	// A registrant's credential outlives the enrolment of its centre; a node's and its officers' does not.
	if caller.Verified && !caller.Subject.Has(identity.Registrant) {
		if err := g.cfg.Current(caller.Subject); err != nil {
			g.cfg.Logger.Warn("call refused", "method", method, "centre", caller.Subject.String(), "err", err)
			return fmt.Errorf("%s: %w: %w", caller.Subject, ErrDenied, err)
		}
	}
	return nil
}

func (g guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := g.check(ctx, info.FullMethod); err != nil {
		return nil, ToStatus(err)
	}
	reply, err := next(ctx, req)
	if err != nil {
		return nil, g.status(info.FullMethod, err)
	}
	return reply, nil
}

func (g guard) stream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := g.check(s.Context(), info.FullMethod); err != nil {
		return ToStatus(err)
	}
	if err := next(srv, s); err != nil {
		return g.status(info.FullMethod, err)
	}
	return nil
}

// status converts err; what the table does not know stays on this node, with its text in the log only.
func (g guard) status(method string, err error) error {
	reason, out := toStatus(err)
	if reason == reasonInternal {
		g.cfg.Logger.Error("call failed", "method", method, "err", err)
	}
	return out
}
