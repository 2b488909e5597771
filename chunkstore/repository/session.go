package repository

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"dengbei/chunkstore"
)

const (
	// openDataPacks is how many packs take data at once. Which one a blob goes to is random, so that who sees the packs
	// cannot read the sequence of chunk sizes, which tells files apart, off them.
	openDataPacks = 3

	maxPackBlobs  = 20_000 // keeps headers far below their limit and several packs in one index file
	maxIndexBlobs = 50_000 // stock restic's limit per index file

	// An interrupted session loses at most what was written since the last index file; see also [Session.Adopt].
	indexEvery = 5 * time.Minute

	maxFinishing = 2 // packs being synced beside the ones being filled

	// Small blobs are gathered before they are written.
	packBufferBytes = 256 << 10
)

// Session writes to a repository. Blobs may be saved concurrently. A session that is given up must be closed.
type Session struct {
	repo *Repository
	dry  bool // nothing is stored

	// gate is held for reading while a blob is on its way to its pack, and for writing by Flush: another caller may have
	// been told already that the blob is there.
	gate sync.RWMutex

	data [openDataPacks]openPack
	tree openPack

	finishing chan struct{} // one element for each pack being finished
	wait      sync.WaitGroup

	mu        sync.Mutex // guards what follows; never held during I/O
	pending   map[pendingBlob]struct{}
	unindexed []IndexedPack // durable packs that no index file names yet
	blobs     int           // in unindexed
	indexedAt time.Time
	added     []chunkstore.Entry
	stats     SessionStats
	err       error // the first failure; everything later fails with it

	indexing sync.Mutex // serialises the writing of index files
}

// SessionStats counts what a session stored. Blobs that were there already count nowhere.
type SessionStats struct {
	DataBlobs, TreeBlobs int
	PlainBytes           int64 // content of the new blobs
	StoredBytes          int64 // the same as stored in packs, without headers
}

type pendingBlob struct {
	typ BlobType
	id  ID
}

// openPack is a pack being filled.
type openPack struct {
	mu     sync.Mutex // guards the pack; held while a blob is written to it
	staged chunkstore.Staged
	buffer []byte // written after what is staged
	blobs  []PackedBlob
	size   int64
}

// write appends b to the pack.
func (p *openPack) write(b []byte) error {
	if len(p.buffer)+len(b) > packBufferBytes {
		if err := p.spill(); err != nil {
			return err
		}
	}
	if len(b) > packBufferBytes/2 {
		if err := p.spill(); err != nil {
			return err
		}
		_, err := p.staged.Write(b)
		return err
	}
	p.buffer = append(p.buffer, b...)
	return nil
}

// spill writes what was gathered.
func (p *openPack) spill() error {
	if len(p.buffer) == 0 {
		return nil
	}
	_, err := p.staged.Write(p.buffer)
	p.buffer = p.buffer[:0]
	return err
}

// NewSession starts writing.
func (r *Repository) NewSession() *Session {
	return &Session{
		repo:      r,
		finishing: make(chan struct{}, maxFinishing),
		pending:   make(map[pendingBlob]struct{}),
		indexedAt: time.Now(),
	}
}

// NewDrySession starts a session that does everything but store: its statistics are those of a real one.
func (r *Repository) NewDrySession() *Session {
	s := r.NewSession()
	s.dry = true
	return s
}

// fail makes err the session's result unless there is one, and returns the result.
func (s *Session) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	return s.err
}

func (s *Session) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// SaveBlob stores content unless the repository has it, and reports whether it was new. The content is durable only
// after [Session.Flush]. After a failure every call fails; a call whose ctx has ended stores nothing and is none.
func (s *Session) SaveBlob(ctx context.Context, typ BlobType, content []byte) (ID, bool, error) {
	return s.save(ctx, typ, content, s.repo.codec.encoder)
}

// SaveVersion is [Session.SaveBlob] for content of something that is stored already as it was before: it has changed and
// will again, and every version takes space. With [CompressAuto] it is compressed better than what is new.
func (s *Session) SaveVersion(ctx context.Context, typ BlobType, content []byte) (ID, bool, error) {
	return s.save(ctx, typ, content, s.repo.codec.versions)
}

