package repository

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/restic/chunker"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// Options sets up a repository or the way it is used. The zero Options is right for most.
type Options struct {
	// Scrypt is the cost of the key that [Init] makes.
	Scrypt Scrypt

	// Chunks is the profile that [Init] records; zero means [StandardChunks].
	Chunks ChunkProfile

	// Polynomial is what [Init] has files cut with: that of another repository, so that both cut alike and what is copied
	// between them is stored once. Zero means a new random one.
	Polynomial chunker.Pol

	// Compression is applied to what is written.
	Compression Compression

	// PackBytes is the size at which a pack is finished, 4 to 64 MiB; zero means 16 MiB.
	PackBytes int64

	// KeyID, if not zero, is the only key file tried. Planted keys then cost nothing.
	KeyID digest.Digest

	// KeyHint is the start of the ID of the key file tried first.
	KeyHint string

	// Lock is the lock that [Open] takes before it reads the index; see [Repository.Lock].
	Lock LockOptions

	// CacheDir is a directory for look-up tables, below which each repository has its own; it is made. With it the memory
	// that an open repository takes hardly depends on its size. What is there may be removed at any time. Empty means
	// that everything is kept in memory; see the package's comment.
	CacheDir string

	memoryBlobs int // in memory beside the table on disk; 0 means by its size

	// ReadHeaders has [Open] find blobs in packs that no readable index file names, from the packs' own headers: the way
	// to read a repository whose index is lost. The next session's [Session.Adopt] then writes a new index.
	ReadHeaders bool
}

// The sizes of packs.
const (
	DefaultPackBytes = 16 << 20
	minPackBytes     = 4 << 20
	maxPackBytes     = 64 << 20
)

func (o Options) check() (Options, error) {
	if o.PackBytes == 0 {
		o.PackBytes = DefaultPackBytes
	}
	if o.PackBytes < minPackBytes || o.PackBytes > maxPackBytes {
		return o, fmt.Errorf("pack size %d is not within %d and %d: %w", o.PackBytes, minPackBytes, maxPackBytes, ErrTooLarge)
	}
	if o.Chunks == (ChunkProfile{}) {
		o.Chunks = StandardChunks()
	}
	return o, o.Chunks.check()
}

// Repository is an open repository with its index in memory.
type Repository struct {
	files   Files
	master  *secret
	keyID   digest.Digest
	config  Config
	configN chunkstore.Name
	codec   *codec
	index   *index
	buffers *buffers
	options Options
	noHeal  bool
	lock    *Lock // nil if none was asked for

	unreadable []Unreadable // key files; fixed once opened
}

// Unreadable is a file that was passed over and why.
type Unreadable struct {
	Name chunkstore.Name
	Err  error
}

// Init makes a new repository in files, opened by password, and opens it. It gives [ErrExists] where there is a config.
func Init(ctx context.Context, files Files, password string, o Options) (*Repository, error) {
	if password == "" {
		return nil, fmt.Errorf("init repository: empty password: %w", ErrPassword)
	}
	o, err := o.check()
	if err != nil {
		return nil, fmt.Errorf("init repository: %w", err)
	}
	for e, err := range files.List(ctx, chunkstore.Config) {
		if err != nil {
			return nil, fmt.Errorf("init repository: %w", err)
		}
		return nil, fmt.Errorf("init repository: %s: %w", e.Name, ErrExists)
	}
	pol := o.Polynomial
	if pol == 0 {
		if pol, err = chunker.RandomPolynomial(); err != nil {
			return nil, fmt.Errorf("init repository: %w", err)
		}
	}
	if err := checkPolynomial(pol); err != nil {
		return nil, fmt.Errorf("init repository: %w", err)
	}
	config := Config{Polynomial: pol, Chunks: o.Chunks}
	rand.Read(config.ID[:])
	plain, err := config.encode()
	if err != nil {
		return nil, fmt.Errorf("init repository: %w", err)
	}
	// The key goes first: a config without a key would never open, a key without config is an empty start. Such a key is
	// used again: stock restic stops at a key that opens with the password and is not the config's.
	master, key, err := findKey(ctx, files, password)
	if err != nil {
		return nil, fmt.Errorf("init repository: %w", err)
	}
	if master == nil {
		master = randomSecret()
		e, err := writeKey(ctx, files, master, password, KeyOptions{Cost: o.Scrypt}, time.Now())
		if err != nil {
			return nil, fmt.Errorf("init repository: %w", err)
		}
		key = e.Name
	}
	sealed := master.seal(append(make([]byte, ivBytes), plain...))
	name := chunkstore.Name{Kind: chunkstore.Config, ID: digest.Of(sealed)}
	if _, err := files.Put(ctx, name, bytes.NewReader(sealed)); err != nil {
		return nil, fmt.Errorf("init repository: %w", err)
	}
	o.KeyID = key.ID
	return Open(ctx, files, password, o)
}

