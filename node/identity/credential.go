package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Credential is a private key, the certificate for it and the CA that issued it. It is not changed after it was made.
type Credential struct {
	Cert    tls.Certificate   // leaf, then the CA's certificate: what an enrolling node pins
	Leaf    *x509.Certificate // Cert's first
	CA      *x509.Certificate // Cert's last
	Subject Subject
}

// NotAfter returns when c ends. Renew it before two thirds of its life are over.
func (c *Credential) NotAfter() time.Time { return c.Leaf.NotAfter }

// RenewAt returns when two thirds of c's life are over.
func (c *Credential) RenewAt() time.Time {
	return c.Leaf.NotBefore.Add(c.Leaf.NotAfter.Sub(c.Leaf.NotBefore) / 3 * 2)
}

// NewCredential joins a key with what a CA issued for it. It returns an error matching [ErrUntrusted] if certDER was not issued by
// ca or is for another key, and [ErrSubject] if its names are malformed.
func NewCredential(key crypto.Signer, certDER []byte, ca *x509.Certificate) (*Credential, error) {
	leaf, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("new credential: %w: %w", ErrUntrusted, err)
	}
	pub, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("new credential: %w: the certificate is for another key", ErrUntrusted)
	}
	if err := leaf.CheckSignatureFrom(ca); err != nil {
		return nil, fmt.Errorf("new credential: %w: %w", ErrUntrusted, err)
	}
	s, err := SubjectOf(leaf)
	if err != nil {
		return nil, fmt.Errorf("new credential: %w", err)
	}
	return &Credential{
		Cert:    tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Raw}, PrivateKey: key, Leaf: leaf},
		Leaf:    leaf,
		CA:      ca,
		Subject: s,
	}, nil
}

func keyPath(dir, name string) string  { return filepath.Join(dir, name+".key") }
func certPath(dir, name string) string { return filepath.Join(dir, name+".crt") }

// LoadOrCreateKey returns the key in dir/name.key (PKCS #8 in PEM, mode 0600), made as ECDSA P-256 if there is none. The key is on
// disk before it is asked to be certified, so a crash during enrolment loses nothing.
func LoadOrCreateKey(dir, name string) (crypto.Signer, error) {
	path := keyPath(dir, name)
	key, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create key %s: %w", path, err)
	}
	return createKey(path, fresh)
}

// createKey writes key to path unless another process was first, and returns the key that is there.
func createKey(path string, key crypto.Signer) (crypto.Signer, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("create key %s: %w", path, err)
	}
	err = createFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), privateMode)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return loadKey(path)
}

func loadKey(path string) (crypto.Signer, error) {
	data, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	der, err := onePEM(data, "PRIVATE KEY")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read %s: %T is not a signing key", path, parsed)
	}
	return key, nil
}

// CSR returns the request (PKCS #10, DER) that asks a CA to certify key. It carries no names: the CA decides them.
func CSR(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return der, nil
}

// Save writes dir/name.key if it is not there and replaces dir/name.crt. A key that is there stays: it must be c's.
func (c *Credential) Save(dir, name string) error {
	signer, ok := c.Cert.PrivateKey.(crypto.Signer)
	if !ok {
		return fmt.Errorf("save credential %s: the key cannot sign", name)
	}
	there, err := createKey(keyPath(dir, name), signer)
	if err != nil {
		return fmt.Errorf("save credential %s: %w", name, err)
	}
	if pub, ok := there.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(signer.Public()) {
		return fmt.Errorf("save credential %s: %s holds another key: save under another name", name, keyPath(dir, name))
	}
	var chain []byte
	for _, der := range c.Cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	if err := writeFile(certPath(dir, name), chain, publicMode); err != nil {
		return fmt.Errorf("save credential %s: %w", name, err)
	}
	return nil
}

// Load reads the credential that [Credential.Save] wrote. The error matches [io/fs.ErrNotExist] if there is none yet.
func Load(dir, name string) (*Credential, error) {
	key, err := loadKey(keyPath(dir, name))
	if err != nil {
		return nil, fmt.Errorf("load credential %s: %w", name, err)
	}
	data, err := readFile(certPath(dir, name), false)
	if err != nil {
		return nil, fmt.Errorf("load credential %s: %w", name, err)
	}
	leaf, rest := pem.Decode(data)
	if leaf == nil || leaf.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("load credential %s: %s holds no certificate", name, certPath(dir, name))
	}
	caDER, err := onePEM(rest, "CERTIFICATE")
	if err != nil {
		return nil, fmt.Errorf("load credential %s: CA in %s: %w", name, certPath(dir, name), err)
	}
	ca, err := x509.ParseCertificate(caDER)
	if err != nil {
		return nil, fmt.Errorf("load credential %s: CA in %s: %w", name, certPath(dir, name), err)
	}
	c, err := NewCredential(key, leaf.Bytes, ca)
	if err != nil {
		return nil, fmt.Errorf("load credential %s: %w", name, err)
	}
	return c, nil
}

// Current is the credential a running node shows. Storing another (promotion, renewal) takes effect with the next handshake. It is
// safe for concurrent use.
type Current struct{ p atomic.Pointer[Credential] }

// NewCurrent returns a Current that holds c; nil means none, as before enrolment.
func NewCurrent(c *Credential) *Current {
	cur := &Current{}
	cur.Store(c)
	return cur
}

// Load returns the credential in use, or nil.
func (cur *Current) Load() *Credential { return cur.p.Load() }

// Store puts c in use.
func (cur *Current) Store(c *Credential) { cur.p.Store(c) }
