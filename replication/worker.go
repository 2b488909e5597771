package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dengbei/chunkstore/digest"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
)

const (
	// maxFailures is how often in a row a stream may break without a byte before its worker gives its source up.
	maxFailures = 3

	failurePause = 100 * time.Millisecond
)

// errProtocol is what a source is given up for at once.
var errProtocol = errors.New("source breaks the protocol")

// worker draws files from one source, one stream at a time.
type worker struct {
	c       *GatherConfig
	s       *schedule
	id      int
	source  int
	commits sync.WaitGroup
}

func (w *worker) server() string { return w.c.Sources[w.source].ServerID }

func (w *worker) run(ctx context.Context) {
	for failures := 0; ; {
		batch := w.s.take(w.source)
		if batch == nil {
			return
		}
		ready := w.prepare(ctx, batch)
		if len(ready) == 0 {
			continue
		}
		progress, err := w.fetch(ctx, ready)
		w.s.withdraw(w.id)
		if progress || errors.Is(err, errSkip) {
			failures = 0
		}
		if err == nil || errors.Is(err, errSkip) || ctx.Err() != nil {
			continue
		}
		if fatal(err) {
			w.s.giveUp(w.source, true, err)
			return
		}
		if failures++; failures >= maxFailures {
			w.s.giveUp(w.source, false, err)
			return
		}
		w.c.Logger.DebugContext(ctx, "stream broke, trying again", "peer", w.server(), "err", err)
		pause(ctx, jitter(failurePause<<failures))
	}
}

// fatal reports whether a source that answered err need not be asked again.
func fatal(err error) bool {
	if errors.Is(err, errProtocol) || errors.Is(err, ErrRefused) {
		return true
	}
	switch status.Code(err) {
	case codes.Unimplemented, codes.InvalidArgument, codes.NotFound, codes.Unauthenticated:
		return true
	}
	return false
}

// prepare opens the incoming files of a batch and returns those that have to be fetched.
func (w *worker) prepare(ctx context.Context, batch []*job) (ready []*job) {
	for i, j := range batch {
		ok, err := w.open(ctx, j)
		if err != nil {
			w.s.abort(fmt.Errorf("receive %s: %w", j.file.Name, err))
			for _, rest := range append(batch[i:], ready...) {
				w.s.retry(rest)
			}
			return nil
		}
		if ok {
			ready = append(ready, j)
		}
	}
	return ready
}

// open returns whether j has to be fetched.
func (w *worker) open(ctx context.Context, j *job) (bool, error) {
	if j.in != nil {
		return true, nil
	}
	size, ok, err := w.c.Store.Has(ctx, j.file.Name)
	if err != nil {
		return false, err
	}
	if ok && size == j.file.SizeBytes {
		w.s.settle(j, fromNobody, true)
		return false, nil
	}
	if ok {
		w.c.Logger.WarnContext(ctx, "stored file has a wrong size, fetching it again", "chunk", j.file.Name, "bytes", size)
		if err := w.c.Store.Quarantine(ctx, j.file.Name); err != nil {
			return false, err
		}
	}
	j.in, err = w.c.Store.Receive(ctx, j.file)
	switch {
	case errors.Is(err, ErrBusy):
		j.in = nil
		w.s.busy(j)
		return false, nil
	case errors.Is(err, fs.ErrExist): // another transfer has just finished
		j.in = nil
		w.s.settle(j, fromNobody, true)
		return false, nil
	case err != nil:
		j.in = nil
		return false, err
	}
	j.busySince = time.Time{}
	j.from = fromMany
	if j.in.Offset() == 0 {
		j.from, j.leaves = fromNobody, new(manifest.LeafHasher)
	}
	if j.in.Offset() == j.file.SizeBytes && j.file.SizeBytes > 0 { // cut off between the last byte and the commit
		w.commit(ctx, j)
		return false, nil
	}
	return true, nil
}

