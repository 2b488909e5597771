package repository

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

func shared() Options    { return Options{Lock: LockOptions{Mode: SharedLock}} }
func exclusive() Options { return Options{Lock: LockOptions{Mode: ExclusiveLock}} }

func TestLocksOfOneRepository(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second LockMode
		want          error
	}{
		{"two readers", SharedLock, SharedLock, nil},
		{"a reader keeps off who removes", SharedLock, ExclusiveLock, ErrLocked},
		{"who removes keeps off readers", ExclusiveLock, SharedLock, ErrLocked},
		{"only one removes", ExclusiveLock, ExclusiveLock, ErrLocked},
		{"without a lock nothing is asked", ExclusiveLock, NoLock, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, files := newRepo(t, Options{})
			synctest.Test(t, func(t *testing.T) {
				a, err := Open(t.Context(), files, password, Options{Lock: LockOptions{Mode: tt.first}})
				must(t, err)
				b, err := Open(t.Context(), files, password, Options{Lock: LockOptions{Mode: tt.second}})
				if !errors.Is(err, tt.want) {
					t.Errorf("Open() with the second lock = %v; want %v", err, tt.want)
				}
				if b != nil {
					must(t, b.Lock().Close())
				}
				must(t, a.Lock().Close())
				must(t, a.Lock().Close())
				c, err := Open(t.Context(), files, password, exclusive())
				must(t, err)
				must(t, c.Lock().Close())
				if n := count(t, files, chunkstore.Lock); n != 0 {
					t.Errorf("%d lock files stay", n)
				}
			})
		})
	}
}

func count(t *testing.T, files Files, kind chunkstore.Kind) int {
	t.Helper()
	n := 0
	for _, err := range files.List(context.Background(), kind) {
		must(t, err)
		n++
	}
	return n
}

func TestNeverTwoExclusiveLocks(t *testing.T) {
	_, files := newRepo(t, Options{})
	var held, taken atomic.Int32
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 12 {
				r, err := Open(t.Context(), files, password, exclusive())
				if errors.Is(err, ErrLocked) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := held.Add(1); n != 1 {
					t.Errorf("%d hold the repository alone", n)
				}
				taken.Add(1)
				runtime.Gosched()
				held.Add(-1)
				if err := r.Lock().Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if taken.Load() == 0 {
		t.Error("nobody ever had the lock")
	}
}

func TestLockIsWaitedFor(t *testing.T) {
	_, files := newRepo(t, Options{})
	synctest.Test(t, func(t *testing.T) {
		a, err := Open(t.Context(), files, password, exclusive())
		must(t, err)
		time.AfterFunc(time.Minute, func() { a.Lock().Close() })
		o := shared()
		o.Lock.Wait = 30 * time.Second
		if _, err := Open(t.Context(), files, password, o); !errors.Is(err, ErrLocked) {
			t.Errorf("Open() that waits half a minute = %v; want ErrLocked", err)
		}
		o.Lock.Wait = 10 * time.Minute
		b, err := Open(t.Context(), files, password, o)
		must(t, err)
		must(t, b.Lock().Close())
	})
}

func TestWaitingForALockEndsWithTheContext(t *testing.T) {
	_, files := newRepo(t, Options{})
	synctest.Test(t, func(t *testing.T) {
		a, err := Open(t.Context(), files, password, exclusive())
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		o := shared()
		o.Lock.Wait = time.Hour
		if _, err := Open(ctx, files, password, o); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Open() = %v; want the context's error", err)
		}
		must(t, a.Lock().Close())
	})
}

func TestLockIsRefreshed(t *testing.T) {
	_, files := newRepo(t, Options{})
	synctest.Test(t, func(t *testing.T) {
		r, err := Open(t.Context(), files, password, exclusive())
		must(t, err)
		first, _, err := r.Locks(t.Context())
		must(t, err)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		must(t, r.Lock().Err())
		locks, _, err := r.Locks(t.Context())
		must(t, err)
		if len(locks) != 1 || locks[0].Name == first[0].Name || time.Since(locks[0].Time) > lockRefresh || locks[0].Stale() {
			t.Errorf("locks after two hours = %v; want one that is fresh", locks)
		}
		must(t, r.Lock().Close())
	})
}

// readOnlyFiles is files whose writes fail while err is set.
type readOnlyFiles struct {
	*chunkstore.Files
	err atomic.Value // of an error
}

