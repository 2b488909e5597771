package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCA(t *testing.T, network string) *CA {
	t.Helper()
	ca, err := CreateCA(network)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func centre(code string, serial uint64, more ...Role) Subject {
	return Subject{Network: "zj", Code: code, Serial: serial, Roles: append([]Role{Centre}, more...)}
}

func issue(t *testing.T, ca *CA, s Subject) *Credential {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := CSR(key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.Issue(csr, s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCredential(key, der, ca.Cert)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// until polls cond, failing t after 30 s.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}
