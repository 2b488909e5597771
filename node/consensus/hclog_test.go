package consensus

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestRaftsLogLines(t *testing.T) {
	var buf bytes.Buffer
	l := newHCLog(slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	for _, tt := range []struct {
		name string
		do   func()
		want string
	}{
		{"info with values", func() { l.With("id", 7).Info("started", "term", 2) }, "level=INFO msg=started raft.id=7 raft.term=2\n"},
		{"below the level", func() { l.Debug("x"); l.Trace("x") }, ""},
		{"a lazily formatted value", func() { l.Warn("x", "n", hclog.Fmt("%03d", 5)) }, "level=WARN msg=x raft.n=005\n"},
		{"a fault of this node", func() { l.Error("disk") }, "level=ERROR msg=disk\n"},
		{"an absent peer alarms nobody", func() { l.Error("no answer", "peer", "b") }, "level=WARN msg=\"no answer\" raft.peer=b\n"},
		{"another name", func() { l.Named("snap").Info("x", "a", 1) }, "level=INFO msg=x raft.snap.a=1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			buf.Reset()
			tt.do()
			if got := buf.String(); got != tt.want {
				t.Errorf("logged %q; want %q", got, tt.want)
			}
		})
	}
	if l.IsDebug() || !l.IsInfo() || l.GetLevel() != hclog.Info {
		t.Errorf("level = %v; want info", l.GetLevel())
	}
}
