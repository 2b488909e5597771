package repository

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
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

	// Compression is applied to what is written.
	Compression Compression

	// PackBytes is the size at which a pack is finished, 4 to 64 MiB; zero means 16 MiB.
	PackBytes int64

	// KeyID, if not zero, is the only key file tried. Planted keys then cost nothing.
	KeyID digest.Digest

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
	pol, err := chunker.RandomPolynomial()
	if err != nil {
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
		e, err := writeKey(ctx, files, master, password, o.Scrypt, time.Now())
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
// passed over; see [Repository.Unreadable].
func Open(ctx context.Context, files Files, password string, o Options) (*Repository, error) {
	o, err := o.check()
	if err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	r := &Repository{files: files, index: newIndex(), buffers: newBuffers(), options: o}
	if r.codec, err = newCodec(o.Compression); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	if err := r.unlock(ctx, password); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	if err := r.Reload(ctx); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	return r, nil
}

// unlock reads the config with the first key file that opens with password and fits the config.
func (r *Repository) unlock(ctx context.Context, password string) error {
	var sealed []byte
	for e, err := range r.files.List(ctx, chunkstore.Config) {
		if err != nil {
			return err
		}
		r.configN = e.Name
		if sealed, err = r.readFile(ctx, e.Name, maxKeyFileBytes); err != nil {
			return err
		}
		break
	}
	if sealed == nil {
		return ErrNoRepository
	}
	var wrong error
	for e, err := range r.files.List(ctx, chunkstore.Key) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !r.options.KeyID.IsZero() && r.options.KeyID != e.Name.ID {
			continue
		}
		plain, err := r.tryKey(ctx, e.Name, password, sealed)
		if err != nil {
			r.unreadable = append(r.unreadable, Unreadable{e.Name, err})
			wrong = err
			continue
		}
		r.keyID = e.Name.ID
		r.unreadable = slices.DeleteFunc(r.unreadable, func(u Unreadable) bool { return errors.Is(u.Err, errOtherPassword) })
		r.config, err = decodeConfig(plain)
		return err
	}
	if wrong != nil {
		return fmt.Errorf("%w (%d key files tried, the last: %w)", ErrPassword, len(r.unreadable), wrong)
	}
	return fmt.Errorf("no key file: %w", ErrPassword)
}

// errOtherPassword marks a sound key file that belongs to another password; that is nothing to report.
var errOtherPassword = errors.New("key does not open with this password")

// tryKey opens the config with one key file and keeps the master key.
func (r *Repository) tryKey(ctx context.Context, name chunkstore.Name, password string, sealed []byte) ([]byte, error) {
	b, err := r.readFile(ctx, name, maxKeyFileBytes)
	if err != nil {
		return nil, err
	}
	k, err := decodeKeyFile(b)
	if err != nil {
		return nil, err
	}
	master, err := k.open(password)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errOtherPassword, err)
	}
	plain, err := master.open(nil, sealed)
	if err != nil {
		return nil, fmt.Errorf("key is not the config's: %w", err)
	}
	r.master = master
	return plain, nil
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
		return nil, fmt.Errorf("%s blob %s: %w", typ, id, ErrNoBlob)
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
