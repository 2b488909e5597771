package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// HandshakeTimeout bounds one TLS handshake.
	HandshakeTimeout = 10 * time.Second

	// maxHandshakes bounds handshakes in progress, and with them the memory strangers can take. maxHandshakesPerHost keeps one
	// host from taking them all; a gateway in front of several centres is one host.
	maxHandshakes        = 256
	maxHandshakesPerHost = 64

	// maxStrangers bounds the open connections without a credential, and strangerTime how long each may stay: they are there
	// to enrol.
	maxStrangers = 64
	strangerTime = 2 * time.Minute

	// acceptBacklog is how many ready connections wait for one protocol's Accept; more are closed.
	acceptBacklog = 128
)

// Conn is an accepted connection whose handshake is done.
type Conn struct {
	*tls.Conn
	Peer Peer

	proto string
	mux   *Mux
	ends  *time.Timer // of a stranger
	once  sync.Once
	err   error
}

// Close closes the connection. It may be called more than once.
func (c *Conn) Close() error {
	c.once.Do(func() {
		c.mux.forget(c)
		c.err = c.Conn.Close()
	})
	return c.err
}

// Mux splits the connections of one TLS listener by their negotiated protocol. It is safe for concurrent use.
type Mux struct {
	inner  net.Listener
	config *tls.Config
	logger *slog.Logger
	slots  chan struct{}
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // the accept loop and every handshake

	mu      sync.Mutex // guards all below; never held over I/O
	closed  bool
	protos  map[string]*protoListener
	allow   map[string]func(Peer) error
	raw     map[net.Conn]struct{} // in handshake
	perHost map[string]int        // handshakes by remote host
	live    map[*Conn]struct{}

	strangers    int // live ones without a credential
	strangerTime time.Duration
}

// NewMux takes over l and accepts from it at once, under a configuration made by [ServerTLS]. Refused connections are logged at
// Debug; nil logs nothing.
func NewMux(l net.Listener, config *tls.Config, logger *slog.Logger) *Mux {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Mux{
		inner: l, config: config, logger: logger, slots: make(chan struct{}, maxHandshakes), ctx: ctx, cancel: cancel,
		protos: map[string]*protoListener{}, allow: map[string]func(Peer) error{},
		raw: map[net.Conn]struct{}{}, perHost: map[string]int{}, live: map[*Conn]struct{}{},
		strangerTime: strangerTime,
	}
	m.wg.Go(m.accept)
	return m
}

// Addr returns the address of the underlying listener.
func (m *Mux) Addr() net.Addr { return m.inner.Addr() }

// Listener returns the connections of one protocol as they come. Its Accept returns a *Conn. A connection for a protocol without
// a listener is closed. Listener panics if the protocol has one already; a closed one may be taken anew.
func (m *Mux) Listener(proto string) net.Listener {
	l := &protoListener{mux: m, proto: proto, ready: make(chan *Conn, acceptBacklog), done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		close(l.done)
		return l
	}
	if m.protos[proto] != nil {
		panic(fmt.Sprintf("identity: two listeners for protocol %s", proto))
	}
	m.protos[proto] = l
	return l
}

// Allow sets who may open proto, beside what [ServerTLS] asks. It is asked once per connection, after the connection became visible
// to [Mux.CloseWhere]: change the table first and call CloseWhere then, and no connection slips through. It must not block.
func (m *Mux) Allow(proto string, allow func(Peer) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.allow[proto] = allow
}

// CloseWhere closes every live connection of a verified peer for which revoked is true, and returns how many.
func (m *Mux) CloseWhere(revoked func(Subject) bool) int {
	return m.closeAll(func(c *Conn) bool { return c.Peer.Verified && revoked(c.Peer.Subject) })
}

// CloseProto is [Mux.CloseWhere] for one protocol: a demoted voter loses Raft and keeps its calls.
func (m *Mux) CloseProto(proto string, revoked func(Subject) bool) int {
	return m.closeAll(func(c *Conn) bool { return c.proto == proto && c.Peer.Verified && revoked(c.Peer.Subject) })
}

func (m *Mux) closeAll(which func(*Conn) bool) int {
	m.mu.Lock()
	conns := make([]*Conn, 0, len(m.live))
	for c := range m.live {
		conns = append(conns, c)
	}
	m.mu.Unlock()
	n := 0
	for _, c := range conns {
		if which(c) {
			// The socket first: a polite TLS farewell to a peer that does not read would wait for it.
			_ = c.NetConn().Close()
			_ = c.Close()
			n++
		}
	}
	return n
}

// Live returns how many connections are open, handshakes not counted.
func (m *Mux) Live() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.live)
}

