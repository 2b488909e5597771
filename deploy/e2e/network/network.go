package network

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/node/launch"
	"dengbei/node/nodepb"
)

const (
	name   = "e2e"
	origin = "e2e.example/registry"
	quorum = "2" // of three voters
)

// Spec says what a centre is.
type Spec struct {
	Code      string
	Name      string
	Voter     bool
	Longitude float64
	Latitude  float64
	Holders   []string // codes of the centres that keep its backups
	Cuttable  bool     // behind a [Link]
}

// Five is a province, two cities and two counties: three voters, two others. The first one founds the network.
func Five() []Spec {
	return []Spec{
		{Code: "330000", Name: "浙江省", Voter: true, Longitude: 120.153, Latitude: 30.267, Holders: []string{"330100", "330200"}},
		{Code: "330100", Name: "杭州市", Voter: true, Longitude: 120.209, Latitude: 30.246, Holders: []string{"330000", "330200"}},
		{Code: "330200", Name: "宁波市", Voter: true, Longitude: 121.622, Latitude: 29.860, Holders: []string{"330000", "330100"}},
		{Code: "330102", Name: "杭州市上城区", Longitude: 120.170, Latitude: 30.250, Holders: []string{"330000", "330200"}},
		{Code: "330282", Name: "慈溪市", Longitude: 121.266, Latitude: 30.170, Holders: []string{"330000", "330100"}},
	}
}

// Network is a running network. Its centres are driven one by one; different ones concurrently.
type Network struct {
	Programs Programs
	Centres  []*Centre
	dir      string
	launcher *launch.Launcher
}

