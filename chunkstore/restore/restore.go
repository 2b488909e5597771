package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// Overwrite says what becomes of files that exist in the target. The names are stock restic's.
type Overwrite string

// The ways to treat files that exist.
const (
	OverwriteAlways    Overwrite = "always"     // compare the content of each, and rewrite what differs; the default
	OverwriteIfChanged Overwrite = "if-changed" // the same, but a file of the right size and time is taken as equal
	OverwriteIfNewer   Overwrite = "if-newer"   // only files that are older than in the snapshot
	OverwriteNever     Overwrite = "never"
)

// Options says what to restore. The zero Options restores everything.
type Options struct {
	// Select, if not nil, is asked for each entry by its path in the snapshot, such as "/records/a/b.pdf": whether it is
	// restored and, for a directory, whether anything below it may be. Directories that are not selected are made where
	// they are needed. Several goroutines may ask at once.
	Select func(path string, dir bool) (selected, below bool)

	// Owner restores user and group, and set-ID bits, which needs the rights of root.
	Owner bool

	// Overwrite is for files that exist; empty means always.
	Overwrite Overwrite

	// Delete removes what lies in restored directories of the target, is selected, and is not in the snapshot.
	Delete bool

	// Sparse makes holes where 4 KiB or more of a new file are zero. Without it that is done only for whole blobs.
	Sparse bool

	// DryRun changes nothing and finds out what would be done.
	DryRun bool

	// Verify reads every restored file again, from the disk as far as the system allows, and compares.
	Verify bool

	// Progress, if not nil, is called several times a second and once at the end, by one goroutine at a time.
	Progress func(Progress)

	// Report, if not nil, is called for each entry, by one goroutine at a time. Entries come in no particular order, and
	// those that wait for the last sync are reported before it.
	Report func(Outcome)
}

// Progress is how far a restore is. Entries are files, directories, links and the rest.
type Progress struct {
	Phase                   Phase
	Entries, EntriesTotal   int64 // the total grows during [Planning]
	Bytes, BytesTotal       int64
	SkippedEntries          int64 // needed no writing; not in Entries
	SkippedBytes            int64 // were there already or are left as they are; not in Bytes
	Deleted                 int64
	Verified, VerifiedTotal int64 // bytes
	Elapsed                 time.Duration
}

// Phase is what a restore is at.
type Phase string

// The phases, in their order.
const (
	Planning  Phase = "planning"
	Comparing Phase = "comparing" // with what is in the target
	Writing   Phase = "writing"
	Finishing Phase = "finishing"
	Verifying Phase = "verifying"
)

// Action is what was done with an entry. The names are stock restic's.
type Action string

// The actions.
const (
	Restored  Action = "restored" // was not there
	Updated   Action = "updated"  // was there and differed
	Unchanged Action = "unchanged"
	Deleted   Action = "deleted"
	Failed    Action = "failed"
)

// Outcome is what became of one entry.
type Outcome struct {
	Path   string // in the snapshot
	Type   string // as in [repository.Node]
	Action Action
	Bytes  int64 // its size, for files
	Err    error // not nil if it failed
}

// maxMissing bounds how many failures are listed.
const maxMissing = 100_000

// Result is what a restore did. A dry run tells what would be done.
type Result struct {
	Progress

	Files, Dirs int64 // among the entries that are in the target as they should be: directories, and all else
	FileBytes   int64 // sizes of those files

	// Missing lists the failures, at most 100,000 of them. A directory stands for all that is in it.
	Missing []Outcome
	Failed  int64 // all failures

	// LostAttributes is how many extended attributes could not be set, for want of rights or because the file system has
	// none. Their entries are restored all the same.
	LostAttributes int64
}

// Restore brings a snapshot, or what is selected of it, into the directory target, which is made if need be. The Result
// is not nil unless nothing could be begun. If entries are missing the error matches [ErrIncomplete].
func Restore(ctx context.Context, repo *repository.Repository, snapshot digest.Digest, target string, o Options) (*Result, error) {
	sn, err := repo.LoadSnapshot(ctx, snapshot)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return RestoreTree(ctx, repo, sn.Tree, target, o)
}

// RestoreTree is [Restore] for one directory of a snapshot: its content lies in target afterwards, and paths begin there.
func RestoreTree(ctx context.Context, repo *repository.Repository, tree repository.ID, target string, o Options) (*Result, error) {
	switch o.Overwrite {
	case "":
		o.Overwrite = OverwriteAlways
	case OverwriteAlways, OverwriteIfChanged, OverwriteIfNewer, OverwriteNever:
	default:
		return nil, fmt.Errorf("restore: overwrite %q: want always, if-changed, if-newer or never", o.Overwrite)
	}
	r := &restorer{repo: repo, options: o, process: thisProcess(), root: newDir(nil, ""), mendings: make(map[digest.Digest]*mending), drainDue: make(chan struct{}, 1), begun: time.Now()}
	r.plan.known, r.plan.firsts = make(map[chunkstore.Name]uint32), make(map[linkKey]*file)
	r.plan.doomed, r.plan.mounts = make(map[*dir][]extra), make(map[uint64]*dir)
	if err := r.openTarget(target); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer r.closeTarget()
	stop := r.watch()
	err := r.run(ctx, tree)
	stop()
	if err != nil {
		return &r.result, fmt.Errorf("restore: %w", err)
	}
	if r.result.Failed > 0 {
		first := r.result.Missing[0]
		return &r.result, fmt.Errorf("restore to %s: %d of %d entries missing, the first is %s (%w): %w",
			target, r.result.Failed, r.result.Failed+r.result.Files+r.result.Dirs, first.Path, first.Err, ErrIncomplete)
	}
	return &r.result, nil
}

