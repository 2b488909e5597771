package network

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// look is how often a condition is looked at.
const look = 100 * time.Millisecond

// errNotYet stands in for the reason if a condition gives none.
var errNotYet = errors.New("not yet")

// Until looks again and again until done returns nil, for at most limit, and fails the test with the last reason.
func Until(t testing.TB, limit time.Duration, what string, done func(context.Context) error) {
	t.Helper()
	if err := until(t.Context(), limit, what, done); err != nil {
		t.Fatal(err)
	}
}

func until(ctx context.Context, limit time.Duration, what string, done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(look)
	defer tick.Stop()
	last := errNotYet
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
			last = err // not one that only says that time is up
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %v: %w", what, limit, last)
		case <-tick.C:
		}
	}
}
