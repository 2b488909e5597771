package replication

import (
	"cmp"
	"slices"
)

// Work is one repository that has to be brought up to date.
type Work struct {
	Holding   Holding
	From      uint64 // highest sequence already held and confirmed
	To        uint64 // newest sequence
	SizeBytes int64  // by how much the set grows at least, an estimate
}

// Plan orders what is to be done: repositories without any other copy first, then those with fewer copies, then the more
// urgent, then the smaller, so that as many as possible are safe soon. held gives, per repository, the sequence that was
// confirmed but may not show in Receipted yet. What is up to date is left out. Plan is a pure function; equal arguments in
// any order give the same plan.
func Plan(assigned []Holding, held map[string]uint64) []Work {
	var plan []Work
	for _, h := range assigned {
		last, ok := h.last()
		from := max(h.Receipted, held[h.Repository])
		if !ok || from >= last.Sequence {
			continue
		}
		w := Work{Holding: h, From: from, To: last.Sequence, SizeBytes: last.SizeBytes}
		for _, m := range h.Manifests {
			if m.Sequence == from {
				w.SizeBytes = max(0, last.SizeBytes-m.SizeBytes)
			}
		}
		plan = append(plan, w)
	}
	slices.SortFunc(plan, func(a, b Work) int {
		return cmp.Or(
			cmp.Compare(a.Holding.Copies, b.Holding.Copies),
			cmp.Compare(b.Holding.Urgency, a.Holding.Urgency),
			cmp.Compare(a.SizeBytes, b.SizeBytes),
			cmp.Compare(a.Holding.Repository, b.Holding.Repository),
		)
	})
	return plan
}
