package e2e

import (
	"context"
	"errors"
	"os"
	"slices"
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
	var received time.Duration
	var retries int64
	// A third for each kill: receipts come so fast that the leader would hardly be back before the last one.
	k := 0
	for part := range slices.Chunk(all, (count+kills-1)/kills) {
		k++
		leader := n.Leader(t)
		started := time.Now()
		l := handIn(t.Context(), part, inFlight)
		l.reached(t, int64(len(part)/4), 2*time.Minute)
		leader = n.StillLeads(t, leader)
		before, err := leader.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leader.Kill(t)
		down := time.Now()
		acknowledged := l.acknowledged.Load()
		if acknowledged == int64(len(part)) {
			t.Errorf("kill %d came after the last submission: nothing was shown by it", k)
		}
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
		back := time.Since(down)
		l.wait(t)
		received += time.Since(started)
		retries += l.retries.Load()
		t.Logf("kill %d: %s led, %d of %d had receipts; %s led after %.1f s, %s was back after %.1f s", k, leader.Code,
			acknowledged, len(part), next.Code, elected.Seconds(), leader.Code, back.Seconds())
	}
	registered(t, n, 5*time.Minute)
	done := time.Since(began).Seconds()
	t.Logf("%d submissions, %d in flight, %d tries repeated: receipts in %.1f s (%.1f/s), all registered after %.1f s (%.1f/s)",
		count, inFlight, retries, received.Seconds(), float64(count)/received.Seconds(), done, float64(count)/done)
	began = time.Now()
	checkLog(t, n, all)
	t.Logf("log of %d records checked after %.1f s", count, time.Since(began).Seconds())
	began = time.Now()
	checkCertificates(t, n, all)
	t.Logf("%d certificates verified twice after %.1f s", count, time.Since(began).Seconds())
}
