package identity

import (
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Trust is what a node believes: the CAs of its network, and nothing else. It is safe for concurrent use.
type Trust struct {
	network string

	mu  sync.RWMutex // guards cas; held for a copy only
	cas []*x509.Certificate
}

// NewTrust returns the trust in one network's CAs. More than one is for the time of a CA's succession.
func NewTrust(network string, cas ...*x509.Certificate) *Trust {
	return &Trust{network: network, cas: slices.Clone(cas)}
}

// Network returns the name of the trusted network.
func (t *Trust) Network() string { return t.network }

// Add also trusts ca.
func (t *Trust) Add(ca *x509.Certificate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.ContainsFunc(t.cas, ca.Equal) {
		t.cas = append(t.cas, ca)
	}
}

func (t *Trust) roots() *x509.CertPool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	pool := x509.NewCertPool()
	for _, ca := range t.cas {
		pool.AddCert(ca)
	}
	return pool
}

// Verify returns who leaf stands for, if a CA of the network issued it and it is in date for usage. Otherwise the error matches
// [ErrUntrusted] or [ErrSubject]. Whether the enrolment still stands is for the caller: the registry knows.
func (t *Trust) Verify(leaf *x509.Certificate, usage x509.ExtKeyUsage) (Subject, error) {
	if leaf.IsCA {
		return Subject{}, fmt.Errorf("verify certificate: %w: a CA is not a peer", ErrUntrusted)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         t.roots(),
		Intermediates: x509.NewCertPool(), // issued by the CA itself or not at all
		CurrentTime:   time.Now(),
		KeyUsages:     []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return Subject{}, fmt.Errorf("verify certificate of %q: %w: %w", leaf.Subject.CommonName, ErrUntrusted, err)
	}
	s, err := SubjectOf(leaf)
	if err != nil {
		return Subject{}, fmt.Errorf("verify certificate: %w", err)
	}
	if s.Network != t.network {
		return Subject{}, fmt.Errorf("verify certificate of %s: %w: it is of network %q, this is %q", s, ErrUntrusted, s.Network, t.network)
	}
	return s, nil
}
