package retention

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

func TestApply(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name   string
		policy Policy
		give   []string // time, then tags
		keep   []string // time: reasons
	}{
		{"no rule keeps everything", Policy{}, []string{"2026-01-01T00:00", "2026-01-02T00:00"},
			[]string{"2026-01-02T00:00: policy is empty", "2026-01-01T00:00: policy is empty"}},
		{"the last", Policy{Last: 1}, []string{"2026-01-01T00:00", "2026-01-02T00:00"}, []string{"2026-01-02T00:00: last snapshot"}},
		{"of an hour the newest", Policy{Hourly: 2}, []string{"2026-01-01T10:05", "2026-01-01T10:59", "2026-01-01T11:00", "2026-01-01T09:00"},
			[]string{"2026-01-01T11:00: hourly snapshot", "2026-01-01T10:59: hourly snapshot"}},
		{"days without snapshots are not counted", Policy{Daily: 2}, []string{"2026-01-01T10:00", "2026-01-09T10:00", "2026-01-09T23:00"},
			[]string{"2026-01-09T23:00: daily snapshot", "2026-01-01T10:00: daily snapshot"}},
		{"weeks begin on Monday", Policy{Weekly: 2}, []string{"2026-01-04T10:00", "2026-01-05T10:00", "2026-01-11T10:00"},
			[]string{"2026-01-11T10:00: weekly snapshot", "2026-01-04T10:00: weekly snapshot"}},
		{"a week across the new year is one", Policy{Weekly: 5}, []string{"2025-12-29T10:00", "2026-01-04T10:00"},
			[]string{"2026-01-04T10:00: weekly snapshot"}},
		{"months", Policy{Monthly: 2}, []string{"2025-01-31T10:00", "2026-01-01T10:00", "2026-01-31T10:00"},
			[]string{"2026-01-31T10:00: monthly snapshot", "2025-01-31T10:00: monthly snapshot"}},
		{"years without end", Policy{Yearly: Unlimited}, []string{"2020-01-31T10:00", "2021-01-01T10:00", "2021-12-31T10:00"},
			[]string{"2021-12-31T10:00: yearly snapshot", "2020-01-31T10:00: yearly snapshot"}},
		{"rules add up", Policy{Last: 1, Yearly: 1}, []string{"2020-01-31T10:00", "2021-01-01T10:00"},
			[]string{"2021-01-01T10:00: last snapshot, yearly snapshot"}},
		{"days are those of the snapshot's own zone", Policy{Daily: 9}, []string{"2026-01-01T23:00+08:00", "2026-01-02T01:00+08:00", "2026-01-01T18:00Z"},
			[]string{"2026-01-01T18:00Z: daily snapshot", "2026-01-02T01:00+08:00: daily snapshot", "2026-01-01T23:00+08:00: daily snapshot"}},
		{"within is from the newest on", Policy{Within: Duration{Days: 1}}, []string{"2020-01-01T10:00", "2020-01-02T09:59", "2020-01-02T10:00", "2020-01-01T10:01"},
			[]string{"2020-01-02T10:00: within 1d", "2020-01-02T09:59: within 1d", "2020-01-01T10:01: within 1d"}},
		{"months by the calendar", Policy{WithinDaily: Duration{Months: 1}}, []string{"2020-02-29T10:00", "2020-01-29T10:01", "2020-01-29T09:59"},
			[]string{"2020-02-29T10:00: daily within 1m", "2020-01-29T10:01: daily within 1m"}},
		{"tags", Policy{Tags: [][]string{{"a", "b"}, {"c"}}}, []string{"2020-01-01T10:00 a b x", "2020-01-02T10:00 a", "2020-01-03T10:00 c"},
			[]string{"2020-01-03T10:00: has tags [c]", "2020-01-01T10:00: has tags [a, b]"}},
		{"without tags", Policy{Tags: [][]string{{""}}}, []string{"2020-01-01T10:00 a", "2020-01-02T10:00"},
			[]string{"2020-01-02T10:00: has tags []"}},
		{"a tagged one counts as well", Policy{Last: 1, Tags: [][]string{{"a"}}}, []string{"2020-01-01T10:00", "2020-01-02T10:00 a"},
			[]string{"2020-01-02T10:00: has tags [a], last snapshot"}},

		{"a wrong clock pushes nobody out", Policy{Last: 1, Within: Duration{Hours: 1}}, []string{"2026-02-28T10:00", "2030-01-01T10:00", "2030-01-01T10:01"},
			[]string{"2030-01-01T10:01: time is in the future", "2030-01-01T10:00: time is in the future", "2026-02-28T10:00: within 1h, last snapshot"}},
		{"a clock a little ahead is none", Policy{Last: 1}, []string{"2026-02-28T10:00", "2026-03-01T23:59"},
			[]string{"2026-03-01T23:59: last snapshot"}},
		{"a partial one takes no place", Policy{Last: 1}, []string{"2026-01-01T10:00", "2026-01-02T10:00 partial", "2026-01-03T10:00 partial"},
			[]string{"2026-01-03T10:00: partial, nothing later", "2026-01-01T10:00: last snapshot"}},
		{"a partial one goes when a whole one follows", Policy{Last: 9, Within: Duration{Years: 9}}, []string{"2026-01-01T10:00 partial", "2026-01-02T10:00"},
			[]string{"2026-01-02T10:00: within 9y, last snapshot"}},
		{"within is from the newest whole one on", Policy{Within: Duration{Days: 1}}, []string{"2026-01-01T10:00", "2026-01-05T10:00 partial"},
			[]string{"2026-01-05T10:00: partial, nothing later", "2026-01-01T10:00: within 1d"}},
		{"a partial one may be asked for", Policy{Last: 1, Tags: [][]string{{"partial"}}}, []string{"2026-01-01T10:00 partial", "2026-01-02T10:00"},
			[]string{"2026-01-02T10:00: last snapshot", "2026-01-01T10:00: has tags [partial]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var list []*repository.Snapshot
			names := make(map[digest.Digest]string)
			for _, g := range tt.give {
				words := strings.Fields(g)
				sn := at(t, words[0], words[1:]...)
				names[sn.ID] = words[0]
				list = append(list, sn)
			}
			d := tt.policy.Apply(list, now)
			var got []string
			for _, k := range d.Keep {
				got = append(got, names[k.Snapshot.ID]+": "+strings.Join(k.Reasons, ", "))
			}
			if !slices.Equal(got, tt.keep) {
				t.Errorf("Apply(%q) keeps\n%q; want\n%q", tt.give, got, tt.keep)
			}
			if len(d.Keep)+len(d.Remove) != len(list) {
				t.Errorf("Apply keeps %d and removes %d of %d", len(d.Keep), len(d.Remove), len(list))
			}
		})
	}
}

