package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

const (
	// holeBytes is the block of a file system: shorter zeros make no hole.
	holeBytes = 4 << 10

	// zeroBlobBytes is the size from which a blob of zeros is left out of a new file.
	zeroBlobBytes = 64 << 10

	// drainBytes is how much is written before the disk is told to begin.
	drainBytes = 64 << 20

	// hugeBlobBytes is more than any chunker cuts. Blobs beyond it are decoded one at a time.
	hugeBlobBytes = 16 << 20
)

// feed hands out runs in the order of packs and keeps each pack open while runs of it are read.
type feed struct {
	r *restorer

	mu   sync.Mutex // guards what follows; held while a pack is opened
	next int        // in plan.pieces
	pack *openPack
}

// openPack is a pack that is read.
type openPack struct {
	number uint32
	ranges chunkstore.RangeReader // nil if it could not be opened
	err    error
	uses   int
}

// run is a stretch of one pack.
type run struct {
	pieces []piece
	pack   *openPack
}

func (f *feed) take(ctx context.Context) (run, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &f.r.plan
	if f.next >= len(p.pieces) || ctx.Err() != nil {
		f.letGo(f.pack)
		f.pack = nil
		return run{}, false
	}
	to := p.nextRun(f.next)
	w := run{pieces: p.pieces[f.next:to]}
	f.next = to
	number := w.pieces[0].pack
	if f.pack == nil || f.pack.number != number {
		f.letGo(f.pack)
		f.pack = &openPack{number: number, uses: 1}
		f.pack.ranges, f.pack.err = repository.OpenRanges(ctx, f.r.repo.Files(), p.packs[number])
	}
	f.pack.uses++
	w.pack = f.pack
	return w, true
}

func (f *feed) done(p *openPack) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.letGo(p)
}

func (f *feed) letGo(p *openPack) {
	if p == nil {
		return
	}
	if p.uses--; p.uses == 0 && p.ranges != nil {
		_ = p.ranges.Close() // was only read
	}
}

// write fetches what is planned and writes it.
func (r *restorer) write(ctx context.Context) error {
	r.plan.sort()
	g, ctx := errgroup.WithContext(ctx)
	f := &feed{r: r}
	var writers sync.WaitGroup
	ended := make(chan struct{})
	for range workers() {
		writers.Add(1)
		g.Go(func() error {
			defer writers.Done()
			w := &writer{restorer: r}
			defer w.drop()
			for {
				next, ok := f.take(ctx)
				if !ok {
					return ctx.Err()
				}
				err := w.run(ctx, next)
				f.done(next.pack)
				if err != nil {
					return err
				}
			}
		})
	}
	go func() {
		writers.Wait()
		close(ended)
	}()
	g.Go(func() error { return r.drain(ended) })
	return g.Wait()
}

// drain has the disk take what was written while more is being decoded. Left to itself the system begins late, and the
// sync at the end waits for all of it.
func (r *restorer) drain(ended <-chan struct{}) error {
	for {
		select {
		case <-ended:
			return nil
		case <-r.drainDue:
			if err := r.sync(); err != nil { // a failure is told once, to whoever asks first
				return err
			}
		}
	}
}

// wrote counts what lies in the system's memory and has it drained when it is much.
func (r *restorer) wrote(n int) {
	if r.undrained.Add(int64(n)) < drainBytes {
		return
	}
	r.undrained.Store(0)
	select {
	case r.drainDue <- struct{}{}:
	default: // it is at it
	}
}

// writer is one of the goroutines that write.
type writer struct {
	*restorer
	env, plain []byte

	// The file that was written to last stays open: the next piece is often its own.
	file *file
	fd   int
	st   *unix.Stat_t // what is known of its owner and mode
}

