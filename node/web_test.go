package node

import (
	"errors"
	"net"
	"testing"
	"time"
)

func TestBoundedListenerLetsOnlySoManyBeOpen(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &boundedListener{Listener: inner, slots: make(chan struct{}, 1)}
	accepted := make(chan net.Conn)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Error("two connections are open; want one")
	case <-time.After(50 * time.Millisecond):
	}
	for range 2 { // a second Close gives nothing back
		first.Close()
	}
	second := <-accepted
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	second.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close = %v; want net.ErrClosed", err)
	}
}
