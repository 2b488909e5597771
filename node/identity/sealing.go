package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"filippo.io/age"
)

// MaxSealedBytes bounds what [SealingKey.Open] returns: sealed things are fields and keys, never files.
const MaxSealedBytes = 16 << 20

// LoadOrCreateSigningKey returns the Ed25519 key in path (PKCS #8 in PEM, mode 0600), made if there is none. Receipts, checkpoints
// and decisions are signed with such keys, each with its own.
func LoadOrCreateSigningKey(path string) (ed25519.PrivateKey, error) {
	signer, err := loadKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, fresh, genErr := ed25519.GenerateKey(rand.Reader)
		if genErr != nil {
			return nil, fmt.Errorf("create key %s: %w", path, genErr)
		}
		signer, err = createKey(path, fresh)
	}
	if err != nil {
		return nil, err
	}
	key, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read %s: holds %T, want an Ed25519 key", path, signer)
	}
	return key, nil
}

// SealingKey is a centre's age key (X25519): what is sealed to its recipient, only it opens.
type SealingKey struct{ id *age.X25519Identity }

// LoadOrCreateSealingKey returns the key in path, an age identity file of mode 0600 that the age program reads too, made if there
// is none.
func LoadOrCreateSealingKey(path string) (*SealingKey, error) {
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		fresh, genErr := age.GenerateX25519Identity()
		if genErr != nil {
			return nil, fmt.Errorf("create sealing key %s: %w", path, genErr)
		}
		text := "# public key: " + fresh.Recipient().String() + "\n" + fresh.String() + "\n"
		if err := createFile(path, []byte(text), privateMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		data, err = readPrivate(path)
	}
	if err != nil {
		return nil, err
	}
	k, err := ParseSealingKey(string(data))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return k, nil
}

// ParseSealingKey reads the text of an age identity file with exactly one X25519 identity, as recovered from escrow.
func ParseSealingKey(text string) (*SealingKey, error) {
	ids, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil {
		return nil, errors.New("sealing key: malformed age identity") // age's text repeats the line
	}
	if len(ids) != 1 {
		return nil, fmt.Errorf("sealing key: %d identities; want 1", len(ids))
	}
	id, ok := ids[0].(*age.X25519Identity)
	if !ok {
		return nil, fmt.Errorf("sealing key: identity of type %T; want X25519", ids[0])
	}
	return &SealingKey{id: id}, nil
}

// Recipient returns the public half, "age1…".
func (k *SealingKey) Recipient() *age.X25519Recipient { return k.id.Recipient() }

// Secret returns the private half as text, for escrow. See [ParseSealingKey].
func (k *SealingKey) Secret() string { return k.id.String() }

// ParseRecipient reads "age1…".
func ParseRecipient(s string) (*age.X25519Recipient, error) { return age.ParseX25519Recipient(s) }

// Open returns what was sealed to k. Errors match [ErrSealed].
func (k *SealingKey) Open(sealed []byte) ([]byte, error) {
	return openAge(bytes.NewReader(sealed), k.id)
}

// Seal encrypts plaintext in age's format, so that each of recipients can open it. At least one is needed.
func Seal(plaintext []byte, recipients ...age.Recipient) ([]byte, error) {
	if len(plaintext) > MaxSealedBytes {
		return nil, fmt.Errorf("seal: %d bytes; at most %d are sealed", len(plaintext), MaxSealedBytes)
	}
	var buf bytes.Buffer
	if err := sealAge(&buf, plaintext, recipients...); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func sealAge(dst io.Writer, plaintext []byte, recipients ...age.Recipient) error {
	w, err := age.Encrypt(dst, recipients...)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if _, err := w.Write(plaintext); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

func openAge(src io.Reader, ids ...age.Identity) ([]byte, error) {
	r, err := age.Decrypt(src, ids...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	out, err := io.ReadAll(io.LimitReader(r, MaxSealedBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	if len(out) > MaxSealedBytes {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrSealed, MaxSealedBytes)
	}
	return out, nil
}
