package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/deploy/e2e/network"
	"dengbei/node/nodepb"
	"dengbei/registry"
)

// TestCountyCutOff cuts a county's cable: it goes on receiving, says that there is no quorum, registers nothing, and
// registers everything once, oldest first, when the cable is mended.
func TestCountyCutOff(t *testing.T) {
	const county, count, limit = "330282", 50, 60 * time.Second
	n := five(t, func(s *network.Spec) { s.Cuttable = s.Code == county })
	c := n.Centre(county)

	// One before, so that the county has a repository and an agreement's holders have begun.
	before := pack(t, []*network.Centre{c}, "断网之前", 1)
	handIn(t.Context(), before, 1).wait(t)
	registered(t, n, time.Minute)

	c.Link.Cut()
	network.Until(t, time.Minute, county+" says that it has no quorum", func(ctx context.Context) error {
		s, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if s.GetQuorum() || !slices.ContainsFunc(s.GetAlarms(), func(a string) bool { return strings.Contains(a, "no quorum") }) {
			return fmt.Errorf("quorum %t, alarms %q", s.GetQuorum(), s.GetAlarms())
		}
		return nil
	})

	during := pack(t, []*network.Centre{c}, "断网期间", count)
	began := time.Now()
	handIn(t.Context(), during[:1], 1).wait(t)
	awaitDecided(t, c, 1)
	handIn(t.Context(), during[1:], 16).wait(t)
	took := time.Since(began)
	slowest := slices.MaxFunc(during, func(a, b *delivery) int { return cmp.Compare(a.took, b.took) })
	if took > limit {
		t.Errorf("%d receipts took %v", count, took)
	}
	awaitDecided(t, c, count)

	// The others work on without the county, and have nothing of what it received.
	elsewhere := pack(t, []*network.Centre{n.Centre("330102")}, "别处", 1)
	handIn(t.Context(), elsewhere, 1).wait(t)
	others := *n
	others.Centres = slices.DeleteFunc(slices.Clone(n.Centres), func(x *network.Centre) bool { return x == c })
	registered(t, &others, time.Minute)
	s, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.GetQuorum() || s.GetWaitingSubmissions() != count || s.GetRegistrations() != uint64(len(before)) {
		t.Errorf("%s, cut off, has quorum %t, %d submissions waiting, %d registrations; want %d waiting, %d registered", county,
			s.GetQuorum(), s.GetWaitingSubmissions(), s.GetRegistrations(), count, len(before))
	}
	if got, want := agreed(t, &others).GetLogSize(), uint64(len(before)+len(elsewhere)); got != want {
		t.Errorf("the others have %d registrations while %s is cut off; want %d", got, county, want)
	}

	c.Link.Mend()
	mended := time.Now()
	c.AwaitQuorum(t)
	registered(t, n, 2*time.Minute)
	t.Logf("cut off: %d receipts within %.1f s, the slowest after %.2f s; mended: all registered after %.1f s", count,
		took.Seconds(), slowest.took.Seconds(), time.Since(mended).Seconds())

	all := slices.Concat(before, during, elsewhere)
	checkLog(t, n, all)
	checkCertificates(t, n, all)
	checkOldestFirst(t, during)
}

// awaitDecided waits until so many submissions wait for the network only.
func awaitDecided(t *testing.T, c *network.Centre, count int) {
	t.Helper()
	network.Until(t, time.Minute, "the county has decided by itself", func(ctx context.Context) error {
		r, err := c.Operator.Submissions.List(ctx, &nodepb.ListSubmissionsRequest{})
		if err != nil {
			return err
		}
		states := map[string]int{}
		for _, s := range r.GetSubmissions() {
			states[s.GetState()]++
		}
		if states["accepted"]+states["snapshotted"] != count {
			return fmt.Errorf("%v", states)
		}
		return nil
	})
}

// checkOldestFirst compares the order of the numbers with that of the receipts.
func checkOldestFirst(t *testing.T, all []*delivery) {
	t.Helper()
	byReceipt := slices.SortedFunc(slices.Values(all), func(a, b *delivery) int {
		return cmp.Or(cmp.Compare(a.receipt.GetReceivedAtMillis(), b.receipt.GetReceivedAtMillis()), cmp.Compare(a.number, b.number))
	})
	var last uint64
	for _, d := range byReceipt {
		number, err := registry.ParseNumber(d.number)
		if err != nil {
			t.Fatal(errors.Join(err, fmt.Errorf("number of %s", d.ID)))
		}
		if number.Serial < last {
			t.Errorf("%s was received after the one with serial %d", d.number, last)
			return
		}
		last = number.Serial
	}
}
