package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// MaxMetaBytes bounds what a member tells about itself.
const MaxMetaBytes = memberlist.MetaMaxSize

// Timing is how patient a member is.
type Timing struct {
	ProbeInterval  time.Duration // how often one other member is probed
	ProbeTimeout   time.Duration // how long the answer may take
	GossipInterval time.Duration // how often news is passed on
	PushPull       time.Duration // how often whole states are compared with one other
	TCP            time.Duration // deadline of one stream; bounds Close too
	Suspicion      int           // a silent member is dead after about this many probe intervals × log(members)
	ToTheDead      time.Duration // how long a dead member is still told news, and remembered
	Rejoin         time.Duration // how often members that are not alive are tried again
	Reclaim        time.Duration // after how long dead a member may return from another address
}

// WAN is the default: a dead member is noticed within a minute, and a line that stalls for seconds is none.
func WAN() Timing {
	return Timing{
		ProbeInterval: 5 * time.Second, ProbeTimeout: 3 * time.Second, GossipInterval: 500 * time.Millisecond,
		PushPull: time.Minute, TCP: 5 * time.Second, Suspicion: 6, ToTheDead: time.Minute, Rejoin: 30 * time.Second,
		Reclaim: 30 * time.Second,
	}
}

// Loopback is for members on one machine.
func Loopback() Timing {
	return Timing{
		ProbeInterval: 200 * time.Millisecond, ProbeTimeout: 100 * time.Millisecond, GossipInterval: 50 * time.Millisecond,
		PushPull: 2 * time.Second, TCP: time.Second, Suspicion: 3, ToTheDead: time.Second, Rejoin: 300 * time.Millisecond,
		Reclaim: time.Second,
	}
}

// Peer is another member.
type Peer struct {
	ServerID string
	Address  string // host:port of its gossip port
	Meta     []byte // what it tells about itself, at most [MaxMetaBytes]
}

// Config is what a member needs.
type Config struct {
	Name      string // this node's server ID
	Bind      string // IP:port for UDP and TCP; port 0 takes a free one
	Advertise string // host:port others reach it at; empty means Bind
	Key       []byte // 16, 24 or 32 bytes: the ring's first key
	Label     string // the network's name

	// Known returns the enrolled members, this node or not, with the address (host:port, names are resolved anew each time) of
	// their gossip port. It is called once per round of joining. A member without ServerID is a seed: it is tried while nobody is
	// alive.
	Known func() []Peer

	// Meta returns what this node tells about itself, at most [MaxMetaBytes]; nil means nothing. More is not sent. See
	// [Gossip.Refresh].
	Meta func() []byte

	Timing Timing       // defaults to [WAN]
	Logger *slog.Logger // nil logs nothing

	transport func(*memberlist.NetTransport) memberlist.Transport // tests cut the network here
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Name == "" || strings.Contains(c.Name, "/"):
		return c, fmt.Errorf("%w: name %q", ErrConfig, c.Name)
	case len(c.Key) != 16 && len(c.Key) != 24 && len(c.Key) != 32:
		return c, fmt.Errorf("%w: key of %d bytes; want 16, 24 or 32", ErrConfig, len(c.Key))
	case c.Label == "" || len(c.Label) > memberlist.LabelMaxSize:
		return c, fmt.Errorf("%w: label of %d bytes; want 1 to %d", ErrConfig, len(c.Label), memberlist.LabelMaxSize)
	}
	if c.Known == nil {
		c.Known = func() []Peer { return nil }
	}
	if c.Meta == nil {
		c.Meta = func() []byte { return nil }
	}
	if c.Timing == (Timing{}) {
		c.Timing = WAN()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Gossip is a running member. It is safe for concurrent use.
type Gossip struct {
	cfg     Config
	list    *memberlist.Memberlist
	ring    *memberlist.Keyring
	events  *events
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	closing sync.Once
	err     error
}

// Start listens and begins to join the known members; it does not wait for any.
func Start(cfg Config) (*Gossip, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Gossip{cfg: cfg, events: newEvents()}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if err := g.open(); err != nil {
		g.cancel()
		return nil, fmt.Errorf("start gossip on %s: %w", cfg.Bind, err)
	}
	g.wg.Go(g.rejoin)
	return g, nil
}

func (g *Gossip) open() error {
	mc := memberlist.DefaultWANConfig()
	t := g.cfg.Timing
	mc.Name, mc.Label = g.cfg.Name, g.cfg.Label
	mc.ProbeInterval, mc.ProbeTimeout, mc.GossipInterval = t.ProbeInterval, t.ProbeTimeout, t.GossipInterval
	mc.PushPullInterval, mc.TCPTimeout, mc.SuspicionMult = t.PushPull, t.TCP, t.Suspicion
	mc.GossipToTheDeadTime, mc.DeadNodeReclaimTime = t.ToTheDead, t.Reclaim
	mc.RequireNodeNames = true
	mc.LogOutput, mc.Logger = nil, newLogger(g.cfg.Logger)
	mc.Delegate, mc.Events = delegate{g.cfg}, g.events

	bind, port, err := splitPort(g.cfg.Bind)
	if err != nil {
		return err
	}
	mc.BindAddr, mc.BindPort = bind, port
	if g.cfg.Advertise != "" {
		addrs, err := resolve(g.ctx, g.cfg.Advertise, t.TCP)
		if err != nil {
			return fmt.Errorf("advertise %s: %w", g.cfg.Advertise, err)
		}
		if mc.AdvertiseAddr, mc.AdvertisePort, err = splitPort(addrs[0]); err != nil {
			return err
		}
	} else {
		mc.AdvertisePort = port
	}
	if g.ring, err = memberlist.NewKeyring(nil, g.cfg.Key); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	mc.Keyring = g.ring

	nt, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{bind}, BindPort: port, Logger: mc.Logger,
	})
	if err != nil {
		return err
	}
	if mc.BindPort == 0 {
		mc.BindPort = nt.GetAutoBindPort()
		if mc.AdvertisePort == 0 {
			mc.AdvertisePort = mc.BindPort
		}
	}
	mc.Transport = nt
	if g.cfg.transport != nil {
		mc.Transport = g.cfg.transport(nt)
	}
	if g.list, err = memberlist.Create(mc); err != nil {
		return errors.Join(err, mc.Transport.Shutdown())
	}
	return nil
}

