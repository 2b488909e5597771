package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dengbei/replication/manifest"
)

const (
	// Files asked for in one stream: enough that small ones do not cost a round trip each, few enough that the open
	// parts of all streams stay below a common limit of file descriptors.
	batchFiles = 64
	batchBytes = 256 << 20

	// A file that another transfer has open is looked at again after busyPause, for at most busyPatience.
	busyPause    = 200 * time.Millisecond
	busyPatience = time.Minute

	// maxRestarts bounds how often a file starts again when no source can be blamed for its wrong bytes.
	maxRestarts = 3
)

// Origins of a job's bytes besides the index of a source.
const (
	fromNobody = -1
	fromMany   = -2
)

// job is one file on its way. It belongs to one goroutine at a time: the schedule while it waits, the worker that prepares
// or runs it, or the commit.
type job struct {
	file     manifest.File
	in       Incoming             // nil if not open
	leaves   *manifest.LeafHasher // over every byte in in; nil if in resumed an earlier transfer
	from     int                  // where the bytes in in are from
	last     int                  // which source sent the last of them, or fromNobody
	tried    map[int]bool         // sources that lack it or delivered it wrong
	restarts int

	busySince, busyUntil time.Time
}

// reset forgets the bytes received; in is closed.
func (j *job) reset() { j.in, j.leaves, j.from, j.last = nil, nil, fromNobody, fromNobody }

// origin is one source as the schedule sees it.
type origin struct {
	workers int   // streams that have not given up
	err     error // why the last one gave up
}

// schedule deals files out to workers. A file waits in fresh or again, is being prepared, stands in a worker's offer where
// another worker may steal it, runs, or is settled.
type schedule struct {
	c      *GatherConfig
	cancel context.CancelFunc
	jobs   []*job
	slots  chan struct{} // commits at once

	mu      sync.Mutex // guards all below; never held over I/O
	changed sync.Cond
	fresh   []*job         // never asked for, in order of urgency
	again   []*job         // asked for before
	offers  map[int]*offer // by worker
	open    int            // jobs not settled
	origins []origin
	tally   []Tally
	err     error // ends everything
	lost    error // why the last restarted file was given up

	present      int
	damaged      []Blame
	missing      []string
	inconsistent []string
}

// offer is what a worker has asked its source for and not begun.
type offer struct {
	jobs  []*job
	begun bool // a job of the stream is running
}

func newSchedule(c *GatherConfig, cancel context.CancelFunc) *schedule {
	n := max(c.Streams, len(c.Sources))
	s := &schedule{c: c, cancel: cancel, slots: make(chan struct{}, n), offers: make(map[int]*offer),
		origins: make([]origin, len(c.Sources)), tally: make([]Tally, len(c.Sources)), open: len(c.Files)}
	s.changed.L = &s.mu
	for i := range n {
		s.origins[i%len(c.Sources)].workers++
	}
	for _, f := range c.Files {
		s.jobs = append(s.jobs, &job{file: f, from: fromNobody, last: fromNobody})
	}
	slices.SortFunc(s.jobs, func(a, b *job) int { return manifest.Urgency(a.file.Name, b.file.Name) })
	s.fresh = slices.Clone(s.jobs)
	return s
}

// abort ends the gathering; the first reason stays.
func (s *schedule) abort(err error) {
	s.mu.Lock()
	if s.err == nil && s.open > 0 {
		s.err = err
	}
	s.changed.Broadcast()
	s.mu.Unlock()
	s.cancel()
}

// take returns the next files for a worker of source, or nil when it has nothing more to do.
func (s *schedule) take(source int) []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.err != nil || s.open == 0 || s.origins[source].workers == 0 {
			return nil
		}
		if batch := s.waiting(source); len(batch) > 0 {
			return batch
		}
		if batch := s.steal(source); len(batch) > 0 {
			return batch
		}
		s.changed.Wait()
	}
}

// waiting takes a batch from those that nobody works at.
func (s *schedule) waiting(source int) (batch []*job) {
	size := int64(0)
	share := (len(s.fresh) + len(s.again) + cap(s.slots) - 1) / cap(s.slots)
	full := func() bool { return len(batch) >= min(batchFiles, max(1, share)) || size >= batchBytes }
	now := time.Now()
	rest := s.again[:0]
	for _, j := range s.again {
		switch {
		case full() || j.tried[source]:
			rest = append(rest, j)
		case now.Before(j.busyUntil):
			time.AfterFunc(j.busyUntil.Sub(now), s.wake)
			rest = append(rest, j)
		default:
			batch = append(batch, j)
			size += j.file.SizeBytes
		}
	}
	clear(s.again[len(rest):])
	s.again = rest
	for len(s.fresh) > 0 && !full() {
		batch = append(batch, s.fresh[0])
		size += s.fresh[0].file.SizeBytes
		s.fresh = s.fresh[1:]
	}
	return batch
}

// wake lets workers look again. It takes the lock so that none is missed between looking and waiting.
func (s *schedule) wake() {
	s.mu.Lock()
	s.changed.Broadcast()
	s.mu.Unlock()
}

