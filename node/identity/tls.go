package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// The protocols of the peer port, as negotiated by ALPN.
const (
	ProtoRaft = "dengbei-raft/1"
	ProtoGRPC = "h2"
)

// Peer is who is at the other end of a connection that [ServerTLS] accepted.
type Peer struct {
	Subject  Subject
	Verified bool // false: it showed no credential, and may do nothing but enrol
}

// ServerTLS returns the configuration of a listener for the given protocols. It shows cred, speaks TLS 1.3 only and accepts
//
//   - credentials that trust verifies; a bad one is refused, never treated as none;
//   - no credential at all, for the enrolment of a node that has none: see [PeerOf];
//   - on [ProtoRaft] only a verified voter.
//
// A client that names no protocol is refused if any is configured.
func ServerTLS(cred *Current, trust *Trust, protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		NextProtos:             slices.Clone(protos),
		ClientAuth:             tls.RequestClientCert,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return ownCert(cred)
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(protos) > 0 && cs.NegotiatedProtocol == "" {
				return fmt.Errorf("%w: the client names no protocol", ErrNotAllowed)
			}
			var p Peer
			if len(cs.PeerCertificates) > 0 {
				s, err := trust.Verify(cs.PeerCertificates[0], x509.ExtKeyUsageClientAuth)
				if err != nil {
					return err
				}
				p = Peer{Subject: s, Verified: true}
			}
			if cs.NegotiatedProtocol == ProtoRaft && (!p.Verified || !p.Subject.Has(Voter)) {
				return fmt.Errorf("%s: %w: %s is for voters", p.Subject, ErrNotAllowed, ProtoRaft)
			}
			return nil
		},
	}
}

func ownCert(cred *Current) (*tls.Certificate, error) {
	c := cred.Load()
	if c == nil {
		return nil, errors.New("this node has no credential yet: enrol it")
	}
	return &c.Cert, nil
}

// PeerOf returns who is at the other end of a connection that was accepted under [ServerTLS], and must be given no other: there
// the handshake has verified what is only read here.
func PeerOf(cs tls.ConnectionState) (Peer, error) {
	if len(cs.PeerCertificates) == 0 {
		return Peer{}, nil
	}
	s, err := SubjectOf(cs.PeerCertificates[0])
	if err != nil {
		return Peer{}, err
	}
	return Peer{Subject: s, Verified: true}, nil
}

// ClientTLS returns the configuration of an outgoing connection. It shows cred (nil or empty: none), speaks TLS 1.3 only, trusts
// only trust, checks no host name, and goes on only if expect accepts who answered.
func ClientTLS(cred *Current, trust *Trust, expect func(Subject) error, protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		NextProtos:             slices.Clone(protos),
		InsecureSkipVerify:     true, // VerifyConnection below is stricter: one CA, and the subject instead of a host name
		GetClientCertificate:   clientCert(cred),
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return fmt.Errorf("%w: the server shows none", ErrUntrusted)
			}
			s, err := trust.Verify(cs.PeerCertificates[0], x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			return expect(s)
		},
	}
}

func clientCert(cred *Current) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if cred == nil {
			return &tls.Certificate{}, nil
		}
		c := cred.Load()
		if c == nil {
			return &tls.Certificate{}, nil
		}
		return &c.Cert, nil
	}
}

// ExpectServer accepts only the centre enrolled as serverID, as in "330102-3". Otherwise the error matches [ErrUnexpectedPeer].
func ExpectServer(serverID string) func(Subject) error {
	return func(s Subject) error {
		if !s.Has(Centre) || s.ServerID() != serverID {
			return fmt.Errorf("%w: asked for centre %s, %s answered", ErrUnexpectedPeer, serverID, s)
		}
		return nil
	}
}

// ExpectCentre accepts any centre of the network.
func ExpectCentre(s Subject) error {
	if !s.Has(Centre) {
		return fmt.Errorf("%w: asked for a centre, %s answered", ErrUnexpectedPeer, s)
	}
	return nil
}

// EnrolTLS returns the configuration with which a node that knows only a token dials a centre. The server must show a CA
// certificate of the token's fingerprint and a leaf which that CA issued to a centre of the token's network; found, if not nil, is
// then given the CA, before any byte is sent.
func EnrolTLS(t Token, found func(*x509.Certificate), protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		NextProtos:             slices.Clone(protos),
		InsecureSkipVerify:     true, // the pinned fingerprint is the root
		VerifyConnection: func(cs tls.ConnectionState) error {
			ca, err := pinned(cs.PeerCertificates, t.CAFingerprint)
			if err != nil {
				return err
			}
			s, err := NewTrust(t.Network, ca).Verify(cs.PeerCertificates[0], x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			if err := ExpectCentre(s); err != nil {
				return err
			}
			if found != nil {
				found(ca)
			}
			return nil
		},
	}
}

func pinned(chain []*x509.Certificate, want [sha256.Size]byte) (*x509.Certificate, error) {
	for _, c := range chain {
		if c.IsCA && Fingerprint(c) == want {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: the server shows no CA of fingerprint %x: the token is of another network, or somebody is in between",
		ErrUntrusted, want)
}
