package archive

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// Options says what to back up and what the snapshot is to say about it.
type Options struct {
	// Roots are what is backed up, at least one.
	Roots []Root

	// Select leaves out some of it.
	Select Selection

	// Paths is what the snapshot says was backed up; nil means where the roots lie in it.
	Paths []string

	// Excludes is recorded in the snapshot.
	Excludes []string

	// Host is recorded as the machine; empty means this one's name.
	Host string

	// Tags are recorded in the snapshot.
	Tags []string

	// Time is recorded as the time of the snapshot and of the directories above the roots that nothing on disk describes;
	// zero means now.
	Time time.Time

	// Parent, if not zero, is an earlier snapshot: a file whose place, size, times and inode are the same as there is
	// not read again. Leave it zero when everything must be read. See [FindParents].
	Parent digest.Digest

	// Partial are snapshots of backups that were cut off, the newest first. They are parents for what they hold, and
	// removed once this backup is complete.
	Partial []digest.Digest

	// Reread has all files read, whatever the parents say.
	Reread bool

	// IgnoreInode and IgnoreCtime make a file count as unchanged though its inode or the time of its status changed: on
	// file systems that make them up.
	IgnoreInode, IgnoreCtime bool

	// WithAtime records when files were read last. Trees then change with every reading.
	WithAtime bool

	// Report, if not nil, is told of each file and directory that could not be read as it is, by one goroutine at a time;
	// the rest is backed up. If nil, the backup is strict: the first such error ends it. In a strict backup files of
	// special types are errors, and so are directories that change.
	Report func(path string, err error)

	// Checkpoint, if not zero, is how often a snapshot of what is done is left in case the backup is cut off. It carries
	// [repository.PartialTag].
	Checkpoint time.Duration

	// DryRun stores nothing.
	DryRun bool

	// Readers is how many files are read at once; 0 means one more than processors.
	Readers int

	// Progress, if not nil, is called as work goes on, by one goroutine at a time.
	Progress func(Progress)
}

// Progress is how far a backup is.
type Progress struct {
	Files, Dirs int
	Bytes       int64
	Path        string // in the snapshot, of the file just finished; empty inside a file
}

// Changes counts entries against the parents.
type Changes struct{ New, Changed, Unmodified int }

// Result is what a backup did.
type Result struct {
	SnapshotID  digest.Digest // of the partial snapshot if the backup was cut off; zero if there is none
	Tree        repository.ID
	Files, Dirs int   // Dirs counts those above the roots as well, but not "/"
	Unread      int   // files taken over from the parent
	Sockets     int   // left out
	Problems    int   // files and directories that were reported
	Bytes       int64 // content of all files

	FileChanges, DirChanges Changes

	// Added lists the files the repository gained, the snapshot's among them, and packs of an earlier backup that was cut
	// off and that no index named until now.
	Added []chunkstore.Entry
	Stats repository.SessionStats

	// Unremoved lists partial snapshots that are superseded and could not be removed.
	Unremoved []repository.Unreadable
}

// Backup stores the roots as one snapshot. On an error there is no snapshot, and the error names the file. With
// checkpoints there may be a partial one, which the result names beside the error.
func Backup(ctx context.Context, repo *repository.Repository, o Options) (*Result, error) {
	top, err := layout(o.Roots)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	sn, err := describe(o)
	if err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	session := repo.NewSession()
	if o.DryRun {
		session = repo.NewDrySession()
	}
	defer session.Close()
	a := &archiver{repo: repo, session: session, options: o, jobs: make(chan job, 16), snapshot: sn}
	a.problems.report = o.Report
	a.uid, a.gid = uint32(os.Getuid()), uint32(os.Getgid())

	root, err := a.rootDir(ctx)
	if err != nil {
		return nil, fmt.Errorf("backup: parent: %w", err)
	}
	if !o.DryRun {
		// What a backup that was cut off has stored counts as stored.
		if _, err := session.Adopt(ctx); err != nil {
			return nil, fmt.Errorf("backup: %w", err)
		}
	}
	if err := a.run(ctx, root, top); err != nil {
		if a.checkpointing() {
			a.checkpoint(context.WithoutCancel(ctx), root)
		}
		return a.ended(a.last), fmt.Errorf("backup: %w", err)
	}
	sn.Tree = root.id
	if _, err := session.SaveSnapshot(ctx, sn); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	if !o.DryRun {
		a.removePartial(ctx)
	}
	a.result.Tree = root.id
	return a.ended(sn.ID), nil
}

// ended returns the result with the snapshot of that ID.
func (a *archiver) ended(id digest.Digest) *Result {
	r := a.result
	r.SnapshotID, r.Problems = id, a.problems.count
	r.Added, r.Stats = a.session.Added(), a.session.Stats()
	if len(a.removed) > 0 {
		r.Added = slices.DeleteFunc(r.Added, func(e chunkstore.Entry) bool { return slices.Contains(a.removed, e.Name) })
	}
	return &r
}

