package check

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Subset is a part of the packs. At most one of the three is set; the zero Subset is none.
type Subset struct {
	Group, Groups int     // the Group-th of Groups parts by the packs' names, from 1 on; at most 256 of them
	Percent       float64 // of the number of packs, above 0 and up to 100; at least one pack
	Bytes         int64   // packs until that many bytes are reached
}

// IsZero reports whether s is none.
func (s Subset) IsZero() bool { return s == Subset{} }

// ParseSubset reads "n/t", "x%" or a size with an optional suffix K, M, G or T, as stock restic does.
func ParseSubset(text string) (Subset, error) {
	bad := fmt.Errorf("%q: want n/t with 1 ≤ n ≤ t ≤ 256, a percentage such as 2.5%%, or a size such as 10G: %w", text, ErrSubset)
	if n, t, ok := strings.Cut(text, "/"); ok {
		group, err1 := strconv.Atoi(n)
		groups, err2 := strconv.Atoi(t)
		if err1 != nil || err2 != nil || group < 1 || group > groups || groups > 256 {
			return Subset{}, bad
		}
		return Subset{Group: group, Groups: groups}, nil
	}
	if p, ok := strings.CutSuffix(text, "%"); ok {
		x, err := strconv.ParseFloat(p, 64)
		if err != nil || !(x > 0 && x <= 100) {
			return Subset{}, bad
		}
		return Subset{Percent: x}, nil
	}
	digits := strings.TrimSuffix(strings.ToUpper(text), "B")
	shift := 0
	if i := strings.IndexByte("KMGT", last(digits)); i >= 0 {
		shift, digits = 10*(i+1), digits[:len(digits)-1]
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return Subset{}, bad
	}
	return Subset{Bytes: n << shift}, nil
}

func last(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

// pick returns those of order that are in s. order is the order in which packs are preferred; name returns the first byte
// of a pack's ID.
func (s Subset) pick(order []int, sizes []int64, name func(int) byte) []int {
	if s.Groups > 0 {
		var picked []int
		for _, i := range order {
			if int(name(i))%s.Groups == s.Group-1 {
				picked = append(picked, i)
			}
		}
		return picked
	}
	if s.Percent > 0 {
		n := int(math.Ceil(float64(len(order)) * s.Percent / 100))
		return order[:min(n, len(order))]
	}
	var sum int64
	for n, i := range order {
		if sum >= s.Bytes {
			return order[:n]
		}
		sum += sizes[i]
	}
	return order
}

func shuffle(order []int) {
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
}
