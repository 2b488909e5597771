package retention

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// at makes a snapshot of that time, as "2026-01-02T15:04" in UTC or with an offset behind it.
func at(t testing.TB, when string, tags ...string) *repository.Snapshot {
	t.Helper()
	layout := "2006-01-02T15:04"
	if len(when) > len(layout) {
		layout += "Z07:00"
	}
	instant, err := time.Parse(layout, when)
	must(t, err)
	return &repository.Snapshot{Time: instant, Tags: tags, ID: digest.Of([]byte(when))}
}
