package retention_test

import (
	"fmt"
	"time"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/retention"
)

// Of two days the newest snapshot each is kept.
func Example() {
	var list []*repository.Snapshot
	for i, hour := range []int{8, 16, 32, 40} {
		at := time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC)
		list = append(list, &repository.Snapshot{Time: at, Hostname: "centre", ID: digest.Of([]byte{byte(i)})})
	}
	groups := retention.GroupBy{Host: true, Paths: true}.Groups(list)
	for _, d := range retention.Decide(groups, retention.Policy{Daily: 2}, time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)) {
		for _, k := range d.Keep {
			fmt.Println("keep", k.Snapshot.Time.Format("2 Jan 15:04"), k.Reasons)
		}
		for _, sn := range d.Remove {
			fmt.Println("remove", sn.Time.Format("2 Jan 15:04"))
		}
	}
	// Output:
	// keep 2 Jan 16:00 [daily snapshot]
	// keep 1 Jan 16:00 [daily snapshot]
	// remove 2 Jan 08:00
	// remove 1 Jan 08:00
}
