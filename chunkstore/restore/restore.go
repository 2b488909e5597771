package restore

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// Options says what to restore. The zero Options restores everything.
type Options struct {
	// Include, if not nil, chooses by path in the snapshot, such as "/records/a/b.pdf". It is asked for each entry;
	// directories that it refuses are still made where they are needed.
	Include func(path string) bool

	// Owner restores user and group, and set-ID bits, which needs the rights of root.
	Owner bool

	// Progress, if not nil, is called after each file, by one goroutine at a time.
	Progress func(Progress)
}

// Progress is how far a restore is.
type Progress struct {
	Files, FilesTotal int
	Bytes, BytesTotal int64
}

// Outcome is what became of one entry.
type Outcome struct {
	Path  string // in the snapshot
	Type  string // as in [repository.Node]
	Bytes int64
	Err   error // nil if it is whole and durable in the target
}

// Result is what a restore did.
type Result struct {
	Files, Dirs int   // restored
	Bytes       int64 // content of the restored files

	// Outcomes has an entry for each thing that was asked for, ascending by path.
	Outcomes []Outcome
}

// Missing returns the outcomes that are failures. A directory stands for all that is in it.
func (r *Result) Missing() []Outcome {
	var m []Outcome
	for _, o := range r.Outcomes {
		if o.Err != nil {
			m = append(m, o)
		}
	}
	return m
}

// Restore brings a snapshot, or the part that is included, into the directory target, which is made if need be. Files
// there of the same name are replaced, others stay. The Result is not nil unless nothing could be begun.
func Restore(ctx context.Context, repo *repository.Repository, snapshot digest.Digest, target string, o Options) (*Result, error) {
	sn, err := repo.LoadSnapshot(ctx, snapshot)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if err := os.MkdirAll(target, 0o700); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	root, err := os.OpenRoot(target)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer root.Close()
	r := &restorer{repo: repo, options: o, dirs: newDirs(root), healless: make(map[digest.Digest]bool)}
	defer r.dirs.close()
	if err := r.plan(ctx, sn.Tree); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	err = r.run(ctx)
	slices.SortFunc(r.result.Outcomes, func(a, b Outcome) int { return strings.Compare(a.Path, b.Path) })
	if err != nil {
		return &r.result, fmt.Errorf("restore: %w", err)
	}
	if m := r.result.Missing(); len(m) > 0 {
		return &r.result, fmt.Errorf("restore to %s: %d of %d entries missing, the first is %s (%w): %w",
			target, len(m), len(r.result.Outcomes), m[0].Path, m[0].Err, ErrIncomplete)
	}
	return &r.result, nil
}

// restorer is one restore.
type restorer struct {
	repo    *repository.Repository
	options Options
	dirs    *dirs

	made       map[string]bool // directories of the target that exist, by path in the snapshot
	attributed []entry         // those whose attributes are to be set, parents first
	files      []*file
	symlinks   []entry
	packs      []*packWork
	bytesTotal int64

	batch batch

	healMu   sync.Mutex // guards healless
	healless map[digest.Digest]bool

	mu     sync.Mutex // guards result and calls of Progress
	result Result
}

// entry is a directory or symlink to make.
type entry struct {
	path string
	node *repository.Node
}

func (r *restorer) outcome(path, typ string, bytes int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Outcomes = append(r.result.Outcomes, Outcome{path, typ, bytes, err})
	if err != nil {
		return
	}
	if typ == repository.TypeDir {
		r.result.Dirs++
		return
	}
	r.result.Files++
	r.result.Bytes += bytes
	if r.options.Progress != nil {
		r.options.Progress(Progress{r.result.Files, len(r.files) + len(r.symlinks), r.result.Bytes, r.bytesTotal})
	}
}

