package pattern

import (
	"fmt"
	"path"
	"strings"
)

// Set is a list of patterns. A nil or empty Set matches nothing.
type Set struct {
	rules    []rule
	fold     bool // rules are in lower case
	negating bool
}

// rule is one pattern. Its segments are what stands between elements "**".
type rule struct {
	anchored bool // the pattern begins with a slash
	negated  bool
	elements int         // how many elements of a path it needs at least
	segments [][]element // never empty; a segment may be
}

// element is a pattern for one name.
type element struct {
	text  string
	plain bool // without wildcards
}

// Parse reads patterns; empty ones are passed over. It gives [ErrPattern] and names the line.
func Parse(lines []string) (*Set, error) { return parse(lines, false) }

// ParseFold is [Parse] for patterns that do not tell upper from lower case.
func ParseFold(lines []string) (*Set, error) { return parse(lines, true) }

func parse(lines []string, fold bool) (*Set, error) {
	s := &Set{fold: fold}
	for _, line := range lines {
		if line == "" || line == "!" {
			continue
		}
		r, err := parseRule(s.folded(line))
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", line, err)
		}
		s.rules = append(s.rules, r)
		s.negating = s.negating || r.negated
	}
	return s, nil
}

func parseRule(line string) (rule, error) {
	var r rule
	line, r.negated = strings.CutPrefix(line, "!")
	line, r.anchored = strings.CutPrefix(path.Clean(line), "/")
	var seg []element
	stars := 0
	for text := range strings.SplitSeq(line, "/") {
		switch {
		case text == "": // "/" alone
		case text == "**":
			r.segments = append(r.segments, seg)
			seg = nil
			stars++
		default:
			if _, err := path.Match(text, ""); err != nil {
				return r, ErrPattern
			}
			seg = append(seg, element{text, !strings.ContainsAny(text, `\[]*?`)})
			r.elements++
		}
	}
	r.segments = append(r.segments, seg)
	if r.elements == 0 && stars > 0 && !r.anchored {
		r.elements = 1 // "**" is any path, but the root is not a path
	}
	return r, nil
}

func (s *Set) folded(text string) string {
	if s.fold {
		return strings.ToLower(text)
	}
	return text
}

// Empty reports whether the set holds no pattern.
func (s *Set) Empty() bool { return s == nil || len(s.rules) == 0 }

// Match reports whether p, a path with slashes, matches.
func (s *Set) Match(p string) bool {
	matched, _ := s.match(p, false)
	return matched
}

// MatchBelow reports whether p matches, and whether something below the directory p may.
func (s *Set) MatchBelow(p string) (matched, below bool) { return s.match(p, true) }

func (s *Set) match(p string, wantBelow bool) (matched, below bool) {
	if s.Empty() || p == "" {
		return false, false
	}
	rest, rooted := strings.CutPrefix(s.folded(p), "/")
	var room [32]string // deep enough for nearly all paths
	names := room[:0]
	for name := range strings.SplitSeq(rest, "/") {
		if name != "" {
			names = append(names, name)
		}
	}
	for i := range s.rules {
		r := &s.rules[i]
		m := r.match(rooted, names)
		b := !wantBelow || r.matchBelow(rooted, names)
		if r.negated {
			matched, below = matched && !m, below && !m
			continue
		}
		matched, below = matched || m, below || b
		if matched && below && !s.negating {
			break // no later rule changes that
		}
	}
	return matched, below
}

// match reports whether a leading part of names that ends anywhere fits. As the end is free, taking the first place
// where a segment fits loses nothing.
func (r *rule) match(rooted bool, names []string) bool {
	if r.anchored && !rooted || len(names) < r.elements {
		return false
	}
	for i, seg := range r.segments {
		if i == 0 && r.anchored {
			if !fits(seg, names) {
				return false
			}
			names = names[len(seg):]
			continue
		}
		for !fits(seg, names) {
			if len(names) == 0 {
				return false
			}
			names = names[1:]
		}
		names = names[len(seg):]
	}
	return true
}

// matchBelow reports whether names may lead to a match.
func (r *rule) matchBelow(rooted bool, names []string) bool {
	if !r.anchored {
		return true
	}
	if !rooted {
		return false
	}
	head := r.segments[0]
	n := min(len(head), len(names))
	return fits(head[:n], names[:n])
}

// fits reports whether names begin with what seg describes.
func fits(seg []element, names []string) bool {
	if len(seg) > len(names) {
		return false
	}
	for i, e := range seg {
		if e.plain {
			if e.text != names[i] {
				return false
			}
		} else if ok, _ := path.Match(e.text, names[i]); !ok { // its form was checked
			return false
		}
	}
	return true
}
