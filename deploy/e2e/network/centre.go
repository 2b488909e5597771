package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"dengbei/node/config"
	"dengbei/node/launch"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

// Centre is one archive centre: its files, and its process if it runs.
type Centre struct {
	Spec
	File       string        // configuration
	Config     config.Config // as loaded from File
	Link       *Link         // nil unless Cuttable
	Operator   *rpc.Client   // with the operator's credential; remade by every start
	Registrant *Registrant   // a unit of this centre

	network *Network
	log     string

	mu       sync.Mutex // guards the rest, held for an instant
	process  *launch.Process
	serverID string
}

// newCentre writes a centre's configuration. Of its ports three are its own and two its link's.
func newCentre(n *Network, s Spec, ports []int) (*Centre, error) {
	c := &Centre{Spec: s, network: n, File: n.Path("config", s.Code+".yaml"), log: n.Path("logs", s.Code+".log")}
	linked := ""
	advertise := loopback(ports[0])
	if s.Cuttable {
		var err error
		if c.Link, err = newLink(loopback(ports[3]), loopback(ports[4]), loopback(ports[0])); err != nil {
			return nil, err
		}
		advertise, linked = loopback(ports[3]), fmt.Sprintf("proxy: %q\n", loopback(ports[4]))
	}
	text := fmt.Sprintf(`data_dir: %q
centre: %q
peer:
  listen: %q
  advertise: %q
gossip:
  listen: %q
web:
  listen: %q
longitude: %v
latitude: %v
failure_domain:
  site: "%s-archive"
  power: "%s-grid"
  array: "%s-array"
  administrator: "%s-office"
timing: lan
log_level: info
%s`, n.Path("centres", s.Code), s.Code, loopback(ports[0]), advertise, loopback(ports[1]), loopback(ports[2]),
		s.Longitude, s.Latitude, s.Code, s.Code, s.Code, s.Code, linked)
	err := os.WriteFile(c.File, []byte(text), 0o600)
	if err == nil {
		c.Config, err = config.Load(c.File)
	}
	if err != nil && c.Link != nil {
		err = errors.Join(err, c.Link.close())
	}
	return c, err
}

// enrol invites c at by and makes its data directory that of a member.
func (c *Centre) enrol(ctx context.Context, by *Centre, replace bool) error {
	args := []string{"network", "invite", c.Code, "--config", by.File, "--valid", "10m"}
	if c.Voter {
		args = append(args, "--voter")
	}
	if replace {
		args = append(args, "--replace")
	}
	var invited struct {
		Token string `json:"token"`
	}
	if err := c.network.CLI(ctx, &invited, args...); err != nil {
		return err
	}
	return c.network.CLI(ctx, nil, "node", "enrol", "--config", c.File, "--token", invited.Token)
}

// start runs the node until its ports listen, and opens a client to it.
func (c *Centre) start(ctx context.Context) error {
	p, err := c.network.launcher.Node(c.network.Programs.Dengbei, c.File, c.log,
		"GORACE=halt_on_error=1") // of a race build: a node with a race ends at once
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.process, c.serverID = p, ""
	c.mu.Unlock()
	if c.Operator != nil {
		c.Operator.Close()
	}
	c.Operator, err = c.dial(ctx, c.Config.Path("credentials"), "operator")
	return err
}

func (c *Centre) dial(ctx context.Context, credentials, as string) (*rpc.Client, error) {
	return rpc.Dial(ctx, rpc.Target{Address: c.Config.Peer.Listen, CredentialDir: credentials, Name: as})
}

// ready waits until the node knows a leader.
func (c *Centre) ready(ctx context.Context, limit time.Duration) error {
	return until(ctx, limit, c.Code+" knows a leader", func(ctx context.Context) error {
		if !c.Running() {
			return errors.New("its process has ended")
		}
		s, err := c.Status(ctx)
		if err == nil && !s.GetQuorum() {
			err = errors.New("it has no quorum")
		}
		return err
	})
}

func (c *Centre) close() error {
	if c.Operator != nil {
		c.Operator.Close()
	}
	if c.Registrant != nil {
		c.Registrant.close()
	}
	var err error
	if p := c.running(); p != nil {
		if p.Died() {
			err = fmt.Errorf("the node of %s ended by itself: %s", c.Code, launch.Tail(c.log, 1))
		}
		err = errors.Join(err, p.Kill())
	}
	if c.Link != nil {
		err = errors.Join(err, c.Link.close())
	}
	return err
}

func (c *Centre) running() *launch.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.process
}

// Running reports whether the centre's process runs.
func (c *Centre) Running() bool {
	p := c.running()
	return p != nil && p.Running()
}

// ServerID is the centre's identity since its last start; empty if nobody has asked for its status.
func (c *Centre) ServerID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.serverID
}

// Status asks the node how it is.
func (c *Centre) Status(ctx context.Context) (*nodepb.StatusReply, error) {
	s, err := c.Operator.Network.Status(ctx, &nodepb.StatusRequest{})
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", c.Code, err)
	}
	c.mu.Lock()
	c.serverID = s.GetServerId()
	c.mu.Unlock()
	return s, nil
}

// Kill ends the node with SIGKILL and returns when it is gone.
func (c *Centre) Kill(t testing.TB) {
	t.Helper()
	if err := c.running().Kill(); err != nil {
		t.Fatalf("kill %s: %v", c.Code, err)
	}
}

// Stop ends the node as an operator would. A node that does not end by itself fails the test.
func (c *Centre) Stop(t testing.TB) {
	t.Helper()
	if err := c.running().Stop(20 * time.Second); err != nil {
		t.Fatalf("stop %s: %v", c.Code, err)
	}
}

// Start runs a node that was killed or stopped and returns once it serves and knows a leader.
func (c *Centre) Start(t testing.TB) {
	t.Helper()
	c.Launch(t)
	c.AwaitQuorum(t)
}

// Launch is Start without a wait for a leader: for a node whose peers are away.
func (c *Centre) Launch(t testing.TB) {
	t.Helper()
	if err := c.start(t.Context()); err != nil {
		t.Fatalf("start %s: %v", c.Code, err)
	}
}

// AwaitQuorum waits until the node knows a leader.
func (c *Centre) AwaitQuorum(t testing.TB) {
	t.Helper()
	if err := c.ready(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
}

// Destroy kills the node and removes all it had.
func (c *Centre) Destroy(t testing.TB) {
	t.Helper()
	c.Kill(t)
	if err := os.RemoveAll(c.Config.DataDir); err != nil {
		t.Fatal(err)
	}
}

// AutoApprove puts a policy in force by which the centre accepts what passed inspection.
func (c *Centre) AutoApprove(t testing.TB) {
	t.Helper()
	if err := c.autoApprove(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (c *Centre) autoApprove(ctx context.Context) error {
	return c.network.CLI(ctx, nil, "policy", "auto-approve", "--config", c.File, "--name", "e2e", "--accept", "PASS,WARN", "--valid", "24h")
}

// Replace enrols the destroyed centre anew, through by, and starts it on an empty disk. Its auto-approval policy is gone
// with the rest.
func (c *Centre) Replace(t testing.TB, by *Centre) {
	t.Helper()
	if err := c.enrol(t.Context(), by, true); err != nil {
		t.Fatalf("enrol %s again: %v", c.Code, err)
	}
	c.Start(t)
}