func TestEmptied(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	a, b, p := at(t, "2026-01-01T10:00"), at(t, "2026-01-02T10:00", "x"), at(t, "2026-01-03T10:00", "partial")
	nothing := Policy{Tags: [][]string{{"none"}}}
	for _, tt := range []struct {
		name string
		p    Policy
		give []*repository.Snapshot
		want bool
	}{
		{"one is left", Policy{Tags: [][]string{{"x"}}}, []*repository.Snapshot{a, b}, false},
		{"none is left", nothing, []*repository.Snapshot{a, b}, true},
		{"a partial one is left", nothing, []*repository.Snapshot{a, b, p}, true},
		{"there were partial ones only", nothing, []*repository.Snapshot{p, at(t, "2026-01-01T10:00", "partial")}, false},
		{"there was nothing", nothing, nil, false},
		{"one of the future is left", nothing, []*repository.Snapshot{a, at(t, "2036-01-01T10:00")}, false},
	} {
		if d := tt.p.Apply(tt.give, now); d.Emptied() != tt.want {
			t.Errorf("%s: Emptied() = %v", tt.name, !tt.want)
		}
	}
}

// Whatever the rules: nothing is lost or doubled, the newest whole snapshot stays if a rule counts, and deciding again
// about what was kept keeps all of it when the rules only count.
func TestApplyProperties(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		var list []*repository.Snapshot
		for i, hours := range rapid.SliceOfN(rapid.IntRange(-60_000, 60_000), 0, 30).Draw(t, "hours") {
			zone := time.FixedZone("", rapid.IntRange(-12, 14).Draw(t, "zone")*3600)
			sn := &repository.Snapshot{Time: now.Add(-time.Duration(hours) * time.Hour).In(zone), ID: digest.Of([]byte{byte(i)})}
			if rapid.IntRange(0, 4).Draw(t, "partial") == 0 {
				sn.Tags = []string{repository.PartialTag}
			}
			list = append(list, sn)
		}
		count := rapid.IntRange(0, 4)
		p := Policy{Last: count.Draw(t, "last"), Hourly: count.Draw(t, "hourly"), Daily: count.Draw(t, "daily"), Weekly: count.Draw(t, "weekly"),
			Monthly: count.Draw(t, "monthly"), Yearly: count.Draw(t, "yearly")}
		d := p.Apply(list, now)
		seen := make(map[digest.Digest]bool)
		var kept []*repository.Snapshot
		whole := 0
		for _, k := range d.Keep {
			seen[k.Snapshot.ID] = true
			kept = append(kept, k.Snapshot)
			if len(k.Reasons) == 0 {
				t.Fatalf("%v is kept without a reason", k.Snapshot)
			}
			if !future(k.Snapshot, now) && !k.Snapshot.Partial() {
				whole++
			}
		}
		for _, sn := range d.Remove {
			seen[sn.ID] = true
			if future(sn, now) {
				t.Fatalf("%v of the future is removed", sn)
			}
		}
		if len(seen) != len(list) || len(d.Keep)+len(d.Remove) != len(list) {
			t.Fatalf("of %d snapshots %d are kept and %d removed", len(list), len(d.Keep), len(d.Remove))
		}
		if d.Emptied() {
			t.Fatalf("%v leaves nothing", p)
		}
		if most := p.Last + p.Hourly + p.Daily + p.Weekly + p.Monthly + p.Yearly; !p.Empty() && whole > most {
			t.Fatalf("%v keeps %d", p, whole)
		}
		if again := p.Apply(kept, now); len(again.Remove) > 0 {
			t.Fatalf("%v keeps %v once and removes %v the second time", p, kept, again.Remove)
		}
	})
}

