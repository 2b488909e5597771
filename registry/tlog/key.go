package tlog

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// Signature types of C2SP signed-note verifier keys.
const (
	algEd25519     = 0x01 // Ed25519 over the note text
	algCosignature = 0x04 // Ed25519 over a timestamped checkpoint, C2SP tlog-cosignature
)

// maxKeyName bounds the name in a key or a signature line, in bytes.
const maxKeyName = 255

// ValidKeyName reports whether name can stand in a signed note and in a checkpoint's first line: 1 to 255 bytes of
// UTF-8 without blanks, control characters or "+".
func ValidKeyName(name string) bool {
	return name != "" && len(name) <= maxKeyName && utf8.ValidString(name) &&
		strings.IndexFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' }) < 0
}

func keyHash(name string, alg byte, key ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', alg})
	h.Write(key)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

func formatVKey(name string, alg byte, key ed25519.PublicKey) string {
	return fmt.Sprintf("%s+%08x+%s", name, keyHash(name, alg, key), base64.StdEncoding.EncodeToString(append([]byte{alg}, key...)))
}

// parseVKey reads a verifier key of one signature type and accepts only the spelling that formatVKey writes.
func parseVKey(vkey string, alg byte) (name string, key ed25519.PublicKey, err error) {
	name, rest, _ := strings.Cut(vkey, "+")
	_, key64, _ := strings.Cut(rest, "+")
	b, err := base64.StdEncoding.DecodeString(key64)
	switch {
	case !ValidKeyName(name):
		return "", nil, fmt.Errorf("verifier key %.80q: name before the first + is missing or not allowed: %w", vkey, ErrMalformed)
	case err != nil || len(b) != 1+ed25519.PublicKeySize:
		return "", nil, fmt.Errorf("verifier key %.80q: want name+hash+base64 of 33 bytes: %w", vkey, ErrMalformed)
	case b[0] != alg:
		return "", nil, fmt.Errorf("verifier key %.80q: signature type 0x%02x, want 0x%02x: %w", vkey, b[0], alg, ErrMalformed)
	}
	key = ed25519.PublicKey(b[1:])
	if formatVKey(name, alg, key) != vkey {
		return "", nil, fmt.Errorf("verifier key %.80q: hash does not fit name and key, was it copied whole?: %w", vkey, ErrMalformed)
	}
	return name, key, nil
}

// GenerateLogKey makes a key pair for the log named origin, in C2SP signed-note form. skey is secret.
func GenerateLogKey(origin string) (skey, vkey string, err error) { return generateKey(origin) }

// GenerateAuthorityKey makes a key pair with which an authority signs its decisions and statements; name is free, by
// custom "<origin>/<code>/authority". skey is secret.
func GenerateAuthorityKey(name string) (skey, vkey string, err error) { return generateKey(name) }

func generateKey(name string) (skey, vkey string, err error) {
	if !ValidKeyName(name) {
		return "", "", fmt.Errorf("key name %.80q: must be UTF-8 without blanks or +: %w", name, ErrMalformed)
	}
	skey, vkey, err = note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", "", fmt.Errorf("generate key %s: %w", name, err)
	}
	return skey, vkey, nil
}

// VerifierKey returns the public half of a secret key made by [GenerateLogKey] or [GenerateAuthorityKey].
func VerifierKey(skey string) (string, error) {
	fields := strings.SplitN(skey, "+", 5) // the last may hold + itself
	if len(fields) != 5 || fields[0] != "PRIVATE" || fields[1] != "KEY" {
		return "", fmt.Errorf("secret key: want PRIVATE+KEY+name+hash+base64: %w", ErrMalformed)
	}
	name := fields[2]
	b, err := base64.StdEncoding.DecodeString(fields[4])
	if err != nil || len(b) != 1+ed25519.SeedSize || b[0] != algEd25519 || !ValidKeyName(name) {
		return "", fmt.Errorf("secret key: not an Ed25519 key: %w", ErrMalformed)
	}
	pub := ed25519.NewKeyFromSeed(b[1:]).Public().(ed25519.PublicKey)
	if h, err := strconv.ParseUint(fields[3], 16, 32); err != nil || uint32(h) != keyHash(name, algEd25519, pub) {
		return "", fmt.Errorf("secret key %s: hash does not fit the key: %w", name, ErrMalformed)
	}
	return formatVKey(name, algEd25519, pub), nil
}