// fetch asks for ready in one stream and receives until its end or its failure, and reports whether any data came.
func (w *worker) fetch(ctx context.Context, ready []*job) (progress bool, err error) {
	req := &replicationpb.FetchRequest{Repository: w.c.Repository}
	for _, j := range ready {
		req.Files = append(req.Files, &replicationpb.FileRange{Name: j.file.Name, Offset: uint64(j.in.Offset())})
	}
	w.s.offer(w.id, ready)
	streaming, cancel := context.WithCancel(ctx) // commits outlive the stream
	defer cancel()
	watchdog := time.AfterFunc(w.c.Stall, cancel)
	defer watchdog.Stop()
	stream, err := w.c.Sources[w.source].Client.Fetch(streaming, req, grpc.MaxCallRecvMsgSize(2*maxData),
		grpc.ForceCodecV2(newReplyCodec()))
	if err != nil {
		return false, wire(err)
	}
	var j *job // the file in the middle of which the stream is
	defer func() {
		if j != nil {
			w.s.retry(j)
		}
	}()
	for at := 0; at < len(ready); {
		watchdog.Reset(w.c.Stall)
		r, err := stream.Recv()
		watchdog.Stop()
		if errors.Is(err, io.EOF) {
			return progress, fmt.Errorf("stream ended before its last file: %w", errProtocol)
		}
		if err != nil {
			return progress, wire(err)
		}
		if r.File != uint32(at) {
			return progress, fmt.Errorf("file %d after file %d: %w", r.File, at, errProtocol)
		}
		if j == nil {
			if !w.s.begin(w.id, ready[at]) {
				return progress, nil // the rest was stolen
			}
			j = ready[at]
		}
		if err := w.c.Limiter.Wait(ctx, len(r.Data)); err != nil {
			return progress, err
		}
		progress = progress || len(r.Data) > 0
		w.s.count(w.source, len(r.Data))
		w.c.OnBytes(len(r.Data))
		ended, err := w.piece(ctx, j, r)
		if ended {
			j = nil
			at++
		}
		if err != nil {
			return progress, err
		}
	}
	return progress, nil
}

// piece takes one reply. It returns whether the file is out of the worker's hands, and an error that ends the stream.
func (w *worker) piece(ctx context.Context, j *job, r *replicationpb.FetchReply) (ended bool, err error) {
	switch r.Error {
	case replicationpb.FileError_FILE_ERROR_UNSPECIFIED:
	case replicationpb.FileError_FILE_ERROR_DAMAGED:
		w.blame(ctx, j, "source reports its copy as damaged")
		return true, nil
	default:
		w.c.Observer.Missing(w.c.Repository, w.server(), j.file.Name)
		w.c.Logger.WarnContext(ctx, "source does not have a file", "peer", w.server(), "chunk", j.file.Name)
		w.s.lacks(j, w.source, false)
		return true, nil
	}
	if r.SizeBytes != uint64(j.file.SizeBytes) {
		w.blame(ctx, j, "source has a file of another size")
		if r.Last {
			return true, nil
		}
		return true, errSkip // the rest of that file is not worth waiting for
	}
	end := r.Offset + uint64(len(r.Data))
	if r.Offset != uint64(j.in.Offset()) || len(r.Data) > maxData || end > r.SizeBytes || r.Last != (end == r.SizeBytes) ||
		len(r.Data) == 0 && !r.Last {
		return false, fmt.Errorf("piece of %d bytes at %d of %s: %w", len(r.Data), r.Offset, j.file.Name, errProtocol)
	}
	if j.from != fromNobody && j.from != w.source {
		j.from = fromMany
	} else {
		j.from = w.source
	}
	j.last = w.source
	if len(r.Data) > 0 {
		if _, err := j.in.Write(r.Data); err != nil {
			w.s.abort(fmt.Errorf("receive %s: %w", j.file.Name, err))
			return false, err
		}
		if j.leaves != nil {
			j.leaves.Write(r.Data)
		}
	}
	if r.Last {
		w.commit(ctx, j)
		return true, nil
	}
	return false, nil
}

