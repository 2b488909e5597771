package repository

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// Times of a lock, stock restic's.
const (
	lockRefresh = 5 * time.Minute
	lockStale   = 30 * time.Minute

	// A lock that is older than this is given up by its holder, well before others call it stale.
	lockLost = lockStale - lockRefresh*3/2

	lockRetryFirst = 5 * time.Second
	lockRetryMost  = time.Minute
)

// LockMode is what a lock keeps others from.
type LockMode uint8

// The modes of a lock.
const (
	NoLock        LockMode = iota
	SharedLock             // to read or to add files: others may do so too, none may remove any
	ExclusiveLock          // to remove files: alone
)

// LockOptions says which lock [Open] takes. The zero LockOptions takes none.
type LockOptions struct {
	Mode LockMode

	// Wait is how long to try again while others hold the repository; zero means not at all.
	Wait time.Duration

	// Optional has a reader go on without a lock where none can be written: on a read-only medium or a full disk. Others'
	// exclusive locks are respected all the same. [Lock.Missing] tells.
	Optional bool
}

// LockInfo is what a lock file says of its holder.
type LockInfo struct {
	Name      chunkstore.Name
	Time      time.Time // of the last refresh
	Exclusive bool
	Hostname  string
	Username  string
	PID       int

	process string
}

// lockFile is a file in locks/. Names and order of fields are the format's, but for Process, our own, which stock restic
// ignores: it names a process beyond doubt, which a host name and a number do not.
type lockFile struct {
	Time      time.Time `json:"time"`
	Exclusive bool      `json:"exclusive"`
	Hostname  string    `json:"hostname"`
	Username  string    `json:"username"`
	PID       int       `json:"pid"`
	UID       uint32    `json:"uid,omitempty"`
	GID       uint32    `json:"gid,omitempty"`
	Process   string    `json:"dengbei_process,omitempty"`
}

// Stale reports whether the lock's holder is gone by restic's rules: not refreshed for 30 minutes by this machine's clock,
// or its process is not among those of this host. A wrong clock or a shared host name makes it err.
func (i LockInfo) Stale() bool {
	if time.Since(i.Time.Round(0)) > lockStale {
		return true
	}
	host, err := os.Hostname()
	return err == nil && host == i.Hostname && i.PID > 0 && errors.Is(syscall.Kill(i.PID, 0), syscall.ESRCH)
}

// String names the holder.
func (i LockInfo) String() string {
	mode := "shared"
	if i.Exclusive {
		mode = "exclusive"
	}
	return fmt.Sprintf("%s lock %s of process %d of %q on %q, refreshed %s", mode, i.Name.ID.Hex()[:8], i.PID, i.Username, i.Hostname,
		i.Time.UTC().Format(time.RFC3339))
}

// Lock is the lock of an open repository. Its methods may be called concurrently; those of a nil Lock do nothing.
//
// A program that takes locks must not end on SIGHUP: with it stock restic's unlock finds out whether the holder lives.
type Lock struct {
	repo      *Repository // with files that no lock guards
	exclusive bool
	missing   error
	cancel    context.CancelFunc
	done      chan struct{} // closed when refreshing has ended

	mu      sync.Mutex // guards the rest; held while the lock is refreshed
	name    chunkstore.Name
	written time.Time // wall clock: it goes on while the machine sleeps
	lost    error
}

// takeLock takes the lock that r's options ask for, waits for it if they allow, and refreshes it until it is closed.
func (r *Repository) takeLock(ctx context.Context) (*Lock, error) {
	o := r.options.Lock
	if o.Mode == NoLock {
		return nil, nil
	}
	pause, deadline := lockRetryFirst, time.Now().Add(o.Wait)
	for {
		l, err := r.tryLock(ctx, o)
		if !errors.Is(err, ErrLocked) || !time.Now().Before(deadline) {
			return l, err
		}
		if err := sleep(ctx, min(pause, time.Until(deadline))); err != nil {
			return nil, err
		}
		pause = min(2*pause, lockRetryMost)
	}
}

