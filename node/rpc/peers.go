package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"dengbei/node/identity"
	"dengbei/node/nodepb"
)

// Peers keeps one connection to each centre this node talks to, by server ID. It is safe for concurrent use.
type Peers struct {
	cred    *identity.Current
	trust   *identity.Trust
	proxy   string
	resolve func(serverID string) (address string, err error)

	mu    sync.Mutex // guards conns and closed; never held while dialling
	conns map[string]peerConn
	dead  bool
}

type peerConn struct {
	address string
	conn    *grpc.ClientConn
}

// NewPeers returns an empty pool. resolve gives the enrolled address of an active member.
func NewPeers(cred *identity.Current, trust *identity.Trust, proxy string, resolve func(string) (string, error)) *Peers {
	return &Peers{cred: cred, trust: trust, proxy: proxy, resolve: resolve, conns: map[string]peerConn{}}
}

// Conn returns the connection to the centre enrolled as serverID; the one who answers must show that very ID. A member
// that moved is dialled at its new address.
func (p *Peers) Conn(serverID string) (*grpc.ClientConn, error) {
	address, err := p.resolve(serverID)
	if err != nil {
		return nil, fmt.Errorf("reach centre %s: %w", serverID, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return nil, fmt.Errorf("reach centre %s: %w", serverID, net.ErrClosed)
	}
	if c, ok := p.conns[serverID]; ok {
		if c.address == address {
			return c.conn, nil
		}
		c.conn.Close()
		delete(p.conns, serverID)
	}
	conn, err := p.dial(address, serverID)
	if err != nil {
		return nil, err
	}
	p.conns[serverID] = peerConn{address, conn}
	return conn, nil
}

func (p *Peers) dial(address, serverID string) (*grpc.ClientConn, error) {
	conf := identity.ClientTLS(p.cred, p.trust, identity.ExpectServer(serverID), identity.ProtoGRPC)
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(conf)),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		grpc.WithUnaryInterceptor(unaryErrors),
		grpc.WithStreamInterceptor(streamErrors),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(4 * streamWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		// A centre that comes back is reached within a second or two, not after gRPC's default two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if p.proxy != "" {
		opts = append(opts, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return (&identity.Dialer{Proxy: p.proxy}).DialContext(ctx, addr)
		}))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		return nil, fmt.Errorf("reach centre %s at %s: %w", serverID, address, err)
	}
	return conn, nil
}

// Peering returns the client of another node's Peering service.
func (p *Peers) Peering(serverID string) (nodepb.PeeringClient, error) {
	c, err := p.Conn(serverID)
	if err != nil {
		return nil, err
	}
	return nodepb.NewPeeringClient(c), nil
}

// Network returns the client of another node's Network service.
func (p *Peers) Network(serverID string) (nodepb.NetworkClient, error) {
	c, err := p.Conn(serverID)
	if err != nil {
		return nil, err
	}
	return nodepb.NewNetworkClient(c), nil
}

// Forget drops the connection to a centre that was revoked.
func (p *Peers) Forget(serverID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.conns[serverID]; ok {
		c.conn.Close()
		delete(p.conns, serverID)
	}
}

// Close ends all connections.
func (p *Peers) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = true
	for id, c := range p.conns {
		c.conn.Close()
		delete(p.conns, id)
	}
}

// DialEnrolment returns a client of a node for a machine that has no credential yet; conf is made by
// [identity.EnrolTLS]. Only the enrolment service answers it.
func DialEnrolment(address, proxy string, conf *tls.Config) (*Client, error) {
	return dial(address, proxy, conf)
}
