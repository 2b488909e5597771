package e2e

import (
	"slices"
	"testing"
	"time"
)

// TestRestartEverything kills all five nodes at the same moment under load and starts them again: nobody has to do
// anything, what was acknowledged is there, and work goes on.
func TestRestartEverything(t *testing.T) {
	const count = 300
	n := five(t, nil)
	all := pack(t, n.Centres, "停电之前", count)
	l := handIn(t.Context(), all, 32)
	l.reached(t, count/2, 2*time.Minute)
	n.KillAll(t)
	acknowledged := l.acknowledged.Load()
	if acknowledged == count {
		t.Errorf("all %d were acknowledged before the kill: nothing was shown by it", count)
	}
	down := time.Now()
	n.StartAll(t)
	back := time.Since(down)
	l.wait(t)
	registered(t, n, 5*time.Minute)
	t.Logf("all killed with %d of %d acknowledged; all back after %.1f s, everything registered after %.1f s, %d tries repeated",
		acknowledged, count, back.Seconds(), time.Since(down).Seconds(), l.retries.Load())

	after := pack(t, n.Centres, "停电之后", len(n.Centres))
	handIn(t.Context(), after, len(after)).wait(t)
	registered(t, n, time.Minute)
	all = slices.Concat(all, after)
	checkLog(t, n, all)
	checkCertificates(t, n, all)
}
