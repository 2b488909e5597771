package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"dengbei/node/identity"
)

// accepted hands connections to gRPC whose TLS handshake the multiplexer of the peer port has done.
type accepted struct{}

var _ credentials.TransportCredentials = accepted{}

// ServerHandshake implements [credentials.TransportCredentials].
func (accepted) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	state, err := connectionState(c)
	if err != nil {
		return nil, nil, err
	}
	return c, credentials.TLSInfo{State: state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func connectionState(c net.Conn) (tls.ConnectionState, error) {
	t, ok := c.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return tls.ConnectionState{}, fmt.Errorf("connection from %s is not TLS", c.RemoteAddr())
	}
	state := t.ConnectionState()
	if !state.HandshakeComplete {
		return tls.ConnectionState{}, fmt.Errorf("connection from %s has not finished its handshake", c.RemoteAddr())
	}
	return state, nil
}

// ClientHandshake implements [credentials.TransportCredentials]; a server never dials.
func (accepted) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("server credentials cannot dial")
}

// Info implements [credentials.TransportCredentials].
func (accepted) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements [credentials.TransportCredentials].
func (accepted) Clone() credentials.TransportCredentials { return accepted{} }

// OverrideServerName implements [credentials.TransportCredentials].
func (accepted) OverrideServerName(string) error { return nil }

// CallerOf returns who makes the call of ctx. Without a credential the zero, unverified Peer comes back.
func CallerOf(ctx context.Context) identity.Peer {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return identity.Peer{}
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return identity.Peer{}
	}
	caller, err := identity.PeerOf(info.State)
	if err != nil {
		return identity.Peer{}
	}
	return caller
}