// Open opens the repository in files with password and reads its index. Keys and index files that cannot be read are
// passed over; see [Repository.Unreadable]. If o asks for a lock, it is taken first and the caller gives it back; a
// repository that others hold gives [ErrLocked].
func Open(ctx context.Context, files Files, password string, o Options) (*Repository, error) {
	return open(ctx, files, o, func(r *Repository, sealed []byte) ([]byte, error) { return r.unlock(ctx, password, sealed) })
}

// open opens the repository in files. unseal finds the master key and decrypts the config with it.
func open(ctx context.Context, files Files, o Options, unseal func(r *Repository, sealed []byte) ([]byte, error)) (_ *Repository, err error) {
	if o, err = o.check(); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	r := &Repository{files: files, index: newIndex(), buffers: newBuffers(), options: o}
	if r.codec, err = newCodec(o.Compression); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	if err := r.openConfig(ctx, unseal); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	// Before the index is read: what it names must not be removed meanwhile.
	if r.lock, err = r.takeLock(ctx); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	r.files = guard(files, r.lock)
	if err := r.Reload(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open repository: %w", err), r.lock.Close())
	}
	return r, nil
}

// Files returns where the repository's files lie.
func (r *Repository) Files() Files { return r.files }

// Config returns what the config file holds.
func (r *Repository) Config() Config { return r.config }

// ConfigName returns the name of the config file with the digest of its bytes.
func (r *Repository) ConfigName() chunkstore.Name { return r.configN }

// KeyName returns the key file that opened the repository.
func (r *Repository) KeyName() chunkstore.Name {
	return chunkstore.Name{Kind: chunkstore.Key, ID: r.keyID}
}

// WithoutHealing returns the same repository for a reader that wants to see damage as it is.
func (r *Repository) WithoutHealing() *Repository {
	c := *r
	c.noHeal = true
	return &c
}

// LoadBlob returns the content of a blob, which hashes to id, in dst's memory if that is large enough. Each place where
// it lies is tried, then the healer. It gives [ErrNoBlob] or [ErrDamaged].
func (r *Repository) LoadBlob(ctx context.Context, typ BlobType, id ID, dst []byte) ([]byte, error) {
	locations := r.index.lookup(make([]Location, 0, 1), typ, id)
	if len(locations) == 0 {
		return nil, fmt.Errorf("%s blob %s: %w", typ, id, r.index.missing())
	}
	var first error
	for _, l := range locations {
		b, err := r.readBlob(ctx, l, dst)
		if err == nil || ctx.Err() != nil {
			return b, err
		}
		if first == nil {
			first = err
		}
	}
	if err := r.heal(ctx, locations[0].Pack, first); err != nil {
		return nil, err
	}
	return r.readBlob(ctx, locations[0], dst)
}

func (r *Repository) readBlob(ctx context.Context, l Location, dst []byte) ([]byte, error) {
	buf := r.buffers.borrow(int(l.Blob.Length))
	defer r.buffers.giveBack(buf)
	env := (*buf)[:l.Blob.Length]
	err := r.files.ReadRange(ctx, l.Pack, int64(l.Blob.Offset), env)
	if err != nil {
		if ctx.Err() == nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF)) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil, fmt.Errorf("%s blob %s: %w", l.Blob.Type, l.Blob.ID, err)
	}
	b, err := r.DecodeBlob(dst, env, l.Blob)
	if err != nil {
		return nil, fmt.Errorf("%s at %d: %w", l.Pack, l.Blob.Offset, err)
	}
	return b, nil
}
