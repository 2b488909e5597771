package term

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Progress shows how far a long step is: a bar on a terminal, a plain line every few seconds elsewhere, nothing with --json.
type Progress struct {
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

// NewProgress starts showing; [Progress.End] must be called.
func (c *Console) NewProgress(title string, total int64, bytes bool) *Progress {
	p := &Progress{w: c.Err, title: title, bytes: bytes, every: 3 * time.Second}
	p.total.Store(total)
	p.last.Store(time.Now().UnixNano())
	if c.JSON {
		p.w = io.Discard
		return p
	}
	if IsTerminal(c.Err) {
		p.bars = mpb.New(mpb.WithOutput(c.Err), mpb.WithWidth(48), mpb.WithRefreshRate(120*time.Millisecond))
		counter := decor.CountersNoUnit(" %d / %d")
		if bytes {
			counter = decor.CountersKibiByte(" % .1f / % .1f")
		}
		p.bar = p.bars.AddBar(total, mpb.PrependDecorators(decor.Name(title)),
			mpb.AppendDecorators(counter, decor.Name("  "), decor.AverageETA(decor.ET_STYLE_GO)))
	}
	return p
}

// Add moves the progress on by n.
func (p *Progress) Add(n int64) { p.Set(p.done.Add(n), p.total.Load()) }

// Set places the progress at done of total.
func (p *Progress) Set(done, total int64) {
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

func (p *Progress) line() {
	done, total := p.done.Load(), p.total.Load()
	if p.bytes {
		fmt.Fprintf(p.w, "%s: %s of %s\n", p.title, ByteCount(uint64(max(done, 0))), ByteCount(uint64(max(total, 0))))
		return
	}
	if total == 0 { // not known
		fmt.Fprintf(p.w, "%s: %d\n", p.title, done)
		return
	}
	fmt.Fprintf(p.w, "%s: %d of %d\n", p.title, done, total)
}

// End takes the bar away and waits until it is drawn for the last time.
func (p *Progress) End() {
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

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Mode()&os.ModeDevice != 0 && f.Name() != os.DevNull
}

// Phase is set for work in several parts: the title of plain lines follows the part.
func (p *Progress) Phase(title string, done, total int64) {
	if title != p.title {
		p.title = title
		p.last.Store(0) // a new part is worth a line at once
	}
	p.Set(done, total)
}

// Above returns a writer whose lines appear above the bar; where there is none, it is w.
func (p *Progress) Above(w io.Writer) io.Writer {
	if p.bars == nil {
		return w
	}
	return p.bars
}
