package repository

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/scrypt"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

const (
	saltBytes = 64

	// maxKeyFileBytes bounds a key file; stock restic's are under 500 bytes.
	maxKeyFileBytes = 64 << 10

	// A planted key file must not make opening the repository cost more than this: 128 MiB and a few seconds. Stock
	// restic stays under 60 MiB and aims at half a second.
	maxScryptMemory = 128 << 20
	maxScryptWork   = 32 * 32768 * 8
)

// Scrypt is the cost of guessing a password. The zero Scrypt means N=32768, r=8, p=1: 32 MiB and a tenth of a second.
type Scrypt struct{ N, R, P int }

func (c Scrypt) orDefault() Scrypt {
	if c == (Scrypt{}) {
		return Scrypt{N: 32768, R: 8, P: 1}
	}
	return c
}

// check refuses parameters that scrypt rejects or that cost too much.
func (c Scrypt) check() error {
	if c.N < 2 || c.N&(c.N-1) != 0 || c.R < 1 || c.P < 1 ||
		c.N > maxScryptMemory/128 || c.R > maxScryptMemory/128/c.N || c.P > maxScryptWork/(c.N*c.R) {
		return fmt.Errorf("scrypt parameters N=%d r=%d p=%d: %w", c.N, c.R, c.P, ErrUnreadable)
	}
	return nil
}

// keyFile is a file in keys/: the master key under a password. Names and order of fields are the format's.
type keyFile struct {
	Created  time.Time `json:"created"`
	Username string    `json:"username"`
	Hostname string    `json:"hostname"`
	KDF      string    `json:"kdf"`
	N        int       `json:"N"`
	R        int       `json:"r"`
	P        int       `json:"p"`
	Salt     []byte    `json:"salt"`
	Data     []byte    `json:"data"`
}

// decodeKeyFile reads the JSON of a key file and checks everything that can be checked without the password.
func decodeKeyFile(b []byte) (*keyFile, error) {
	if len(b) > maxKeyFileBytes {
		return nil, fmt.Errorf("key file of %d bytes: %w", len(b), ErrUnreadable)
	}
	var k keyFile
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, fmt.Errorf("key file: %w: %w", err, ErrUnreadable)
	}
	if k.KDF != "scrypt" || len(k.Salt) != saltBytes || len(k.Data) < envelopeBytes {
		return nil, fmt.Errorf("key file with kdf %q, %d bytes of salt, %d of data: %w", k.KDF, len(k.Salt), len(k.Data), ErrUnreadable)
	}
	return &k, Scrypt{k.N, k.R, k.P}.check()
}

func deriveSecret(password string, salt []byte, c Scrypt) (*secret, error) {
	b, err := scrypt.Key([]byte(password), salt, c.N, c.R, c.P, 64)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return newSecret((*[64]byte)(b)), nil
}

// open returns the master key, or [ErrUnreadable] if the password is not this key's.
func (k *keyFile) open(password string) (*secret, error) {
	outer, err := deriveSecret(password, k.Salt, Scrypt{k.N, k.R, k.P})
	if err != nil {
		return nil, err
	}
	plain, err := outer.open(nil, k.Data)
	if err != nil {
		return nil, err
	}
	return unmarshalSecret(plain)
}

// KeyOptions says how a key file is made. The zero KeyOptions is right for most.
type KeyOptions struct {
	Cost Scrypt

	// Hostname and Username are for people who list the keys; empty means this host and this user.
	Hostname, Username string
}

// writeKey stores master under password.
func writeKey(ctx context.Context, files Files, master *secret, password string, o KeyOptions, at time.Time) (chunkstore.Entry, error) {
	cost := o.Cost.orDefault()
	if err := cost.check(); err != nil {
		return chunkstore.Entry{}, err
	}
	host, name := whoAndWhere()
	k := keyFile{
		Created: at, KDF: "scrypt", N: cost.N, R: cost.R, P: cost.P, Salt: make([]byte, saltBytes),
		Hostname: cmp.Or(o.Hostname, host), Username: cmp.Or(o.Username, name),
	}
	rand.Read(k.Salt)
	outer, err := deriveSecret(password, k.Salt, cost)
	if err != nil {
		return chunkstore.Entry{}, err
	}
	plain, err := master.marshal()
	if err != nil {
		return chunkstore.Entry{}, err
	}
	k.Data = outer.seal(append(make([]byte, ivBytes), plain...))
	b, err := json.Marshal(k)
	if err != nil {
		return chunkstore.Entry{}, err
	}
	if len(b) > maxKeyFileBytes {
		return chunkstore.Entry{}, fmt.Errorf("key file of %d bytes: %w", len(b), ErrTooLarge)
	}
	file := chunkstore.Name{Kind: chunkstore.Key, ID: digest.Of(b)}
	n, err := files.Put(ctx, file, bytes.NewReader(b))
	return chunkstore.Entry{Name: file, SizeBytes: n}, err
}

