package replication

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"dengbei/replication/manifest"
)

// State is what a repository is at.
type State string

// The states of a repository.
const (
	StateWaiting  State = "waiting"  // its turn has not come
	StateFetching State = "fetching" // being brought up to date
	StateKept     State = "kept"     // the newest manifest is confirmed
	StateFailed   State = "failed"   // the last attempt failed; Status.Retry tells when the next one is
	StateFull     State = "full"     // it failed for lack of room
)

// Status is a snapshot of one repository.
type Status struct {
	Repository string
	State      State
	Sequence   uint64 // newest manifest that is confirmed
	Target     uint64 // newest manifest there is

	// Of the files that this attempt found missing, up to now:
	Files, FilesDone int
	Bytes, BytesDone int64

	BytesPerSecond float64   // mean of this attempt, on the wire
	LastError      error     // of the last attempt that failed; nil after a success
	Retry          time.Time // when a failed repository is tried again, zero otherwise
}

// Status returns a snapshot of every repository assigned, sorted by name.
func (r *Replicator) Status() []Status {
	r.mu.Lock()
	repos := make([]*progress, 0, len(r.repos))
	for _, p := range r.repos {
		repos = append(repos, p)
	}
	r.mu.Unlock()
	all := make([]Status, 0, len(repos))
	for _, p := range repos {
		all = append(all, p.snapshot())
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Repository, b.Repository) })
	return all
}

// progress is the running account behind a Status.
type progress struct {
	mu       sync.Mutex // guards all below; held for arithmetic only
	s        Status
	wire     int64 // bytes of this attempt on the wire
	began    time.Time
	ended    time.Time
	failures int
}

func newProgress(h Holding) *progress {
	p := &progress{s: Status{Repository: h.Repository, State: StateWaiting, Sequence: h.Receipted}}
	if last, ok := h.last(); ok {
		p.s.Target = last.Sequence
		if h.Receipted >= last.Sequence {
			p.s.State = StateKept
		}
	}
	return p
}

func (p *progress) snapshot() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.s
	end := p.ended
	if s.State == StateFetching {
		end = time.Now()
	}
	if d := end.Sub(p.began).Seconds(); d > 0 {
		s.BytesPerSecond = float64(p.wire) / d
	}
	return s
}

// due returns when the next attempt may start.
func (p *progress) due() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.s.Retry
}

// target notes that there is work to do.
func (p *progress) target(w Work) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.Sequence, p.s.Target = w.From, w.To
	if p.s.State == StateKept {
		p.s.State = StateWaiting
	}
}

func (p *progress) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.State, p.s.Retry = StateFetching, time.Time{}
	p.s.Files, p.s.FilesDone, p.s.Bytes, p.s.BytesDone = 0, 0, 0, 0
	p.began, p.wire = time.Now(), 0
}

// expect adds files that have to be fetched.
func (p *progress) expect(files []manifest.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range files {
		p.s.Files++
		p.s.Bytes += f.SizeBytes
	}
}

func (p *progress) file(f manifest.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.FilesDone++
	p.s.BytesDone += f.SizeBytes
}

func (p *progress) bytes(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wire += int64(n)
}

func (p *progress) confirm(sequence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.Sequence = sequence
	p.failures = 0
}

func (p *progress) succeed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.State, p.s.LastError, p.s.Retry = StateKept, nil, time.Time{}
	p.ended, p.failures = time.Now(), 0
}

func (p *progress) stop(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.State, p.s.LastError, p.ended = StateWaiting, err, time.Now()
}

// fail returns the pause before the next attempt.
func (p *progress) fail(err error, low, high time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	again := high
	if p.failures < 30 {
		again = min(high, low<<p.failures)
	}
	if again <= 0 {
		again = high
	}
	again = jitter(again)
	p.failures++
	p.ended = time.Now()
	p.s.State, p.s.LastError, p.s.Retry = StateFailed, err, p.ended.Add(again)
	if errors.Is(err, ErrFull) {
		p.s.State = StateFull
	}
	return again
}
