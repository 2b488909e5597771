package node

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"dengbei/node/config"
)

// The web port, which anybody may connect to, accepts so many connections and no more.
func TestWebPortBoundsConnections(t *testing.T) {
	n := &Node{cfg: config.Config{Web: config.Endpoint{Listen: "127.0.0.1:0"}}, log: slog.New(slog.DiscardHandler)}
	_, l, err := n.webServer()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, maxWebConns+1)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	var open []net.Conn
	for range maxWebConns + 1 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if len(open) < maxWebConns {
			c := <-accepted
			defer c.Close()
			open = append(open, c)
		}
	}
	select {
	case <-accepted:
		t.Fatalf("more than %d connections are open", maxWebConns)
	case <-time.After(50 * time.Millisecond):
	}
	open[0].Close()
	if c, ok := <-accepted; ok {
		c.Close()
	} else {
		t.Error("the listener ended")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-accepted; ok {
		t.Error("a connection came after the end")
	}
}