// findKey returns the master key of the first key file that opens with password, or nil.
func findKey(ctx context.Context, files Files, password string) (*secret, chunkstore.Name, error) {
	for e, err := range files.List(ctx, chunkstore.Key) {
		if err != nil {
			return nil, chunkstore.Name{}, err
		}
		b, err := readAll(ctx, files, e.Name, maxKeyFileBytes)
		if err != nil {
			continue // junk, or rotten: it opens nothing
		}
		k, err := decodeKeyFile(b)
		if err != nil {
			continue
		}
		if master, err := k.open(password); err == nil {
			return master, e.Name, nil
		}
	}
	return nil, chunkstore.Name{}, ctx.Err()
}

// errOtherPassword marks a sound key file that belongs to another password; that is nothing to report.
var errOtherPassword = errors.New("key does not open with this password")

// openConfig reads the config and decrypts it with what unseal finds.
func (r *Repository) openConfig(ctx context.Context, unseal func(r *Repository, sealed []byte) ([]byte, error)) error {
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
	plain, err := unseal(r, sealed)
	if err != nil {
		return err
	}
	r.config, err = decodeConfig(plain)
	return err
}

// unlock decrypts the config with the first key file that opens with password and fits the config. The hinted key comes
// first, then those that cost least: planted ones of great cost hold up nobody who knows the password of another.
func (r *Repository) unlock(ctx context.Context, password string, sealed []byte) ([]byte, error) {
	keys, err := r.keyFiles(ctx)
	if err != nil {
		return nil, err
	}
	var wrong error
	tried := 0
	for _, k := range keys {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !r.options.KeyID.IsZero() && r.options.KeyID != k.name.ID {
			continue
		}
		tried++
		var plain []byte
		err := k.err
		if err == nil {
			plain, err = r.tryKey(k.file, password, sealed)
		}
		if err != nil {
			r.unreadable = append(r.unreadable, Unreadable{k.name, err})
			wrong = err
			continue
		}
		r.keyID = k.name.ID
		r.unreadable = slices.DeleteFunc(r.unreadable, func(u Unreadable) bool { return errors.Is(u.Err, errOtherPassword) })
		return plain, nil
	}
	if wrong != nil {
		return nil, fmt.Errorf("%w (%d key files tried, the last: %w)", ErrPassword, tried, wrong)
	}
	return nil, fmt.Errorf("no key file: %w", ErrPassword)
}

// listedKey is a key file, or why it is none.
type listedKey struct {
	name chunkstore.Name
	file *keyFile
	err  error
}