func (w *writer) run(ctx context.Context, todo run) error {
	pieces := todo.pieces
	from := int64(pieces[0].offset)
	last := pieces[len(pieces)-1]
	n := int(int64(last.offset) + int64(last.length) - from)
	if n > hugeBlobBytes {
		w.huge.Lock()
		defer w.huge.Unlock()
		defer func() { w.env, w.plain = nil, nil }()
	}
	w.env = slices.Grow(w.env[:0], n)[:n]
	readErr := todo.pack.err
	if readErr == nil {
		readErr = todo.pack.ranges.ReadRange(ctx, from, w.env)
	}
	for i := 0; i < len(pieces); {
		blob := w.restorer.plan.blob(pieces[i])
		same := i + 1
		for same < len(pieces) && w.restorer.plan.blob(pieces[same]) == blob {
			same++
		}
		at := int64(blob.Offset) - from
		content, err := w.decode(w.env[at:at+int64(blob.Length)], blob, readErr)
		if err != nil && ctx.Err() == nil {
			content, err = w.elsewhere(ctx, w.restorer.plan.packs[pieces[i].pack], blob.ID)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		zero := err == nil && isZero(content)
		for _, p := range pieces[i:same] {
			f := w.restorer.plan.files[p.file]
			werr := err
			if werr == nil {
				werr = w.put(f, content, p.at, zero)
			}
			if werr != nil {
				w.drop()
				w.fail(f, werr)
			}
		}
		i = same
	}
	return w.commitDue()
}

func (w *writer) decode(env []byte, blob repository.PackedBlob, readErr error) ([]byte, error) {
	if readErr != nil {
		return nil, readErr
	}
	if blob.UncompressedBytes > hugeBlobBytes && blob.Length <= hugeBlobBytes {
		w.huge.Lock()
		defer w.huge.Unlock()
	}
	content, err := w.repo.DecodeBlob(w.plain, env, blob)
	// Content may have less capacity than the memory it lies in, which the next one may need.
	if err == nil && cap(content) > cap(w.plain) && cap(content) <= hugeBlobBytes {
		w.plain = content
	}
	return content, err
}

// mending is a pack of which something could not be read.
type mending struct {
	mu      sync.Mutex // held while a blob is loaded, so that one pack is healed once
	useless bool       // it was healed in vain
}

// elsewhere loads a blob that its pack did not yield: from another pack, or after healing. A pack that could not be
// healed once is not healed for each of its blobs again.
func (r *restorer) elsewhere(ctx context.Context, pack chunkstore.Name, id repository.ID) ([]byte, error) {
	r.mendMu.Lock()
	m := r.mendings[pack.ID]
	if m == nil {
		m = &mending{}
		r.mendings[pack.ID] = m
	}
	r.mendMu.Unlock()
	m.mu.Lock()
	if m.useless {
		m.mu.Unlock()
		return r.repo.WithoutHealing().LoadBlob(ctx, repository.DataBlob, id, nil)
	}
	defer m.mu.Unlock()
	b, err := r.repo.LoadBlob(ctx, repository.DataBlob, id, nil)
	m.useless = err != nil && ctx.Err() == nil
	return b, err
}

// put writes a piece of a file and finishes the file with the last one.
func (w *writer) put(f *file, content []byte, at int64, zero bool) error {
	if w.file != f {
		w.drop()
		f.mu.Lock()
		gone := f.state == failed
		f.mu.Unlock()
		if gone {
			return nil
		}
		fd, st, err := w.open(f)
		if err != nil {
			return err
		}
		w.file, w.fd, w.st = f, fd, st
	}
	if err := w.content(f, content, at, zero); err != nil {
		return err
	}
	w.bytes.Add(int64(len(content)))
	w.wrote(len(content))
	if f.left.Add(-1) > 0 {
		return nil
	}
	if err := w.complete(f, w.fd, w.st); err != nil {
		return err
	}
	w.drop()
	return nil
}

// content writes what is not zero, or all of it where something lies already.
func (w *writer) content(f *file, content []byte, at int64, zero bool) error {
	switch {
	case f.was >= 0:
	case zero && (w.options.Sparse || len(content) >= zeroBlobBytes):
		f.holes.Store(true)
		return nil
	case w.options.Sparse:
		return w.sparse(f, content, at)
	}
	return writeAt(w.fd, content, at)
}

// sparse writes content but for the blocks of the file that are zero.
func (w *writer) sparse(f *file, content []byte, at int64) error {
	for len(content) > 0 {
		n := min(len(content), int(holeBytes-at%holeBytes))
		if n == holeBytes && isZero(content[:n]) {
			f.holes.Store(true)
			content, at = content[n:], at+int64(n)
			continue
		}
		// Up to the next block of zeros.
		for n < len(content) && !(n+holeBytes <= len(content) && isZero(content[n:n+holeBytes])) {
			n = min(n+holeBytes, len(content))
		}
		if err := writeAt(w.fd, content[:n], at); err != nil {
			return err
		}
		content, at = content[n:], at+int64(n)
	}
	return nil
}

func writeAt(fd int, b []byte, at int64) error {
	for len(b) > 0 {
		n, err := unix.Pwrite(fd, b, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write at %d: %w", at, err)
		}
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// isZero compares b with itself, one byte on: fast, and at once done with what begins otherwise.
func isZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:])
}

