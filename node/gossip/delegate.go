package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// delegate tells this node's meta and takes part in nothing else.
type delegate struct{ cfg Config }

// NodeMeta implements [memberlist.Delegate], which panics if it gets more than limit.
func (d delegate) NodeMeta(limit int) []byte {
	meta := d.cfg.Meta()
	if len(meta) > limit {
		d.cfg.Logger.Error("gossip meta is too long and is not sent", "bytes", len(meta))
		return nil
	}
	return meta
}

func (delegate) NotifyMsg([]byte)                {}
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (delegate) LocalState(bool) []byte          { return nil }
func (delegate) MergeRemoteState([]byte, bool)   {}

// events keeps the table of who is alive, and turns notices into at most one waiting value. Memberlist gives notices under
// its own lock; what its Members returns is written to while one reads.
type events struct {
	changed chan struct{}

	mu    sync.Mutex // guards alive, held for an instant
	alive map[string]Peer
}

func newEvents() *events {
	return &events{changed: make(chan struct{}, 1), alive: map[string]Peer{}}
}

// peers returns everybody but self, in no order.
func (e *events) peers(self string) []Peer {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Peer
	for name, p := range e.alive {
		if name != self {
			p.Meta = slices.Clone(p.Meta)
			out = append(out, p)
		}
	}
	return out
}

func (e *events) put(n *memberlist.Node) {
	e.mu.Lock()
	e.alive[n.Name] = Peer{ServerID: n.Name, Address: n.Address(), Meta: slices.Clone(n.Meta)}
	e.mu.Unlock()
	e.notify()
}

func (e *events) notify() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e *events) NotifyJoin(n *memberlist.Node)   { e.put(n) }
func (e *events) NotifyUpdate(n *memberlist.Node) { e.put(n) }

func (e *events) NotifyLeave(n *memberlist.Node) {
	e.mu.Lock()
	delete(e.alive, n.Name)
	e.mu.Unlock()
	e.notify()
}

// newLogger gives memberlist's lines ("[WARN] memberlist: …") to slog.
func newLogger(l *slog.Logger) *log.Logger { return log.New(lineWriter{l}, "", 0) }

type lineWriter struct{ slog *slog.Logger }

func (w lineWriter) Write(p []byte) (int, error) {
	level, line := slog.LevelInfo, bytes.TrimSpace(p)
	for _, l := range []struct {
		prefix string
		level  slog.Level
	}{
		{"[DEBUG] ", slog.LevelDebug},
		{"[INFO] ", slog.LevelInfo},
		{"[WARN] ", slog.LevelWarn},
		{"[ERR] ", slog.LevelWarn}, // a lost packet or an unreachable peer; nobody must act on one
		{"[ERROR] ", slog.LevelWarn},
	} {
		if rest, ok := bytes.CutPrefix(line, []byte(l.prefix)); ok {
			level, line = l.level, rest
			break
		}
	}
	w.slog.Log(context.Background(), level, "memberlist", "msg_text", string(line))
	return len(p), nil
}
