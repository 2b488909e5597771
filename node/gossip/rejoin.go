package gossip

import (
	"sync"
	"time"
)

// maxJoins bounds joins at once: each may wait for a silent address.
const maxJoins = 8

// rejoin joins what is not alive, at once and then every Timing.Rejoin.
func (g *Gossip) rejoin() {
	t := time.NewTicker(g.cfg.Timing.Rejoin)
	defer t.Stop()
	for {
		g.joinMissing()
		select {
		case <-t.C:
		case <-g.ctx.Done():
			return
		}
	}
}

func (g *Gossip) joinMissing() {
	alive := map[string]bool{g.cfg.Name: true}
	for _, p := range g.Alive() {
		alive[p.ServerID] = true
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxJoins)
	for _, p := range g.cfg.Known() {
		if seed := p.ServerID == ""; alive[p.ServerID] || p.Address == "" || seed && len(alive) > 1 {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-g.ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			g.join(p)
		})
	}
}

// join tries p's addresses in turn. Failing is normal while p is down, and is tried again in the next round.
func (g *Gossip) join(p Peer) {
	addrs, err := resolve(g.ctx, p.Address, g.cfg.Timing.TCP)
	if err != nil {
		g.cfg.Logger.Debug("resolve a member's address", "peer", p.ServerID, "err", err)
		return
	}
	name := p.ServerID
	if name == "" {
		name = "seed" // only the member that answers is looked at
	}
	for _, a := range addrs {
		if g.ctx.Err() != nil {
			return
		}
		_, err := g.list.Join([]string{name + "/" + a})
		if err == nil {
			return
		}
		g.cfg.Logger.Debug("join a member", "peer", p.ServerID, "err", err)
	}
}
