package e2e

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"dengbei/deploy/e2e/network"
	"dengbei/node/nodepb"
	"dengbei/registry"
	"dengbei/registry/intake"
)

const (
	submissions = 2000
	inFlight    = submissions
	kills       = 3
	fewest      = 200 * kills // so that a leader has a batch of its own on its way
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
		if count, err = strconv.Atoi(s); err != nil || count < fewest {
			t.Fatalf("%s=%q: want a number of at least %d", envSubmissions, s, fewest)
		}
	}
	all := pack(t, n.Centres, "春季移交", count)
	began := time.Now()
	var received time.Duration
	var retries int64
	// A third for each kill, and half of it held back: receipts come faster than leaders come back.
	k, again := 0, 0
	for part := range slices.Chunk(all, (count+kills-1)/kills) {
		k++
		leader := n.Leader(t)
		started := time.Now()
		l := handInHeld(t.Context(), part, inFlight, len(part)/2)
		awaitRegistering(t, leader, part)
		l.release()
		leader = n.StillLeads(t, leader)
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
		ahead, err := next.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		unaware := countUnaware(t, leader, next)
		again += unaware
		leader.Start(t)
		network.Until(t, 2*time.Minute, leader.Code+" is back", func(ctx context.Context) error {
			s, err := leader.Status(ctx)
			if err == nil && s.GetAppliedIndex() < ahead.GetAppliedIndex() {
				err = errors.New("it lacks what was registered without it")
			}
			return err
		})
		back := time.Since(down)
		l.wait(t)
		received += time.Since(started)
		retries += l.retries.Load()
		t.Logf("kill %d: %s led, %d of %d had receipts; %s led after %.1f s, %s was back after %.1f s and did not know of %d of its registrations",
			k, leader.Code, acknowledged, len(part), next.Code, elected.Seconds(), leader.Code, back.Seconds(), unaware)
	}
	if again == 0 {
		t.Error("no centre was killed between a registration and its answer: that none is registered twice was not shown")
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

// awaitRegistering returns while c learns the numbers of its second batch or so of part: the network has registered it,
// and c has not yet written all of that down.
func awaitRegistering(t *testing.T, c *network.Centre, part []*delivery) {
	t.Helper()
	const early = 12 // of the centre's queue: behind the first batch, which is small, and ahead of others of its own
	own := slices.DeleteFunc(slices.Clone(part), func(d *delivery) bool { return d.centre != c })
	id := own[min(early, len(own)-1)].ID
	network.Until(t, time.Minute, c.Code+" receives", func(ctx context.Context) error {
		_, err := c.Operator.Submissions.Show(ctx, &nodepb.ShowSubmissionRequest{Id: id})
		return err
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := c.Operator.Submissions.Watch(ctx, &nodepb.WatchSubmissionRequest{Id: id, Until: "registered"})
	for err == nil {
		_, err = stream.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Fatalf("watch submission %s at %s: %v", id, c.Code, err)
	}
}

// countUnaware counts the submissions of a dead centre that are registered, as another centre knows, and that it will
// propose again because it died before the answer.
func countUnaware(t *testing.T, dead, other *network.Centre) (count int) {
	t.Helper()
	q, err := intake.OpenQuarantine(dead.Config.Path("quarantine"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range q.List(intake.Filter{Phases: []intake.Phase{intake.Snapshotted}}) {
		_, err := other.Operator.Records.Show(t.Context(), &nodepb.ShowRecordRequest{Number: s.ID.Hex()})
		switch {
		case err == nil:
			count++
		case !errors.Is(err, registry.ErrNotFound):
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return count
}
