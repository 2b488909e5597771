package consensus

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// streams is Raft's view of the network: server IDs in place of addresses. It knows every connection in both directions, so that
// closing it leaves none behind.
type streams struct {
	id     string
	inner  net.Listener
	dial   func(ctx context.Context, serverID string) (net.Conn, error)
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu     sync.Mutex // guards the fields below; never held over I/O
	closed bool
	conns  map[*streamConn]struct{}
}

func newStreams(cfg Config) *streams {
	ctx, cancel := context.WithCancel(context.Background())
	return &streams{
		id: cfg.ServerID, inner: cfg.Listener, dial: cfg.Dial, ctx: ctx, cancel: cancel, conns: map[*streamConn]struct{}{},
	}
}

// serverAddr is a server ID as a net.Addr.
type serverAddr string

func (serverAddr) Network() string  { return "raft" }
func (a serverAddr) String() string { return string(a) }

// Addr implements [net.Listener] with this member's ID.
func (s *streams) Addr() net.Addr { return serverAddr(s.id) }

// Accept implements [net.Listener].
func (s *streams) Accept() (net.Conn, error) {
	c, err := s.inner.Accept()
	if err != nil {
		return nil, err
	}
	return s.track(c)
}

// Dial implements [raft.StreamLayer].
func (s *streams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	c, err := s.dial(ctx, string(address))
	if err != nil {
		return nil, err
	}
	return s.track(c)
}

func (s *streams) track(c net.Conn) (net.Conn, error) {
	sc := &streamConn{Conn: c, owner: s}
	s.mu.Lock()
	if !s.closed {
		s.conns[sc] = struct{}{}
		s.mu.Unlock()
		return sc, nil
	}
	s.mu.Unlock()
	_ = c.Close()
	return nil, net.ErrClosed
}

// Close implements [net.Listener]; it also closes every connection.
func (s *streams) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	conns := make([]*streamConn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	s.cancel()
	err := s.inner.Close()
	for _, c := range conns {
		_ = c.SetDeadline(time.Unix(1, 0)) // a TLS farewell must not wait for a silent peer
		_ = c.Close()
	}
	return err
}

type streamConn struct {
	net.Conn
	owner *streams
}

func (c *streamConn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.conns, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}
