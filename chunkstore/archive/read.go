package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/repository"
)

// reader stores entries that are no directories, one at a time.
type reader struct {
	archiver *archiver
	cutter   *cutter // nil until a file is large enough
	small    []byte  // a file too small to be cut
}

func newReader(a *archiver) *reader { return &reader{archiver: a} }

// store stores the entries of a job.
func (r *reader) store(ctx context.Context, j job) error {
	d := j.dir
	for i := j.from; i < j.to; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		source := j.source
		if source == "" {
			source = filepath.Join(d.source, d.names[i])
		}
		n, ok, err := r.entry(ctx, d, d.names[i], source)
		if err != nil {
			return err
		}
		if ok {
			d.put(i, n)
		}
	}
	return d.finish(ctx, j.to-j.from)
}

// entry stores what lies at source as name in d. It reports false for what is left out.
func (r *reader) entry(ctx context.Context, d *dir, name, source string) (repository.Node, bool, error) {
	a := r.archiver
	n, ok, err := r.try(ctx, d, name, source)
	if err == nil {
		return n, ok, nil
	}
	if ctx.Err() != nil {
		return n, false, ctx.Err()
	}
	var own *storeError
	if errors.As(err, &own) { // the repository's failure, not the file's
		return n, false, err
	}
	return n, false, a.problems.note(source, err)
}

// storeError marks a failure to store.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

func (r *reader) try(ctx context.Context, d *dir, name, source string) (repository.Node, bool, error) {
	a := r.archiver
	s := &a.options.Select
	if s.byName(source) {
		return repository.Node{}, false, nil
	}
	st, err := lstat(source)
	if err != nil {
		return repository.Node{}, false, err
	}
	if s.bySize(st) || s.OneFileSystem && d.device != 0 && d.device != uint64(st.Dev) {
		return repository.Node{}, false, nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		if a.strict() {
			return repository.Node{}, false, fmt.Errorf("%s (socket): %w", source, ErrSpecial)
		}
		a.count(path.Join(d.path, name), func(res *Result) { res.Sockets++ })
		return repository.Node{}, false, nil // as stock restic: nothing of it would work after a restore
	case unix.S_IFBLK, unix.S_IFCHR, unix.S_IFIFO:
		if a.strict() {
			return repository.Node{}, false, fmt.Errorf("%s (%s): %w", source, st.mode().Type(), ErrSpecial)
		}
	case unix.S_IFDIR:
		return repository.Node{}, false, fmt.Errorf("file %s: %w", source, ErrChanged)
	}
	old := d.inParents(name)
	n, err := a.node(source, name, st, old)
	if err != nil {
		if n.Type == repository.TypeSymlink && n.LinkTarget == "" {
			return n, false, err
		}
		if err := a.problems.note(source, err); err != nil {
			return n, false, err
		}
	}
	shown := path.Join(d.path, name)
	if n.Type != repository.TypeFile {
		a.countFile(shown, &n, old, false, 0)
		return n, true, nil
	}
	if content, ok := a.unchanged(&n, old); ok {
		n.Content = content
		a.countFile(shown, &n, old, true, 0)
		return n, true, nil
	}
	content, size, err := r.content(ctx, source, st, r.saver(old))
	if err != nil && (a.strict() || !errors.Is(err, ErrChanged) || content == nil) {
		return n, false, fmt.Errorf("file %s: %w", source, err)
	}
	if err != nil { // half of it is better than nothing, and the next run reads it again
		if err := a.problems.note(source, err); err != nil {
			return n, false, err
		}
	}
	n.Content, n.SizeBytes = content, uint64(size)
	counted := int64(0)
	if a.cuts(st.Size) {
		counted = size
	}
	a.countFile(shown, &n, old, false, counted)
	return n, true, nil
}

// unchanged returns the content the parent snapshot has for the file, if it is the same file and nothing of it is
// missing.
func (a *archiver) unchanged(n, old *repository.Node) ([]repository.ID, bool) {
	if old == nil || old.Type != n.Type || old.SizeBytes != n.SizeBytes || !old.ModTime.Equal(n.ModTime) ||
		!a.options.IgnoreInode && old.Inode != n.Inode || !a.options.IgnoreCtime && !old.ChangeTime.Equal(n.ChangeTime) {
		return nil, false
	}
	var size int64
	for _, id := range old.Content {
		places := a.repo.Locate(repository.DataBlob, id)
		if len(places) == 0 {
			return nil, false
		}
		size += places[0].Blob.PlainBytes()
	}
	return old.Content, size == int64(n.SizeBytes)
}

// saver stores a piece of a file.
type saver func(ctx context.Context, typ repository.BlobType, content []byte) (repository.ID, bool, error)

// saver returns how to save a file that was old in a parent, if that is not nil.
func (r *reader) saver(old *repository.Node) saver {
	if old != nil && old.Type == repository.TypeFile {
		return r.archiver.session.SaveVersion
	}
	return r.archiver.session.SaveBlob
}

// content saves the content of a file. With ErrChanged it may return what was read nevertheless.
func (r *reader) content(ctx context.Context, source string, st *stat, save saver) ([]repository.ID, int64, error) {
	f, err := openAs(source, st)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	var ids []repository.ID
	var n int64
	if !r.archiver.cuts(st.Size) {
		ids, n, err = r.whole(ctx, f, st.Size, save)
	} else {
		ids, n, err = r.chunks(ctx, &fileSource{file: f, size: st.Size, sparse: st.sparse()}, save)
	}
	if err != nil {
		return nil, 0, err
	}
	if n != st.Size {
		return ids, n, fmt.Errorf("%d bytes read of %d: %w", n, st.Size, ErrChanged)
	}
	return ids, n, f.unchanged(st)
}

