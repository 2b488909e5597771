package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore/digest"
)

// Incoming is one submission while its files arrive. Put may be called concurrently for different files. Exactly one of
// Commit (returning nil) and Abort must end it.
type Incoming struct {
	q         *Quarantine
	id        digest.Digest
	sub       *Submission // a copy with files in path order
	signature []byte
	state     State
	part      *os.Root
	ctx       context.Context // ends when the reception fails
	cancel    context.CancelCauseFunc
	syncs     sync.WaitGroup // files being synced in the background
	gone      chan struct{}  // closed when nothing is left on disk, or everything is confirmed

	mu      sync.Mutex // guards what follows, for an instant
	phase   incomingPhase
	cause   error // why phase is failed
	active  int   // Puts and Commits inside
	arrived [][]bool
	missing int
	dirs    map[string]struct{} // folders below part, slash separated
}

type incomingPhase uint8

const (
	incomingOpen incomingPhase = iota
	incomingCommitting
	incomingFailed
	incomingRemoved // failed, and the last one inside has left
	incomingDone
)

// Receive starts the reception of sub, which is validated and passed through the secrecy gate before a byte is stored.
// A submission that is already here gives [*ExistsError], one that is just being received [ErrBusy]. If the one here was
// returned or refused, the caller may set it back to [Received] instead of taking the same bytes again.
func (q *Quarantine) Receive(sub *Submission, signature []byte, receivedAt time.Time) (*Incoming, error) {
	if len(signature) > MaxSignatureBytes {
		return nil, &RuleError{Rule: RuleForm, Item: "signature", What: fmt.Sprintf("%d bytes long, the limit is %d", len(signature), MaxSignatureBytes), Way: "sign again"}
	}
	if err := sub.Validate(); err != nil {
		return nil, err
	}
	if err := CheckSecrecy(sub); err != nil {
		return nil, err
	}
	id, err := ID(sub)
	if err != nil {
		return nil, err
	}
	if err := q.claim(id); err != nil {
		return nil, err
	}
	in := &Incoming{q: q, id: id, sub: ordered(sub), signature: slices.Clone(signature), gone: make(chan struct{}), dirs: map[string]struct{}{}}
	in.ctx, in.cancel = context.WithCancelCause(context.Background())
	files, sizeBytes := sub.Totals()
	in.state = State{Summary: Summary{ID: id, Phase: Received, Registrant: sub.Registrant, Authority: sub.Authority, Batch: sub.Batch, Corrects: sub.Corrects,
		Records: len(sub.Records), Files: files, SizeBytes: sizeBytes, ReceivedAt: receivedAt.UTC(), ChangedAt: receivedAt.UTC()}}
	in.missing = files
	for i := range sub.Records {
		in.arrived = append(in.arrived, make([]bool, len(sub.Records[i].Files)))
	}
	if err := in.makePart(); err != nil {
		in.cancel(nil)
		_ = q.root.RemoveAll(in.partName())
		q.release(id)
		return nil, fullOr(fmt.Errorf("receive submission %s: %w", id.Hex(), err))
	}
	return in, nil
}

// claim reserves id for one reception.
func (q *Quarantine) claim(id digest.Digest) error {
	q.mu.Lock()
	_, exists := q.index[id]
	_, busy := q.receiving[id]
	damage := q.damaged[id]
	if !exists && !busy && damage == nil {
		q.receiving[id] = struct{}{}
	}
	q.mu.Unlock()
	switch {
	case damage != nil:
		return fmt.Errorf("submission %s: %w", id.Hex(), damage)
	case busy:
		return fmt.Errorf("submission %s: %w: it is being received", id.Hex(), ErrBusy)
	case exists:
		s, err := q.Load(id)
		if err != nil {
			return err
		}
		return &ExistsError{ID: id, State: s}
	}
	return nil
}

func (q *Quarantine) release(id digest.Digest) {
	q.mu.Lock()
	delete(q.receiving, id)
	q.mu.Unlock()
}

// ordered copies what reception needs to look up: the files in path order.
func ordered(sub *Submission) *Submission {
	c := *sub
	c.Records = slices.Clone(sub.Records)
	for i := range c.Records {
		c.Records[i].Files = slices.Clone(sorted(c.Records[i].Files))
	}
	return &c
}

