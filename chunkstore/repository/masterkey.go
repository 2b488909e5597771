package repository

import (
	"context"
	"fmt"
)

// MasterKey is what all key files of a repository hold under their passwords. Whoever has it reads everything, without
// any password, for as long as the repository exists.
type MasterKey struct{ secret *secret }

// ParseMasterKey reads the JSON that [MasterKey.Encode] and stock restic's "cat masterkey" write.
func ParseMasterKey(b []byte) (MasterKey, error) {
	if len(b) > maxKeyFileBytes {
		return MasterKey{}, fmt.Errorf("master key of %d bytes: %w", len(b), ErrTooLarge)
	}
	s, err := unmarshalSecret(b)
	return MasterKey{s}, err
}

// Encode returns the key as JSON, in clear.
func (k MasterKey) Encode() ([]byte, error) { return k.secret.marshal() }

// String keeps the key out of messages.
func (k MasterKey) String() string { return "master key" }

// GoString keeps the key out of messages.
func (k MasterKey) GoString() string { return "repository.MasterKey{}" }

// Format keeps the key out of messages.
func (k MasterKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// MasterKey returns the key that opens the repository without a password.
func (r *Repository) MasterKey() MasterKey { return MasterKey{r.master} }

// OpenWithKey is [Open] without a password, for when all passwords are lost. A key that is not the config's gives
// [ErrPassword]. Key files are not looked at.
func OpenWithKey(ctx context.Context, files Files, key MasterKey, o Options) (*Repository, error) {
	return open(ctx, files, o, func(r *Repository, sealed []byte) ([]byte, error) {
		plain, err := key.secret.open(nil, sealed)
		if err != nil {
			return nil, fmt.Errorf("master key is another repository's: %w: %w", ErrPassword, err)
		}
		r.master = key.secret
		return plain, nil
	})
}