// cuts reports whether the chunker may cut a file of that size.
func (a *archiver) cuts(size int64) bool { return size > int64(a.repo.Config().Chunks.MinBytes) }

// whole saves a file that the chunker would not cut.
func (r *reader) whole(ctx context.Context, f *openedFile, size int64, save saver) ([]repository.ID, int64, error) {
	r.small = slices.Grow(r.small[:0], int(size)+1)
	b := r.small[:size+1] // one more, to notice growth
	n, err := f.readAt(b, 0)
	if err != nil {
		return nil, 0, err
	}
	b = b[:min(int64(n), size)]
	ids := []repository.ID{}
	if len(b) > 0 {
		id, _, err := save(ctx, repository.DataBlob, b)
		if err != nil {
			return nil, 0, &storeError{err}
		}
		ids = append(ids, id)
	}
	if int64(n) > size {
		return ids, size, fmt.Errorf("more than %d bytes: %w", size, ErrChanged)
	}
	return ids, int64(n), nil
}

// chunks cuts what src holds and saves the chunks, several at once.
func (r *reader) chunks(ctx context.Context, src source, save saver) ([]repository.ID, int64, error) {
	a := r.archiver
	profile := a.repo.Config().Chunks
	if err := r.restart(src); err != nil {
		return nil, 0, err
	}
	var (
		wait   sync.WaitGroup
		mu     sync.Mutex // guards ids and failed
		ids    []repository.ID
		failed error
		total  int64
	)
	defer wait.Wait()
	for {
		if n := src.zeros(total); n >= int64(profile.MinBytes) {
			// The chunker always cuts zeros at the smallest size.
			id, err := a.zeroChunk(ctx)
			if err != nil {
				return nil, total, &storeError{err}
			}
			count := n / int64(profile.MinBytes)
			mu.Lock()
			ids = append(ids, slices.Repeat([]repository.ID{id}, int(count))...)
			mu.Unlock()
			total += count * int64(profile.MinBytes)
			a.countBytes(count * int64(profile.MinBytes))
			src.seek(total)
			r.cutter.restart(src)
			if err := ctx.Err(); err != nil {
				return nil, total, err
			}
			continue
		}
		buf, err := r.cutter.next(a.borrow())
		if err != nil {
			a.chunks <- buf
			if errors.Is(err, io.EOF) {
				break
			}
			return nil, total, err
		}
		total += int64(len(buf))
		mu.Lock()
		at := len(ids)
		ids = append(ids, repository.ID{})
		err = failed
		mu.Unlock()
		if err != nil {
			a.chunks <- buf
			return nil, total, err
		}
		select {
		case a.saving <- struct{}{}:
		case <-ctx.Done():
			a.chunks <- buf
			return nil, total, ctx.Err()
		}
		wait.Go(func() {
			id, _, err := save(ctx, repository.DataBlob, buf)
			size := int64(len(buf))
			a.chunks <- buf
			<-a.saving
			a.countBytes(size)
			mu.Lock()
			defer mu.Unlock()
			ids[at] = id
			if err != nil && failed == nil {
				failed = &storeError{err}
			}
		})
	}
	wait.Wait()
	return ids, total, failed
}

// restart has the cutter begin anew with what src gives next.
func (r *reader) restart(src io.Reader) error {
	if r.cutter == nil {
		c, err := newCutter(r.archiver.repo.Config())
		if err != nil {
			return err
		}
		r.cutter = c
	}
	r.cutter.restart(src)
	return nil
}

// borrow returns a buffer for a chunk, large enough for nearly all. There are never more than the channel takes.
func (a *archiver) borrow() []byte {
	select {
	case b := <-a.chunks:
		return b[:0]
	default:
		p := a.repo.Config().Chunks
		return make([]byte, 0, min(p.MaxBytes, p.MinBytes+3<<p.AverageBits))
	}
}

// zeroChunk stores the smallest chunk of zeros.
func (a *archiver) zeroChunk(ctx context.Context) (repository.ID, error) {
	a.zeroOnce.Lock()
	defer a.zeroOnce.Unlock()
	if !a.zero.IsZero() {
		return a.zero, nil
	}
	id, _, err := a.session.SaveBlob(ctx, repository.DataBlob, make([]byte, a.repo.Config().Chunks.MinBytes))
	if err == nil {
		a.zero = id
	}
	return id, err
}

// stream stores what content gives as a file that exists nowhere.
func (a *archiver) stream(ctx context.Context, name string, content io.Reader) (repository.Node, error) {
	at := a.options.Time
	n := repository.Node{
		Name: name, Type: repository.TypeFile, Mode: 0o644, ModTime: at, AccessTime: at, ChangeTime: at,
		UID: a.uid, GID: a.gid,
	}
	n.User, n.Group = a.people.names(a.uid, a.gid)
	ids, size, err := newReader(a).chunks(ctx, streamSource{content}, a.session.SaveBlob)
	if err != nil {
		return n, err
	}
	if ids == nil {
		ids = []repository.ID{}
	}
	n.Content, n.SizeBytes = ids, uint64(size)
	a.countFile("/"+name, &n, nil, false, size)
	return n, nil
}
