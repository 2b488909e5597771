package repo

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"dengbei/chunkstore/archive"
	"dengbei/cmd/dengbei/term"
)

// scanAfter is how long a backup runs before it is counted how much there is: a short one needs no estimate.
const scanAfter = 2 * time.Second

// watch shows how a backup goes on: a line that is drawn anew on a terminal, now and then a line elsewhere, events with
// --json.
type watch struct {
	r        *commands
	started  time.Time
	terminal bool
	problems atomic.Int64

	done  atomic.Pointer[archive.Progress]
	total atomic.Pointer[archive.Estimate]
	whole atomic.Bool // the estimate is complete

	mu    sync.Mutex // guards writing to the terminal
	drawn bool       // a line that is to be drawn over
}

func (r *commands) newWatch() *watch {
	w := &watch{r: r, started: time.Now(), terminal: term.IsTerminal(r.Err) && !r.JSON}
	w.done.Store(&archive.Progress{})
	w.total.Store(&archive.Estimate{})
	return w
}

func (w *watch) progress(p archive.Progress) { w.done.Store(&p) }

// problem tells of a file that could not be read.
func (w *watch) problem(path string, err error) {
	w.problems.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.r.JSON {
		errorEvent(w.r.Err, "archival", path, err)
		return
	}
	w.wipe()
	w.r.Note("error: %s: %v", term.Safe(path), err)
}

// start shows progress until the function it returns is called.
func (w *watch) start(ctx context.Context, o archive.Options, noScan bool) (stop func()) {
	if w.r.opener.quiet {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		every := 5 * time.Second
		switch {
		case w.terminal:
			every = 200 * time.Millisecond
		case w.r.JSON:
			every = time.Second
		}
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.show()
			case <-ctx.Done():
				return
			}
		}
	})
	if !noScan {
		wait.Go(func() {
			select {
			case <-time.After(scanAfter):
			case <-ctx.Done():
				return
			}
			if archive.Scan(ctx, o, func(e archive.Estimate) { w.total.Store(&e) }) == nil {
				w.whole.Store(true)
			}
		})
	}
	return func() {
		cancel()
		wait.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wipe()
	}
}

// statusEvent is how far a backup is, as stock restic has it.
type statusEvent struct {
	MessageType      string  `json:"message_type"`
	SecondsElapsed   int64   `json:"seconds_elapsed,omitempty"`
	SecondsRemaining int64   `json:"seconds_remaining,omitempty"`
	PercentDone      float64 `json:"percent_done"`
	TotalFiles       int     `json:"total_files,omitempty"`
	FilesDone        int     `json:"files_done,omitempty"`
	TotalBytes       int64   `json:"total_bytes,omitempty"`
	BytesDone        int64   `json:"bytes_done,omitempty"`
	ErrorCount       int64   `json:"error_count,omitempty"`
}

func (w *watch) status() (e statusEvent, rate float64) {
	done, total, elapsed := w.done.Load(), w.total.Load(), time.Since(w.started)
	e = statusEvent{
		MessageType: "status", SecondsElapsed: int64(elapsed.Seconds()), FilesDone: done.Files, BytesDone: done.Bytes,
		ErrorCount: w.problems.Load(),
	}
	rate = float64(done.Bytes) / max(elapsed.Seconds(), 1e-3)
	if total.Files > 0 { // files come and go meanwhile
		e.TotalFiles, e.TotalBytes = max(total.Files, done.Files), max(total.Bytes, done.Bytes)
	}
	if w.whole.Load() && e.TotalBytes > 0 {
		e.PercentDone = float64(e.BytesDone) / float64(e.TotalBytes)
		if rate > 0 {
			e.SecondsRemaining = int64(float64(e.TotalBytes-e.BytesDone) / rate)
		}
	}
	return e, rate
}

func (w *watch) show() {
	e, rate := w.status()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.r.JSON {
		_ = w.r.Event(e) // the result's failure to print is reported
		return
	}
	line := fmt.Sprintf("backup: %s, %d files, %s/s", term.ByteCount(uint64(e.BytesDone)), e.FilesDone, term.ByteCount(uint64(rate)))
	if w.whole.Load() {
		line = fmt.Sprintf("backup: %.1f %%, %s of %s, %d of %d files, %s/s, %s left", 100*e.PercentDone, term.ByteCount(uint64(e.BytesDone)),
			term.ByteCount(uint64(e.TotalBytes)), e.FilesDone, e.TotalFiles, term.ByteCount(uint64(rate)), minutes(time.Duration(e.SecondsRemaining)*time.Second))
	}
	if e.ErrorCount > 0 {
		line += fmt.Sprintf(", %d errors", e.ErrorCount)
	}
	if w.terminal {
		fmt.Fprintf(w.r.Err, "\r\x1b[K%s", line)
		w.drawn = true
		return
	}
	w.r.Note("%s", line)
}

// wipe takes the drawn line away. The caller holds mu.
func (w *watch) wipe() {
	if w.drawn {
		fmt.Fprint(w.r.Err, "\r\x1b[K")
		w.drawn = false
	}
}
