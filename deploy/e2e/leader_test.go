package e2e

import (
	"context"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"dengbei/deploy/e2e/network"
)

const (
	submissions = 2000
	inFlight    = 64
	kills       = 3
)

// envSubmissions changes how many submissions TestLeaderKilled hands in, for a quick try.
const envSubmissions = "DENGBEI_E2E_SUBMISSIONS"

// TestLeaderKilled kills the leader three times while units hand in at all centres: whatever was acknowledged is
// registered exactly once, and all replicas and certificates agree on it.
func TestLeaderKilled(t *testing.T) {
	n := five(t, nil)
	count := submissions
	if s := os.Getenv(envSubmissions); s != "" {
		var err error
		if count, err = strconv.Atoi(s); err != nil || count < 4*kills {
			t.Fatalf("%s=%q: want a number of at least %d", envSubmissions, s, 4*kills)
		}
	}
	all := pack(t, n.Centres, "春季移交", count)
	began := time.Now()
	l := handIn(t.Context(), all, inFlight)
	for k := range kills {
		l.reached(t, int64(count*(k+1)/(kills+1)), 5*time.Minute)
		leader := n.Leader(t)
		before, err := leader.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leader.Kill(t)
		select {
		case <-l.done:
			t.Errorf("kill %d came after the last submission: nothing was shown by it", k+1)
		default:
		}
		down := time.Now()
		next := n.Leader(t)
		elected := time.Since(down)
		if next == leader {
			t.Fatalf("%s leads and is dead", leader.Code)
		}
		leader.Start(t)
		network.Until(t, 2*time.Minute, leader.Code+" is back", func(ctx context.Context) error {
			s, err := leader.Status(ctx)
			if err == nil && s.GetAppliedIndex() < before.GetAppliedIndex() {
				err = errors.New("it lacks what it had applied before")
			}
			return err
		})
		t.Logf("kill %d: leader %s after %d receipts; %s leads after %.1f s, %s is back after %.1f s", k+1, leader.Code,
			l.acknowledged.Load(), next.Code, elected.Seconds(), leader.Code, time.Since(down).Seconds())
	}
	l.wait(t)
	received := time.Since(began).Seconds()
	registered(t, n, 5*time.Minute)
	done := time.Since(began).Seconds()
	t.Logf("%d submissions, %d in flight, %d tries repeated: receipts after %.1f s (%.1f/s), registered after %.1f s (%.1f/s)",
		count, inFlight, l.retries.Load(), received, float64(count)/received, done, float64(count)/done)
	began = time.Now()
	checkLog(t, n, all)
	t.Logf("log of %d records checked after %.1f s", count, time.Since(began).Seconds())
	began = time.Now()
	checkCertificates(t, n, all)
	t.Logf("%d certificates verified twice after %.1f s", count, time.Since(began).Seconds())
}
