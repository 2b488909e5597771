package retention

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dengbei/chunkstore/repository"
)

// Unlimited, as a count, keeps one of every period there is.
const Unlimited = -1

// FutureTolerance is how far ahead of this machine's clock the time of a snapshot may be. A day covers a clock that was
// set to the wrong time zone.
const FutureTolerance = 24 * time.Hour

// Policy says what is kept: whatever one of its rules wants. The zero Policy has no rule and keeps everything.
type Policy struct {
	// Counts of the newest snapshots, and of the hours, days, ISO weeks, months and years of which the newest snapshot is
	// kept. 0 is no rule, [Unlimited] no end.
	Last, Hourly, Daily, Weekly, Monthly, Yearly int

	// Within keeps everything younger than the newest snapshot by less than this.
	Within Duration

	// Of the hours, days, ISO weeks, months and years within these durations before the newest snapshot, the newest one of
	// each is kept.
	WithinHourly, WithinDaily, WithinWeekly, WithinMonthly, WithinYearly Duration

	// Tags keeps every snapshot that carries all tags of one of the lists. An empty tag is had by one without tags.
	Tags [][]string
}

// Empty reports whether p has no rule.
func (p Policy) Empty() bool {
	return p.Last == 0 && p.Hourly == 0 && p.Daily == 0 && p.Weekly == 0 && p.Monthly == 0 && p.Yearly == 0 && len(p.Tags) == 0 &&
		p.Within.IsZero() && p.WithinHourly.IsZero() && p.WithinDaily.IsZero() && p.WithinWeekly.IsZero() && p.WithinMonthly.IsZero() &&
		p.WithinYearly.IsZero()
}

// Check refuses counts below [Unlimited], with [ErrSyntax].
func (p Policy) Check() error {
	for _, r := range p.rules() {
		if r.count < Unlimited {
			return fmt.Errorf("keep %d %s: %w: want a number, or -1 or unlimited for all", r.count, r.name, ErrSyntax)
		}
	}
	return nil
}

// String says what p keeps.
func (p Policy) String() string {
	var parts []string
	for _, r := range p.rules() {
		if r.count != 0 {
			n := "all"
			if r.count > 0 {
				n = strconv.Itoa(r.count)
			}
			parts = append(parts, n+" "+r.name)
		}
	}
	if !p.Within.IsZero() {
		parts = append(parts, "all within "+p.Within.String())
	}
	for _, r := range p.rulesWithin() {
		if !r.within.IsZero() {
			parts = append(parts, r.name+" within "+r.within.String())
		}
	}
	for _, l := range p.Tags {
		parts = append(parts, "all with tags "+tagList(l))
	}
	if parts == nil {
		return "keep everything"
	}
	return "keep " + strings.Join(parts, ", ")
}

func tagList(tags []string) string { return "[" + strings.Join(tags, ", ") + "]" }

// rule keeps the newest snapshot of each period, either of count periods or of those within a duration.
type rule struct {
	name   string
	period func(t time.Time, nr int) int
	count  int
	within Duration
	last   int // the period of the snapshot kept last
}

// noPeriod is before every period that a snapshot can lie in.
const noPeriod = -1 << 62

func (p Policy) rules() []rule {
	return []rule{
		{"last", func(_ time.Time, nr int) int { return nr }, p.Last, Duration{}, noPeriod},
		{"hourly", hour, p.Hourly, Duration{}, noPeriod},
		{"daily", day, p.Daily, Duration{}, noPeriod},
		{"weekly", week, p.Weekly, Duration{}, noPeriod},
		{"monthly", month, p.Monthly, Duration{}, noPeriod},
		{"yearly", year, p.Yearly, Duration{}, noPeriod},
	}
}

func (p Policy) rulesWithin() []rule {
	return []rule{
		{"hourly", hour, 0, p.WithinHourly, noPeriod},
		{"daily", day, 0, p.WithinDaily, noPeriod},
		{"weekly", week, 0, p.WithinWeekly, noPeriod},
		{"monthly", month, 0, p.WithinMonthly, noPeriod},
		{"yearly", year, 0, p.WithinYearly, noPeriod},
	}
}

func hour(t time.Time, nr int) int  { return day(t, nr)*100 + t.Hour() }
func day(t time.Time, nr int) int   { return month(t, nr)*100 + t.Day() }
func month(t time.Time, nr int) int { return year(t, nr)*100 + int(t.Month()) }
func year(t time.Time, _ int) int   { return t.Year() }

// week counts by ISO 8601: the last days of December may lie in the first week of the next year.
func week(t time.Time, _ int) int {
	y, w := t.ISOWeek()
	return y*100 + w
}

