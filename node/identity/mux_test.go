package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// echoPort serves echo on both protocols under the credential of centre 330000-1.
func echoPort(t *testing.T, ca *CA) *Mux {
	t.Helper()
	server := NewCurrent(issue(t, ca, centre("330000", 1, Voter)))
	m := NewMux(listen(t), ServerTLS(server, NewTrust("zj", ca.Cert), ProtoRaft, ProtoGRPC), nil)
	done := make(chan struct{}, 2)
	for _, p := range []string{ProtoRaft, ProtoGRPC} {
		l := m.Listener(p)
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer func() { _ = c.Close() }()
					_, _ = fmt.Fprintf(c, "%v %s\n", c.(*Conn).Peer.Verified, c.(*Conn).Peer.Subject)
					_, _ = io.Copy(c, c)
				}()
			}
		}()
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		<-done
		<-done
	})
	return m
}

// greeting dials m and returns what it says first.
func greeting(t *testing.T, m *Mux, config *tls.Config) (string, *tls.Conn, error) {
	t.Helper()
	var d Dialer
	c, err := d.DialTLS(t.Context(), m.Addr().String(), config)
	if err != nil {
		return "", nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(8 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil {
			return "", nil, err
		}
		if b[0] == '\n' {
			return string(line), c, nil
		}
		line = append(line, b[0])
	}
}

func TestPeerPort(t *testing.T) {
	ca, foreign := newCA(t, "zj"), newCA(t, "zj")
	trust := NewTrust("zj", ca.Cert)
	m := echoPort(t, ca)
	voter := NewCurrent(issue(t, ca, centre("330100", 2, Voter)))
	county := NewCurrent(issue(t, ca, centre("330102", 3)))
	person := NewCurrent(issue(t, ca, Subject{Network: "zj", Code: "330102", Serial: 4, Account: "a", Roles: []Role{Registrant}}))
	stranger := NewCurrent(issue(t, foreign, centre("330100", 2, Voter)))
	is := ExpectServer("330000-1")
	for _, tt := range []struct {
		name   string
		give   *tls.Config
		want   string // empty: refused
		expect error  // what the client itself must say
	}{
		{"a voter speaks Raft", ClientTLS(voter, trust, is, ProtoRaft), "true 330100-2", nil},
		{"a voter calls", ClientTLS(voter, trust, is, ProtoGRPC), "true 330100-2", nil},
		{"a county calls", ClientTLS(county, trust, is, ProtoGRPC), "true 330102-3", nil},
		{"a county does not speak Raft", ClientTLS(county, trust, is, ProtoRaft), "", nil},
		{"a registrant calls", ClientTLS(person, trust, is, ProtoGRPC), "true a@330102-4", nil},
		{"a registrant does not speak Raft", ClientTLS(person, trust, is, ProtoRaft), "", nil},
		{"nobody calls, to enrol", ClientTLS(nil, trust, is, ProtoGRPC), "false -0", nil},
		{"nobody does not speak Raft", ClientTLS(nil, trust, is, ProtoRaft), "", nil},
		{"a stranger is not nobody", ClientTLS(stranger, trust, is, ProtoGRPC), "", nil},
		{"a stranger does not speak Raft", ClientTLS(stranger, trust, is, ProtoRaft), "", nil},
		{"no protocol", ClientTLS(voter, trust, is), "", nil},
		{"unknown protocol", ClientTLS(voter, trust, is, "http/1.1"), "", nil},
		{"another centre was meant", ClientTLS(voter, trust, ExpectServer("330000-2"), ProtoGRPC), "", ErrUnexpectedPeer},
		{"the client trusts another CA", ClientTLS(voter, NewTrust("zj", foreign.Cert), is, ProtoGRPC), "", ErrUntrusted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := greeting(t, m, tt.give)
			if got != tt.want || (err == nil) != (tt.want != "") || tt.expect != nil && !errors.Is(err, tt.expect) {
				t.Errorf("greeting = %q, %v; want %q, %v", got, err, tt.want, tt.expect)
			}
		})
	}
	old := ClientTLS(voter, trust, is, ProtoGRPC)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if _, _, err := greeting(t, m, old); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
}

// A client may show the certificate of another without its key; the handshake must notice.
func TestBorrowedCertificateIsRefused(t *testing.T) {
	ca := newCA(t, "zj")
	m := echoPort(t, ca)
	voter, thief := issue(t, ca, centre("330100", 2, Voter)), issue(t, ca, centre("330102", 3))
	config := ClientTLS(nil, NewTrust("zj", ca.Cert), ExpectCentre, ProtoRaft)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: voter.Cert.Certificate, PrivateKey: thief.Cert.PrivateKey}, nil
	}
	if got, _, err := greeting(t, m, config); err == nil {
		t.Errorf("greeting = %q; want a refusal", got)
	}
}