func splitPort(address string) (string, int, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%w: port of %s", ErrConfig, address)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, int(port), nil
}

// resolve returns address with its host as IPs, at least one.
func resolve(ctx context.Context, address string, limit time.Duration) ([]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, ip := range ips {
		out = append(out, net.JoinHostPort(ip.Unmap().String(), port))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return out, nil
}

// Address returns the host:port that others are told.
func (g *Gossip) Address() string { return g.list.LocalNode().Address() }

// Alive returns the other members that are alive as far as this one knows, by server ID.
func (g *Gossip) Alive() []Peer {
	out := g.events.peers(g.cfg.Name)
	slices.SortFunc(out, func(a, b Peer) int { return strings.Compare(a.ServerID, b.ServerID) })
	return out
}

// Changes gives a value after Alive changed; changes that nobody took in time are merged. There is one channel, for one reader; it is
// never closed.
func (g *Gossip) Changes() <-chan struct{} { return g.events.changed }

// Refresh tells the others this node's Meta anew.
func (g *Gossip) Refresh() error {
	if err := g.list.UpdateNode(g.cfg.Timing.TCP); err != nil {
		return fmt.Errorf("refresh gossip meta: %w", err)
	}
	return nil
}

// AddKey also accepts messages under key: the first step of a rotation, on every member.
func (g *Gossip) AddKey(key []byte) error { return g.ring.AddKey(key) }

// UseKey encrypts under key, which AddKey has added everywhere: the second step.
func (g *Gossip) UseKey(key []byte) error { return g.ring.UseKey(key) }

// RemoveKey no longer accepts key: the last step.
func (g *Gossip) RemoveKey(key []byte) error { return g.ring.RemoveKey(key) }

// Close says farewell, so that the others need not find out, and stops. Both are bounded by the timing's TCP. Later calls return the
// first's result; an error matching [ErrLeave] leaves nothing running.
func (g *Gossip) Close() error {
	g.closing.Do(func() {
		g.cancel()
		g.wg.Wait()
		if err := g.list.Leave(g.cfg.Timing.TCP); err != nil {
			g.err = fmt.Errorf("close gossip: %w: %w", ErrLeave, err)
		}
		g.err = errors.Join(g.err, g.list.Shutdown())
	})
	return g.err
}

// Abort stops without farewell, as a crash would, but leaves nothing running.
func (g *Gossip) Abort() error {
	g.closing.Do(func() {
		g.cancel()
		g.wg.Wait()
		g.err = g.list.Shutdown()
	})
	return g.err
}
