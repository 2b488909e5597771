package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCASaveAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	ca := newCA(t, "zj")
	if err := ca.Save(dir); err != nil {
		t.Fatal(err)
	}
	if err := newCA(t, "zj").Save(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Save over a CA = %v; want ErrExist", err)
	}
	got, err := LoadCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.Fingerprint() != ca.Fingerprint() || got.Network() != "zj" {
		t.Errorf("LoadCA = %s %x; want zj %x", got.Network(), got.Fingerprint(), ca.Fingerprint())
	}
	issue(t, got, centre("330102", 1))

	if err := os.Chmod(filepath.Join(dir, "ca.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCA(dir); !errors.Is(err, ErrFileMode) {
		t.Errorf("LoadCA of a key of mode 0640 = %v; want ErrFileMode", err)
	}
}

func TestLoadCARefusesHalves(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if err := newCA(t, "zj").Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(b, "ca.crt"), filepath.Join(a, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCA(a); err == nil {
		t.Error("LoadCA of a key and another CA's certificate succeeded")
	}
}

func TestIssueRefuses(t *testing.T) {
	ca := newCA(t, "zj")
	good, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := CSR(good)
	if err != nil {
		t.Fatal(err)
	}
	forged := append([]byte{}, csr...)
	forged[len(forged)-1] ^= 1
	big, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherCurve, err := CSR(big)
	if err != nil {
		t.Fatal(err)
	}
	other := centre("330102", 1)
	other.Network = "js"
	for _, tt := range []struct {
		name string
		csr  []byte
		give Subject
		want error
	}{
		{"request whose signature is wrong", forged, centre("330102", 1), ErrRequest},
		{"no request", []byte("x"), centre("330102", 1), ErrRequest},
		{"another curve", otherCurve, centre("330102", 1), ErrRequest},
		{"another network", csr, other, ErrSubject},
		{"serial 0", csr, centre("330102", 0), ErrSubject},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ca.Issue(tt.csr, tt.give); !errors.Is(err, tt.want) {
				t.Errorf("Issue = %v; want %v", err, tt.want)
			}
		})
	}
}

func TestCredentialSaveLoadAndPromote(t *testing.T) {
	dir := t.TempDir()
	ca := newCA(t, "zj")
	if _, err := Load(dir, "node"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Load of nothing = %v; want ErrNotExist", err)
	}
	key, err := LoadOrCreateKey(dir, "node")
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKey(dir, "node")
	if err != nil {
		t.Fatal(err)
	}
	if !again.Public().(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Fatal("a second LoadOrCreateKey made another key")
	}
	csr, err := CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Subject{centre("330102", 1), centre("330102", 1, Voter)} {
		der, err := ca.Issue(csr, s)
		if err != nil {
			t.Fatal(err)
		}
		c, err := NewCredential(key, der, ca.Cert)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Save(dir, "node"); err != nil {
			t.Fatal(err)
		}
		got, err := Load(dir, "node")
		if err != nil || got.Subject.Has(Voter) != s.Has(Voter) {
			t.Fatalf("Load = %+v, %v; want %+v", got, err, s)
		}
	}
	if err := issue(t, ca, centre("330102", 2)).Save(dir, "node"); err == nil {
		t.Error("Save with another key over a saved one succeeded")
	}
	if err := os.Chmod(filepath.Join(dir, "node.key"), 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, "node"); !errors.Is(err, ErrFileMode) {
		t.Errorf("Load with a key of mode 0604 = %v; want ErrFileMode", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*.tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files left: %v, %v", left, err)
	}
}

func TestTrustVerify(t *testing.T) {
	ca, foreign := newCA(t, "zj"), newCA(t, "zj")
	trust := NewTrust("zj", ca.Cert)
	person := Subject{Network: "zj", Code: "330102", Serial: 1, Account: "a", Roles: []Role{Registrant}}
	js := newCA(t, "js")
	jsSubject := centre("320000", 1)
	jsSubject.Network = "js"
	for _, tt := range []struct {
		name  string
		give  *x509.Certificate
		usage x509.ExtKeyUsage
		want  error
	}{
		{"a centre serving", issue(t, ca, centre("330102", 1)).Leaf, x509.ExtKeyUsageServerAuth, nil},
		{"a person calling", issue(t, ca, person).Leaf, x509.ExtKeyUsageClientAuth, nil},
		{"a person serving", issue(t, ca, person).Leaf, x509.ExtKeyUsageServerAuth, ErrUntrusted},
		{"another CA of the same name", issue(t, foreign, centre("330102", 1)).Leaf, x509.ExtKeyUsageServerAuth, ErrUntrusted},
		{"another network", issue(t, js, jsSubject).Leaf, x509.ExtKeyUsageServerAuth, ErrUntrusted},
		{"the CA itself", ca.Cert, x509.ExtKeyUsageServerAuth, ErrUntrusted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := trust.Verify(tt.give, tt.usage); !errors.Is(err, tt.want) {
				t.Errorf("Verify = %v; want %v", err, tt.want)
			}
		})
	}
	both := NewTrust("zj", ca.Cert, js.Cert)
	if _, err := both.Verify(issue(t, js, jsSubject).Leaf, x509.ExtKeyUsageServerAuth); !errors.Is(err, ErrUntrusted) {
		t.Errorf("Verify of another network's subject under a trusted CA = %v; want ErrUntrusted", err)
	}
	c := issue(t, ca, centre("330102", 1))
	if at := c.RenewAt(); !at.After(time.Now()) || !at.Before(c.NotAfter()) {
		t.Errorf("RenewAt() = %v; want between now and %v", at, c.NotAfter())
	}
}

func TestLoadOrCreateSigningKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "receipt.key")
	a, err := LoadOrCreateSigningKey(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadOrCreateSigningKey(path)
	if err != nil || !a.Equal(b) {
		t.Errorf("second LoadOrCreateSigningKey = other key, %v; want the first", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateSigningKey(path); !errors.Is(err, ErrFileMode) {
		t.Errorf("of mode 0644 = %v; want ErrFileMode", err)
	}
}
