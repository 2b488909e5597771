package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"syscall"

	"github.com/restic/chunker"

	"dengbei/chunkstore/repository"
)

// reader reads files, one at a time.
type reader struct {
	archiver *archiver
	chunker  *chunker.Chunker
	small    []byte // a file too small to be cut
}

func newReader(a *archiver) *reader { return &reader{archiver: a} }

// store saves the content of a file and finishes its entry.
func (r *reader) store(ctx context.Context, job fileJob) error {
	a := r.archiver
	node := &job.dir.nodes[job.slot]
	shown := path.Join(job.dir.path, node.Name)
	if content, ok := r.unchanged(job); ok {
		node.Content = content
		a.count(shown, false, true, job.info.Size())
		return job.dir.finish(ctx)
	}
	content, err := r.content(ctx, job)
	if err != nil {
		return fmt.Errorf("file %s: %w", job.path, err)
	}
	node.Content = content
	a.count(shown, false, false, job.info.Size())
	return job.dir.finish(ctx)
}

// unchanged returns the content the parent snapshot has for the file, if it is the same file and nothing of it is
// missing.
func (r *reader) unchanged(job fileJob) ([]repository.ID, bool) {
	n := &job.dir.nodes[job.slot]
	old := job.dir.inParent(n.Name)
	if old == nil || old.Type != n.Type || old.SizeBytes != n.SizeBytes || old.Inode != n.Inode ||
		!old.ModTime.Equal(n.ModTime) || !old.ChangeTime.Equal(n.ChangeTime) {
		return nil, false
	}
	var size int64
	for _, id := range old.Content {
		places := r.archiver.repo.Locate(repository.DataBlob, id)
		if len(places) == 0 {
			return nil, false
		}
		size += places[0].Blob.PlainBytes()
	}
	return old.Content, size == job.info.Size()
}

func (r *reader) content(ctx context.Context, job fileJob) ([]repository.ID, error) {
	// The file may have become something else since it was listed: neither follow a link nor wait for a pipe's writer.
	f, err := os.OpenFile(job.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := sameAs(f, job.info); err != nil {
		return nil, err
	}
	var ids []repository.ID
	var n int64
	if uint64(job.info.Size()) <= uint64(r.archiver.repo.Config().Chunks.MinBytes) {
		ids, n, err = r.whole(ctx, f, job.info.Size())
	} else {
		ids, n, err = r.chunks(ctx, f)
	}
	if err != nil {
		return nil, err
	}
	if n != job.info.Size() {
		return nil, fmt.Errorf("%d bytes read of %d: %w", n, job.info.Size(), ErrChanged)
	}
	return ids, sameAs(f, job.info)
}

// sameAs gives ErrChanged if f is not, or no longer, what was listed.
func sameAs(f *os.File, listed fs.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(now, listed) || now.Size() != listed.Size() || !now.ModTime().Equal(listed.ModTime()) ||
		!changeTime(now).Equal(changeTime(listed)) {
		return ErrChanged
	}
	return nil
}

// whole saves a file that the chunker would not cut.
func (r *reader) whole(ctx context.Context, f *os.File, size int64) ([]repository.ID, int64, error) {
	r.small = slices.Grow(r.small[:0], int(size)+1)
	b := r.small[:size+1] // one more, to notice growth
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, 0, err
	}
	if n == 0 || int64(n) != size {
		return []repository.ID{}, int64(n), nil
	}
	id, _, err := r.archiver.session.SaveBlob(ctx, repository.DataBlob, b[:n])
	return []repository.ID{id}, int64(n), err
}

// chunks cuts a file and saves the chunks, several at once.
func (r *reader) chunks(ctx context.Context, f *os.File) ([]repository.ID, int64, error) {
	a := r.archiver
	config := a.repo.Config()
	if r.chunker == nil {
		r.chunker = chunker.NewWithBoundaries(f, config.Polynomial, config.Chunks.MinBytes, config.Chunks.MaxBytes)
	} else {
		r.chunker.ResetWithBoundaries(f, config.Polynomial, config.Chunks.MinBytes, config.Chunks.MaxBytes)
	}
	r.chunker.SetAverageBits(config.Chunks.AverageBits)

	var (
		wait   sync.WaitGroup
		mu     sync.Mutex // guards ids and failed
		ids    []repository.ID
		failed error
		total  int64
	)
	defer wait.Wait()
	for i := 0; ; i++ {
		buf := a.borrow()
		chunk, err := r.chunker.Next(buf)
		if errors.Is(err, io.EOF) {
			a.chunks <- buf
			break
		}
		if err != nil {
			return nil, total, err
		}
		buf = chunk.Data // it may have grown
		total += int64(chunk.Length)
		mu.Lock()
		ids = append(ids, repository.ID{})
		err = failed
		mu.Unlock()
		if err != nil {
			return nil, total, err
		}
		select {
		case a.saving <- struct{}{}:
		case <-ctx.Done():
			return nil, total, ctx.Err()
		}
		wait.Go(func() {
			id, _, err := a.session.SaveBlob(ctx, repository.DataBlob, buf)
			a.chunks <- buf
			<-a.saving
			mu.Lock()
			defer mu.Unlock()
			ids[i] = id
			if err != nil && failed == nil {
				failed = err
			}
		})
	}
	wait.Wait()
	return ids, total, failed
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
