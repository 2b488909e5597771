package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cable is a member's network, which can be cut: nothing goes out, nothing comes in, over real sockets.
type cable struct {
	*memberlist.NetTransport
	cut     atomic.Bool
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	wg      sync.WaitGroup
}

func plug(nt *memberlist.NetTransport) *cable {
	c := &cable{NetTransport: nt, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{})}
	c.wg.Go(func() {
		for {
			select {
			case p := <-nt.PacketCh():
				if c.cut.Load() {
					continue
				}
				select {
				case c.packets <- p:
				case <-c.done:
					return
				}
			case s := <-nt.StreamCh():
				if c.cut.Load() {
					_ = s.Close()
					continue
				}
				select {
				case c.streams <- s:
				case <-c.done:
					return
				}
			case <-c.done:
				return
			}
		}
	})
	return c
}

var errCut = errors.New("cable is cut")

func (c *cable) PacketCh() <-chan *memberlist.Packet { return c.packets }
func (c *cable) StreamCh() <-chan net.Conn           { return c.streams }

func (c *cable) WriteTo(b []byte, addr string) (time.Time, error) {
	return c.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (c *cable) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if c.cut.Load() {
		return time.Now(), nil // UDP does not tell
	}
	return c.NetTransport.WriteToAddress(b, a)
}

func (c *cable) DialTimeout(addr string, d time.Duration) (net.Conn, error) {
	return c.DialAddressTimeout(memberlist.Address{Addr: addr}, d)
}

func (c *cable) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	if c.cut.Load() {
		return nil, errCut
	}
	return c.NetTransport.DialAddressTimeout(a, d)
}

func (c *cable) Shutdown() error {
	err := c.NetTransport.Shutdown() // it waits until what it has read was taken
	close(c.done)
	c.wg.Wait()
	return err
}

// table is what every member knows of the others: names to addresses.
type table struct {
	mu    sync.Mutex // guards known
	known map[string]string
}

func (tb *table) list() []Peer {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	var out []Peer
	for id, a := range tb.known {
		out = append(out, Peer{ServerID: id, Address: a})
	}
	return out
}

type member struct {
	*Gossip
	cable *cable
}

func (tb *table) config(name string) Config {
	t := Loopback()
	t.ProbeInterval, t.ProbeTimeout, t.GossipInterval = 60*time.Millisecond, 30*time.Millisecond, 20*time.Millisecond
	t.ToTheDead, t.Rejoin, t.Suspicion, t.TCP = 100*time.Millisecond, 100*time.Millisecond, 2, 500*time.Millisecond
	t.Reclaim = 100 * time.Millisecond
	return Config{
		Name: name, Bind: "127.0.0.1:0", Key: bytes.Repeat([]byte{7}, 32), Label: "zj", Known: tb.list, Timing: t,
		Meta: func() []byte { return []byte("meta of " + name) },
	}
}