func (r *Repository) tryLock(ctx context.Context, o LockOptions) (*Lock, error) {
	bare := *r
	l := &Lock{repo: &bare, exclusive: o.Mode == ExclusiveLock, done: make(chan struct{})}
	if err := l.yield(ctx, !o.Optional); err != nil {
		return nil, err
	}
	name, err := l.write(ctx)
	if err != nil {
		if o.Optional && !l.exclusive && cannotWrite(err) {
			close(l.done)
			l.missing, l.cancel = err, func() {}
			return l, nil
		}
		return nil, fmt.Errorf("lock repository: %w", err)
	}
	l.name = name
	// A file is listed from the moment on when Put returns. So of two that came at the same time at least one, the later,
	// sees the other now, and gives way.
	if err := l.yield(ctx, false); err != nil {
		return nil, errors.Join(err, r.files.Remove(context.WithoutCancel(ctx), l.name))
	}
	var refreshing context.Context
	refreshing, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go l.keep(refreshing)
	return l, nil
}

// cannotWrite reports whether err says that nothing can be written there now.
func cannotWrite(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, chunkstore.ErrFull)
}

// yield gives [ErrLocked] if the lock of somebody else stands against l. With sweep, locks of processes that have ended
// beyond doubt are removed.
func (l *Lock) yield(ctx context.Context, sweep bool) error {
	locks, _, err := l.repo.Locks(ctx)
	if err != nil {
		return fmt.Errorf("lock repository: %w", err)
	}
	for _, other := range locks {
		switch {
		case other.Name == l.name, !l.exclusive && !other.Exclusive:
		case ended(other.process):
			if sweep {
				if err := l.repo.files.Remove(ctx, other.Name); err != nil {
					return fmt.Errorf("lock repository: %w", err)
				}
			}
		case other.Stale():
			return fmt.Errorf("%w: %s: its holder seems to be gone; if it is, unlock removes the lock", ErrLocked, other)
		default:
			return fmt.Errorf("%w: %s", ErrLocked, other)
		}
	}
	return nil
}

// write stores a new lock file and notes its time.
func (l *Lock) write(ctx context.Context) (chunkstore.Name, error) {
	now := time.Now()
	f := lockFile{Time: now, Exclusive: l.exclusive, PID: os.Getpid(), UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Process: thisProcess()}
	f.Hostname, f.Username = whoAndWhere()
	b, err := json.Marshal(f)
	if err != nil {
		return chunkstore.Name{}, err
	}
	e, err := l.repo.saveUnpacked(ctx, chunkstore.Lock, b)
	if err == nil {
		l.written = now.Round(0)
	}
	return e.Name, err
}

// keep refreshes the lock until ctx ends.
func (l *Lock) keep(ctx context.Context) {
	defer close(l.done)
	tick := time.NewTicker(lockRefresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.refresh(ctx)
		}
	}
}

// refresh writes the lock anew and deletes the old one. What fails is tried again at the next tick, until the lock is too
// old; one that somebody removed is lost at once.
func (l *Lock) refresh(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.errLocked() != nil {
		return
	}
	if f, err := l.repo.files.Open(ctx, l.name); errors.Is(err, fs.ErrNotExist) {
		l.lost = fmt.Errorf("%s was removed: %w", l.name, ErrLockLost)
		return
	} else if err == nil {
		f.Close()
	}
	name, err := l.write(ctx)
	if err != nil {
		return
	}
	old := l.name
	l.name = name
	_ = l.repo.files.Remove(ctx, old) // what stays is stale soon
}

// Err returns nil while the lock holds, and an error matching [ErrLockLost] once it was removed or could not be refreshed
// in time: others may then take the repository for free. An open repository writes and removes nothing from then on.
func (l *Lock) Err() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errLocked()
}

