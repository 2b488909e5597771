package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows how far a long step is: a bar on a terminal, a plain line every few seconds elsewhere, nothing with --json.
type progress struct {
	w     io.Writer
	title string
	total atomic.Int64
	done  atomic.Int64
	bytes bool

	bars *mpb.Progress
	bar  *mpb.Bar

	every time.Duration
	last  atomic.Int64 // UnixNano of the last plain line
}

// newProgress starts showing; end must be called.
func (a *app) newProgress(title string, total int64, bytes bool) *progress {
	p := &progress{w: a.std.err, title: title, bytes: bytes, every: 3 * time.Second}
	p.total.Store(total)
	p.last.Store(time.Now().UnixNano())
	if a.json {
		p.w = io.Discard
		return p
	}
	if isTerminal(a.std.err) {
		p.bars = mpb.New(mpb.WithOutput(a.std.err), mpb.WithWidth(48), mpb.WithRefreshRate(120*time.Millisecond))
		counter := decor.CountersNoUnit(" %d / %d")
		if bytes {
			counter = decor.CountersKibiByte(" % .1f / % .1f")
		}
		p.bar = p.bars.AddBar(total, mpb.PrependDecorators(decor.Name(title)),
			mpb.AppendDecorators(counter, decor.Name("  "), decor.AverageETA(decor.ET_STYLE_GO)))
	}
	return p
}

// add moves the progress on by n.
func (p *progress) add(n int64) { p.set(p.done.Add(n), p.total.Load()) }

// set places the progress at done of total.
func (p *progress) set(done, total int64) {
	p.done.Store(done)
	p.total.Store(total)
	if p.bar != nil {
		p.bar.SetTotal(total, false)
		p.bar.SetCurrent(done)
		return
	}
	last, now := p.last.Load(), time.Now().UnixNano()
	if now-last > int64(p.every) && p.last.CompareAndSwap(last, now) {
		p.line()
	}
}

func (p *progress) line() {
	done, total := p.done.Load(), p.total.Load()
	if p.bytes {
		fmt.Fprintf(p.w, "%s: %s of %s\n", p.title, byteCount(uint64(max(done, 0))), byteCount(uint64(max(total, 0))))
		return
	}
	if total == 0 { // not known
		fmt.Fprintf(p.w, "%s: %d\n", p.title, done)
		return
	}
	fmt.Fprintf(p.w, "%s: %d of %d\n", p.title, done, total)
}

// end takes the bar away and waits until it is drawn for the last time.
func (p *progress) end() {
	if p.bar == nil {
		return
	}
	if done := p.done.Load(); done >= p.total.Load() {
		p.bar.SetTotal(done, true)
	} else {
		p.bar.Abort(false)
	}
	p.bars.Wait()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Mode()&os.ModeDevice != 0 && f.Name() != os.DevNull
}

// phase is set for work in several parts: the title of plain lines follows the part.
func (p *progress) phase(title string, done, total int64) {
	if title != p.title {
		p.title = title
		p.last.Store(0) // a new part is worth a line at once
	}
	p.set(done, total)
}
