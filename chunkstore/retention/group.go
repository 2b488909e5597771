package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"dengbei/chunkstore/repository"
)

// GroupBy says what snapshots of one group have in common. The zero GroupBy puts all into one group.
type GroupBy struct {
	Host, Paths, Tags bool
}

// ParseGroupBy reads a list of host, paths and tags apart by commas; empty text is the zero GroupBy. It gives
// [ErrSyntax].
func ParseGroupBy(s string) (GroupBy, error) {
	var g GroupBy
	if s == "" {
		return g, nil
	}
	for word := range strings.SplitSeq(s, ",") {
		switch strings.TrimSpace(word) {
		case "host", "hosts":
			g.Host = true
		case "path", "paths":
			g.Paths = true
		case "tag", "tags":
			g.Tags = true
		default:
			return GroupBy{}, fmt.Errorf("grouping %q: %w: want host, paths and tags, apart by commas", s, ErrSyntax)
		}
	}
	return g, nil
}

// Key is what the snapshots of a group have in common; what they are not grouped by is empty.
type Key struct {
	Host        string
	Paths, Tags []string // sorted
}

// String names the group for people.
func (k Key) String() string {
	var parts []string
	if k.Host != "" {
		parts = append(parts, fmt.Sprintf("host %q", k.Host))
	}
	if k.Paths != nil {
		parts = append(parts, fmt.Sprintf("paths %q", k.Paths))
	}
	if k.Tags != nil {
		parts = append(parts, fmt.Sprintf("tags %q", k.Tags))
	}
	if parts == nil {
		return "all snapshots"
	}
	return strings.Join(parts, ", ")
}

// Group is snapshots with one key, the newest first.
type Group struct {
	Key       Key
	Snapshots []*repository.Snapshot
}

// Groups divides the snapshots. Groups are ascending by host, paths and tags.
func (g GroupBy) Groups(list []*repository.Snapshot) []Group {
	at := make(map[string]int)
	var groups []Group
	for _, sn := range newestFirst(list) {
		k := g.key(sn)
		text := fmt.Sprintf("%q %q %q", k.Host, k.Paths, k.Tags)
		i, ok := at[text]
		if !ok {
			i = len(groups)
			at[text] = i
			groups = append(groups, Group{Key: k})
		}
		groups[i].Snapshots = append(groups[i].Snapshots, sn)
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Key.Host, b.Key.Host), slices.Compare(a.Key.Paths, b.Key.Paths), slices.Compare(a.Key.Tags, b.Key.Tags))
	})
	return groups
}

// key does not count [repository.PartialTag] as a tag: a partial snapshot belongs with the whole one that follows it.
func (g GroupBy) key(sn *repository.Snapshot) Key {
	var k Key
	if g.Host {
		k.Host = sn.Hostname
	}
	if g.Paths {
		k.Paths = slices.Sorted(slices.Values(sn.Paths))
	}
	if g.Tags {
		k.Tags = slices.DeleteFunc(slices.Sorted(slices.Values(sn.Tags)), func(tag string) bool { return tag == repository.PartialTag })
		if len(k.Tags) == 0 {
			k.Tags = nil
		}
	}
	return k
}

// newestFirst returns a sorted copy. Snapshots of the same instant are ascending by ID, so that every run decides alike.
func newestFirst(list []*repository.Snapshot) []*repository.Snapshot {
	return slices.SortedFunc(slices.Values(list), func(a, b *repository.Snapshot) int {
		return cmp.Or(b.Time.Compare(a.Time), a.ID.Compare(b.ID))
	})
}