func (l *Lock) errLocked() error {
	if l.lost == nil && l.missing == nil {
		if age := time.Now().Round(0).Sub(l.written); age > lockLost {
			l.lost = fmt.Errorf("not refreshed for %s: %w", age.Round(time.Second), ErrLockLost)
		}
	}
	return l.lost
}

// Missing returns why no lock was taken although one was asked for, nil if one was: see [LockOptions].
func (l *Lock) Missing() error {
	if l == nil {
		return nil
	}
	return l.missing
}

// Close removes the lock. It may be called more than once.
func (l *Lock) Close() error {
	if l == nil || l.missing != nil {
		return nil
	}
	l.cancel()
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.name == (chunkstore.Name{}) {
		return nil
	}
	err := l.repo.files.Remove(context.Background(), l.name)
	l.name = chunkstore.Name{}
	l.lost = fmt.Errorf("given back: %w", ErrLockLost)
	if err != nil {
		return fmt.Errorf("unlock repository: %w", err)
	}
	return nil
}

// Lock returns the lock that was taken with the repository, nil if none was asked for. Whoever opened the repository
// closes it.
func (r *Repository) Lock() *Lock { return r.lock }

// Locks lists the locks. Files that are no lock of this repository are listed apart: they lock nothing.
func (r *Repository) Locks(ctx context.Context) ([]LockInfo, []Unreadable, error) {
	var locks []LockInfo
	var unreadable []Unreadable
	for e, err := range r.files.List(ctx, chunkstore.Lock) {
		if err != nil {
			return nil, nil, err
		}
		info, err := r.readLock(ctx, e.Name)
		switch {
		case err == nil:
			locks = append(locks, info)
		case errors.Is(err, fs.ErrNotExist): // given back meanwhile
		case errors.Is(err, ErrUnreadable), errors.Is(err, ErrTooLarge), errors.Is(err, digest.ErrMismatch):
			unreadable = append(unreadable, Unreadable{e.Name, err})
		default:
			return nil, nil, err
		}
	}
	slices.SortFunc(locks, func(a, b LockInfo) int { return a.Time.Compare(b.Time) })
	return locks, unreadable, nil
}

func (r *Repository) readLock(ctx context.Context, name chunkstore.Name) (LockInfo, error) {
	b, err := readAll(ctx, r.files, name, maxKeyFileBytes)
	if err != nil {
		return LockInfo{}, err
	}
	info, err := r.DecodeLock(b)
	if err != nil {
		return LockInfo{}, fmt.Errorf("%s: %w", name, err)
	}
	return info, nil
}

// DecodeLock reads the bytes of a lock file, or gives [ErrUnreadable].
func (r *Repository) DecodeLock(b []byte) (LockInfo, error) {
	plain, err := r.master.open(nil, b)
	if err == nil {
		plain, err = r.decodeUnpacked(plain)
	}
	if err != nil {
		return LockInfo{}, err
	}
	var f lockFile
	if err := json.Unmarshal(plain, &f); err != nil {
		return LockInfo{}, fmt.Errorf("lock: %w: %w", err, ErrUnreadable)
	}
	name := chunkstore.Name{Kind: chunkstore.Lock, ID: digest.Of(b)}
	return LockInfo{name, f.Time, f.Exclusive, f.Hostname, f.Username, f.PID, f.Process}, nil
}

// Unlock removes the locks whose holders are gone, or with all every file in locks/, and returns how many it removed. With
// all the caller knows that nothing works on the repository now.
func (r *Repository) Unlock(ctx context.Context, all bool) (int, error) {
	locks, unreadable, err := r.Locks(ctx)
	if err != nil {
		return 0, fmt.Errorf("unlock repository: %w", err)
	}
	var names []chunkstore.Name
	for _, l := range locks {
		if all || l.Stale() {
			names = append(names, l.Name)
		}
	}
	for _, u := range unreadable {
		if all {
			names = append(names, u.Name)
		}
	}
	for i, n := range names {
		if err := r.files.Remove(ctx, n); err != nil {
			return i, fmt.Errorf("unlock repository: %w", err)
		}
	}
	return len(names), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