// drop closes the file that was written to last.
func (w *writer) drop() {
	if w.file != nil {
		_ = unix.Close(w.fd) // errors of delayed writing show in the sync of the file system
		w.file, w.st = nil, nil
	}
}

// open opens f for writing, or makes it. What is known of owner and mode afterwards is returned as well.
func (r *restorer) open(f *file) (fd int, st *unix.Stat_t, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = r.dirs.in(f.dir, func(dir int) error {
		name := f.disk()
		if f.made {
			if !f.touched {
				fd, err = openAt(dir, name, unix.O_RDONLY, 0)
				return err
			}
			fd, err = openAt(dir, name, unix.O_WRONLY, 0)
			if errors.Is(err, unix.EACCES) && f.was >= 0 {
				fd, err = openReadOnly(dir, name)
			}
			return err
		}
		// Nobody else reaches a shielded directory, and a file of one piece is not opened again: it can have its mode at
		// once.
		mode := uint32(0o600)
		early := f.dir.shielded && f.left.Load() <= 1
		if early {
			mode = f.attrs.mode & 0o777
		}
		fd, err = openAt(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, mode)
		if errors.Is(err, unix.EEXIST) && !f.dir.fresh {
			// Left by an earlier run, or of another kind where nothing else counts.
			if err = unix.Unlinkat(dir, name, 0); err == nil {
				fd, err = openAt(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, mode)
			}
		}
		if err != nil {
			return err
		}
		f.made = true
		if early && r.isPlain(&f.dir.plain, fd, mode) {
			st = &unix.Stat_t{Uid: r.process.uid, Gid: r.process.gid, Mode: unix.S_IFREG | mode&^r.process.umask}
		}
		return nil
	})
	if err != nil {
		return -1, nil, fmt.Errorf("open: %w", err)
	}
	return fd, st, nil
}

// openReadOnly opens for writing a file of ours whose mode forbids that.
func openReadOnly(dir int, name string) (int, error) {
	fd, err := openAt(dir, name, unix.O_RDONLY, 0)
	if err != nil {
		return -1, err
	}
	err = errors.Join(unix.Fchmod(fd, 0o600), unix.Close(fd))
	if err != nil {
		return -1, err
	}
	return openAt(dir, name, unix.O_WRONLY, 0)
}

func openAt(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// complete gives a file whose content is written its size and attributes. It is open as fd.
func (r *restorer) complete(f *file, fd int, st *unix.Stat_t) error {
	if f.was >= 0 && f.was != f.size || f.holes.Load() {
		if err := unix.Ftruncate(fd, f.size); err != nil {
			return fmt.Errorf("set size: %w", err)
		}
	}
	if f.was >= 0 {
		st = new(unix.Stat_t)
		if err := unix.Fstat(fd, st); err != nil {
			return err
		}
	}
	if err := r.set(fd, &f.attrs, st, f.was >= 0); err != nil {
		return err
	}
	f.mu.Lock()
	f.state = written
	f.mu.Unlock()
	if f.unfinished {
		r.named.add(naming{dir: f.dir, name: f.name, file: f}, f.size)
		return nil
	}
	r.fileOutcome(f, f.action(), nil)
	return nil
}

// action tells a file that is there as it should be.
func (f *file) action() Action {
	switch {
	case f.was >= 0 && !f.touched && !f.resumed:
		return Unchanged
	case f.was >= 0 && !f.resumed, f.replaces:
		return Updated
	}
	return Restored
}

// fail gives f its one bad outcome. What was made of it is removed; what was there and is in part rewritten stays, under
// its unfinished name: the next run goes on with it.
func (r *restorer) fail(f *file, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state == failed {
		return
	}
	f.state = failed
	if f.was >= 0 && f.unfinished {
		err = fmt.Errorf("%w (what is right of it is in %s beside it)", err, f.disk())
	}
	r.remove(f)
	r.fileOutcome(f, Failed, err)
}

// remove takes an unfinished file away, unless something of the user's is in it. f.mu is held.
func (r *restorer) remove(f *file) {
	if f.made && (f.was < 0 || f.dir.shielded) {
		_ = r.dirs.in(f.dir, func(dir int) error { return unix.Unlinkat(dir, f.disk(), 0) })
		f.made = false
	}
}

// discard removes the unfinished files of a restore that was broken off.
func (r *restorer) discard() {
	for _, f := range r.plan.files {
		f.mu.Lock()
		if f.state == pending {
			f.state = failed
			r.remove(f)
		}
		f.mu.Unlock()
	}
}