func (in *Incoming) partName() string { return in.id.Hex() + partSuffix }

func (in *Incoming) makePart() error {
	if err := in.q.root.Mkdir(in.partName(), 0o700); err != nil {
		return err
	}
	part, err := in.q.root.OpenRoot(in.partName())
	if err != nil {
		return err
	}
	in.part = part
	return nil
}

// ID returns the submission's ID.
func (in *Incoming) ID() digest.Digest { return in.id }

// Missing returns how many announced files have not arrived.
func (in *Incoming) Missing() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.missing
}

// Put stores one announced file from r, which must hold exactly its bytes; r is not read past one byte more. A file that
// differs from its description is removed and refused as a [*RuleError], and may be put again. A full disk gives
// [ErrFull] and ends the whole reception. After nil the bytes are on their way to the disk; [Incoming.Commit] confirms.
func (in *Incoming) Put(ctx context.Context, record int, path string, r io.Reader) error {
	i, err := in.find(record, path)
	if err != nil {
		return err
	}
	if err := in.enter(); err != nil {
		return err
	}
	defer in.leave()
	f := &in.sub.Records[record].Files[i]
	if err := in.store(ctx, payloadPath(record, path), f, r); err != nil {
		if errors.Is(err, ErrFull) {
			in.fail(err)
		}
		return fmt.Errorf("receive record %d: %w", record, err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.phase == incomingFailed {
		return in.cause
	}
	if !in.arrived[record][i] {
		in.arrived[record][i] = true
		in.missing--
	}
	return nil
}

// find returns the place of an announced file.
func (in *Incoming) find(record int, path string) (int, error) {
	if err := CheckPath(path); err != nil {
		return 0, err
	}
	if record < 0 || record >= len(in.sub.Records) {
		return 0, &RuleError{Rule: RuleCount, Item: path, What: fmt.Sprintf("belongs to record %d, which was not announced", record), Way: "send only what the description lists"}
	}
	i, ok := slices.BinarySearchFunc(in.sub.Records[record].Files, path, func(f File, p string) int { return strings.Compare(f.Path, p) })
	if !ok {
		return 0, &RuleError{Rule: RuleCount, Item: path, What: fmt.Sprintf("was not announced in record %d", record), Way: "send only what the description lists"}
	}
	return i, nil
}

// enter counts a Put in, unless the reception has ended.
func (in *Incoming) enter() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch in.phase {
	case incomingFailed, incomingRemoved:
		return in.cause
	case incomingOpen:
		in.active++
		return nil
	default:
		return fmt.Errorf("submission %s: %w", in.id.Hex(), ErrAborted)
	}
}

// leave counts a Put out; the last one after a failure removes everything.
func (in *Incoming) leave() {
	in.mu.Lock()
	in.active--
	last := in.active == 0 && in.phase == incomingFailed
	if last {
		in.phase = incomingRemoved
	}
	in.mu.Unlock()
	if last {
		in.remove()
	}
}

// fail ends the reception; the first cause stays.
func (in *Incoming) fail(cause error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.phase == incomingOpen || in.phase == incomingCommitting {
		in.phase, in.cause = incomingFailed, cause
		in.cancel(cause)
	}
}

// remove deletes what was received. Only the one who made active zero after a failure may call it.
func (in *Incoming) remove() {
	in.syncs.Wait()
	in.part.Close()
	// What cannot be removed now is removed by the next OpenQuarantine; it was never acknowledged.
	_ = in.q.root.RemoveAll(in.partName())
	in.q.release(in.id)
	close(in.gone)
}

// Abort removes everything that was received and waits for running Puts; close their readers first. After Commit it does
// nothing.
func (in *Incoming) Abort() error {
	in.mu.Lock()
	if in.phase == incomingDone {
		in.mu.Unlock()
		return nil
	}
	inside := in.phase != incomingRemoved
	if inside {
		in.active++
	}
	in.mu.Unlock()
	if inside {
		in.fail(fmt.Errorf("submission %s: %w", in.id.Hex(), ErrAborted))
		in.leave()
	}
	<-in.gone
	if _, err := in.q.root.Lstat(in.partName()); err == nil {
		return fmt.Errorf("abort submission %s: its files could not all be removed; they are when the quarantine is next opened", in.id.Hex())
	}
	return nil
}

// store writes one file and hands it to the background sync.
func (in *Incoming) store(ctx context.Context, name string, f *File, r io.Reader) error {
	if err := in.mkdirs(name); err != nil {
		return err
	}
	h, err := in.part.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return &RuleError{Rule: RuleCount, Item: f.Path, What: "was sent before", Way: "send every file once"}
	}
	if err != nil {
		return fullOr(fmt.Errorf("store %q: %w", f.Path, err))
	}
	if err := in.fill(ctx, h, f, r); err != nil {
		h.Close()
		_ = in.part.Remove(name)
		return err
	}
	if !f.ModTime.IsZero() {
		// Only a convenience for whoever restores; the description holds the exact value.
		_ = in.part.Chtimes(name, f.ModTime, f.ModTime)
	}
	if err := in.slot(ctx); err != nil {
		h.Close()
		_ = in.part.Remove(name)
		return err
	}
	in.syncs.Add(1)
	go func() {
		defer in.syncs.Done()
		defer func() { <-in.q.slots }()
		err := h.Sync()
		if err == nil {
			dropCache(h)
		}
		if cerr := h.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			in.failLater(fullOr(fmt.Errorf("sync %q: %w", f.Path, err)))
		}
	}()
	return nil
}