func newReadOnlyFiles(files *chunkstore.Files, err error) *readOnlyFiles {
	f := &readOnlyFiles{Files: files}
	f.err.Store(&err)
	return f
}

func (f *readOnlyFiles) Put(ctx context.Context, name chunkstore.Name, r io.Reader) (int64, error) {
	if err := *f.err.Load().(*error); err != nil {
		return 0, err
	}
	return f.Files.Put(ctx, name, r)
}

func TestALostLockEndsWriting(t *testing.T) {
	full := error(chunkstore.ErrFull)
	for _, tt := range []struct {
		name string
		lose func(t *testing.T, r *Repository, f *readOnlyFiles)
	}{
		{"removed by somebody", func(t *testing.T, r *Repository, f *readOnlyFiles) {
			_, err := r.Unlock(t.Context(), true)
			must(t, err)
		}},
		{"not refreshed in time", func(t *testing.T, r *Repository, f *readOnlyFiles) {
			f.err.Store(&full)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, files := newRepo(t, Options{})
			synctest.Test(t, func(t *testing.T) {
				f := newReadOnlyFiles(files, nil)
				r, err := Open(t.Context(), f, password, exclusive())
				must(t, err)
				stage, err := r.Files().Stage(chunkstore.Pack)
				must(t, err)
				defer stage.Abort()
				tt.lose(t, r, f)
				time.Sleep(lockStale)
				synctest.Wait()
				f.err.Store(new(error))
				if err := r.Lock().Err(); !errors.Is(err, ErrLockLost) {
					t.Errorf("Lock.Err() = %v; want ErrLockLost", err)
				}
				if _, err := r.Files().Stage(chunkstore.Pack); !errors.Is(err, ErrLockLost) {
					t.Errorf("Stage() = %v; want ErrLockLost", err)
				}
				if _, err := stage.Commit(); !errors.Is(err, ErrLockLost) {
					t.Errorf("Commit() = %v; want ErrLockLost", err)
				}
				if err := r.Files().Remove(t.Context(), r.KeyName()); !errors.Is(err, ErrLockLost) {
					t.Errorf("Remove() = %v; want ErrLockLost", err)
				}
				if _, err := r.Files().Put(t.Context(), r.KeyName(), strings.NewReader("")); !errors.Is(err, ErrLockLost) {
					t.Errorf("Put() = %v; want ErrLockLost", err)
				}
				must(t, r.Lock().Close())
			})
		})
	}
}

func TestAReaderGoesOnWhereNoLockCanBeWritten(t *testing.T) {
	_, files := newRepo(t, Options{})
	synctest.Test(t, func(t *testing.T) {
		for _, cause := range []error{syscall.EROFS, fs.ErrPermission, chunkstore.ErrFull} {
			o := shared()
			if _, err := Open(t.Context(), newReadOnlyFiles(files, cause), password, o); !errors.Is(err, cause) {
				t.Errorf("Open() to write = %v; want %v", err, cause)
			}
			o.Lock.Optional = true
			r, err := Open(t.Context(), newReadOnlyFiles(files, cause), password, o)
			must(t, err)
			if !errors.Is(r.Lock().Missing(), cause) {
				t.Errorf("Missing() = %v; want %v", r.Lock().Missing(), cause)
			}
			must(t, r.Lock().Err())
			must(t, r.Lock().Close())
		}
		prune, err := Open(t.Context(), files, password, exclusive())
		must(t, err)
		o := shared()
		o.Lock.Optional = true
		if _, err := Open(t.Context(), newReadOnlyFiles(files, syscall.EROFS), password, o); !errors.Is(err, ErrLocked) {
			t.Errorf("Open() beside one that removes = %v; want ErrLocked", err)
		}
		must(t, prune.Lock().Close())
	})
}

// plantLock writes a lock file as its holder would.
func plantLock(t *testing.T, r *Repository, l lockFile) chunkstore.Name {
	t.Helper()
	b, err := json.Marshal(l)
	must(t, err)
	e, err := r.saveUnpacked(t.Context(), chunkstore.Lock, b)
	must(t, err)
	return e.Name
}