// errSkip ends a stream whose rest is of no use. The source is asked again.
var errSkip = errors.New("rest of the stream is of no use")

// blame drops what came of j and names the source.
func (w *worker) blame(ctx context.Context, j *job, why string) {
	if err := j.in.Discard(); err != nil {
		w.s.abort(fmt.Errorf("discard %s: %w", j.file.Name, err))
	}
	j.reset()
	w.c.Observer.Damaged(w.c.Repository, w.server(), j.file.Name)
	w.c.Logger.WarnContext(ctx, "wrong bytes from a source, asking another", "peer", w.server(), "chunk", j.file.Name,
		"err", why)
	w.s.lacks(j, w.source, true)
}

// commit makes j durable beside the stream. At most as many commits as streams run at once.
func (w *worker) commit(ctx context.Context, j *job) {
	w.s.slots <- struct{}{}
	w.commits.Go(func() {
		defer func() { <-w.s.slots }()
		w.finish(ctx, j)
	})
}

func (w *worker) finish(ctx context.Context, j *job) {
	in, leaves, from, last := j.in, j.leaves, j.from, j.last
	err := in.Commit(ctx)
	switch {
	case errors.Is(err, digest.ErrMismatch):
		j.reset()
		w.mismatch(ctx, j, leaves, from, err)
		return
	case err != nil:
		w.s.abort(fmt.Errorf("commit %s: %w", j.file.Name, err)) // the part stays and is closed at the end
		return
	}
	j.reset()
	root := manifest.Root{}
	if leaves != nil {
		root = leaves.Root()
	} else if root, err = leafRoot(ctx, w.c.Store, j.file.Name); errors.Is(err, digest.ErrMismatch) {
		if err := w.c.Store.Quarantine(ctx, j.file.Name); err != nil {
			w.s.abort(fmt.Errorf("quarantine %s: %w", j.file.Name, err))
			return
		}
		w.s.restart(j, err)
		return
	} else if err != nil {
		w.s.abort(err)
		return
	}
	if root != j.file.LeafRoot {
		w.s.settle(j, last, false)
		return
	}
	server := "" // all of it came in an earlier transfer
	if last >= 0 {
		server = w.c.Sources[last].ServerID
	}
	w.c.Observer.Received(w.c.Repository, server, j.file)
	w.c.OnFile(server, j.file)
	w.s.settle(j, last, true)
}

// mismatch finds out who is to blame for bytes that do not hash to their name.
func (w *worker) mismatch(ctx context.Context, j *job, leaves *manifest.LeafHasher, from int, err error) {
	switch {
	case leaves != nil && leaves.Root() == j.file.LeafRoot:
		w.c.Logger.ErrorContext(ctx, "good bytes were received and read back wrong: check disk and memory", "chunk", j.file.Name)
		w.s.restart(j, err)
	case from >= 0:
		server := w.c.Sources[from].ServerID
		w.c.Observer.Damaged(w.c.Repository, server, j.file.Name)
		w.c.Logger.WarnContext(ctx, "wrong bytes from a source, asking another", "peer", server, "chunk", j.file.Name)
		w.s.lacks(j, from, true)
	default:
		w.c.Logger.WarnContext(ctx, "parts from several transfers do not fit, starting again", "chunk", j.file.Name)
		w.s.restart(j, err)
	}
}

// leafRoot reads a stored file, verified, and returns its leaf root.
func leafRoot(ctx context.Context, store Store, name string) (manifest.Root, error) {
	r, err := store.Open(ctx, name)
	if err != nil {
		return manifest.Root{}, fmt.Errorf("re-read %s: %w", name, err)
	}
	root, _, err := manifest.LeafRoot(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return manifest.Root{}, fmt.Errorf("re-read %s: %w", name, err)
	}
	return root, nil
}

// wire turns a refusal on the wire into the sentinel.
func wire(err error) error {
	if status.Code(err) == codes.PermissionDenied {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// jitter spreads d over half to whole, so that many nodes do not come back at once.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
