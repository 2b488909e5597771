package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/node/config"
	"dengbei/node/launch"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

// The network of the demonstration.
const (
	demoNetwork = "zhejiang-demo"
	demoOrigin  = "zhejiang-demo.example/registry"
	demoQuorum  = "2" // of three voters
	founderCode = "330000"
	lostCentre  = "330102"
)

// demoCentre is one archive centre of the demonstration.
type demoCentre struct {
	code    string
	level   string
	name    string
	voter   bool
	place   [2]float64 // longitude, latitude
	holders []string   // who keeps its backups

	config   config.Config
	file     string // configuration
	proc     *launch.Process
	operator *rpc.Client
	officer  *rpc.Client // with the registrar's credential
}

// demoCentres are a province, two cities and two counties. Every one's backups go to two other places, never to the same city alone.
func demoCentres() []*demoCentre {
	return []*demoCentre{
		{code: founderCode, level: "province", name: "浙江省", voter: true, place: [2]float64{120.153, 30.267}, holders: []string{"330200", "330282"}},
		{code: "330100", level: "city", name: "杭州市", voter: true, place: [2]float64{120.209, 30.246}, holders: []string{founderCode, "330200"}},
		{code: "330200", level: "city", name: "宁波市", voter: true, place: [2]float64{121.622, 29.860}, holders: []string{founderCode, "330100"}},
		{code: lostCentre, level: "county", name: "杭州市上城区", place: [2]float64{120.170, 30.250}, holders: []string{founderCode, "330200"}},
		{code: "330282", level: "county", name: "慈溪市", place: [2]float64{121.266, 30.170}, holders: []string{founderCode, "330100"}},
	}
}

func (d *demo) centre(code string) *demoCentre {
	for _, c := range d.centres {
		if c.code == code {
			return c
		}
	}
	panic("demo: no centre " + code) // the codes are constants of this program
}