func TestLocksOfOthers(t *testing.T) {
	host, _ := whoAndWhere()
	gone := exec.Command("true")
	must(t, gone.Run())
	dead := gone.Process.Pid
	place, ok := processSpace()
	if !ok {
		t.Log("this system does not name processes")
	}
	for _, tt := range []struct {
		name  string
		give  lockFile
		stale bool
		swept bool // passed over and removed without being asked
	}{
		{"of another host", lockFile{Time: time.Now(), Hostname: "elsewhere", PID: dead}, false, false},
		{"of another host, long ago", lockFile{Time: time.Now().Add(-time.Hour), Hostname: "elsewhere", PID: 1}, true, false},
		{"of a process of stock restic that runs", lockFile{Time: time.Now(), Hostname: host, PID: os.Getppid()}, false, false},
		{"of a process of stock restic that has ended", lockFile{Time: time.Now(), Hostname: host, PID: dead}, true, false},
		{"of ours that has ended", lockFile{Time: time.Now(), Hostname: host, PID: dead, Process: place + " " + strconv.Itoa(dead) + " 1"}, true, ok},
		{"of ours before a boot", lockFile{Time: time.Now(), Hostname: host, PID: os.Getppid(), Process: "other pid:[1] 1 1"}, false, false},
		{"of ours whose number is another's now", lockFile{Time: time.Now(), Hostname: host, PID: os.Getppid(), Process: place + " " + strconv.Itoa(os.Getppid()) + " 0"}, false, ok},
		{"with nonsense for a process", lockFile{Time: time.Now(), Hostname: host, PID: os.Getppid(), Process: place + " x y"}, false, false},
		{"with a number that none has", lockFile{Time: time.Now(), Hostname: host, PID: -1}, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, files := newRepo(t, Options{})
			name := plantLock(t, r, tt.give)
			locks, unreadable, err := r.Locks(t.Context())
			must(t, err)
			if len(locks) != 1 || len(unreadable) != 0 || locks[0].Stale() != tt.stale {
				t.Fatalf("Locks() = %v, %v; want one with stale = %t", locks, unreadable, tt.stale)
			}
			p, err := Open(t.Context(), files, password, exclusive())
			if tt.swept {
				must(t, err)
				must(t, p.Lock().Close())
			} else if !errors.Is(err, ErrLocked) {
				t.Errorf("Open() = %v; want ErrLocked", err)
			}
			want := 0
			if tt.stale && !tt.swept {
				want = 1
			}
			if n, err := r.Unlock(t.Context(), false); err != nil || n != want {
				t.Errorf("Unlock() = %d, %v; want %d", n, err, want)
			}
			if _, err := files.Stat(name); tt.swept != errors.Is(err, fs.ErrNotExist) && !tt.stale {
				t.Errorf("lock file: %v; want it removed: %t", err, tt.swept)
			}
		})
	}
}

func TestJunkLocksNothing(t *testing.T) {
	r, files := newRepo(t, Options{})
	other, _ := newRepo(t, Options{})
	for _, junk := range [][]byte{nil, []byte("junk"), noise("junk", 5000), make([]byte, maxKeyFileBytes+1),
		other.master.seal(append(make([]byte, ivBytes), `{"exclusive":true}`...)),
		r.master.seal(append(make([]byte, ivBytes), `[1`...)), r.master.seal(append(make([]byte, ivBytes), "\x02junk"...))} {
		must(t, files.PutBytes(t.Context(), chunkstore.Name{Kind: chunkstore.Lock, ID: digest.Of(junk)}, junk))
	}
	p, err := Open(t.Context(), files, password, exclusive())
	must(t, err)
	must(t, p.Lock().Close())
	if _, unreadable, err := r.Locks(t.Context()); err != nil || len(unreadable) != 7 {
		t.Errorf("Locks() = %d unreadable, %v; want 7", len(unreadable), err)
	}
	if n, err := r.Unlock(t.Context(), false); n != 0 || err != nil {
		t.Errorf("Unlock() = %d, %v; want none", n, err)
	}
	if n, err := r.Unlock(t.Context(), true); n != 7 || err != nil {
		t.Errorf("Unlock(all) = %d, %v; want 7", n, err)
	}
}

// TestOfTwoNoneOvertakes opens for removal from many sides at once.
func TestOfTwoNoneOvertakes(t *testing.T) {
	_, files := newRepo(t, Options{})
	synctest.Test(t, func(t *testing.T) {
		var holders, most, got atomic.Int32
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				r, err := Open(t.Context(), files, password, exclusive())
				if errors.Is(err, ErrLocked) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				got.Add(1)
				most.Store(max(most.Load(), holders.Add(1)))
				time.Sleep(time.Minute)
				holders.Add(-1)
				if err := r.Lock().Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() > 1 {
			t.Errorf("%d held the repository at once; want one", most.Load())
		}
	})
}
