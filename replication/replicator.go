package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"dengbei/replication/manifest"
)

const (
	defaultParallel     = 2
	defaultRetryMin     = 2 * time.Second
	defaultRetryMax     = 5 * time.Minute
	defaultSegmentBytes = 1 << 30

	// changePause makes one pass over the holdings out of a burst of registrations.
	changePause = 100 * time.Millisecond
)

// Config is what a [Replicator] needs. Ledger, OpenStore, Documents, Peers and CacheDir are required.
type Config struct {
	Ledger    Ledger
	Documents Documents
	Peers     Peers

	// OpenStore returns the files of a repository, which is made if this centre holds none of it yet. Calling it again
	// for the same repository is cheap.
	OpenStore func(ctx context.Context, repository string) (Store, error)

	// CacheDir keeps the verified set of each repository between runs. It is made if absent. What lies there can be
	// deleted at any time and is then rebuilt from the manifests and re-read from the store.
	CacheDir string

	// Parallel is how many repositories are worked at at once. Default 2.
	Parallel int

	// Streams is how many streams each of them uses over all its sources. Default 4.
	Streams int

	// Stall is how long a source may be silent in the middle of a stream. Default 30 s.
	Stall time.Duration

	// SegmentBytes is how much is fetched before a receipt is confirmed in between, if a manifest ends there. Default
	// 1 GiB.
	SegmentBytes int64

	// BytesPerSecond limits all transfers together, 0 for no limit. [Replicator.SetRate] changes it.
	BytesPerSecond int64

	// RetryMin and RetryMax bound the pause before a repository that failed is tried again; it doubles from one to the
	// other and is spread by half. Defaults 2 s and 5 min.
	RetryMin, RetryMax time.Duration

	Observer Observer     // nil for none
	Logger   *slog.Logger // nil for none
}

// Replicator keeps this centre's holdings. See the package comment.
type Replicator struct {
	c       Config
	limiter *Limiter

	mu       sync.Mutex // guards all below; held for look-ups only
	repos    map[string]*progress
	running  map[string]bool
	received map[string]uint64 // confirmed sequences that Holdings does not show yet
}

// New returns a Replicator that does nothing until [Replicator.Run], or [ErrConfig].
func New(c Config) (*Replicator, error) {
	if c.Ledger == nil || c.OpenStore == nil || c.Documents == nil || c.Peers == nil || c.CacheDir == "" {
		return nil, fmt.Errorf("replicator: %w: Ledger, OpenStore, Documents, Peers and CacheDir are required", ErrConfig)
	}
	if c.Parallel <= 0 {
		c.Parallel = defaultParallel
	}
	if c.Streams <= 0 {
		c.Streams = defaultStreams
	}
	if c.Stall <= 0 {
		c.Stall = defaultStall
	}
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = defaultSegmentBytes
	}
	if c.RetryMin <= 0 {
		c.RetryMin = defaultRetryMin
	}
	if c.RetryMax <= 0 {
		c.RetryMax = defaultRetryMax
	}
	c.RetryMax = max(c.RetryMax, c.RetryMin)
	if c.Observer == nil {
		c.Observer = silent{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(c.CacheDir, 0o700); err != nil {
		return nil, fmt.Errorf("replicator: cache of sets: %w", err)
	}
	return &Replicator{c: c, limiter: NewLimiter(c.BytesPerSecond), repos: make(map[string]*progress),
		running: make(map[string]bool), received: make(map[string]uint64)}, nil
}

// SetRate changes the limit of all transfers together from now on, 0 for no limit.
func (r *Replicator) SetRate(bytesPerSecond int64) { r.limiter.Set(bytesPerSecond) }

// Run brings holdings up to date, and goes on as they change, until ctx ends; it returns an error matching ctx.Err() then.
// What fails is tried again after a pause; [Replicator.Status] tells why it failed. Run must not be called twice at once.
func (r *Replicator) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	done := make(chan struct{}, r.c.Parallel)
	var again time.Duration // pause of the loop itself, when the ledger cannot be read
	for {
		wait, err := r.dispatch(ctx, &wg, done)
		if err != nil && ctx.Err() == nil {
			again = min(max(2*again, r.c.RetryMin), r.c.RetryMax)
			wait = jitter(again)
			r.c.Logger.WarnContext(ctx, "holdings cannot be read", "err", err)
		} else {
			again = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("replicate: %w", ctx.Err())
		case <-r.c.Ledger.Changed():
			pause(ctx, changePause)
		case <-done:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// dispatch starts work on as many repositories as may run, in the order of the plan, and returns when the next one that
// pauses after a failure is due.
func (r *Replicator) dispatch(ctx context.Context, wg *sync.WaitGroup, done chan<- struct{}) (time.Duration, error) {
	holdings, err := r.c.Ledger.Holdings(ctx)
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(holdings)
	wait := r.c.RetryMax
	now := time.Now()
	for _, work := range Plan(holdings, r.received) {
		id := work.Holding.Repository
		p := r.repos[id]
		p.target(work)
		if r.running[id] {
			continue
		}
		if due := p.due(); now.Before(due) {
			wait = min(wait, due.Sub(now))
			continue
		}
		if len(r.running) >= r.c.Parallel {
			continue
		}
		r.running[id] = true
		wg.Go(func() {
			r.work(ctx, work.Holding, p)
			select { // one token is enough: the loop looks at everything when it wakes
			case done <- struct{}{}:
			default:
			}
		})
	}
	return wait, nil
}

// forget drops what is not assigned any more and makes room for what is new. r.mu is held.
func (r *Replicator) forget(holdings []Holding) {
	assigned := make(map[string]bool, len(holdings))
	for _, h := range holdings {
		assigned[h.Repository] = true
		if r.repos[h.Repository] == nil {
			r.repos[h.Repository] = newProgress(h)
		}
		// A receipt that the registry shows is the registry's to take back.
		if h.Receipted >= r.received[h.Repository] {
			delete(r.received, h.Repository)
		}
	}
	for id := range r.repos {
		if !assigned[id] && !r.running[id] {
			delete(r.repos, id)
			delete(r.received, id)
		}
	}
}

// work makes one attempt at a repository and notes how it went.
func (r *Replicator) work(ctx context.Context, h Holding, p *progress) {
	defer func() {
		r.mu.Lock()
		delete(r.running, h.Repository)
		r.mu.Unlock()
	}()
	p.start()
	k := keeper{r: r, h: h, p: p}
	err := k.run(ctx)
	switch {
	case err == nil:
		p.succeed()
	case ctx.Err() != nil:
		p.stop(ctx.Err())
	default:
		again := p.fail(err, r.c.RetryMin, r.c.RetryMax)
		level := slog.LevelWarn
		if errors.Is(err, ErrFull) || errors.Is(err, ErrInconsistent) || errors.Is(err, manifest.ErrChain) {
			level = slog.LevelError // does not pass by itself
		}
		r.c.Logger.Log(ctx, level, "repository is not up to date, will try again", "chunk", h.Repository, "dur", again, "err", err)
	}
}

// confirmed notes a receipt that the registry took.
func (r *Replicator) confirmed(receipt Receipt) {
	r.mu.Lock()
	r.received[receipt.Repository] = receipt.Sequence
	r.mu.Unlock()
	r.c.Observer.Confirmed(receipt)
}
