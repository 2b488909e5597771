package repair

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"syscall"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// Source is another copy of the repository's files. [repository.Files] is one.
type Source interface {
	// Open returns the content of name; see [repository.Files].
	Open(ctx context.Context, name chunkstore.Name) (io.ReadCloser, error)

	// List yields the files of a kind; after an error it ends.
	List(ctx context.Context, kind chunkstore.Kind) iter.Seq2[chunkstore.Entry, error]
}

// FromOptions says what [From] looks for.
type FromOptions struct {
	// ReadData has each pack that is here hashed, so that every damaged one is found.
	ReadData bool

	// All fetches also keys, snapshots, index files and packs that only the other copy has and that nothing here asks for:
	// perhaps because they were removed here on purpose.
	All bool

	// DryRun has nothing changed.
	DryRun bool

	// Progress, if not nil, is called after each file that was looked at or fetched; bytes are those fetched.
	Progress func(files int, bytes int64)
}

// FromResult is what [From] did, or with DryRun would do.
type FromResult struct {
	Fetched []chunkstore.Entry

	// Failed are files that are damaged or missing here and that the other copy could not give: [ErrNowhere], or what was
	// wrong with its file. What is here of them is as it was.
	Failed []repository.Unreadable
}

// From replaces damaged files by those of another copy of the repository, and fetches what is missing: packs that the
// index names, and index files where blobs are needed that no index file here names. Each file is held to its name while
// it streams in; it appears under its name when it is whole and durable.
func From(ctx context.Context, repo *repository.Repository, other Source, o FromOptions) (*FromResult, error) {
	f := &fetcher{repo: repo, here: repo.Files(), other: other, options: o}
	if err := f.run(ctx); err != nil {
		return nil, fmt.Errorf("repair from another copy: %w", err)
	}
	return &f.result, nil
}

type fetcher struct {
	repo    *repository.Repository // nil while it does not open yet
	here    repository.Files
	other   Source
	options FromOptions
	theirs  map[chunkstore.Kind][]chunkstore.Entry // ascending by ID
	asked   map[chunkstore.Name]bool               // fetched, or tried to
	result  FromResult
	files   int
	bytes   int64
}

func (f *fetcher) run(ctx context.Context) error {
	if err := f.list(ctx); err != nil {
		return err
	}
	if err := f.same(ctx); err != nil {
		return err
	}
	for _, kind := range []chunkstore.Kind{chunkstore.Key, chunkstore.Snapshot, chunkstore.Index} {
		if err := f.damaged(ctx, kind); err != nil {
			return err
		}
	}
	indexed, err := f.index(ctx)
	if err != nil {
		return err
	}
	if err := f.packs(ctx, indexed); err != nil {
		return err
	}
	if f.options.All {
		if err := f.rest(ctx); err != nil {
			return err
		}
	}
	if f.options.DryRun {
		return nil
	}
	return f.repo.Reload(ctx)
}

func byName(e chunkstore.Entry, id digest.Digest) int { return e.Name.ID.Compare(id) }

// list learns what the other copy has.
func (f *fetcher) list(ctx context.Context) error {
	f.theirs = make(map[chunkstore.Kind][]chunkstore.Entry)
	for _, kind := range []chunkstore.Kind{chunkstore.Config, chunkstore.Key, chunkstore.Snapshot, chunkstore.Index, chunkstore.Pack} {
		for e, err := range f.other.List(ctx, kind) {
			if err != nil {
				return fmt.Errorf("the other copy: %w", err)
			}
			f.theirs[kind] = append(f.theirs[kind], e)
		}
		slices.SortFunc(f.theirs[kind], func(a, b chunkstore.Entry) int { return byName(a, b.Name.ID) })
	}
	return nil
}

// their returns the other copy's entry of a file.
func (f *fetcher) their(name chunkstore.Name) (chunkstore.Entry, bool) {
	l := f.theirs[name.Kind]
	i, ok := slices.BinarySearchFunc(l, name.ID, byName)
	if !ok {
		return chunkstore.Entry{}, false
	}
	return l[i], true
}

