package prune

import (
	"math"
	"time"
)

// decide gives each pack its action. Late in a run, packs that came since are left alone.
func (p *pruner) decide(late bool) {
	now := p.options.Now()
	marking := p.options.Phase != SweepOnly && !late
	p.survey.all(func(k *pack) {
		switch {
		case k.odd:
			k.action = keep // repair index puts it right
		case k.listed && k.used == 0 && marking:
			k.action = mark
			if k.size < 0 {
				k.action = drop
			}
		case k.listed:
			k.action = keep
		case k.marked && k.size < 0:
			k.action = drop
		case k.marked && k.used > 0:
			k.action = takeBack
		case k.marked && p.options.NoGrace && p.options.Phase != MarkOnly:
			k.action = remove
		case k.marked:
			k.action = p.age(k, now)
		case marking:
			k.action = mark // no index file names it: it may be of a backup at work
		default:
			k.action = keep
		}
	})
}

// age decides on a marked pack that nothing needs.
func (p *pruner) age(k *pack, now time.Time) action {
	if k.since == 0 || k.since > now.UnixNano() {
		return remark // the clock that set the mark, or this one, is wrong
	}
	if p.options.Phase != MarkOnly && now.Sub(time.Unix(0, k.since)) >= p.options.Grace {
		return remove
	}
	return keep
}

// account puts into the report what was decided. Late in a run only what is taken back is new.
func (p *pruner) account(late bool) {
	r := &p.report
	if late {
		p.survey.all(func(k *pack) {
			if k.action == takeBack {
				r.TakenBack.add(k.size)
			}
		})
		return
	}
	now := p.options.Now()
	due := int64(math.MaxInt64)
	wait := func(since int64) {
		if end := since + int64(p.options.Grace); end > since {
			due = min(due, end)
		}
	}
	p.survey.all(func(k *pack) {
		size := max(0, k.size)
		if k.size >= 0 {
			r.Before.add(size)
		}
		switch k.action {
		case keep:
			if k.listed {
				r.Kept.add(size)
				r.UnusedBytes += max(0, k.unused())
			} else if k.marked {
				r.Waiting.add(size)
				wait(k.since)
			}
		case remark:
			r.Waiting.add(size)
			wait(now.UnixNano())
		case mark:
			r.Marked.add(size)
			wait(now.UnixNano())
			if !k.listed {
				r.Unindexed.add(size)
			}
			if k.selected {
				r.Repacked.add(size)
			}
		case takeBack:
			r.TakenBack.add(size)
			r.Kept.add(size)
		case remove:
			if p.options.DryRun {
				r.Removed.add(size)
			}
		case drop:
			r.Forgotten++
		}
	})
	if p.options.DryRun && p.options.NoGrace && p.options.Phase != MarkOnly {
		r.Removed.Packs += r.Marked.Packs
		r.Removed.Bytes += r.Marked.Bytes
	}
	if due != math.MaxInt64 && !p.options.NoGrace {
		r.Due = time.Unix(0, due).UTC()
	}
}