// restorer is one restore.
type restorer struct {
	repo    *repository.Repository
	options Options
	process process
	begun   time.Time
	root    *dir
	device  uint64 // of the target's file system
	dirs    dirs
	plan    plan
	named   names

	mendMu   sync.Mutex // guards mendings
	mendings map[digest.Digest]*mending

	undrained atomic.Int64 // bytes written since the disk was last told to take them
	drainDue  chan struct{}

	huge sync.Mutex // held while one of the rare blobs beyond the size of chunks is in memory

	phase                                       atomic.Value // Phase
	entries, entriesTotal, bytes, bytesTotal    atomic.Int64
	skippedEntries, skippedBytes, deleted, lost atomic.Int64
	verified, verifiedTotal                     atomic.Int64

	mu     sync.Mutex // guards result and calls of Report
	result Result
}

func (r *restorer) openTarget(target string) error {
	if r.options.DryRun {
		if _, err := os.Stat(target); errors.Is(err, os.ErrNotExist) {
			r.root.ready, r.root.fresh, r.root.absent = true, true, true
			return nil
		}
	} else if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	fd, err := unix.Open(target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", target, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errors.Join(fmt.Errorf("open %s: %w", target, err), unix.Close(fd))
	}
	r.root.fd, r.root.ready, r.device = fd, true, st.Dev
	return nil
}

func (r *restorer) closeTarget() {
	r.dirs.close()
	if r.root.fd >= 0 {
		_ = unix.Close(r.root.fd)
	}
}

// workers is how many goroutines decode and write: one more than processors, as one waits for the disk.
func workers() int { return runtime.GOMAXPROCS(0) + 1 }

func (r *restorer) run(ctx context.Context, tree repository.ID) error {
	r.phase.Store(Planning)
	err := r.scan(ctx, tree)
	if err == nil {
		r.phase.Store(Comparing)
		err = r.compare(ctx)
	}
	if err == nil && !r.options.DryRun {
		r.phase.Store(Writing)
		err = r.write(ctx)
	}
	if r.options.DryRun {
		r.pretend()
		return err
	}
	if err != nil {
		r.discard()
	}
	r.phase.Store(Finishing)
	// What is whole gets its name, also after an interruption.
	if ferr := r.finish(err == nil); ferr != nil {
		return errors.Join(err, ferr)
	}
	if err == nil && r.options.Verify {
		r.phase.Store(Verifying)
		err = r.verify(ctx)
	}
	return err
}

// outcome counts what became of an entry and tells it. path is asked only if somebody wants to know.
func (r *restorer) outcome(path func() string, typ string, a Action, bytes int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := Outcome{Type: typ, Action: a, Bytes: bytes, Err: err}
	if err != nil {
		o.Action = Failed
	}
	if r.options.Report != nil || err != nil && len(r.result.Missing) < maxMissing {
		o.Path = path()
	}
	switch o.Action {
	case Failed:
		if r.result.Failed++; len(r.result.Missing) < maxMissing {
			r.result.Missing = append(r.result.Missing, o)
		}
	case Deleted:
		r.deleted.Add(1)
	case Unchanged:
		r.skippedEntries.Add(1)
	default:
		r.entries.Add(1)
	}
	if o.Action != Failed && o.Action != Deleted {
		if typ == repository.TypeDir {
			r.result.Dirs++
		} else {
			r.result.Files++
			r.result.FileBytes += bytes
		}
	}
	if r.options.Report != nil {
		r.options.Report(o)
	}
}

// fileOutcome is outcome for a file or a further name of one.
func (r *restorer) fileOutcome(f *file, a Action, err error) {
	r.outcome(f.path, repository.TypeFile, a, f.size, err)
}

func (r *restorer) progress() Progress {
	return Progress{
		Phase:   r.phase.Load().(Phase),
		Entries: r.entries.Load(), EntriesTotal: r.entriesTotal.Load(), Bytes: r.bytes.Load(), BytesTotal: r.bytesTotal.Load(),
		SkippedEntries: r.skippedEntries.Load(), SkippedBytes: r.skippedBytes.Load(), Deleted: r.deleted.Load(),
		Verified: r.verified.Load(), VerifiedTotal: r.verifiedTotal.Load(), Elapsed: time.Since(r.begun),
	}
}

// watch calls Progress until the returned function is called, which calls it once more.
func (r *restorer) watch() (stop func()) {
	r.phase.Store(Planning)
	end := func() {
		r.result.Progress, r.result.LostAttributes = r.progress(), r.lost.Load()
	}
	if r.options.Progress == nil {
		return end
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.options.Progress(r.progress())
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
		end()
		r.options.Progress(r.result.Progress)
	}
}
