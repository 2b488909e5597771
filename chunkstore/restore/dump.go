package restore

import (
	"archive/tar"
	"archive/zip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"dengbei/chunkstore/repository"
)

// What is loaded before it is asked for is bounded in bytes and in number. A larger blob is loaded alone.
const (
	aheadBytes = 64 << 20
	aheadItems = 256
)

// streamed is a part of a stream: the beginning of an entry, or a blob of the entry that began last.
type streamed struct {
	path string
	node *repository.Node // nil for a blob

	id     repository.ID
	weight int64
	buf    *[]byte
	loaded chan struct{} // closed when buf or err is set
	err    error
}

// stream loads the blobs of many files, several at once, and yields them in order.
type stream struct {
	repo    *repository.Repository
	items   chan *streamed // in the order of the stream
	todo    chan *streamed // blobs to load
	budget  *semaphore.Weighted
	buffers sync.Pool
}

// runStream has produce name the entries and gives each part of them to consume, in order.
func runStream(ctx context.Context, repo *repository.Repository, produce func(context.Context, *stream) error, consume func(*streamed) error) error {
	s := &stream{repo: repo, items: make(chan *streamed, aheadItems), todo: make(chan *streamed), budget: semaphore.NewWeighted(aheadBytes)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(s.items)
		defer close(s.todo)
		return produce(ctx, s)
	})
	for range workers() {
		g.Go(func() error {
			for item := range s.todo {
				s.load(ctx, item)
			}
			return nil
		})
	}
	g.Go(func() error {
		for item := range s.items {
			if err := s.pass(ctx, item, consume); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

func (s *stream) load(ctx context.Context, item *streamed) {
	defer close(item.loaded)
	buf, _ := s.buffers.Get().(*[]byte)
	if buf == nil {
		buf = new([]byte)
	}
	b, err := s.repo.LoadBlob(ctx, repository.DataBlob, item.id, *buf)
	if err == nil {
		*buf = b
	}
	item.buf, item.err = buf, err
}

// pass waits for item, hands it on and takes its memory back.
func (s *stream) pass(ctx context.Context, item *streamed, consume func(*streamed) error) error {
	if item.node != nil {
		return consume(item)
	}
	select {
	case <-item.loaded:
	case <-ctx.Done():
		return ctx.Err()
	}
	if item.err != nil {
		return fmt.Errorf("%s: %w", item.path, item.err)
	}
	if err := consume(item); err != nil {
		return err
	}
	s.buffers.Put(item.buf)
	item.buf = nil
	s.budget.Release(item.weight)
	return nil
}

// entry begins an entry and, for a file, loads its content.
func (s *stream) entry(ctx context.Context, at string, n *repository.Node) error {
	if err := s.send(ctx, s.items, &streamed{path: at, node: n}); err != nil {
		return err
	}
	if n.Type != repository.TypeFile {
		return nil
	}
	for _, id := range n.Content {
		size := int64(1)
		if l := s.repo.Locate(repository.DataBlob, id); len(l) > 0 {
			size = l[0].Blob.PlainBytes()
		}
		item := &streamed{path: at, id: id, weight: min(max(size, 1), aheadBytes), loaded: make(chan struct{})}
		if err := s.budget.Acquire(ctx, item.weight); err != nil {
			return err
		}
		if err := s.send(ctx, s.items, item); err != nil {
			return err
		}
		if err := s.send(ctx, s.todo, item); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) send(ctx context.Context, to chan<- *streamed, item *streamed) error {
	select {
	case to <- item:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Dump writes the content of a file to w. Nothing is written that does not hash to its name; the error of a blob that is
// missing or damaged comes when all before it is written.
func Dump(ctx context.Context, repo *repository.Repository, n *repository.Node, w io.Writer) error {
	if n.Type != repository.TypeFile {
		return fmt.Errorf("dump %q: is a %s: %w", n.Name, n.Type, fs.ErrInvalid)
	}
	var total int64
	err := runStream(ctx, repo, func(ctx context.Context, s *stream) error { return s.entry(ctx, n.Name, n) }, func(item *streamed) error {
		if item.node != nil {
			return nil
		}
		m, err := w.Write(*item.buf)
		total += int64(m)
		return err
	})
	if err != nil {
		return fmt.Errorf("dump: %w", err)
	}
	if total != int64(n.SizeBytes) {
		return fmt.Errorf("dump %q: %d bytes of %d: %w", n.Name, total, n.SizeBytes, ErrSize)
	}
	return nil
}

// WriteTar writes everything below a tree to w as a tar archive in the PAX format, with owners, times and extended
// attributes. The paths in it begin with prefix. Entries that are not in the repository whole are left out and returned
// with an error matching [ErrIncomplete]. A blob that turns out to be damaged ends the archive: its file had begun.
func WriteTar(ctx context.Context, repo *repository.Repository, tree repository.ID, prefix string, w io.Writer) ([]Outcome, error) {
	out := tar.NewWriter(w)
	missing, err := writeArchive(ctx, repo, tree, prefix, func(item *streamed) error {
		if item.node == nil {
			_, err := out.Write(*item.buf)
			return err
		}
		return out.WriteHeader(tarHeader(item.path, item.node))
	})
	if cerr := out.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("archive: %w", cerr)
	}
	return missing, orIncomplete(missing, err)
}

// WriteZip is [WriteTar] for a zip archive, which has neither owners nor extended attributes; devices and pipes are left
// out.
func WriteZip(ctx context.Context, repo *repository.Repository, tree repository.ID, prefix string, w io.Writer) ([]Outcome, error) {
	out := zip.NewWriter(w)
	var file io.Writer
	missing, err := writeArchive(ctx, repo, tree, prefix, func(item *streamed) error {
		if item.node == nil {
			_, err := file.Write(*item.buf)
			return err
		}
		n := item.node
		h := &zip.FileHeader{Name: strings.TrimPrefix(item.path, "/"), Modified: n.ModTime, Method: zip.Deflate, NonUTF8: !utf8.ValidString(item.path)}
		h.SetMode(n.Mode)
		h.UncompressedSize64 = n.SizeBytes
		switch n.Type {
		case repository.TypeDir:
			h.Name += "/"
			h.Method, h.UncompressedSize64 = zip.Store, 0
		case repository.TypeSymlink:
			h.UncompressedSize64 = uint64(len(n.LinkTarget))
		case repository.TypeFile:
		default:
			return nil
		}
		var err error
		if file, err = out.CreateHeader(h); err == nil && n.Type == repository.TypeSymlink {
			_, err = io.WriteString(file, n.LinkTarget)
		}
		return err
	})
	if cerr := out.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("archive: %w", cerr)
	}
	return missing, orIncomplete(missing, err)
}

func orIncomplete(missing []Outcome, err error) error {
	if err == nil && len(missing) > 0 {
		return fmt.Errorf("archive lacks %d entries, the first is %s (%w): %w", len(missing), missing[0].Path, missing[0].Err, ErrIncomplete)
	}
	return err
}

// writeArchive streams what is below a tree and returns what had to be left out.
func writeArchive(ctx context.Context, repo *repository.Repository, tree repository.ID, prefix string, consume func(*streamed) error) ([]Outcome, error) {
	var missing []Outcome
	prefix = strings.TrimSuffix(prefix, "/")
	err := runStream(ctx, repo, func(ctx context.Context, s *stream) error {
		return Walk(ctx, repo, tree, func(at string, n *repository.Node, err error) error {
			at = prefix + at
			if err == nil && n.Type == repository.TypeFile {
				err = complete(repo, n)
			}
			if err != nil {
				missing = append(missing, Outcome{Path: at, Type: n.Type, Action: Failed, Err: err})
				return nil
			}
			if n.Type == repository.TypeSocket {
				return nil
			}
			return s.entry(ctx, at, n)
		})
	}, consume)
	if err != nil {
		err = fmt.Errorf("archive: %w", err)
	}
	return missing, err
}

// complete checks that the index lists the content of a file, all of it.
func complete(repo *repository.Repository, n *repository.Node) error {
	_, _, err := locate(repo, &file{content: n.Content, size: int64(n.SizeBytes)})
	return err
}

func tarHeader(at string, n *repository.Node) *tar.Header {
	h := &tar.Header{
		Name: strings.TrimPrefix(at, "/"), Mode: int64(n.Mode.Perm()), Uid: int(n.UID), Gid: int(n.GID), Uname: n.User, Gname: n.Group,
		ModTime: n.ModTime, AccessTime: n.AccessTime, ChangeTime: n.ChangeTime, Format: tar.FormatPAX, PAXRecords: make(map[string]string),
	}
	for bit, m := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if n.Mode&m != 0 {
			h.Mode |= bit
		}
	}
	for _, x := range n.Xattrs {
		h.PAXRecords["SCHILY.xattr."+x.Name] = string(x.Value)
	}
	switch n.Type {
	case repository.TypeFile:
		h.Typeflag, h.Size = tar.TypeReg, int64(n.SizeBytes)
	case repository.TypeDir:
		h.Typeflag = tar.TypeDir
		h.Name += "/"
	case repository.TypeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, n.LinkTarget
	case repository.TypeDevice, repository.TypeCharDevice:
		h.Typeflag = tar.TypeBlock
		if n.Type == repository.TypeCharDevice {
			h.Typeflag = tar.TypeChar
		}
		h.Devmajor, h.Devminor = int64(unix.Major(n.Device)), int64(unix.Minor(n.Device))
	case repository.TypeFifo:
		h.Typeflag = tar.TypeFifo
	}
	return h
}
