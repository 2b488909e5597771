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

	// Host is recorded as the machine; empty means this one's name.
	Host string

	// Tags are recorded in the snapshot.
	Tags []string

	// Time is recorded as the time of the snapshot and of the directories above the roots; zero means now.
	Time time.Time

	// Parent, if not zero, is an earlier snapshot: a file whose place, size, times and inode are the same as there is
	// not read again. Leave it zero when everything must be read.
	Parent digest.Digest

	// Progress, if not nil, is called after each file, by one goroutine at a time.
	Progress func(Progress)
}

// Progress is how far a backup is.
type Progress struct {
	Files, Dirs int
	Bytes       int64
	Path        string // in the snapshot, of the file just finished
}

// Result is what a backup did.
type Result struct {
	SnapshotID  digest.Digest
	Tree        repository.ID
	Files, Dirs int   // Dirs counts those above the roots as well, but not "/"
	Unread      int   // files taken over from the parent
	Bytes       int64 // content of all files

	// Added lists the files the repository gained, the snapshot's among them, and packs of an earlier backup that was cut
	// off and that no index named until now.
	Added []chunkstore.Entry
	Stats repository.SessionStats
}

// Backup stores the roots as one snapshot. On an error there is no snapshot, and the error names the file.
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
	defer session.Close()
	a := &archiver{repo: repo, session: session, options: o, jobs: make(chan fileJob, 64)}

	var parent *repository.Tree
	if !o.Parent.IsZero() {
		psn, err := repo.LoadSnapshot(ctx, o.Parent)
		if err != nil {
			return nil, fmt.Errorf("backup: parent: %w", err)
		}
		if parent, err = repo.LoadTree(ctx, psn.Tree); err != nil {
			return nil, fmt.Errorf("backup: parent: %w", err)
		}
		id := repository.IDOf(o.Parent)
		sn.Parent = &id
	}
	// What a backup that was cut off has stored counts as stored.
	if _, err := session.Adopt(ctx); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	if sn.Tree, err = a.run(ctx, top, parent); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	if _, err := session.SaveSnapshot(ctx, sn); err != nil {
		return nil, fmt.Errorf("backup: %w", err)
	}
	r := a.result
	r.SnapshotID, r.Tree, r.Added, r.Stats = sn.ID, sn.Tree, session.Added(), session.Stats()
	return &r, nil
}

// describe makes the snapshot without its tree.
func describe(o Options) (*repository.Snapshot, error) {
	sn := &repository.Snapshot{Time: o.Time, Hostname: o.Host, Tags: o.Tags, ProgramVersion: "dengbei"}
	for _, r := range o.Roots {
		sn.Paths = append(sn.Paths, r.Path)
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
	return sn, nil
}

// archiver is one backup: a walker that lists directories, and workers that read files.
type archiver struct {
	repo    *repository.Repository
	session *repository.Session
	options Options
	people  people
	jobs    chan fileJob

	saving chan struct{} // one element for each chunk of a large file being saved
	chunks chan []byte   // buffers to be used again, at most one for each saving and each reader

	mu     sync.Mutex // guards result and calls of Progress
	result Result
}

// run stores everything below top and returns the tree of the root.
func (a *archiver) run(ctx context.Context, top *place, parent *repository.Tree) (repository.ID, error) {
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	a.saving = make(chan struct{}, workers)
	a.chunks = make(chan []byte, cap(a.saving)+workers+1)
	root := &dir{archiver: a, path: "/", parentTree: parent}
	g.Go(func() error {
		defer close(a.jobs)
		return a.walkTop(ctx, root, top)
	})
	for range workers + 1 { // one more than processors, as some wait for the disk
		g.Go(func() error {
			r := newReader(a)
			for job := range a.jobs {
				if err := r.store(ctx, job); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return repository.ID{}, err
	}
	return root.id, nil
}

// count adds a stored file or directory to the result.
func (a *archiver) count(path string, isDir, unread bool, bytes int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if isDir {
		a.result.Dirs++
		return
	}
	a.result.Files++
	a.result.Bytes += bytes
	if unread {
		a.result.Unread++
	}
	if a.options.Progress != nil {
		a.options.Progress(Progress{a.result.Files, a.result.Dirs, a.result.Bytes, path})
	}
}