func (s *Session) save(ctx context.Context, typ BlobType, content []byte, encoder *zstd.Encoder) (ID, bool, error) {
	if len(content) > maxBlobBytes-envelopeBytes {
		return ID{}, false, fmt.Errorf("%s blob of %d bytes: %w", typ, len(content), ErrTooLarge)
	}
	if err := ctx.Err(); err != nil {
		return ID{}, false, err
	}
	w := witnessOf(content)
	id := w.id
	key := pendingBlob{typ, id}
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return ID{}, false, s.err
	}
	if _, ok := s.pending[key]; ok || s.repo.index.has(typ, id) {
		s.mu.Unlock()
		return id, false, nil
	}
	s.pending[key] = struct{}{}
	s.mu.Unlock()

	// From here on the blob counts as stored, so ctx no longer stops it.
	buf := s.repo.buffers.borrow(len(content) + 2*envelopeBytes)
	defer s.repo.buffers.giveBack(buf)
	env, uncompressed, err := s.repo.encodeBlob(*buf, content, w, encoder)
	*buf = env // it may have grown
	if err != nil {
		return ID{}, false, s.fail(err)
	}
	b := PackedBlob{ID: id, Type: typ, Length: uint32(len(env)), UncompressedBytes: uncompressed}
	if !s.dry {
		if err := s.append(ctx, b, env); err != nil {
			return ID{}, false, s.fail(err)
		}
	}
	s.mu.Lock()
	if typ == TreeBlob {
		s.stats.TreeBlobs++
	} else {
		s.stats.DataBlobs++
	}
	s.stats.PlainBytes += int64(len(content))
	s.stats.StoredBytes += int64(len(env))
	s.mu.Unlock()
	return id, true, nil
}

// append writes an envelope to an open pack and has the pack finished when it is full.
func (s *Session) append(ctx context.Context, b PackedBlob, env []byte) error {
	p := s.choose(b.Type)
	defer p.mu.Unlock()
	if p.staged == nil {
		staged, err := s.repo.files.Stage(chunkstore.Pack)
		if err != nil {
			return err
		}
		p.staged = staged
	}
	b.Offset = uint32(p.size)
	if err := p.write(env); err != nil {
		return fmt.Errorf("write pack: %w", err)
	}
	p.blobs = append(p.blobs, b)
	p.size += int64(len(env))
	if p.size >= s.repo.options.PackBytes || len(p.blobs) >= maxPackBlobs {
		return s.finish(ctx, p)
	}
	return nil
}

// choose returns a pack for a blob, locked: a random one, but not one that is busy if another is free.
func (s *Session) choose(typ BlobType) *openPack {
	if typ == TreeBlob {
		s.tree.mu.Lock()
		return &s.tree
	}
	n := rand.IntN(openDataPacks)
	for i := range openDataPacks {
		if p := &s.data[(n+i)%openDataPacks]; p.mu.TryLock() {
			return p
		}
	}
	s.data[n].mu.Lock()
	return &s.data[n]
}

// finish has the locked pack p completed beside the caller and leaves p empty.
func (s *Session) finish(ctx context.Context, p *openPack) error {
	if err := p.spill(); err != nil {
		return fmt.Errorf("write pack: %w", err)
	}
	ctx = context.WithoutCancel(ctx) // whose blob was the last one does not matter
	staged, blobs := p.staged, p.blobs
	p.staged, p.blobs, p.size = nil, nil, 0
	s.finishing <- struct{}{}
	s.wait.Go(func() {
		defer func() { <-s.finishing }()
		if err := s.complete(ctx, staged, blobs); err != nil {
			s.fail(err)
		}
	})
	return nil
}

// complete makes a pack durable, then known, and writes an index file when it is time.
func (s *Session) complete(ctx context.Context, staged chunkstore.Staged, blobs []PackedBlob) error {
	defer staged.Abort()
	plain := encodeHeader(make([]byte, ivBytes, headerSize(blobs)), blobs)
	h := s.repo.master.seal(plain)
	h = binary.LittleEndian.AppendUint32(h, uint32(len(h)))
	if _, err := staged.Write(h); err != nil {
		return fmt.Errorf("write pack: %w", err)
	}
	e, err := staged.Commit()
	if err != nil {
		return err
	}
	pack := IndexedPack{ID: IDOf(e.Name.ID), Blobs: blobs}
	s.repo.index.addPack(pack)
	s.mu.Lock()
	for _, b := range blobs {
		delete(s.pending, pendingBlob{b.Type, b.ID})
	}
	s.added = append(s.added, e)
	s.unindexed = append(s.unindexed, pack)
	s.blobs += len(blobs)
	due := s.blobs >= maxIndexBlobs-maxPackBlobs || time.Since(s.indexedAt) > indexEvery
	s.mu.Unlock()
	if due {
		return s.writeIndex(ctx)
	}
	return nil
}

// writeIndex puts the packs that are not indexed into as many index files as they need.
func (s *Session) writeIndex(ctx context.Context) error {
	s.indexing.Lock()
	defer s.indexing.Unlock()
	for {
		s.mu.Lock()
		n, blobs := 0, 0
		for n < len(s.unindexed) && (n == 0 || blobs+len(s.unindexed[n].Blobs) <= maxIndexBlobs) {
			blobs += len(s.unindexed[n].Blobs)
			n++
		}
		packs := slices.Clone(s.unindexed[:n])
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		e, err := s.repo.indexPacks(ctx, packs)
		if err != nil {
			return fmt.Errorf("write index: %w", err)
		}
		s.mu.Lock()
		s.unindexed = slices.Delete(s.unindexed, 0, n)
		s.blobs -= blobs
		s.indexedAt = time.Now()
		s.added = append(s.added, e)
		s.mu.Unlock()
	}
}

