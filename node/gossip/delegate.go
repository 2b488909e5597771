package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"

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

// events turns notices, which memberlist gives under its lock, into at most one waiting value.
type events struct{ changed chan struct{} }

func (e events) notify() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e events) NotifyJoin(*memberlist.Node)   { e.notify() }
func (e events) NotifyLeave(*memberlist.Node)  { e.notify() }
func (e events) NotifyUpdate(*memberlist.Node) { e.notify() }

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