// steal takes the second half of the longest offer. A worker that has begun nothing yet keeps the first file, so that two
// idle workers cannot take a file from each other for ever.
func (s *schedule) steal(source int) []*job {
	var victim *offer
	best := 0
	for _, o := range s.offers {
		n := len(o.jobs)
		if !o.begun {
			n--
		}
		if n > best {
			victim, best = o, n
		}
	}
	if victim == nil {
		return nil
	}
	n := 0
	for n < (best+1)/2 && !victim.jobs[len(victim.jobs)-1-n].tried[source] {
		n++
	}
	at := len(victim.jobs) - n
	batch := slices.Clone(victim.jobs[at:])
	victim.jobs = slices.Delete(victim.jobs, at, len(victim.jobs))
	return batch
}

// offer exposes prepared files that a worker has asked its source for.
func (s *schedule) offer(worker int, jobs []*job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offers[worker] = &offer{jobs: slices.Clone(jobs)}
	s.changed.Broadcast()
}

// begin lets a worker run j, unless j was stolen.
func (s *schedule) begin(worker int, j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.offers[worker]
	if len(o.jobs) == 0 || o.jobs[0] != j {
		return false
	}
	o.jobs, o.begun = o.jobs[1:], true
	s.changed.Broadcast()
	return true
}

// withdraw puts back what a worker has not begun.
func (s *schedule) withdraw(worker int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.offers[worker]; o != nil {
		for _, j := range o.jobs {
			s.requeue(j)
		}
		delete(s.offers, worker)
	}
}

// retry puts back a job that a worker had to itself.
func (s *schedule) retry(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requeue(j)
}

// requeue lets j wait, or settles it if no source is left that could have it.
func (s *schedule) requeue(j *job) {
	s.changed.Broadcast()
	if s.hopeless(j) {
		s.missing = append(s.missing, j.file.Name)
		s.open--
		return
	}
	s.again = append(s.again, j)
}

func (s *schedule) hopeless(j *job) bool {
	for i := range s.origins {
		if s.origins[i].workers > 0 && !j.tried[i] {
			return false
		}
	}
	return true
}

// lacks notes that source has no good copy of j, and lets j wait for another.
func (s *schedule) lacks(j *job, source int, damaged bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.tried == nil {
		j.tried = make(map[int]bool)
	}
	j.tried[source] = true
	if damaged {
		s.damaged = append(s.damaged, Blame{s.c.Sources[source].ServerID, j.file.Name})
	}
	s.requeue(j)
}

// restart lets j start again from nothing when no single source is to blame.
func (s *schedule) restart(j *job, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j.restarts++; j.restarts <= maxRestarts {
		s.requeue(j)
		return
	}
	s.lost = fmt.Errorf("%s: %w", j.file.Name, err)
	s.missing = append(s.missing, j.file.Name)
	s.open--
	s.changed.Broadcast()
}

// busy lets j wait for another transfer of the same file.
func (s *schedule) busy(j *job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if j.busySince.IsZero() {
		j.busySince = now
	}
	if now.Sub(j.busySince) > busyPatience {
		s.lost = fmt.Errorf("%s: %w", j.file.Name, ErrBusy)
		s.missing = append(s.missing, j.file.Name)
		s.open--
	} else {
		j.busyUntil = now.Add(busyPause)
		s.again = append(s.again, j)
	}
	s.changed.Broadcast()
}

// settle ends j: it is stored. source is fromNobody if no byte of it came now; consistent tells whether the leaf root is right.
func (s *schedule) settle(j *job, source int, consistent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !consistent:
		s.inconsistent = append(s.inconsistent, j.file.Name)
	case source >= 0:
		s.tally[source].Files++
	default:
		s.present++
	}
	s.open--
	s.changed.Broadcast()
}

func (s *schedule) count(source, n int) {
	s.mu.Lock()
	s.tally[source].Bytes += int64(n)
	s.mu.Unlock()
}

// giveUp takes one worker of source away, or all of them. Files that only this source could have had are missing then.
func (s *schedule) giveUp(source int, all bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.origins[source]
	o.err = err
	if o.workers--; all {
		o.workers = 0
	}
	if o.workers > 0 {
		return
	}
	o.workers = 0
	queued := append(s.again, s.fresh...)
	s.again, s.fresh = nil, nil
	for _, j := range queued {
		s.requeue(j)
	}
	s.changed.Broadcast()
}

// causes returns why sources were given up, for the final error.
func (s *schedule) causes() []error {
	errs := []error{s.lost}
	for i, o := range s.origins {
		if o.err != nil {
			errs = append(errs, fmt.Errorf("source %s: %w", s.c.Sources[i].ServerID, o.err))
		}
	}
	return errs
}

// close closes what is still open, which keeps the parts for the next time. No worker runs any more.
func (s *schedule) close() error {
	var errs []error
	for _, j := range s.jobs {
		if j.in != nil {
			errs = append(errs, j.in.Close())
		}
	}
	return errors.Join(errs...)
}