// failLater is fail for the background: removing waits for all syncs, so it must not run inside one.
func (in *Incoming) failLater(cause error) {
	in.mu.Lock()
	idle := in.active == 0 && in.phase == incomingOpen
	if idle {
		in.active++
	}
	in.mu.Unlock()
	in.fail(cause)
	if idle {
		go in.leave()
	}
}

// fill copies r into h and compares size and digests with the description.
func (in *Incoming) fill(ctx context.Context, h *os.File, f *File, r io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(in.ctx, func() { cancel(context.Cause(in.ctx)) })()
	pair := digest.NewPair()
	n, err := copyContext(ctx, io.MultiWriter(h, pair), io.LimitReader(r, f.SizeBytes+1))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return fullOr(fmt.Errorf("store %q: %w", f.Path, err))
	}
	if n != f.SizeBytes {
		got := strconv.FormatInt(n, 10)
		if n > f.SizeBytes {
			got = "more"
		}
		return &RuleError{Rule: RuleBytes, Item: f.Path, What: fmt.Sprintf("%s bytes received, %d declared", got, f.SizeBytes), Way: "describe the delivery again and send it while nobody changes it"}
	}
	return compare(f, pair)
}

// compare refuses content that is not what was declared.
func compare(f *File, pair *digest.Pair) error {
	sha, sm := pair.Sums()
	for _, d := range [][2]digest.Digest{{f.SHA256, sha}, {f.SM3, sm}} {
		if d[0] != d[1] {
			return &RuleError{Rule: RuleDigest, Item: f.Path, What: fmt.Sprintf("%s declared, %s received", d[0], d[1]), Err: digest.ErrMismatch,
				Way: "describe the delivery again and send it while nobody changes it"}
		}
	}
	return nil
}

// mkdirs makes the folders above name and remembers them for syncing.
func (in *Incoming) mkdirs(name string) error {
	dir := path.Dir(filepath.ToSlash(name))
	in.mu.Lock()
	_, made := in.dirs[dir]
	in.mu.Unlock()
	if made {
		return nil
	}
	if err := in.part.MkdirAll(dir, 0o700); err != nil {
		return fullOr(fmt.Errorf("make folder %q: %w", dir, err))
	}
	in.mu.Lock()
	for ; dir != "."; dir = path.Dir(dir) {
		in.dirs[dir] = struct{}{}
	}
	in.mu.Unlock()
	return nil
}

