package browse

import (
	"fmt"
	"slices"
	"strings"

	"dengbei/chunkstore/repository"
)

// Filter picks snapshots, with stock restic's meaning of --host, --tag and --path. The zero Filter picks all.
type Filter struct {
	// Hosts: the snapshot is of one of these hosts. Empty means any.
	Hosts []string

	// Tags: the snapshot carries all tags of at least one of these lists, each a text of tags apart by commas. An empty
	// tag stands for a snapshot without tags. Empty means any.
	Tags []string

	// Paths: the snapshot was made of all these paths, and perhaps of more. Empty means any.
	Paths []string
}

// IsZero reports whether f picks everything.
func (f Filter) IsZero() bool { return len(f.Hosts)+len(f.Tags)+len(f.Paths) == 0 }

// Match reports whether f picks sn.
func (f Filter) Match(sn *repository.Snapshot) bool {
	if len(f.Hosts) > 0 && !slices.Contains(f.Hosts, sn.Hostname) {
		return false
	}
	for _, p := range f.Paths {
		if !slices.Contains(sn.Paths, p) {
			return false
		}
	}
	return len(f.Tags) == 0 || slices.ContainsFunc(f.Tags, func(list string) bool { return sn.HasTags(SplitTags(list)) })
}

// String names the conditions, as the options that set them; empty for the zero Filter.
func (f Filter) String() string {
	var parts []string
	for _, o := range []struct {
		name   string
		values []string
	}{{"--host", f.Hosts}, {"--tag", f.Tags}, {"--path", f.Paths}} {
		for _, v := range o.values {
			parts = append(parts, fmt.Sprintf("%s %q", o.name, v))
		}
	}
	return strings.Join(parts, " ")
}

// asksForPartial reports whether the tags name [repository.PartialTag].
func (f Filter) asksForPartial() bool {
	return slices.ContainsFunc(f.Tags, func(list string) bool { return slices.Contains(SplitTags(list), repository.PartialTag) })
}

// SplitTags returns the tags of a list apart by commas, without the spaces around them.
func SplitTags(list string) []string {
	tags := strings.Split(list, ",")
	for i := range tags {
		tags[i] = strings.TrimSpace(tags[i])
	}
	return tags
}