// same gives [ErrOther] unless the other copy has a file of ours, or there are none here: names are hashes of ciphertext,
// so that no two repositories have one in common.
func (f *fetcher) same(ctx context.Context) error {
	ours := 0
	for _, kind := range []chunkstore.Kind{chunkstore.Config, chunkstore.Key, chunkstore.Snapshot, chunkstore.Index, chunkstore.Pack} {
		for e, err := range f.here.List(ctx, kind) {
			if err != nil {
				return err
			}
			if _, ok := f.their(e.Name); ok {
				return nil
			}
			ours++
		}
	}
	if ours == 0 {
		return nil
	}
	return ErrOther
}

// rotten reports whether a file that is here does not hash to its name, also at the second attempt.
func (f *fetcher) rotten(ctx context.Context, name chunkstore.Name) (bool, error) {
	for range 2 {
		err := f.read(ctx, name)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == nil {
			return false, nil
		}
	}
	return true, nil
}

func (f *fetcher) read(ctx context.Context, name chunkstore.Name) error {
	if f.repo != nil {
		return f.repo.Reread(ctx, name)
	}
	r, err := f.here.Open(ctx, name)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// damaged replaces the files of a kind that do not hash to their names.
func (f *fetcher) damaged(ctx context.Context, kind chunkstore.Kind) error {
	for e, err := range f.here.List(ctx, kind) {
		if err != nil {
			return err
		}
		if err := f.mend(ctx, e.Name); err != nil {
			return err
		}
	}
	return nil
}

// mend replaces a file that does not hash to its name.
func (f *fetcher) mend(ctx context.Context, name chunkstore.Name) error {
	bad, err := f.rotten(ctx, name)
	if err != nil {
		return err
	}
	f.progress(0)
	if !bad {
		return nil
	}
	return f.fetch(ctx, name)
}

func (f *fetcher) progress(bytes int64) {
	f.files++
	f.bytes += bytes
	if f.options.Progress != nil {
		f.options.Progress(f.files, f.bytes)
	}
}

// fetch brings one file here. That the other copy cannot give it is a result; that it cannot be stored here is an error.
func (f *fetcher) fetch(ctx context.Context, name chunkstore.Name) error {
	if f.asked == nil {
		f.asked = make(map[chunkstore.Name]bool)
	}
	f.asked[name] = true
	e, ok := f.their(name)
	if !ok {
		f.result.Failed = append(f.result.Failed, repository.Unreadable{Name: name, Err: ErrNowhere})
		return nil
	}
	if !f.options.DryRun {
		size, theirs, err := f.copy(ctx, name)
		if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EISDIR) { // a directory in the place of the file
			if err := f.setAside(ctx, name); err != nil {
				return err
			}
			size, theirs, err = f.copy(ctx, name)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case theirs != nil:
			f.result.Failed = append(f.result.Failed, repository.Unreadable{Name: name, Err: theirs})
			return nil
		case err != nil:
			return err
		}
		e.SizeBytes = size
	}
	f.result.Fetched = append(f.result.Fetched, e)
	f.progress(e.SizeBytes)
	return nil
}

// copy brings one file here. The second result is the other copy's fault.
func (f *fetcher) copy(ctx context.Context, name chunkstore.Name) (int64, error, error) {
	r, err := f.other.Open(ctx, name)
	if err != nil {
		return 0, err, nil
	}
	defer r.Close()
	theirs := &failing{r: r}
	n, err := f.here.Put(ctx, name, theirs)
	if errors.Is(err, digest.ErrMismatch) && theirs.err == nil {
		theirs.err = err
	}
	return n, theirs.err, err
}

// failing remembers that reading failed, to tell that from writing.
type failing struct {
	r   io.Reader
	err error
}

// Read implements [io.Reader].
func (f *failing) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// index fetches index files if something is needed that those here do not list, and returns the packs that all name.
func (f *fetcher) index(ctx context.Context) (map[repository.ID]bool, error) {
	if !f.options.DryRun {
		if err := f.repo.Reload(ctx); err != nil {
			return nil, err
		}
	}
	lacks, err := f.lacks(ctx)
	if err != nil {
		return nil, err
	}
	if lacks {
		for _, e := range f.theirs[chunkstore.Index] {
			if err := f.absent(ctx, e.Name); err != nil {
				return nil, err
			}
		}
	}
	named := make(map[repository.ID]bool)
	for x, err := range f.repo.IndexFiles(ctx) {
		if x == nil {
			return nil, err
		}
		for _, p := range x.Packs {
			named[p.ID] = true
		}
	}
	return named, nil
}