// Start founds a network of the given centres, starts a process for each, and returns when all of them serve, know a
// leader and see each other in their roles, the agreements are registered, every centre has an auto-approval policy in
// force, and one registrant. Everything is stopped when the test ends; if it failed, the ends of the logs are printed and
// the logs are kept.
func Start(t testing.TB, p Programs, specs []Spec) *Network {
	t.Helper()
	dir, err := os.MkdirTemp("", "dengbei-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	n := &Network{Programs: p, dir: dir, launcher: launch.New()}
	t.Cleanup(func() { n.close(t) })
	if err := n.found(t.Context(), specs); err != nil {
		t.Fatalf("start the network: %v", err)
	}
	return n
}

// Centre returns the centre with a code; it panics if there is none.
func (n *Network) Centre(code string) *Centre {
	for _, c := range n.Centres {
		if c.Code == code {
			return c
		}
	}
	panic("network: no centre " + code) // codes are constants of tests
}

// Path returns a path in the network's directory, outside every centre's data.
func (n *Network) Path(elem ...string) string {
	return filepath.Join(append([]string{n.dir}, elem...)...)
}

func (n *Network) found(ctx context.Context, specs []Spec) error {
	const portsEach = 5
	ports, err := launch.FreePorts(portsEach * len(specs))
	if err != nil {
		return err
	}
	for _, dir := range []string{"config", "centres", "registrants", "logs"} {
		if err := os.Mkdir(n.Path(dir), 0o700); err != nil {
			return err
		}
	}
	for i, s := range specs {
		c, err := newCentre(n, s, ports[portsEach*i:portsEach*(i+1)])
		if err != nil {
			return err
		}
		n.Centres = append(n.Centres, c)
	}
	first := n.Centres[0]
	if err := n.CLI(ctx, nil, "network", "init", "--config", first.File, "--name", name, "--origin", origin, "--quorum", quorum); err != nil {
		return err
	}
	if err := first.start(ctx); err != nil {
		return err
	}
	if err := first.ready(ctx, time.Minute); err != nil {
		return err
	}
	for _, c := range n.Centres[1:] {
		if err := c.enrol(ctx, first, false); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, c := range n.Centres[1:] {
		g.Go(func() error { return c.start(gctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := n.ready(ctx); err != nil {
		return err
	}
	return n.furnish(ctx)
}

// ready waits until every centre sees all members in their roles.
func (n *Network) ready(ctx context.Context) error {
	voters := 0
	for _, c := range n.Centres {
		if c.Voter {
			voters++
		}
		err := until(ctx, time.Minute, c.Code+" knows the network", func(ctx context.Context) error {
			r, err := c.Operator.Network.Members(ctx, &nodepb.MembersRequest{})
			if err == nil && (len(r.GetMembers()) != len(n.Centres) || r.GetLeader() == "") {
				err = fmt.Errorf("it sees %d members, leader %q", len(r.GetMembers()), r.GetLeader())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return until(ctx, time.Minute, "every voter votes", func(ctx context.Context) error {
		r, err := n.Centres[0].Operator.Network.Members(ctx, &nodepb.MembersRequest{Level: nodepb.ReadLevel_LEADER})
		voting := 0
		for _, m := range r.GetMembers() {
			if role := m.GetRaftRole(); role == "leader" || role == "voter" {
				voting++
			}
		}
		if err == nil && voting != voters {
			err = fmt.Errorf("%d of %d vote", voting, voters)
		}
		return err
	})
}

// furnish registers agreements and units, and puts the policies in force.
func (n *Network) furnish(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(3)
	for _, c := range n.Centres {
		for _, holder := range c.Holders {
			g.Go(func() error {
				return n.CLI(gctx, nil, "agreement", "put", "--config", c.File, "--id", "e2e-"+c.Code+"-"+holder, "--owner", c.Code, "--holder", holder)
			})
		}
		g.Go(func() error { return c.autoApprove(gctx) })
		g.Go(func() (err error) {
			c.Registrant, err = addRegistrant(gctx, n, c)
			return err
		})
	}
	return g.Wait()
}

// close ends every process and removes what is not to be kept.
func (n *Network) close(t testing.TB) {
	var wg sync.WaitGroup
	for _, c := range n.Centres {
		wg.Go(func() {
			if err := c.close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n.launcher.Close()
	if t.Failed() {
		for _, c := range n.Centres {
			t.Logf("the log of %s ends with:\n%s", c.Code, launch.Tail(c.log, 15))
		}
	}
	kept := "nothing"
	if t.Failed() {
		kept = "logs"
		if os.Getenv(EnvKeep) == "1" {
			t.Logf("the network's directory is kept: %s", n.dir)
			return
		}
	}
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if e.Name() != kept {
			if err := os.RemoveAll(n.Path(e.Name())); err != nil {
				t.Error(err)
			}
		}
	}
	if t.Failed() {
		t.Logf("the logs are kept: %s", n.Path("logs"))
	} else if err := os.Remove(n.dir); err != nil {
		t.Error(err)
	}
}

// Leader returns the centre that leads by its own word and that of a majority, waiting for one if need be.
func (n *Network) Leader(t testing.TB) *Centre {
	t.Helper()
	var leader *Centre
	Until(t, time.Minute, "the network has a leader", func(ctx context.Context) error {
		votes := map[string]int{}
		for _, c := range n.Centres {
			if !c.Running() {
				continue
			}
			s, err := c.Status(ctx)
			if err == nil && s.GetQuorum() {
				votes[s.GetLeader()]++
			}
		}
		for _, c := range n.Centres {
			if c.Running() && votes[c.ServerID()] > len(n.Centres)/2 {
				leader = c
				return nil
			}
		}
		return fmt.Errorf("leaders by name: %v", votes)
	})
	return leader
}

// StillLeads returns c if it leads by its own word, else whoever leads now. It is quicker than [Network.Leader].
func (n *Network) StillLeads(t testing.TB, c *Centre) *Centre {
	t.Helper()
	if s, err := c.Status(t.Context()); err == nil && s.GetQuorum() && s.GetLeader() == s.GetServerId() {
		return c
	}
	return n.Leader(t)
}

// KillAll kills every node at the same moment.
func (n *Network) KillAll(t testing.TB) {
	t.Helper()
	var g errgroup.Group
	for _, c := range n.Centres {
		g.Go(func() error { return c.running().Kill() })
	}
	if err := g.Wait(); err != nil {
		t.Fatalf("kill all: %v", err)
	}
}

// StartAll runs every node again, all at once, and returns when each of them knows a leader.
func (n *Network) StartAll(t testing.TB) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	for _, c := range n.Centres {
		g.Go(func() error {
			if err := c.start(ctx); err != nil {
				return err
			}
			return c.ready(ctx, time.Minute)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatalf("start all: %v", err)
	}
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