// describe makes the snapshot without its tree.
func describe(o Options) (*repository.Snapshot, error) {
	sn := &repository.Snapshot{Time: o.Time, Hostname: o.Host, Tags: o.Tags, Excludes: o.Excludes, ProgramVersion: "dengbei"}
	sn.Paths = slices.Clone(o.Paths)
	if o.Paths == nil {
		for _, r := range o.Roots {
			sn.Paths = append(sn.Paths, r.Path)
		}
	}
	slices.Sort(sn.Paths)
	if sn.Hostname == "" {
		h, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		sn.Hostname = h
	}
	sn.UID, sn.GID = uint32(os.Getuid()), uint32(os.Getgid())
	if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil { // a container may have no passwd file
		sn.Username = u.Username
	}
	if !o.Parent.IsZero() {
		id := repository.IDOf(o.Parent)
		sn.Parent = &id
	}
	return sn, nil
}

// archiver is one backup: a walker that lists directories, and workers that read files.
type archiver struct {
	repo     *repository.Repository
	session  *repository.Session
	options  Options
	snapshot *repository.Snapshot // without its tree until the end
	people   people
	problems problems
	uid, gid uint32
	jobs     chan job
	aboves   int // directories above the roots; the walker's

	saving chan struct{} // one element for each chunk of a large file being saved
	chunks chan []byte   // buffers to be used again, at most one for each saving and each reader

	zeroOnce sync.Mutex // guards zero; held while it is stored
	zero     repository.ID

	// Checkpoints: they come one after another, and the end after all of them.
	last    digest.Digest // the newest partial snapshot of this backup
	removed []chunkstore.Name

	mu     sync.Mutex // guards result, bytes and calls of Progress
	result Result
	bytes  int64
}

func (a *archiver) strict() bool { return a.options.Report == nil }

// rootDir makes the root with the trees of the parents.
func (a *archiver) rootDir(ctx context.Context) (*dir, error) {
	root := &dir{archiver: a, path: "/"}
	ids := slices.Clone(a.options.Partial)
	if !a.options.Parent.IsZero() {
		ids = append(ids, a.options.Parent)
	}
	if a.options.Reread {
		return root, nil
	}
	for _, id := range ids {
		var tree *repository.Tree
		sn, err := a.repo.LoadSnapshot(ctx, id)
		if err == nil {
			tree, err = a.repo.LoadTree(ctx, sn.Tree)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			if err := a.problems.note("/", fmt.Errorf("parent snapshot: %w", err)); err != nil {
				return nil, err
			}
			continue
		}
		root.parents = append(root.parents, tree)
	}
	return root, nil
}

// run stores everything below top.
func (a *archiver) run(ctx context.Context, root *dir, top *place) error {
	stopCheckpoints := a.startCheckpoints(ctx, root)
	defer stopCheckpoints()
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	readers := a.options.Readers
	if readers <= 0 {
		readers = workers + 1 // some wait for the disk
	}
	a.saving = make(chan struct{}, workers)
	a.chunks = make(chan []byte, cap(a.saving)+readers+2)
	g.Go(func() error {
		defer close(a.jobs)
		return a.walkTop(ctx, root, top)
	})
	for range readers {
		g.Go(func() error {
			r := newReader(a)
			for j := range a.jobs {
				if err := r.store(ctx, j); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if a.problems.count > 0 && a.result.Files == 0 && a.result.Dirs == a.aboves {
		return ErrNothing
	}
	return nil
}

// count changes the result.
func (a *archiver) count(path string, change func(*Result)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(&a.result)
	if a.options.Progress != nil {
		a.options.Progress(Progress{a.result.Files, a.result.Dirs, a.bytes, path})
	}
}

// countBytes notes progress inside a file.
func (a *archiver) countBytes(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bytes += n
	if a.options.Progress != nil {
		a.options.Progress(Progress{a.result.Files, a.result.Dirs, a.bytes, ""})
	}
}

// countFile adds a stored entry that is no directory. Of its size, counted bytes are in the progress already.
func (a *archiver) countFile(path string, n, old *repository.Node, unread bool, counted int64) {
	a.count(path, func(r *Result) {
		r.Files++
		r.Bytes += int64(n.SizeBytes)
		a.bytes += int64(n.SizeBytes) - counted
		r.FileChanges.add(n, old)
		if unread {
			r.Unread++
		}
	})
}

func (a *archiver) countDir(n, old *repository.Node) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result.Dirs++
	a.result.DirChanges.add(n, old)
}

func (c *Changes) add(n, old *repository.Node) {
	switch {
	case old == nil:
		c.New++
	case same(n, old):
		c.Unmodified++
	default:
		c.Changed++
	}
}
