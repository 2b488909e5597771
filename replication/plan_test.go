package replication

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func holdingOf(id string, copies, urgency int, receipted uint64, sizes ...int64) Holding {
	h := Holding{Repository: id, Copies: copies, Urgency: urgency, Receipted: receipted}
	for i, n := range sizes {
		h.Manifests = append(h.Manifests, ManifestRef{Sequence: uint64(i) + 1, SizeBytes: n})
	}
	return h
}

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name     string
		assigned []Holding
		held     map[string]uint64
		want     []string
	}{
		{"nothing assigned", nil, nil, nil},
		{"a repository without a manifest", []Holding{holdingOf("a", 0, 0, 0)}, nil, nil},
		{"what is receipted is left out", []Holding{holdingOf("a", 0, 0, 2, 1, 2), holdingOf("b", 0, 0, 1, 1, 2)}, nil, []string{"b"}},
		{"what is confirmed and not shown yet is left out", []Holding{holdingOf("a", 0, 0, 1, 1, 2)}, map[string]uint64{"a": 2}, nil},
		{"never copied goes first, whatever the urgency", []Holding{holdingOf("a", 1, 9, 0, 1), holdingOf("b", 0, 0, 0, 1)}, nil, []string{"b", "a"}},
		{"then the more urgent", []Holding{holdingOf("a", 1, 0, 0, 1), holdingOf("b", 1, 5, 0, 9)}, nil, []string{"b", "a"}},
		{"then what is sooner done", []Holding{holdingOf("a", 1, 0, 0, 50), holdingOf("b", 1, 0, 1, 90, 99)}, nil, []string{"b", "a"}},
		{"then by name", []Holding{holdingOf("b", 0, 0, 0, 1), holdingOf("a", 0, 0, 0, 1)}, nil, []string{"a", "b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, w := range Plan(tt.assigned, tt.held) {
				got = append(got, w.Holding.Repository)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("Plan = %q; want %q", got, tt.want)
			}
		})
	}
}

func TestPlanIgnoresOrderProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []Holding
		for i := range rapid.IntRange(0, 8).Draw(t, "holdings") {
			all = append(all, holdingOf(string(rune('a'+i)), rapid.IntRange(0, 2).Draw(t, "copies"), rapid.IntRange(0, 2).Draw(t, "urgency"),
				uint64(rapid.IntRange(0, 3).Draw(t, "receipted")), 1, 5, 5))
		}
		shuffled := rapid.Permutation(all).Draw(t, "shuffled")
		plan := Plan(all, nil)
		if again := Plan(shuffled, nil); !reflect.DeepEqual(plan, again) {
			t.Fatalf("Plan = %+v; in another order %+v", plan, again)
		}
		for _, w := range plan {
			if w.From >= w.To || w.SizeBytes < 0 {
				t.Fatalf("work %+v", w)
			}
		}
	})
}
