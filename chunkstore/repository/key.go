package repository

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/user"
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

// writeKey stores master under password.
func writeKey(ctx context.Context, files Files, master *secret, password string, cost Scrypt, at time.Time) (chunkstore.Entry, error) {
	cost = cost.orDefault()
	if err := cost.check(); err != nil {
		return chunkstore.Entry{}, err
	}
	k := keyFile{Created: at, KDF: "scrypt", N: cost.N, R: cost.R, P: cost.P, Salt: make([]byte, saltBytes)}
	k.Hostname, _ = os.Hostname() // for people who list keys; a key without is as good
	if u, err := user.Current(); err == nil {
		k.Username = u.Username
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
	name := chunkstore.Name{Kind: chunkstore.Key, ID: digest.Of(b)}
	n, err := files.Put(ctx, name, bytes.NewReader(b))
	return chunkstore.Entry{Name: name, SizeBytes: n}, err
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

// AddKey lets password open the repository too, and returns the key file that was written.
func (r *Repository) AddKey(ctx context.Context, password string, cost Scrypt) (chunkstore.Entry, error) {
	if password == "" {
		return chunkstore.Entry{}, fmt.Errorf("add key: empty password: %w", ErrPassword)
	}
	return writeKey(ctx, r.files, r.master, password, cost, time.Now())
}
