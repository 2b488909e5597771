package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Link is the cable of one centre: its peers reach it through a forwarder, and it reaches them through a CONNECT proxy.
// Cut, both fall silent, connections under way included: nothing is refused and nothing closed, as with a real cable.
// Gossip's datagrams, which are hints only, do not pass here. A Link is safe for concurrent use.
type Link struct {
	target  string // the centre's own peer port
	forward net.Listener
	proxy   net.Listener

	mu    sync.Mutex // guards the rest, held for an instant
	open  chan struct{}
	cut   bool
	conns map[net.Conn]bool
	done  bool

	running sync.WaitGroup
}

// newLink listens at two addresses and forwards to target. The caller closes it.
func newLink(forward, proxy, target string) (*Link, error) {
	l := &Link{target: target, open: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(l.open)
	var err error
	if l.forward, err = net.Listen("tcp", forward); err != nil {
		return nil, fmt.Errorf("link: %w", err)
	}
	if l.proxy, err = net.Listen("tcp", proxy); err != nil {
		return nil, errors.Join(fmt.Errorf("link: %w", err), l.forward.Close())
	}
	l.running.Go(func() { l.accept(l.forward, l.toCentre) })
	l.running.Go(func() { l.accept(l.proxy, l.fromCentre) })
	return l, nil
}

// Cut silences the link.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cut {
		l.cut, l.open = true, make(chan struct{})
	}
}

// Mend lets everything flow again, also what waits in connections that both ends still have.
func (l *Link) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		l.cut = false
		close(l.open)
	}
}

func (l *Link) close() error {
	l.Mend()
	l.mu.Lock()
	l.done = true
	for c := range l.conns {
		c.Close()
	}
	l.mu.Unlock()
	err := errors.Join(l.forward.Close(), l.proxy.Close())
	l.running.Wait()
	return err
}

// wait returns when the link is whole.
func (l *Link) wait() {
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	<-open
}

// own notes a connection to be closed at the end; false after the end.
func (l *Link) own(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		c.Close()
		return false
	}
	l.conns[c] = true
	return true
}

func (l *Link) drop(c net.Conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	c.Close()
}

func (l *Link) accept(from net.Listener, serve func(net.Conn)) {
	for {
		c, err := from.Accept()
		if err != nil {
			return // closed
		}
		if !l.own(c) {
			return
		}
		l.running.Go(func() {
			defer l.drop(c)
			l.wait()
			serve(c)
		})
	}
}

func (l *Link) dial(address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err == nil && !l.own(c) {
		err = net.ErrClosed
	}
	return c, err
}

func (l *Link) toCentre(c net.Conn) {
	to, err := l.dial(l.target)
	if err != nil {
		return // the peer sees its connection end
	}
	defer l.drop(to)
	l.join(c, c, to)
}

func (l *Link) fromCentre(c net.Conn) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	to, err := l.dial(req.Host)
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer l.drop(to)
	l.wait()
	if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	l.join(c, r, to)
}

// join copies both ways until either side ends. read is what a says.
func (l *Link) join(a net.Conn, read io.Reader, b net.Conn) {
	done := make(chan struct{}, 2)
	l.running.Go(func() { l.pump(b, read); done <- struct{}{} })
	l.running.Go(func() { l.pump(a, b); done <- struct{}{} })
	<-done
	l.drop(a)
	l.drop(b)
	<-done
}

// pump copies while the link is whole; what was read when it was cut is delivered when it is mended.
func (l *Link) pump(to io.Writer, from io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		l.wait()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