func (tb *table) start(t *testing.T, cfg Config) *member {
	t.Helper()
	m := &member{}
	cfg.transport = func(nt *memberlist.NetTransport) memberlist.Transport {
		m.cable = plug(nt)
		return m.cable
	}
	g, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Gossip = g
	tb.mu.Lock()
	tb.known[cfg.Name] = strings.Replace(g.Address(), "127.0.0.1", "localhost", 1) // names are resolved
	tb.mu.Unlock()
	t.Cleanup(func() {
		if err := g.Abort(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *member) names() string {
	var out []string
	for _, p := range m.Alive() {
		out = append(out, p.ServerID)
	}
	return strings.Join(out, " ")
}

func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestThreeFindEachOtherAndOneIsCutOff(t *testing.T) {
	tb := &table{known: map[string]string{}}
	a, b, c := tb.start(t, tb.config("330000-1")), tb.start(t, tb.config("330100-2")), tb.start(t, tb.config("330102-3"))
	whole := func() bool {
		return a.names() == "330100-2 330102-3" && b.names() == "330000-1 330102-3" && c.names() == "330000-1 330100-2"
	}
	until(t, "all see all", whole)
	for _, p := range a.Alive() {
		if got, want := string(p.Meta), "meta of "+p.ServerID; got != want {
			t.Errorf("Meta of %s = %q; want %q", p.ServerID, got, want)
		}
	}
	select {
	case <-a.Changes():
	case <-time.After(5 * time.Second):
		t.Error("no change was told")
	}

	c.cable.cut.Store(true)
	until(t, "both sides notice", func() bool { return a.names() == "330100-2" && b.names() == "330000-1" && c.names() == "" })
	// Long enough to be forgotten: without the rejoin loop they would never meet again.
	forgotten := time.Now().Add(3 * a.cfg.Timing.ToTheDead)
	until(t, "the dead are forgotten", func() bool { return time.Now().After(forgotten) })
	c.cable.cut.Store(false)
	until(t, "the network is whole again", whole)

	if err := c.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	tb.mu.Lock()
	delete(tb.known, "330102-3")
	tb.mu.Unlock()
	until(t, "the farewell is heard", func() bool { return a.names() == "330100-2" && b.names() == "330000-1" })
}

func TestWrongKeyOrNetworkIsNotHeard(t *testing.T) {
	tb := &table{known: map[string]string{}}
	a, b := tb.start(t, tb.config("330000-1")), tb.start(t, tb.config("330100-2"))
	badKey := tb.config("330102-3")
	badKey.Key = bytes.Repeat([]byte{8}, 32)
	x := tb.start(t, badKey)
	badLabel := tb.config("330103-4")
	badLabel.Label = "js"
	y := tb.start(t, badLabel)
	until(t, "the two see each other", func() bool { return a.names() == "330100-2" && b.names() == "330000-1" })
	for range 3 { // whatever the strangers do by themselves, they also try aloud
		for _, m := range []*member{x, y} {
			if n, err := m.list.Join([]string{"330000-1/" + a.Address()}); err == nil || n != 0 {
				t.Errorf("Join of %s = %d, %v; want a refusal", m.cfg.Name, n, err)
			}
			if n, err := a.list.Join([]string{m.cfg.Name + "/" + m.Address()}); err == nil || n != 0 {
				t.Errorf("Join to %s = %d, %v; want a refusal", m.cfg.Name, n, err)
			}
		}
	}
	if a.names() != "330100-2" || x.names() != "" || y.names() != "" {
		t.Errorf("a sees %q, strangers see %q, %q; want 330100-2 and nobody", a.names(), x.names(), y.names())
	}
}

func TestKeyRotation(t *testing.T) {
	tb := &table{known: map[string]string{}}
	a, b := tb.start(t, tb.config("330000-1")), tb.start(t, tb.config("330100-2"))
	next := bytes.Repeat([]byte{9}, 32)
	for _, step := range []func(*member) error{
		func(m *member) error { return m.AddKey(next) },
		func(m *member) error { return m.UseKey(next) },
		func(m *member) error { return m.RemoveKey(bytes.Repeat([]byte{7}, 32)) },
	} {
		for _, m := range []*member{a, b} {
			if err := step(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	fresh := tb.config("330102-3")
	fresh.Key = next
	c := tb.start(t, fresh)
	until(t, "the newcomer with the new key is seen", func() bool {
		return c.names() == "330000-1 330100-2" && strings.HasSuffix(a.names(), "330102-3")
	})
}

func TestReturnFromAnotherAddress(t *testing.T) {
	tb := &table{known: map[string]string{}}
	a, b := tb.start(t, tb.config("330000-1")), tb.start(t, tb.config("330100-2"))
	until(t, "a sees b", func() bool { return a.names() == "330100-2" })
	if err := b.Abort(); err != nil {
		t.Fatal(err)
	}
	until(t, "a misses b", func() bool { return a.names() == "" })
	again := tb.start(t, tb.config("330100-2"))
	until(t, "a sees b at its new address", func() bool {
		alive := a.Alive()
		return len(alive) == 1 && alive[0].Address == again.Address()
	})
}

func TestRefreshTellsNewMeta(t *testing.T) {
	tb := &table{known: map[string]string{}}
	var version atomic.Int64
	cfg := tb.config("330000-1")
	cfg.Meta = func() []byte {
		if version.Load() == 2 {
			return make([]byte, MaxMetaBytes+1) // is not sent, and does not bring the node down
		}
		return fmt.Appendf(nil, "v%d", version.Load())
	}
	a, b := tb.start(t, cfg), tb.start(t, tb.config("330100-2"))
	for v, want := range []string{"v0", "v1", ""} {
		version.Store(int64(v))
		if err := a.Refresh(); err != nil {
			t.Fatal(err)
		}
		until(t, "b reads "+want, func() bool {
			alive := b.Alive()
			return len(alive) == 1 && string(alive[0].Meta) == want
		})
	}
}

func TestStartRefuses(t *testing.T) {
	tb := &table{known: map[string]string{}}
	for name, change := range map[string]func(*Config){
		"no name":       func(c *Config) { c.Name = "" },
		"a slash":       func(c *Config) { c.Name = "a/b" },
		"short key":     func(c *Config) { c.Key = c.Key[:8] },
		"no label":      func(c *Config) { c.Label = "" },
		"no port":       func(c *Config) { c.Bind = "127.0.0.1" },
		"huge port":     func(c *Config) { c.Bind = "127.0.0.1:70000" },
		"bad advertise": func(c *Config) { c.Advertise = "127.0.0.1:x" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tb.config("330000-1")
			change(&cfg)
			if g, err := Start(cfg); !errors.Is(err, ErrConfig) {
				t.Errorf("Start = %v, %v; want ErrConfig", g, err)
			}
		})
	}
}