func TestEnrolTLSPinsTheCA(t *testing.T) {
	ca, foreign := newCA(t, "zj"), newCA(t, "zj")
	m := echoPort(t, ca)
	tok, err := NewToken("zj", "330102", ca.Fingerprint(), m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var got *x509.Certificate
	line, _, err := greeting(t, m, EnrolTLS(tok, func(c *x509.Certificate) { got = c }, ProtoGRPC))
	if err != nil || line != "false -0" || !got.Equal(ca.Cert) {
		t.Errorf("greeting = %q, %v; want false -0 and the CA", line, err)
	}
	tok.CAFingerprint = foreign.Fingerprint()
	if _, _, err := greeting(t, m, EnrolTLS(tok, nil, ProtoGRPC)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("another fingerprint: %v; want ErrUntrusted", err)
	}
	tok.CAFingerprint, tok.Network = ca.Fingerprint(), "js"
	if _, _, err := greeting(t, m, EnrolTLS(tok, nil, ProtoGRPC)); !errors.Is(err, ErrUntrusted) {
		t.Errorf("another network: %v; want ErrUntrusted", err)
	}
}

func TestAllowAndRevocation(t *testing.T) {
	ca := newCA(t, "zj")
	trust := NewTrust("zj", ca.Cert)
	m := echoPort(t, ca)
	var revoked atomic.Bool
	m.Allow(ProtoRaft, func(p Peer) error {
		if revoked.Load() && p.Subject.Code == "330100" {
			return fmt.Errorf("%s: %w: revoked", p.Subject, ErrNotAllowed)
		}
		return nil
	})
	config := func(code, proto string) *tls.Config {
		return ClientTLS(NewCurrent(issue(t, ca, centre(code, 2, Voter))), trust, ExpectCentre, proto)
	}
	raft, calls := config("330100", ProtoRaft), config("330100", ProtoGRPC)
	_, victim, err := greeting(t, m, raft)
	if err != nil {
		t.Fatal(err)
	}
	_, call, err := greeting(t, m, calls)
	if err != nil {
		t.Fatal(err)
	}
	_, bystander, err := greeting(t, m, config("330200", ProtoRaft))
	if err != nil {
		t.Fatal(err)
	}

	revoked.Store(true)
	is := func(s Subject) bool { return s.ServerID() == "330100-2" }
	if n := m.CloseProto(ProtoRaft, is); n != 1 {
		t.Errorf("CloseProto closed %d; want 1", n)
	}
	if _, err := victim.Read(make([]byte, 1)); err == nil {
		t.Error("the revoked connection still reads")
	}
	for name, c := range map[string]*tls.Conn{"the call": call, "the bystander": bystander} {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, _, err := greeting(t, m, raft); err == nil {
		t.Errorf("greeting after revocation = %q; want a refusal", got)
	}
	if n := m.CloseWhere(is); n != 1 {
		t.Errorf("CloseWhere closed %d; want 1", n)
	}
	until(t, "only the bystander is left", func() bool { return m.Live() == 1 })
}

func TestMuxClosesWhatIsInHandshake(t *testing.T) {
	ca := newCA(t, "zj")
	m := NewMux(listen(t), ServerTLS(NewCurrent(issue(t, ca, centre("330000", 1))), NewTrust("zj", ca.Cert), ProtoGRPC), nil)
	l := m.Listener(ProtoGRPC)
	silent, err := net.Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	waiting, err := (&Dialer{}).DialTLS(t.Context(), m.Addr().String(), ClientTLS(nil, NewTrust("zj", ca.Cert), ExpectCentre, ProtoGRPC))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = waiting.Close() }()
	until(t, "one waits for Accept", func() bool { return m.Live() == 1 })
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]net.Conn{"silent": silent, "waiting": waiting} {
		if err := c.SetReadDeadline(time.Now().Add(8 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: Read = %v; want closed", name, err)
		}
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close = %v; want net.ErrClosed", err)
	}
}

// One host that opens connections and says nothing must not keep others out.
func TestSilentHostDoesNotTakeAllHandshakes(t *testing.T) {
	ca := newCA(t, "zj")
	m := echoPort(t, ca)
	var silent []net.Conn
	for range maxHandshakesPerHost {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", m.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	defer func() {
		for _, c := range silent {
			_ = c.Close()
		}
	}()
	config := ClientTLS(nil, NewTrust("zj", ca.Cert), ExpectCentre, ProtoGRPC)
	if _, _, err := greeting(t, m, config); err != nil {
		t.Errorf("another host: %v", err)
	}
	more, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", m.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = more.Close() }()
	if err := more.SetReadDeadline(time.Now().Add(8 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := more.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("one handshake too many: Read = %v; want closed at once", err)
	}
}

func TestPromotionTakesEffectWithTheNextHandshake(t *testing.T) {
	ca := newCA(t, "zj")
	m := echoPort(t, ca)
	cred := NewCurrent(issue(t, ca, centre("330102", 3)))
	config := ClientTLS(cred, NewTrust("zj", ca.Cert), ExpectCentre, ProtoRaft)
	if _, _, err := greeting(t, m, config); err == nil {
		t.Fatal("a non-voter spoke Raft")
	}
	cred.Store(issue(t, ca, centre("330102", 3, Voter)))
	if _, _, err := greeting(t, m, config); err != nil {
		t.Errorf("after promotion: %v", err)
	}
}

// proxy is an HTTP proxy that knows one login and CONNECT.
func proxy(t *testing.T, answer func(req *http.Request) int) string {
	t.Helper()
	l := listen(t)
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if code := answer(req); code != http.StatusOK {
			w.WriteHeader(code)
			return
		}
		out, err := net.Dial("tcp", req.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() {
			_, _ = io.Copy(out, in)
			_ = out.Close()
		}()
		_, _ = io.Copy(in, out)
		_ = in.Close()
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return l.Addr().String()
}

func TestDialThroughProxy(t *testing.T) {
	ca := newCA(t, "zj")
	m := echoPort(t, ca)
	addr := proxy(t, func(req *http.Request) int {
		if req.Method != http.MethodConnect || req.Header.Get("Proxy-Authorization") != "Basic Z2F0ZTprZXk=" {
			return http.StatusProxyAuthRequired
		}
		return http.StatusOK
	})
	config := ClientTLS(nil, NewTrust("zj", ca.Cert), ExpectServer("330000-1"), ProtoGRPC)
	d := Dialer{Proxy: "http://gate:key@" + addr}
	c, err := d.DialTLS(t.Context(), m.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len("false -0\n"))); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	until(t, "the port is idle", func() bool { return m.Live() == 0 })

	d.Proxy = "http://gate:wrong@" + addr
	_, err = d.DialTLS(t.Context(), m.Addr().String(), config)
	if !errors.Is(err, ErrProxy) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong password: %v; want ErrProxy without the password", err)
	}
	d.Proxy = "socks5://gate:wrong@" + addr
	if _, err := d.DialTLS(t.Context(), m.Addr().String(), config); !errors.Is(err, ErrProxy) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("socks: %v; want ErrProxy without the password", err)
	}
}

