package consensus

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// hcLog gives hclog's loggers to slog.
type hcLog struct {
	slog *slog.Logger
	name string
	args []any
}

func newHCLog(l *slog.Logger) hclog.Logger { return &hcLog{slog: l, name: "raft"} }

func slogLevel(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace:
		return slog.LevelDebug - 4
	case hclog.Debug, hclog.NoLevel:
		return slog.LevelDebug
	case hclog.Info:
		return slog.LevelInfo
	case hclog.Warn:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

// Log implements [hclog.Logger]. Keys are Raft's own; the group keeps them apart from ours.
func (h *hcLog) Log(level hclog.Level, msg string, args ...any) {
	l := slogLevel(level)
	if l == slog.LevelError && aboutPeer(args) {
		l = slog.LevelWarn // a peer that is away comes back without anybody's help, and is reported until then
	}
	if !h.slog.Enabled(context.Background(), l) {
		return
	}
	all := append(append([]any{}, h.args...), args...)
	for i := 1; i < len(all); i += 2 {
		if f, ok := all[i].(hclog.Format); ok && len(f) > 0 { // a lazily formatted value
			all[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	h.slog.Log(context.Background(), l, msg, slog.Group(h.name, all...))
}

// aboutPeer reports whether a message is about a call to one other member.
func aboutPeer(args []any) bool {
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == "peer" || args[i] == "target" {
			return true
		}
	}
	return false
}

func (h *hcLog) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h *hcLog) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hcLog) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hcLog) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hcLog) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h *hcLog) enabled(level hclog.Level) bool {
	return h.slog.Enabled(context.Background(), slogLevel(level))
}

func (h *hcLog) IsTrace() bool { return h.enabled(hclog.Trace) }
func (h *hcLog) IsDebug() bool { return h.enabled(hclog.Debug) }
func (h *hcLog) IsInfo() bool  { return h.enabled(hclog.Info) }
func (h *hcLog) IsWarn() bool  { return h.enabled(hclog.Warn) }
func (h *hcLog) IsError() bool { return h.enabled(hclog.Error) }

func (h *hcLog) ImpliedArgs() []any { return h.args }

func (h *hcLog) With(args ...any) hclog.Logger {
	return &hcLog{slog: h.slog, name: h.name, args: append(append([]any{}, h.args...), args...)}
}

func (h *hcLog) Name() string { return h.name }

func (h *hcLog) Named(name string) hclog.Logger {
	return &hcLog{slog: h.slog, name: h.name + "." + name, args: h.args}
}

func (h *hcLog) ResetNamed(name string) hclog.Logger {
	return &hcLog{slog: h.slog, name: name, args: h.args}
}

// SetLevel does nothing: the level is slog's.
func (h *hcLog) SetLevel(hclog.Level) {}

func (h *hcLog) GetLevel() hclog.Level {
	for _, l := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn} {
		if h.enabled(l) {
			return l
		}
	}
	return hclog.Error
}

func (h *hcLog) StandardLogger(o *hclog.StandardLoggerOptions) *log.Logger {
	return log.New(h.StandardWriter(o), "", 0)
}

func (h *hcLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer { return hcWriter{h} }

type hcWriter struct{ h *hcLog }

func (w hcWriter) Write(p []byte) (int, error) {
	w.h.Info(string(p))
	return len(p), nil
}