// absent fetches a file unless it is here.
func (f *fetcher) absent(ctx context.Context, name chunkstore.Name) error {
	r, err := f.here.Open(ctx, name)
	if err == nil {
		return r.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.fetch(ctx, name)
}

// lacks reports whether a snapshot needs a blob that no index file here lists, or a tree that does not load.
func (f *fetcher) lacks(ctx context.Context) (bool, error) {
	all, _, err := f.repo.Snapshots(ctx)
	if err != nil {
		return false, err
	}
	seen := make(map[repository.ID]bool)
	var todo []repository.ID
	push := func(id repository.ID) {
		if !seen[id] {
			seen[id] = true
			todo = append(todo, id)
		}
	}
	for _, sn := range all {
		push(sn.Tree)
	}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if !f.repo.Has(repository.TreeBlob, id) {
			return true, nil
		}
		t, err := f.repo.LoadTree(ctx, id)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			continue // the pack is damaged or missing: that is seen to
		}
		for i := range t.Nodes {
			for _, c := range t.Nodes[i].Content {
				if !f.repo.Has(repository.DataBlob, c) {
					return true, nil
				}
			}
			if t.Nodes[i].Subtree != nil {
				push(*t.Nodes[i].Subtree)
			}
		}
	}
	return false, nil
}

// packs replaces damaged packs and fetches those that the index names and that are not here.
func (f *fetcher) packs(ctx context.Context, named map[repository.ID]bool) error {
	for e, err := range f.here.List(ctx, chunkstore.Pack) {
		if err != nil {
			return err
		}
		delete(named, repository.IDOf(e.Name.ID))
		their, ok := f.their(e.Name)
		if f.options.ReadData || ok && their.SizeBytes != e.SizeBytes {
			if err := f.mend(ctx, e.Name); err != nil {
				return err
			}
		}
	}
	for id := range named {
		if err := f.fetch(ctx, packName(id)); err != nil {
			return err
		}
	}
	return nil
}

// rest fetches what only the other copy has: packs before the index that names them before snapshots.
func (f *fetcher) rest(ctx context.Context) error {
	for _, kind := range []chunkstore.Kind{chunkstore.Key, chunkstore.Pack, chunkstore.Index, chunkstore.Snapshot} {
		for _, e := range f.theirs[kind] {
			if f.asked[e.Name] {
				continue
			}
			if err := f.absent(ctx, e.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Entrance brings back from another copy what a repository needs to be opened at all: key files that are damaged, all of
// them if none is left, and the config if it is missing or not the other copy's. It needs no key, and the two copies must
// have a file in common, or else it gives [ErrOther]. Use it only when the repository does not open.
func Entrance(ctx context.Context, here repository.Files, other Source, dryRun bool) (*FromResult, error) {
	f := &fetcher{here: here, other: other, options: FromOptions{DryRun: dryRun}}
	if err := f.entrance(ctx); err != nil {
		return nil, fmt.Errorf("repair from another copy: %w", err)
	}
	return &f.result, nil
}

func (f *fetcher) entrance(ctx context.Context) error {
	if err := f.list(ctx); err != nil {
		return err
	}
	if err := f.same(ctx); err != nil {
		return err
	}
	if err := f.damaged(ctx, chunkstore.Key); err != nil {
		return err
	}
	keys := 0
	for _, err := range f.here.List(ctx, chunkstore.Key) {
		if err != nil {
			return err
		}
		keys++
	}
	if keys == 0 {
		for _, e := range f.theirs[chunkstore.Key] {
			if err := f.fetch(ctx, e.Name); err != nil {
				return err
			}
		}
	}
	if len(f.theirs[chunkstore.Config]) != 1 {
		return nil
	}
	config := f.theirs[chunkstore.Config][0].Name
	aside := config // whatever stands in its place and is no file
	for e, err := range f.here.List(ctx, chunkstore.Config) {
		if err != nil {
			return err
		}
		if e.Name == config {
			return nil
		}
		aside = e.Name
	}
	if !f.options.DryRun {
		if err := f.setAside(ctx, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return f.fetch(ctx, config)
}

func (f *fetcher) setAside(ctx context.Context, name chunkstore.Name) error {
	if q, ok := f.here.(interface {
		Quarantine(name chunkstore.Name) error
	}); ok {
		return q.Quarantine(name)
	}
	return f.here.Remove(ctx, name)
}