// Flush makes everything saved so far durable: packs, then index. It waits for calls of [Session.SaveBlob] that have
// begun and holds up the others.
func (s *Session) Flush(ctx context.Context) error {
	s.gate.Lock()
	defer s.gate.Unlock()
	for _, p := range s.packs() {
		p.mu.Lock()
		if p.staged != nil {
			if err := s.finish(ctx, p); err != nil {
				s.fail(err)
			}
		}
		p.mu.Unlock()
	}
	s.wait.Wait()
	if err := s.failed(); err != nil {
		return err
	}
	return s.unlessEnded(ctx, s.writeIndex(ctx))
}

// unlessEnded makes err the session's result, but not if ctx has ended: nothing is lost then, and a later Flush may do
// better.
func (s *Session) unlessEnded(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	return s.fail(err)
}

func (s *Session) packs() []*openPack {
	all := []*openPack{&s.tree}
	for i := range s.data {
		all = append(all, &s.data[i])
	}
	return all
}

// SaveSnapshot flushes, then stores sn and returns its name; that of a dry session is zero. Its fields ID and Time must be as wished; the ID is set.
func (s *Session) SaveSnapshot(ctx context.Context, sn *Snapshot) (chunkstore.Name, error) {
	if err := s.Flush(ctx); err != nil {
		return chunkstore.Name{}, err
	}
	if s.dry {
		return chunkstore.Name{}, nil
	}
	b, err := json.Marshal(sn)
	if err != nil {
		return chunkstore.Name{}, s.fail(fmt.Errorf("save snapshot: %w", err))
	}
	e, err := s.repo.saveUnpacked(ctx, chunkstore.Snapshot, b)
	if err != nil {
		return chunkstore.Name{}, s.unlessEnded(ctx, fmt.Errorf("save snapshot: %w", err))
	}
	sn.ID = e.Name.ID
	s.mu.Lock()
	s.added = append(s.added, e)
	s.mu.Unlock()
	return e.Name, nil
}

// Adopt takes up whole packs that no index file names, left by a session that was cut off, so that their blobs need
// not be stored again. It returns how many. Packs that are not of this repository are passed over. They count as added.
// The index is read anew before: a pack that others have marked for deletion meanwhile must not be taken up.
func (s *Session) Adopt(ctx context.Context) (int, error) {
	if err := s.repo.Reload(ctx); err != nil {
		return 0, s.fail(fmt.Errorf("adopt packs: %w", err))
	}
	n, err := s.repo.unindexed(ctx, s.repo.index.indexed, func(e chunkstore.Entry, blobs []PackedBlob) {
		pack := IndexedPack{ID: IDOf(e.Name.ID), Blobs: blobs}
		s.repo.index.addPack(pack)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unindexed = append(s.unindexed, pack)
		s.blobs += len(blobs)
		s.added = append(s.added, e)
	})
	if err != nil {
		return n, s.fail(fmt.Errorf("adopt packs: %w", err))
	}
	return n, nil
}

// Added lists the files that the session stored, ascending by kind and name. After a successful [Session.SaveSnapshot]
// they are all of them.
func (s *Session) Added() []chunkstore.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	added := slices.Clone(s.added)
	slices.SortFunc(added, func(a, b chunkstore.Entry) int {
		if a.Name.Kind != b.Name.Kind {
			return int(a.Name.Kind) - int(b.Name.Kind)
		}
		return a.Name.ID.Compare(b.Name.ID)
	})
	return added
}

// Stats returns what was stored so far.
func (s *Session) Stats() SessionStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close ends the session. Of one that was not flushed, unfinished packs are dropped, and finished ones are indexed so
// that the next run need not store their blobs again. It may be called more than once, and after a failure.
func (s *Session) Close() error {
	for _, p := range s.packs() {
		p.mu.Lock()
		if p.staged != nil {
			p.staged.Abort()
			p.staged, p.blobs, p.size, p.buffer = nil, nil, 0, nil
		}
		p.mu.Unlock()
	}
	s.wait.Wait()
	err := s.failed()
	if errors.Is(err, ErrSession) {
		return nil
	}
	s.fail(ErrSession)
	if errors.Is(err, chunkstore.ErrFull) {
		return nil // there is no room for an index file either; Adopt finds the packs
	}
	return s.writeIndex(context.Background()) // the caller's context may be the reason for closing
}
