package retention

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a stretch of the calendar, as "1y5m7d2h". The zero Duration is none.
type Duration struct {
	Years, Months, Days, Hours int
}

// maxCount bounds each part of a duration: far beyond any archive, and far from overflow.
const maxCount = 100_000

// ParseDuration reads numbers with the units y, m, d and h, each at most once, in any order. Empty text is the zero
// Duration. It gives [ErrSyntax].
func ParseDuration(s string) (Duration, error) {
	var d Duration
	seen := ""
	for rest := s; rest != ""; {
		i := strings.IndexAny(rest, "ymdh")
		if i < 1 || strings.ContainsRune(seen, rune(rest[i])) {
			return Duration{}, durationError(s)
		}
		n, err := strconv.ParseUint(rest[:i], 10, 31)
		if err != nil || n > maxCount {
			return Duration{}, durationError(s)
		}
		switch rest[i] {
		case 'y':
			d.Years = int(n)
		case 'm':
			d.Months = int(n)
		case 'd':
			d.Days = int(n)
		case 'h':
			d.Hours = int(n)
		}
		seen, rest = seen+rest[i:i+1], rest[i+1:]
	}
	return d, nil
}

func durationError(s string) error {
	return fmt.Errorf("duration %q: %w: want numbers up to %d with y, m, d, h, each once, as 1y5m7d2h", s, ErrSyntax, maxCount)
}

// String returns what [ParseDuration] reads.
func (d Duration) String() string {
	var b strings.Builder
	for _, part := range []struct {
		n    int
		unit byte
	}{{d.Years, 'y'}, {d.Months, 'm'}, {d.Days, 'd'}, {d.Hours, 'h'}} {
		if part.n != 0 {
			b.WriteString(strconv.Itoa(part.n))
			b.WriteByte(part.unit)
		}
	}
	return b.String()
}

// IsZero reports whether d is none.
func (d Duration) IsZero() bool { return d == Duration{} }

// before returns the instant d before t.
func (d Duration) before(t time.Time) time.Time {
	return t.AddDate(-d.Years, -d.Months, -d.Days).Add(-time.Duration(d.Hours) * time.Hour)
}
