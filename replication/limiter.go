package replication

import (
	"context"
	"sync"
	"time"
)

// Limiter is a token bucket of bytes that several transfers share. The nil Limiter and the zero Limiter let everything
// through. It is safe for concurrent use.
type Limiter struct {
	mu    sync.Mutex // guards all below, held for arithmetic only
	rate  int64      // bytes per second, 0 or less for no limit
	debt  float64    // bytes taken beyond what has flowed in; negative is credit, at most burst
	at    time.Time  // when debt was true
	wakes chan struct{}
}

// burst is how much may pass at once after silence: a quarter of a second, and never less than one message.
func burst(rate int64) float64 { return max(float64(rate)/4, maxData) }

// NewLimiter returns a Limiter of bytesPerSecond, 0 for none.
func NewLimiter(bytesPerSecond int64) *Limiter {
	l := &Limiter{}
	l.Set(bytesPerSecond)
	return l
}

// Set changes the rate from now on, also for those that wait: a bandwidth calendar calls it at its boundaries.
func (l *Limiter) Set(bytesPerSecond int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle(time.Now())
	l.rate = bytesPerSecond
	l.debt = max(l.debt, -burst(max(l.rate, 0)))
	if l.wakes != nil {
		close(l.wakes)
		l.wakes = nil
	}
}

func (l *Limiter) settle(now time.Time) {
	if l.rate > 0 && !l.at.IsZero() {
		l.debt = max(l.debt-now.Sub(l.at).Seconds()*float64(l.rate), -burst(l.rate))
	}
	l.at = now
}

// Wait takes n bytes and returns once they may flow, or with an error matching ctx.Err().
func (l *Limiter) Wait(ctx context.Context, n int) error {
	if l == nil {
		return ctx.Err()
	}
	taken := false
	for {
		l.mu.Lock()
		l.settle(time.Now())
		if l.rate <= 0 {
			l.debt = 0
			l.mu.Unlock()
			return ctx.Err()
		}
		if !taken {
			l.debt += float64(n)
			taken = true
		}
		pause := time.Duration(l.debt / float64(l.rate) * float64(time.Second))
		if l.wakes == nil {
			l.wakes = make(chan struct{})
		}
		wakes := l.wakes
		l.mu.Unlock()
		if pause <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
			return ctx.Err()
		case <-wakes: // the rate has changed
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