// plan makes the directories and sorts what is wanted of the files by pack.
func (r *restorer) plan(ctx context.Context, tree repository.ID) error {
	r.made = map[string]bool{"/": true}
	work := newPackPlan(r.repo)
	err := Walk(ctx, r.repo, tree, func(at string, n *repository.Node, err error) error {
		included := r.options.Include == nil || r.options.Include(at)
		if err != nil {
			// What cannot be read may hide included entries, so a directory is named even if it is not included.
			if included || n.Type == repository.TypeDir {
				r.outcome(at, n.Type, 0, err)
			}
			return nil
		}
		if !included {
			return nil
		}
		dir := at
		if n.Type != repository.TypeDir {
			dir = path.Dir(at)
		}
		if err := r.makeDirs(dir); err != nil {
			r.outcome(at, n.Type, 0, err)
			return fs.SkipDir
		}
		switch n.Type {
		case repository.TypeDir:
			r.attributed = append(r.attributed, entry{at, n})
		case repository.TypeSymlink:
			r.symlinks = append(r.symlinks, entry{at, n})
		case repository.TypeFile:
			f := &file{path: at, node: n}
			if err := work.add(f); err != nil {
				r.outcome(at, n.Type, 0, err)
				return nil
			}
			r.files = append(r.files, f)
			r.bytesTotal += int64(n.SizeBytes)
		default:
			r.outcome(at, n.Type, 0, fmt.Errorf("%s: %w", n.Type, ErrSpecial))
		}
		return nil
	})
	r.packs = work.sorted()
	return err
}

func (r *restorer) makeDirs(dir string) error {
	if r.made[dir] {
		return nil
	}
	if err := r.makeDirs(path.Dir(dir)); err != nil {
		return err
	}
	err := r.dirs.mkdir(dir)
	if err == nil {
		r.made[dir] = true
	}
	return err
}

// run writes the files, then the symlinks, then the attributes of directories.
func (r *restorer) run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1) // one waits for the disk
	for _, f := range r.files {
		if len(f.node.Content) == 0 {
			if err := r.write(f, nil, 0); err != nil {
				r.fail(f, err)
			}
		}
	}
	for _, p := range r.packs {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return r.pack(gctx, p) })
	}
	err := g.Wait()
	if cerr := r.commit(r.batch.take()); err == nil {
		err = cerr
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		for _, f := range r.files {
			f.discard(r)
		}
		return err
	}
	// Links come last: no file can be written through one of them.
	for _, l := range r.symlinks {
		r.outcome(l.path, l.node.Type, 0, r.symlink(l))
	}
	// Parents after children, whose making changes the parents' times.
	for _, d := range slices.Backward(r.attributed) {
		r.outcome(d.path, d.node.Type, 0, r.dirAttributes(d))
	}
	return r.dirs.sync()
}

// pack reads one pack in order and writes what is wanted of it.
func (r *restorer) pack(ctx context.Context, p *packWork) error {
	var env, plain []byte
	for run := range p.runs() {
		if err := ctx.Err(); err != nil {
			return err
		}
		from := int64(run[0].blob.Offset)
		last := run[len(run)-1].blob
		n := int(int64(last.Offset) + int64(last.Length) - from)
		env = slices.Grow(env[:0], n)[:n]
		readErr := r.repo.Files().ReadRange(ctx, p.name, from, env)
		for _, w := range run {
			at := int64(w.blob.Offset) - from
			err := readErr
			var content []byte
			if err == nil {
				content, err = r.repo.DecodeBlob(plain, env[at:at+int64(w.blob.Length)], w.blob)
			}
			if err != nil {
				content, err = r.elsewhere(ctx, p, w.blob.ID, plain)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil {
				plain = content
			}
			for _, to := range w.pieces {
				werr := err
				if werr == nil {
					werr = r.write(to.file, content, to.offset)
				}
				if werr != nil {
					r.fail(to.file, werr)
				}
			}
		}
		if r.batch.due() {
			if err := r.commit(r.batch.take()); err != nil {
				return err
			}
		}
	}
	return nil
}

// elsewhere loads a blob that its pack did not yield: from another pack, or after healing. A pack that could not be
// healed once is not healed for each of its blobs again.
func (r *restorer) elsewhere(ctx context.Context, p *packWork, id repository.ID, dst []byte) ([]byte, error) {
	r.healMu.Lock()
	given := r.healless[p.name.ID]
	r.healMu.Unlock()
	if given {
		return r.repo.WithoutHealing().LoadBlob(ctx, repository.DataBlob, id, dst)
	}
	b, err := r.repo.LoadBlob(ctx, repository.DataBlob, id, dst)
	if err != nil {
		r.healMu.Lock()
		r.healless[p.name.ID] = true
		r.healMu.Unlock()
	}
	return b, err
}

// fail gives f its one bad outcome.
func (r *restorer) fail(f *file, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == failed {
		return
	}
	f.state = failed
	f.removeTemp(r)
	r.outcome(f.path, f.node.Type, 0, err)
}