// keyFiles reads the key files, in the order in which they are tried.
func (r *Repository) keyFiles(ctx context.Context) ([]listedKey, error) {
	var keys []listedKey
	for e, err := range r.files.List(ctx, chunkstore.Key) {
		if err != nil {
			return nil, err
		}
		k := listedKey{name: e.Name}
		if only := r.options.KeyID; only.IsZero() || only == e.Name.ID {
			var b []byte
			if b, k.err = r.readFile(ctx, e.Name, maxKeyFileBytes); k.err == nil {
				k.file, k.err = decodeKeyFile(b)
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		keys = append(keys, k)
	}
	hint := r.options.KeyHint
	slices.SortStableFunc(keys, func(a, b listedKey) int { return cmp.Compare(a.rank(hint), b.rank(hint)) })
	return keys, nil
}

// rank orders keys for trying: junk, which costs nothing, is at the front and so always reported.
func (k listedKey) rank(hint string) int {
	switch {
	case k.err != nil || k.file == nil:
		return -2
	case hint != "" && strings.HasPrefix(k.name.ID.Hex(), hint):
		return -1
	}
	return k.file.N * k.file.R * k.file.P
}

// tryKey opens the config with one key file and keeps the master key.
func (r *Repository) tryKey(k *keyFile, password string, sealed []byte) ([]byte, error) {
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

// KeyInfo is what a key file says of itself.
type KeyInfo struct {
	Name     chunkstore.Name
	Current  bool // the repository was opened with it
	Username string
	Hostname string
	Created  time.Time
}

// Keys lists the key files, the oldest first. Files that are no key files are listed apart; whether a key opens this
// repository is seen only with its password.
func (r *Repository) Keys(ctx context.Context) ([]KeyInfo, []Unreadable, error) {
	all := *r
	all.options.KeyID = digest.Digest{}
	files, err := all.keyFiles(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("list keys: %w", err)
	}
	var keys []KeyInfo
	var unreadable []Unreadable
	for _, k := range files {
		if k.err != nil {
			unreadable = append(unreadable, Unreadable{k.name, k.err})
			continue
		}
		keys = append(keys, KeyInfo{k.name, k.name.ID == r.keyID, k.file.Username, k.file.Hostname, k.file.Created})
	}
	slices.SortStableFunc(keys, func(a, b KeyInfo) int { return a.Created.Compare(b.Created) })
	return keys, unreadable, nil
}

// AddKey lets password open the repository too, and returns the key file that was written, read back and found to open
// the repository. Several keys may have the same password.
func (r *Repository) AddKey(ctx context.Context, password string, o KeyOptions) (chunkstore.Entry, error) {
	if password == "" {
		return chunkstore.Entry{}, fmt.Errorf("add key: empty password: %w", ErrPassword)
	}
	e, err := writeKey(ctx, r.files, r.master, password, o, time.Now())
	if err != nil {
		return chunkstore.Entry{}, fmt.Errorf("add key: %w", err)
	}
	if err := r.proveKey(ctx, e.Name, password); err != nil {
		return chunkstore.Entry{}, fmt.Errorf("add key: %w", errors.Join(err, r.files.Remove(context.WithoutCancel(ctx), e.Name)))
	}
	return e, nil
}

// proveKey opens the config with a key file as stored.
func (r *Repository) proveKey(ctx context.Context, name chunkstore.Name, password string) error {
	sealed, err := readAll(ctx, r.files, r.configN, maxKeyFileBytes)
	if err != nil {
		return err
	}
	b, err := readAll(ctx, r.files, name, maxKeyFileBytes)
	if err != nil {
		return err
	}
	k, err := decodeKeyFile(b)
	if err != nil {
		return err
	}
	probe := *r
	_, err = probe.tryKey(k, password, sealed)
	return err
}

// RemoveKey deletes a key file: its password opens the repository no more. Whoever has read the repository before keeps
// the master key all the same. The key that opened the repository, and the last that may open it, give [ErrKeyInUse];
// one that is not there gives [ErrNoKey]. Files that are no key files can be removed too.
func (r *Repository) RemoveKey(ctx context.Context, id digest.Digest) error {
	name := chunkstore.Name{Kind: chunkstore.Key, ID: id}
	keys, junk, err := r.Keys(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(junk, func(u Unreadable) bool { return u.Name == name }) {
		return r.files.Remove(ctx, name)
	}
	at := slices.IndexFunc(keys, func(k KeyInfo) bool { return k.Name == name })
	switch {
	case at < 0:
		return fmt.Errorf("remove %s: %w", name, ErrNoKey)
	case keys[at].Current:
		return fmt.Errorf("remove %s, which opened the repository: %w", name, ErrKeyInUse)
	case len(keys) == 1:
		return fmt.Errorf("remove %s, the last there is: %w", name, ErrKeyInUse)
	}
	return r.files.Remove(ctx, name)
}

// ChangePassword replaces the key that opened the repository by one for password, and returns the new key file. The old
// one is removed when the new one is durable and proven: a crash between leaves both. A repository that was opened by its
// master key has no key to replace and gives [ErrNoKey]: add one.
func (r *Repository) ChangePassword(ctx context.Context, password string, o KeyOptions) (chunkstore.Entry, error) {
	if r.keyID.IsZero() {
		return chunkstore.Entry{}, fmt.Errorf("change password: the repository was opened without any: %w", ErrNoKey)
	}
	e, err := r.AddKey(ctx, password, o)
	if err != nil {
		return chunkstore.Entry{}, err
	}
	old := r.KeyName()
	r.keyID = e.Name.ID
	if err := r.files.Remove(ctx, old); err != nil {
		return e, fmt.Errorf("change password: the new key is there, the old one stays: %w", err)
	}
	return e, nil
}