// Close closes the listener and every connection, and waits for all goroutines of m.
func (m *Mux) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		m.wg.Wait()
		return nil
	}
	m.closed = true
	for _, l := range m.protos {
		close(l.done)
	}
	clear(m.protos)
	raw := make([]net.Conn, 0, len(m.raw))
	for c := range m.raw {
		raw = append(raw, c)
	}
	m.mu.Unlock()

	m.cancel()
	err := m.inner.Close()
	for _, c := range raw {
		_ = c.Close() // ends the handshake
	}
	m.closeAll(func(*Conn) bool { return true })
	m.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

func (m *Mux) forget(c *Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, is := m.live[c]; is && c.ends != nil {
		c.ends.Stop()
		m.strangers--
	}
	delete(m.live, c)
}

func (m *Mux) accept() {
	delay := time.Duration(0)
	for {
		raw, err := m.inner.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || m.ctx.Err() != nil {
				return
			}
			// Out of descriptors, most likely: wait for some to come free.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			m.logger.Error("accept peer connection", "err", err, "dur", delay)
			select {
			case <-time.After(delay):
				continue
			case <-m.ctx.Done():
				return
			}
		}
		delay = 0
		host := hostOf(raw)
		if !m.begin(raw, host) {
			_ = raw.Close()
			continue
		}
		select {
		case m.slots <- struct{}{}:
		case <-m.ctx.Done():
			m.end(raw, host)
			_ = raw.Close()
			return
		}
		m.wg.Go(func() {
			defer func() { <-m.slots }()
			defer m.end(raw, host)
			if err := m.handshake(raw); err != nil {
				_ = raw.Close()
				m.logger.Debug("peer connection refused", "peer", raw.RemoteAddr().String(), "err", err)
			}
		})
	}
}

func hostOf(c net.Conn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return c.RemoteAddr().String()
	}
	return host
}

func (m *Mux) begin(raw net.Conn, host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.perHost[host] >= maxHandshakesPerHost {
		return false
	}
	m.perHost[host]++
	m.raw[raw] = struct{}{}
	return true
}

func (m *Mux) end(raw net.Conn, host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.raw, raw)
	if m.perHost[host]--; m.perHost[host] == 0 {
		delete(m.perHost, host)
	}
}

func (m *Mux) handshake(raw net.Conn) error {
	ctx, cancel := context.WithTimeout(m.ctx, HandshakeTimeout)
	defer cancel()
	tc := tls.Server(raw, m.config)
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	cs := tc.ConnectionState()
	peer, err := PeerOf(cs)
	if err != nil {
		return err
	}
	c := &Conn{Conn: tc, Peer: peer, proto: cs.NegotiatedProtocol, mux: m}

	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return net.ErrClosed
	}
	if !peer.Verified {
		if m.strangers >= maxStrangers {
			m.mu.Unlock()
			return fmt.Errorf("%w: %d connections without a credential are open", ErrNotAllowed, maxStrangers)
		}
		m.strangers++
		c.ends = time.AfterFunc(m.strangerTime, func() { _ = c.NetConn().Close() })
	}
	m.live[c] = struct{}{} // before Allow: see its comment
	allow, l := m.allow[c.proto], m.protos[c.proto]
	m.mu.Unlock()

	if allow != nil {
		err = allow(peer)
	}
	if err == nil && l == nil {
		err = fmt.Errorf("%w: nobody serves %q", ErrNotAllowed, c.proto)
	}
	if err == nil {
		err = l.deliver(c)
	}
	if err != nil {
		m.forget(c)
		return err
	}
	return nil
}

// protoListener is one protocol's share of a Mux.
type protoListener struct {
	mux   *Mux
	proto string
	ready chan *Conn
	done  chan struct{} // closed under mux.mu
}

func (l *protoListener) deliver(c *Conn) error {
	// Under the lock, so that nothing is put into a queue that Close has emptied.
	l.mux.mu.Lock()
	defer l.mux.mu.Unlock()
	select {
	case <-l.done:
		return net.ErrClosed
	default:
	}
	select {
	case l.ready <- c:
		return nil
	default:
		return fmt.Errorf("protocol %s: %d connections wait already", l.proto, acceptBacklog)
	}
}

// Accept implements [net.Listener].
func (l *protoListener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener]. Accepted connections stay open; those not yet accepted are closed.
func (l *protoListener) Close() error {
	l.mux.mu.Lock()
	if l.mux.protos[l.proto] == l {
		delete(l.mux.protos, l.proto)
		close(l.done)
	}
	l.mux.mu.Unlock()
	for {
		select {
		case c := <-l.ready:
			_ = c.NetConn().Close()
			_ = c.Close()
		default:
			return nil
		}
	}
}

// Addr implements [net.Listener].
func (l *protoListener) Addr() net.Addr { return l.mux.Addr() }

var _ io.Closer = (*Mux)(nil)
