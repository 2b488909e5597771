package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
	// A network catches up in moments with what waits: some come later, so that the last kill finds something under way.
	late := all[count*9/10:]
	l := handIn(t.Context(), all[:count-len(late)], count)
	first, again := l, 0
	for k := range kills {
		leader := n.Leader(t)
		switch k {
		case 0: // while units hand in
			l.reached(t, int64(count/10), 2*time.Minute)
		case 1: // while the network registers
			reachedSize(t, leader, uint64(count/4))
			awaitRegistering(t, leader, all)
		default: // while it does both
			first.wait(t)
			l = handIn(t.Context(), late, len(late))
			l.reached(t, int64(len(late)/10), 2*time.Minute)
		}
		leader = n.StillLeads(t, leader)
		leader.Kill(t)
		down := time.Now()
		acknowledged := l.acknowledged.Load()
		if l != first {
			acknowledged += first.acknowledged.Load()
		}
		if k != 1 && acknowledged == int64(count) {
			t.Errorf("kill %d came after the last receipt: that no receipt is lost was not shown", k+1)
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
		if ahead.GetLogSize() >= uint64(count) {
			t.Errorf("kill %d came after the last registration: nothing was in flight", k+1)
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
		t.Logf("kill %d: %s led, %d of %d had receipts and %d were registered; %s led after %.1f s, %s was back after %.1f s and did not know of %d of its registrations",
			k+1, leader.Code, acknowledged, count, ahead.GetLogSize(), next.Code, elected.Seconds(), leader.Code, time.Since(down).Seconds(), unaware)
	}
	l.wait(t)
	received := time.Since(began).Seconds()
	if again == 0 { // that is a matter of milliseconds
		t.Log("no centre was killed between a registration and its answer: that such a one is not registered twice was NOT shown in this run")
	}
	registered(t, n, 5*time.Minute)
	done := time.Since(began).Seconds()
	t.Logf("%d submissions handed in, nine tenths of them at once, %d tries repeated: receipts in %.1f s (%.1f/s), all registered after %.1f s (%.1f/s)",
		count, first.retries.Load()+l.retries.Load(), received, float64(count)/received, done, float64(count)/done)
	began = time.Now()
	checkLog(t, n, all)
	t.Logf("log of %d records checked after %.1f s", count, time.Since(began).Seconds())
	began = time.Now()
	checkCertificates(t, n, all)
	t.Logf("%d certificates verified twice after %.1f s", count, time.Since(began).Seconds())
}

// reachedSize waits until c's log has so many records.
func reachedSize(t *testing.T, c *network.Centre, size uint64) {
	t.Helper()
	network.Until(t, 5*time.Minute, fmt.Sprintf("%d records", size), func(ctx context.Context) error {
		s, err := c.Status(ctx)
		if err == nil && s.GetLogSize() < size {
			err = fmt.Errorf("%d so far", s.GetLogSize())
		}
		return err
	})
}

// awaitRegistering returns while c learns the numbers of a batch of its own: the network has registered it, and c has not
// yet written all of that down. If nothing waits at c it returns at once.
func awaitRegistering(t *testing.T, c *network.Centre, all []*delivery) {
	t.Helper()
	const apart = 12 // so that the one waited for is not in the batch that is being written down now
	var id string
	for waiting, i := 0, 0; i < len(all) && waiting < apart; i++ {
		if all[i].centre != c || !all[i].acknowledged.Load() {
			continue
		}
		s, err := c.Operator.Submissions.Show(t.Context(), &nodepb.ShowSubmissionRequest{Id: all[i].ID})
		if err != nil {
			t.Fatal(err)
		}
		if len(s.GetNumbers()) == 0 {
			id = all[i].ID
			waiting++
		}
	}
	if id == "" {
		return
	}
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
