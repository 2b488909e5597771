package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"time"
)

const (
	// CALifetime is how long a network's CA is valid: longer than any machine that trusts it.
	CALifetime = 30 * 365 * 24 * time.Hour

	// CredentialLifetime is how long an issued credential is valid. It is renewed on the way, so a centre that was away for a
	// year still comes back by itself.
	CredentialLifetime = 3 * 365 * 24 * time.Hour

	// clockSkew is how far a certificate is dated back: machines that disagree by less still trust it at once.
	clockSkew = 10 * time.Minute
)

const (
	caKeyFile  = "ca.key"
	caCertFile = "ca.crt"
)

// CA is the private certificate authority of one network. It is safe for concurrent use.
type CA struct {
	Cert *x509.Certificate // self-signed, ECDSA P-256: what every TLS 1.3 stack can verify

	network string
	key     crypto.Signer
}

// CreateCA makes the CA of a new network. Nothing is written: see [CA.Save].
func CreateCA(network string) (*CA, error) {
	if !validName(network, maxNetworkLen, false) {
		return nil, fmt.Errorf("create CA of %q: %w: want 1 to %d of a-z, 0-9, '.', '-'", network, ErrSubject, maxNetworkLen)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create CA of %q: %w", network, err)
	}
	now := time.Now().UTC()
	tmpl := &x509.Certificate{
		SerialNumber:          randomSerial(),
		Subject:               pkix.Name{CommonName: network, Organization: []string{"dengbei"}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(CALifetime),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("create CA of %q: %w", network, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("create CA of %q: %w", network, err)
	}
	return &CA{Cert: cert, network: network, key: key}, nil
}

// randomSerial returns 127 random bits, so that serials need no counter that a restored backup could turn back.
func randomSerial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails: it ends the process instead
	b[0] &= 0x7f
	b[15] |= 1 // never zero
	return new(big.Int).SetBytes(b[:])
}

// Save writes ca.key (mode 0600) and ca.crt into dir, the certificate last. A CA that is already there is never replaced: the
// error matches [io/fs.ErrExist].
func (ca *CA) Save(dir string) error {
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return fmt.Errorf("save CA: %w", err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := createFile(filepath.Join(dir, caKeyFile), keyPEM, privateMode); err != nil {
		return fmt.Errorf("save CA: %w", err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})
	if err := writeFile(filepath.Join(dir, caCertFile), certPEM, publicMode); err != nil {
		return fmt.Errorf("save CA: %w", err)
	}
	return nil
}

// LoadCA reads what [CA.Save] wrote.
func LoadCA(dir string) (*CA, error) {
	key, err := loadKey(filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	cert, err := LoadCACert(filepath.Join(dir, caCertFile))
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	if pub, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("load CA: %s and %s in %s do not belong together", caKeyFile, caCertFile, dir)
	}
	return &CA{Cert: cert, network: cert.Subject.CommonName, key: key}, nil
}

// LoadCACert reads one CA certificate in PEM, the public half of a CA.
func LoadCACert(path string) (*x509.Certificate, error) {
	data, err := readFile(path, false)
	if err != nil {
		return nil, err
	}
	der, err := onePEM(data, "CERTIFICATE")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if !cert.IsCA {
		return nil, fmt.Errorf("read %s: %w: not a CA certificate", path, ErrUntrusted)
	}
	return cert, nil
}

// Network returns the name of the network that ca serves.
func (ca *CA) Network() string { return ca.network }

// Fingerprint returns the SHA-256 of ca's certificate, by which an enrolling node knows it.
func (ca *CA) Fingerprint() [sha256.Size]byte { return Fingerprint(ca.Cert) }

// Fingerprint returns the SHA-256 of c as it travels (DER).
func Fingerprint(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.Raw) }

// Issue signs the public key in csrDER for s and returns the certificate in DER. Names and extensions that the request asks for
// are ignored: s is the authority's decision. It returns an error matching [ErrRequest] if the request is not signed by its own
// key, or the key is neither ECDSA P-256 nor Ed25519, and [ErrSubject] if s is malformed or of another network.
func (ca *CA) Issue(csrDER []byte, s Subject) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("issue credential: %w", err)
	}
	if s.Network != ca.network {
		return nil, fmt.Errorf("issue credential for %s: %w: network %q is not this CA's %q", s, ErrSubject, s.Network, ca.network)
	}
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, fmt.Errorf("issue credential for %s: %w: %w", s, ErrRequest, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("issue credential for %s: %w: %w", s, ErrRequest, err)
	}
	switch pub := csr.PublicKey.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return nil, fmt.Errorf("issue credential for %s: %w: want ECDSA P-256 or Ed25519", s, ErrRequest)
		}
	default:
		return nil, fmt.Errorf("issue credential for %s: %w: want ECDSA P-256 or Ed25519", s, ErrRequest)
	}
	now := time.Now().UTC()
	notAfter := now.Add(CredentialLifetime)
	if notAfter.After(ca.Cert.NotAfter) {
		notAfter = ca.Cert.NotAfter
	}
	tmpl := &x509.Certificate{
		SerialNumber:          randomSerial(),
		Subject:               pkix.Name{CommonName: s.ServerID(), Organization: []string{s.Network}},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		URIs:                  s.uris(),
	}
	if s.Account != "" {
		tmpl.ExtKeyUsage = tmpl.ExtKeyUsage[:1] // a person's credential never serves
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.Cert, csr.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issue credential for %s: %w", s, err)
	}
	return der, nil
}
