package restore

import "dengbei/chunkstore/pattern"

// Include returns an [Options.Select] that restores what matches one of the sets, and what lies below that.
func Include(sets ...*pattern.Set) func(path string, dir bool) (selected, below bool) {
	return func(path string, dir bool) (selected, below bool) {
		for _, s := range sets {
			m, b := s.MatchBelow(path)
			selected, below = selected || m, below || b
		}
		return selected, dir && (selected || below)
	}
}

// Exclude returns an [Options.Select] that restores all but what matches one of the sets, and what lies below that.
func Exclude(sets ...*pattern.Set) func(path string, dir bool) (selected, below bool) {
	return func(path string, dir bool) (selected, below bool) {
		for _, s := range sets {
			if s.Match(path) {
				return false, false
			}
		}
		return true, dir
	}
}
