package check

import (
	"fmt"
	"slices"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

const (
	// MaxAffected is how many paths a finding lists; the rest is counted.
	MaxAffected = 1000

	// maxListed bounds the paths that all findings of one check list together.
	maxListed = 100_000

	// maxBlamed bounds the work of counting the paths that suffer: a node is 1, a directory blameTree more. A few hundred
	// bytes of hostile trees can describe more paths than can be counted.
	maxBlamed = 5_000_000
	blameTree = 10
)

// Finding is something wrong with one file.
type Finding struct {
	Name     chunkstore.Name
	Err      error      // the first thing found
	Affects  []Affected // what cannot be restored because of it; empty if nothing
	More     int        // affected paths that are not listed
	AtLeast  bool       // there are more affected paths than counted
	Harmless bool       // nothing that a snapshot names suffers from it
}

// Affected is a file or directory of a snapshot that cannot be restored whole.
type Affected struct {
	Snapshot digest.Digest
	Path     string
}

// AffectedPaths returns how many paths suffer, listed or not.
func (f Finding) AffectedPaths() int { return len(f.Affects) + f.More }

// String returns one line for people and logs.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: %v", f.Name, f.Err)
	n, least := f.AffectedPaths(), ""
	if f.AtLeast {
		least = "at least "
	}
	switch {
	case len(f.Affects) > 0:
		s += fmt.Sprintf(" (%s%d paths suffer, such as %s in snapshot %s)", least, n, f.Affects[0].Path, f.Affects[0].Snapshot.Hex()[:8])
	case n > 0:
		s += fmt.Sprintf(" (%s%d paths suffer)", least, n)
	}
	return s
}

// find records something wrong with a file. The first finding for a file stays, unless it was harmless and this is not.
func (c *checker) find(name chunkstore.Name, err error, harmless bool) *Finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.findLocked(name, err, harmless)
}

func (c *checker) findLocked(name chunkstore.Name, err error, harmless bool) *Finding {
	f := c.findings[name]
	switch {
	case f == nil:
		f = &Finding{Name: name, Err: err, Harmless: harmless}
		c.findings[name] = f
	case f.Harmless && !harmless:
		f.Err, f.Harmless = err, false
	}
	return f
}

// affect enters a path into a finding.
func (c *checker) affect(f *Finding, snapshot digest.Digest, at string) {
	f.Harmless = false
	if len(f.Affects) == MaxAffected || c.listed == maxListed {
		f.More++
		return
	}
	c.listed++
	f.Affects = append(f.Affects, Affected{snapshot, at})
}

// sorted returns the findings ascending by kind and name.
func (c *checker) sorted() []Finding {
	all := make([]Finding, 0, len(c.findings))
	for _, f := range c.findings {
		all = append(all, *f)
	}
	slices.SortFunc(all, func(a, b Finding) int {
		if a.Name.Kind != b.Name.Kind {
			return int(a.Name.Kind) - int(b.Name.Kind)
		}
		return a.Name.ID.Compare(b.Name.ID)
	})
	return all
}