func TestPolicyText(t *testing.T) {
	for _, tt := range []struct {
		give Policy
		want string
	}{
		{Policy{}, "keep everything"},
		{Policy{Last: 3, Yearly: Unlimited, Within: Duration{Hours: 2}, WithinDaily: Duration{Years: 1}, Tags: [][]string{{"a", "b"}}},
			"keep 3 last, all yearly, all within 2h, daily within 1y, all with tags [a, b]"},
	} {
		if got := tt.give.String(); got != tt.want {
			t.Errorf("%#v = %q; want %q", tt.give, got, tt.want)
		}
	}
	if err := (Policy{Daily: -2}).Check(); !errors.Is(err, ErrSyntax) {
		t.Errorf("Check() = %v; want ErrSyntax", err)
	}
	if err := (Policy{Daily: Unlimited}).Check(); err != nil {
		t.Errorf("Check() = %v", err)
	}
}

func TestParseDuration(t *testing.T) {
	for _, tt := range []struct {
		give string
		want Duration
		ok   bool
	}{
		{"", Duration{}, true}, {"1y5m7d2h", Duration{1, 5, 7, 2}, true}, {"2h1y", Duration{1, 0, 0, 2}, true}, {"0d", Duration{}, true},
		{"5", Duration{}, false}, {"h", Duration{}, false}, {"1w", Duration{}, false}, {"-1h", Duration{}, false}, {"+1h", Duration{}, false},
		{"1h2h", Duration{}, false}, {"1 h", Duration{}, false}, {"1H", Duration{}, false}, {"100001y", Duration{}, false},
		{"99999999999999999999h", Duration{}, false}, {"1hh", Duration{}, false},
	} {
		got, err := ParseDuration(tt.give)
		if got != tt.want || (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrSyntax) {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v, %v", tt.give, got, err, tt.want, tt.ok)
		}
		if again, err := ParseDuration(got.String()); tt.ok && (err != nil || again != got) {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", got.String(), again, err, got)
		}
	}
}

func TestGroups(t *testing.T) {
	one := &repository.Snapshot{ID: digest.Of([]byte("1")), Hostname: "a", Paths: []string{"/y", "/x"}, Tags: []string{"t", "s"}, Time: time.Unix(1, 0)}
	two := &repository.Snapshot{ID: digest.Of([]byte("2")), Hostname: "a", Paths: []string{"/x", "/y"}, Tags: []string{"s", "t", "partial"}, Time: time.Unix(2, 0)}
	three := &repository.Snapshot{ID: digest.Of([]byte("3")), Hostname: "b", Paths: []string{"/x"}, Time: time.Unix(3, 0)}
	for _, tt := range []struct {
		by   string
		want []string
	}{
		{"", []string{"all snapshots: 3 2 1"}},
		{"host", []string{`host "a": 2 1`, `host "b": 3`}},
		{"host,paths", []string{`host "a", paths ["/x" "/y"]: 2 1`, `host "b", paths ["/x"]: 3`}},
		{"tags", []string{`all snapshots: 3`, `tags ["s" "t"]: 2 1`}},
	} {
		by, err := ParseGroupBy(tt.by)
		must(t, err)
		var got []string
		for _, g := range by.Groups([]*repository.Snapshot{one, two, three}) {
			s := g.Key.String() + ":"
			for _, sn := range g.Snapshots {
				s += map[*repository.Snapshot]string{one: " 1", two: " 2", three: " 3"}[sn]
			}
			got = append(got, s)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("by %q = %q; want %q", tt.by, got, tt.want)
		}
	}
	if one.Paths[0] != "/y" {
		t.Error("grouping changed a snapshot")
	}
	if _, err := ParseGroupBy("host,colour"); !errors.Is(err, ErrSyntax) {
		t.Errorf("ParseGroupBy(colour) = %v; want ErrSyntax", err)
	}
}