// found makes five configurations, the network and the members, and starts all five.
func (d *demo) found(ctx context.Context) error {
	d.centres = demoCentres()
	ports, err := launch.FreePorts(3 * len(d.centres))
	if err != nil {
		return err
	}
	for i, c := range d.centres {
		if err := d.configure(c, ports[3*i:3*i+3]); err != nil {
			return err
		}
	}
	first := d.centre(founderCode)
	var founded struct {
		Fingerprint string `json:"ca_fingerprint"`
	}
	if err := d.cli(ctx, &founded, "network", "init", "--config", first.file, "--name", demoNetwork, "--origin", demoOrigin, "--quorum", demoQuorum); err != nil {
		return err
	}
	d.say("network %s founded at %s %s; CA %.16s…", demoNetwork, first.code, first.name, founded.Fingerprint)
	if err := d.start(ctx, first); err != nil {
		return err
	}
	for _, c := range d.centres[1:] {
		if err := d.enrol(ctx, first, c, false); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, c := range d.centres[1:] {
		g.Go(func() error { return d.start(gctx, c) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := d.everybodyThere(ctx); err != nil {
		return err
	}
	d.say("five centres run as five processes:")
	for _, c := range d.centres {
		role := "non-voter"
		if c.voter {
			role = "voter"
		}
		d.more("%s  %-8s  %-9s  pid %-7d  peer %s  %s", c.code, c.level, role, c.proc.PID(), c.config.Peer.Listen, c.name)
	}
	return nil
}

// configure writes a centre's configuration file.
func (d *demo) configure(c *demoCentre, ports []int) error {
	c.file = filepath.Join(d.dir, "config", c.code+".yaml")
	if err := os.MkdirAll(filepath.Dir(c.file), 0o700); err != nil {
		return err
	}
	data := filepath.Join(d.dir, "centres", c.code)
	text := fmt.Sprintf(`data_dir: %q
centre: %q
peer:
  listen: "127.0.0.1:%d"
gossip:
  listen: "127.0.0.1:%d"
web:
  listen: "127.0.0.1:%d"
longitude: %v
latitude: %v
failure_domain:
  site: "%s-archive"
  power: "%s-grid"
  array: "%s-array"
  administrator: "%s-office"
timing: lan
log_level: info
`, data, c.code, ports[0], ports[1], ports[2], c.place[0], c.place[1], c.code, c.code, c.code, c.code)
	if err := os.WriteFile(c.file, []byte(text), 0o600); err != nil {
		return err
	}
	var err error
	c.config, err = config.Load(c.file)
	return err
}

// enrol invites c at by and enrols it into its data directory.
func (d *demo) enrol(ctx context.Context, by, c *demoCentre, replace bool) error {
	args := []string{"network", "invite", c.code, "--config", by.file, "--valid", "10m"}
	if c.voter {
		args = append(args, "--voter")
	}
	if replace {
		args = append(args, "--replace")
	}
	var invited struct {
		Token   string `json:"token"`
		Revoked string `json:"revoked_server_id"`
	}
	if err := d.cli(ctx, &invited, args...); err != nil {
		return err
	}
	var enrolled struct {
		ServerID string `json:"server_id"`
	}
	if err := d.cli(ctx, &enrolled, "node", "enrol", "--config", c.file, "--token", invited.Token); err != nil {
		return err
	}
	if replace {
		d.say("%s was invited again: identity %s is revoked, the new one is %s", c.code, invited.Revoked, enrolled.ServerID)
	}
	return nil
}

// start runs a centre's node and waits until it serves and knows a leader.
func (d *demo) start(ctx context.Context, c *demoCentre) error {
	logFile := filepath.Join(d.dir, c.code+".log")
	p, err := d.launcher.Node(d.exe, c.file, logFile)
	if err != nil {
		return err
	}
	c.proc = p
	if c.operator, err = rpc.Dial(ctx, targetOf(c.config, asOperator)); err != nil {
		return err
	}
	if c.officer, err = rpc.Dial(ctx, targetOf(c.config, asRegistrar)); err != nil {
		return err
	}
	return until(ctx, time.Minute, c.code+" knows a leader", func(ctx context.Context) (bool, error) {
		if !p.Running() {
			return false, fmt.Errorf("node of %s ended; its log ends with: %s", c.code, launch.Tail(logFile, 3))
		}
		s, err := c.operator.Network.Status(ctx, &nodepb.StatusRequest{})
		return err == nil && s.GetQuorum(), err
	})
}

// everybodyThere waits until every node sees all members in their roles.
func (d *demo) everybodyThere(ctx context.Context) error {
	for _, c := range d.centres {
		err := until(ctx, time.Minute, c.code+" sees five members", func(ctx context.Context) (bool, error) {
			r, err := c.operator.Network.Members(ctx, &nodepb.MembersRequest{})
			return err == nil && len(r.GetMembers()) == len(d.centres), err
		})
		if err != nil {
			return err
		}
	}
	return until(ctx, time.Minute, "three voters vote", func(ctx context.Context) (bool, error) {
		r, err := d.centre(founderCode).operator.Network.Members(ctx, &nodepb.MembersRequest{Level: nodepb.ReadLevel_LEADER})
		voters := 0
		for _, m := range r.GetMembers() {
			if role := m.GetRaftRole(); role == "leader" || role == "voter" {
				voters++
			}
		}
		return voters == 3, err
	})
}

// agree registers who holds for whom, and the units that will hand in.
func (d *demo) agree(ctx context.Context) error {
	for _, owner := range d.centres {
		for _, holder := range owner.holders {
			err := d.cli(ctx, nil, "agreement", "put", "--config", owner.file, "--id", "demo-"+owner.code+"-"+holder, "--owner", owner.code, "--holder", holder)
			if err != nil {
				return err
			}
		}
	}
	d.say("agreements (登记备份协议): every centre's backups are held by two others")
	for _, c := range d.centres {
		if err := d.signPolicy(ctx, c); err != nil {
			return err
		}
	}
	d.say("every authority has signed an auto-approval policy; batch %q is left to an officer", manualBatch)
	for i := range d.input.registrants {
		r := d.input.registrants[i]
		r.centre = d.centre(r.code)
		r.dir = filepath.Join(d.dir, "registrants", r.code+"-"+r.short)
		err := d.cli(ctx, nil, "registrant", "add", r.id(), "--config", r.centre.file, "--name", r.name, "--fonds", r.fonds, "--out", r.dir)
		if err != nil {
			return err
		}
		if err := r.connect(ctx); err != nil {
			return err
		}
		d.say("registrant %s: %s", r.id(), r.name)
	}
	return nil
}

// signPolicy has a centre's authority sign what it accepts without an officer.
func (d *demo) signPolicy(ctx context.Context, c *demoCentre) error {
	return d.cli(ctx, nil, "policy", "auto-approve", "--config", c.file, "--name", "demo-"+c.code, "--except-batch", manualBatch, "--accept", "PASS,WARN", "--valid", "24h")
}

// stop ends every process, gracefully if there is time, and waits until all are gone.
func (d *demo) stop() {
	if d.cases.during != nil {
		d.cases.during.cancel()
		defer func() { <-d.cases.during.done }()
	}
	for _, c := range d.centres {
		for _, client := range []*rpc.Client{c.operator, c.officer} {
			if client != nil {
				client.Close()
			}
		}
	}
	for _, r := range d.input.registrants {
		if r.client != nil {
			r.client.Close()
		}
	}
	var g errgroup.Group
	for _, c := range d.centres {
		if c.proc != nil {
			g.Go(func() error { return c.proc.Stop(8 * time.Second) })
		}
	}
	if err := g.Wait(); err != nil {
		d.say("%v", err)
	}
	if d.launcher != nil {
		d.launcher.Close()
	}
}