// Counters is how many more snapshots each counted rule could keep after a snapshot was kept. Names and order of fields
// are stock restic's.
type Counters struct {
	Last    int `json:"last,omitempty"`
	Hourly  int `json:"hourly,omitempty"`
	Daily   int `json:"daily,omitempty"`
	Weekly  int `json:"weekly,omitempty"`
	Monthly int `json:"monthly,omitempty"`
	Yearly  int `json:"yearly,omitempty"`
}

// Kept is a snapshot that stays and every reason why.
type Kept struct {
	Snapshot *repository.Snapshot
	Reasons  []string
	Counters Counters
}

// Decision is what becomes of one group, the newest first.
type Decision struct {
	Key    Key
	Keep   []Kept
	Remove []*repository.Snapshot

	// Future are those in Keep whose time is more than [FutureTolerance] after now. They took no place of others.
	Future []*repository.Snapshot
}

// Emptied reports whether the group has whole snapshots and none of them is kept.
func (d *Decision) Emptied() bool {
	whole := func(sn *repository.Snapshot) bool { return !sn.Partial() }
	return slices.ContainsFunc(d.Remove, whole) && !slices.ContainsFunc(d.Keep, func(k Kept) bool { return whole(k.Snapshot) })
}

// Apply decides about one group of snapshots, given in any order.
func (p Policy) Apply(list []*repository.Snapshot, now time.Time) Decision {
	var d Decision
	list = newestFirst(list)
	if p.Empty() {
		for _, sn := range list {
			d.Keep = append(d.Keep, Kept{sn, []string{"policy is empty"}, Counters{}})
		}
		return d
	}
	b := bench{policy: p, rules: p.rules(), within: p.rulesWithin()}
	for _, sn := range list { // the newest first, so that the first fit is the latest
		if !future(sn, now) && !sn.Partial() {
			b.latest = sn.Time
			break
		}
	}
	newer := false // a snapshot that is not in the future has been seen
	nr := 0
	for _, sn := range list {
		reasons := b.tagged(sn)
		switch {
		case future(sn, now):
			d.Future = append(d.Future, sn)
			reasons = append(reasons, "time is in the future")
		case sn.Partial():
			if !newer {
				reasons = append(reasons, "partial, nothing later")
			}
			newer = true
		default:
			reasons = append(reasons, b.judge(sn, nr)...)
			newer = true
			nr++
		}
		if reasons == nil {
			d.Remove = append(d.Remove, sn)
		} else {
			d.Keep = append(d.Keep, Kept{sn, reasons, b.counters()})
		}
	}
	return d
}

func future(sn *repository.Snapshot, now time.Time) bool {
	return sn.Time.After(now.Add(FutureTolerance))
}

// bench is where a policy judges one group.
type bench struct {
	policy        Policy
	rules, within []rule
	latest        time.Time
}

// tagged returns the reasons to keep sn for its tags.
func (b *bench) tagged(sn *repository.Snapshot) []string {
	var reasons []string
	for _, l := range b.policy.Tags {
		if sn.HasTags(l) {
			reasons = append(reasons, "has tags "+tagList(l))
		}
	}
	return reasons
}

// judge returns the reasons to keep sn, the whole snapshot number nr from the newest on.
func (b *bench) judge(sn *repository.Snapshot, nr int) []string {
	var reasons []string
	if w := b.policy.Within; !w.IsZero() && sn.Time.After(w.before(b.latest)) {
		reasons = append(reasons, "within "+w.String())
	}
	for i := range b.rules {
		r := &b.rules[i]
		if at := r.period(sn.Time, nr); r.count != 0 && at != r.last {
			r.last = at
			if r.count > 0 {
				r.count--
			}
			reasons = append(reasons, r.name+" snapshot")
		}
	}
	for i := range b.within {
		r := &b.within[i]
		if r.within.IsZero() || !sn.Time.After(r.within.before(b.latest)) {
			continue
		}
		if at := r.period(sn.Time, nr); at != r.last {
			r.last = at
			reasons = append(reasons, r.name+" within "+r.within.String())
		}
	}
	return reasons
}

func (b *bench) counters() Counters {
	r := b.rules
	return Counters{r[0].count, r[1].count, r[2].count, r[3].count, r[4].count, r[5].count}
}

// Decide applies p to each group.
func Decide(groups []Group, p Policy, now time.Time) []Decision {
	var all []Decision
	for _, g := range groups {
		d := p.Apply(g.Snapshots, now)
		d.Key = g.Key
		all = append(all, d)
	}
	return all
}