func TestDialGivesUpOnASilentProxy(t *testing.T) {
	l := listen(t)
	defer func() { _ = l.Close() }()
	d := Dialer{Proxy: "http://" + l.Addr().String()}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.DialContext(ctx, "127.0.0.1:1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("DialContext = %v; want DeadlineExceeded", err)
	}
}

// Anybody may connect to enrol; nobody may take the descriptors that members need.
func TestStrangersAreFewAndShortOfTime(t *testing.T) {
	ca := newCA(t, "zj")
	m := echoPort(t, ca)
	stranger := ClientTLS(nil, NewTrust("zj", ca.Cert), ExpectServer("330000-1"), ProtoGRPC)
	for i := range maxStrangers {
		if got, _, err := greeting(t, m, stranger); err != nil || !strings.HasPrefix(got, "false") {
			t.Fatalf("connection %d without a credential: %q, %v", i, got, err)
		}
	}
	if _, _, err := greeting(t, m, stranger); err == nil {
		t.Errorf("connection %d without a credential was served", maxStrangers+1)
	}
	member := ClientTLS(NewCurrent(issue(t, ca, centre("330102", 4))), NewTrust("zj", ca.Cert), ExpectServer("330000-1"), ProtoGRPC)
	if got, _, err := greeting(t, m, member); err != nil || !strings.HasPrefix(got, "true") {
		t.Errorf("a member beside them: %q, %v", got, err)
	}
	if n := m.CloseWhere(func(Subject) bool { return true }); n != 1 {
		t.Errorf("CloseWhere closed %d; want the member alone", n)
	}

	late := echoPort(t, ca)
	late.mu.Lock()
	late.strangerTime = time.Millisecond
	late.mu.Unlock()
	for range 2 * maxStrangers { // each makes room for the next
		_, c, err := greeting(t, late, stranger)
		if err != nil {
			continue // its time was over before it could read
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("a stranger's connection stays")
		}
	}
	until(t, "strangers are gone", func() bool { return late.Live() == 0 })
}
