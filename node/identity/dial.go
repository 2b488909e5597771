package identity

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// maxProxyReply bounds what a proxy may say before the connection is open.
const maxProxyReply = 16 << 10

// Dialer opens outgoing connections, straight or through an HTTP proxy. The zero Dialer dials straight.
type Dialer struct {
	// Proxy is "http://[user:password@]host:port" of a proxy that allows CONNECT to the peers' ports; empty means none. It sees
	// addresses and ciphertext: TLS runs end to end.
	Proxy string

	// Timeout bounds connecting, proxy and TLS handshake each. 0 means 10 s.
	Timeout time.Duration
}

func (d *Dialer) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	return HandshakeTimeout
}

// DialContext opens a plain connection to address (host:port), for callers that bring their own TLS, such as gRPC.
func (d *Dialer) DialContext(ctx context.Context, address string) (net.Conn, error) {
	if d.Proxy == "" {
		nd := net.Dialer{Timeout: d.timeout()}
		return nd.DialContext(ctx, "tcp", address)
	}
	u, err := url.Parse(d.Proxy)
	if err != nil || u.Scheme != "http" || u.Port() == "" {
		// The address may hold a password: do not repeat it.
		return nil, fmt.Errorf("dial %s: %w: the proxy's address must be http://host:port", address, ErrProxy)
	}
	nd := net.Dialer{Timeout: d.timeout()}
	conn, err := nd.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("dial %s through proxy %s: %w", address, u.Host, err)
	}
	if err := d.connect(ctx, conn, u, address); err != nil {
		return nil, errors.Join(fmt.Errorf("dial %s through proxy %s: %w", address, u.Host, err), conn.Close())
	}
	return conn, nil
}

func (d *Dialer) connect(ctx context.Context, conn net.Conn, proxy *url.URL, address string) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(d.timeout())); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		login := proxy.User.Username() + ":" + password
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(login)))
	}
	if err := req.Write(conn); err != nil {
		return withCause(ctx, err)
	}
	br := bufio.NewReader(io.LimitReader(conn, maxProxyReply))
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return withCause(ctx, fmt.Errorf("%w: %w", ErrProxy, err))
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: it answered %d", ErrProxy, resp.StatusCode)
	}
	if br.Buffered() != 0 {
		return fmt.Errorf("%w: it sent bytes before the peer could", ErrProxy) // in TLS the client speaks first
	}
	if !stop() {
		return ctx.Err()
	}
	return conn.SetDeadline(time.Time{})
}

func withCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// DialTLS opens a connection to address and completes the handshake under config, which [ClientTLS] or [EnrolTLS] made. In TLS 1.3
// the server judges the client's credential later: its refusal is the first Read's error.
func (d *Dialer) DialTLS(ctx context.Context, address string, config *tls.Config) (*tls.Conn, error) {
	raw, err := d.DialContext(ctx, address)
	if err != nil {
		return nil, err
	}
	hctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(hctx); err != nil {
		return nil, errors.Join(fmt.Errorf("handshake with %s: %w", address, err), raw.Close())
	}
	return conn, nil
}
