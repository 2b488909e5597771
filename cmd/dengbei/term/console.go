package term

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Console is what a command reads and writes, and its environment.
type Console struct {
	In  io.Reader
	Out io.Writer // results
	Err io.Writer // progress and errors
	Env func(string) string

	JSON bool // results as JSON; no progress
}

// Print writes v as one JSON object with --json, and otherwise what text writes.
func (c *Console) Print(v any, text func(w io.Writer)) error {
	if c.JSON {
		enc := json.NewEncoder(c.Out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	w := tabwriter.NewWriter(c.Out, 0, 8, 2, ' ', 0)
	text(w)
	if err := w.Flush(); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}

// Event writes v as one line of JSON, whether or not JSON is asked for: the caller knows.
func (c *Console) Event(v any) error {
	enc := json.NewEncoder(c.Out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print event: %w", err)
	}
	return nil
}

// Note tells the person something that is not the result.
func (c *Console) Note(format string, args ...any) {
	fmt.Fprintf(c.Err, format+"\n", args...)
}

// ArchiveTime is the zone of every Instant shown: UTC+8, fixed.
var ArchiveTime = time.FixedZone("UTC+8", 8*3600)

// Instant shows milliseconds since 1970, empty for none.
func Instant(millis int64) string {
	if millis == 0 {
		return ""
	}
	return time.UnixMilli(millis).In(ArchiveTime).Format(time.RFC3339)
}

// Safe makes text from elsewhere harmless on a terminal: control and format characters are shown escaped.
func Safe(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == unicode.ReplacementChar, unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// ByteCount shows a size for people.
func ByteCount(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, suffix := float64(n), "KMGTPE"
	i := -1
	for v >= unit && i < len(suffix)-1 {
		v /= unit
		i++
	}
	return fmt.Sprintf("%.1f %ciB", v, suffix[i])
}

// OrEmpty makes an absent list an empty one, so that JSON shows [] and never null.
func OrEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