// Commit confirms the submission: every announced file has arrived, was synced, and hashes to its digests as read back;
// description, signature and state are durable. After nil the submission is in phase [Received] and survives power loss
// (stage S0). A missing file gives a [*RuleError] and can still be put; running Puts give [ErrBusy]; every other error
// ends the reception and removes it.
func (in *Incoming) Commit(ctx context.Context) error {
	in.mu.Lock()
	switch {
	case in.phase == incomingFailed || in.phase == incomingRemoved:
		defer in.mu.Unlock()
		return in.cause
	case in.phase != incomingOpen:
		defer in.mu.Unlock()
		return fmt.Errorf("submission %s: %w", in.id.Hex(), ErrAborted)
	case in.active > 0:
		defer in.mu.Unlock()
		return fmt.Errorf("submission %s: %w: files are still arriving", in.id.Hex(), ErrBusy)
	case in.missing > 0:
		defer in.mu.Unlock()
		return in.missingError()
	}
	in.phase = incomingCommitting
	in.active++
	in.mu.Unlock()

	err := in.confirm(ctx)
	if err != nil {
		in.fail(fmt.Errorf("commit submission %s: %w", in.id.Hex(), err))
		in.leave()
		return fmt.Errorf("commit submission %s: %w", in.id.Hex(), err)
	}
	in.mu.Lock()
	in.phase = incomingDone
	in.active--
	in.mu.Unlock()
	in.cancel(nil)
	in.q.release(in.id)
	close(in.gone)
	return nil
}

// missingError names the first file that has not arrived.
func (in *Incoming) missingError() error {
	for i, row := range in.arrived {
		for j, here := range row {
			if !here {
				return &RuleError{Rule: RuleCount, Item: in.sub.Records[i].Files[j].Path,
					What: fmt.Sprintf("announced in record %d but not received (%d files missing)", i, in.missing), Way: "send the missing files, or abort and describe the delivery again"}
			}
		}
	}
	return nil
}

func (in *Incoming) confirm(ctx context.Context) error {
	in.syncs.Wait()
	if err := context.Cause(in.ctx); err != nil { // a background sync failed
		return err
	}
	if err := in.readBack(ctx); err != nil {
		return err
	}
	if err := in.describe(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return in.publish()
}

// slot waits for permission to occupy the disk.
func (in *Incoming) slot(ctx context.Context) error {
	select {
	case in.q.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readBack hashes every file as it is on disk.
func (in *Incoming) readBack(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for i := range in.sub.Records {
		for j := range in.sub.Records[i].Files {
			if gctx.Err() != nil {
				break
			}
			g.Go(func() error {
				if err := in.slot(gctx); err != nil {
					return err
				}
				defer func() { <-in.q.slots }()
				return in.check(gctx, i, &in.sub.Records[i].Files[j])
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

func (in *Incoming) check(ctx context.Context, record int, f *File) error {
	h, err := in.part.Open(payloadPath(record, f.Path))
	if err != nil {
		return fmt.Errorf("read back %q: %w", f.Path, err)
	}
	defer h.Close()
	// Both digests were compared on the way in. That these are the same bytes, one of them shows.
	sum := digest.SHA256.New()
	n, err := copyContext(ctx, sum, io.LimitReader(h, f.SizeBytes+1))
	if err != nil {
		return fmt.Errorf("read back %q: %w", f.Path, err)
	}
	if n != f.SizeBytes || digest.FromHash(digest.SHA256, sum) != f.SHA256 {
		return fmt.Errorf("read back %q: the disk returned other bytes than were written, check it: %w", f.Path, digest.ErrMismatch)
	}
	return nil
}

// describe writes what stands beside the payload and syncs every folder once.
func (in *Incoming) describe(ctx context.Context) error {
	desc, err := Encode(in.sub)
	if err != nil {
		return err
	}
	state, err := in.state.encode()
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	do := func(f func() error) {
		g.Go(func() error {
			if err := in.slot(gctx); err != nil {
				return err
			}
			defer func() { <-in.q.slots }()
			return f()
		})
	}
	do(func() error { return writeSynced(in.part, submissionName, desc) })
	do(func() error { return writeSynced(in.part, signatureName, in.signature) })
	do(func() error { return writeSynced(in.part, stateName, state) })
	for dir := range in.dirs {
		do(func() error { return syncDir(in.part, filepath.FromSlash(dir)) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return syncDir(in.part, ".") // last: it names the three files above
}

// publish gives the submission its final name.
func (in *Incoming) publish() error {
	in.part.Close()
	if err := in.q.root.Rename(in.partName(), in.id.Hex()); err != nil {
		return err
	}
	if err := in.q.syncParent(); err != nil {
		// Nothing is known about the name on disk: take it back, so that memory and disk say the same.
		return errors.Join(err, in.q.root.Rename(in.id.Hex(), in.partName()))
	}
	in.q.remember(&in.state)
	return nil
}
