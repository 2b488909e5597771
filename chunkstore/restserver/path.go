package restserver

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"dengbei/chunkstore"
)

// Bounds of a repository's place below the served directory.
const (
	maxDepth        = 8
	maxSegmentBytes = 128
)

// target is what a path means.
type target struct {
	segments []string        // the repository's place, none for the root
	kind     chunkstore.Kind // zero for the repository itself
	name     chunkstore.Name // zero for the repository itself and for a listing
}

// repository returns the place as one string, which names no other repository.
func (t target) repository() string { return strings.Join(t.segments, "/") }

// listing reports whether all files of a kind are meant.
func (t target) listing() bool { return t.kind != 0 && t.name.Kind == 0 }

// parsePath reads "/[place/]", "/[place/]config", "/[place/]TYPE/" and "/[place/]TYPE/ID". What is read has no segment that a
// file system could take for anything but a plain name.
func parsePath(path string) (target, error) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return target{}, errPath
	}
	rest = strings.TrimSuffix(rest, "/")
	if rest == "" {
		if strings.HasSuffix(path, "//") {
			return target{}, errPath
		}
		return target{}, nil
	}
	if strings.Count(rest, "/") > maxDepth+1 {
		return target{}, errPath
	}
	segments := strings.Split(rest, "/")
	last := len(segments) - 1
	var t target
	kind := kindOf(segments[last])
	switch {
	case kind == chunkstore.Config:
		if strings.HasSuffix(path, "/") {
			return target{}, errPath
		}
		t = target{segments[:last], kind, chunkstore.Name{Kind: kind}}
	case kind != 0:
		t = target{segments: segments[:last], kind: kind}
	case last > 0 && kindOf(segments[last-1]) > chunkstore.Config:
		name, err := chunkstore.ParseName(segments[last-1] + "/" + segments[last])
		if err != nil || name.ID.Hex() != segments[last] || strings.HasSuffix(path, "/") {
			return target{}, errPath
		}
		t = target{segments[:last-1], name.Kind, name}
	default:
		t = target{segments: segments}
	}
	if len(t.segments) > maxDepth {
		return target{}, errPath
	}
	for _, s := range t.segments {
		if !plainSegment(s) {
			return target{}, errPath
		}
	}
	return t, nil
}

// kindOf returns the kind of files that a segment names, zero for none.
func kindOf(segment string) chunkstore.Kind {
	for _, k := range chunkstore.Kinds() {
		if k.String() == segment {
			return k
		}
	}
	return 0
}

// plainSegment reports whether s may be a directory's or a user's name: letters, digits and a few signs, the first of them a
// letter or a digit, and none of the names that mean something in a repository.
func plainSegment(s string) bool {
	if s == "" || len(s) > maxSegmentBytes || !utf8.ValidString(s) || kindOf(s) != 0 || s == "tmp" || s == "damaged" {
		return false
	}
	for i, r := range s {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || i > 0 && strings.ContainsRune("._-+@=", r) {
			continue
		}
		return false
	}
	return true
}
