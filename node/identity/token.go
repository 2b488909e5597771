package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

const (
	tokenPrefix       = "dbt1_"
	tokenSumLen       = 4
	maxTokenAddresses = 16
	maxTokenLen       = 8 << 10
)

// Token lets one node of the centre Code enrol once. It is a secret until used. Its text is "dbt1_" and base64url without padding
// of: Network and each of Code, CAFingerprint (32 bytes), Secret (32 bytes) as they are, Network and every address with one byte
// of length before it, one byte with the number of addresses, and at the end 4 bytes of the SHA-256 of all before, against typing
// errors. The order is Network, Code, CAFingerprint, Secret, number of addresses, addresses.
type Token struct {
	Network       string
	Addresses     []string // host:port of the peer ports to try, 1 to 16
	CAFingerprint [sha256.Size]byte
	Code          string
	Secret        [32]byte
}

// NewToken returns a token with a fresh secret.
func NewToken(network, code string, caFingerprint [sha256.Size]byte, addresses ...string) (Token, error) {
	t := Token{Network: network, Addresses: addresses, CAFingerprint: caFingerprint, Code: code}
	_, _ = rand.Read(t.Secret[:]) // never fails
	if err := t.validate(); err != nil {
		return Token{}, err
	}
	return t, nil
}

func (t Token) validate() error {
	if !validName(t.Network, maxNetworkLen, false) || !validCode(t.Code) {
		return fmt.Errorf("%w: network %q, code %q", ErrToken, t.Network, t.Code)
	}
	if len(t.Addresses) == 0 || len(t.Addresses) > maxTokenAddresses {
		return fmt.Errorf("%w: %d addresses; want 1 to %d", ErrToken, len(t.Addresses), maxTokenAddresses)
	}
	for _, a := range t.Addresses {
		if a == "" || len(a) > 255 {
			return fmt.Errorf("%w: address of %d bytes", ErrToken, len(a))
		}
	}
	return nil
}

// SecretHash returns the SHA-256 of the secret: what the registry keeps, so that reading it enrols nobody.
func (t Token) SecretHash() [sha256.Size]byte { return sha256.Sum256(t.Secret[:]) }

// String returns the token's text.
func (t Token) String() string {
	b := []byte{byte(len(t.Network))}
	b = append(b, t.Network...)
	b = append(b, t.Code...)
	b = append(b, t.CAFingerprint[:]...)
	b = append(b, t.Secret[:]...)
	b = append(b, byte(len(t.Addresses)))
	for _, a := range t.Addresses {
		b = append(b, byte(len(a)))
		b = append(b, a...)
	}
	sum := sha256.Sum256(b)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(append(b, sum[:tokenSumLen]...))
}

// ParseToken reads what [Token.String] wrote, ignoring space around it. Errors match [ErrToken].
func ParseToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	text, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok {
		return Token{}, fmt.Errorf("%w: it does not begin with %q", ErrToken, tokenPrefix)
	}
	if len(s) > maxTokenLen {
		return Token{}, fmt.Errorf("%w: %d characters", ErrToken, len(s))
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < tokenSumLen {
		return Token{}, fmt.Errorf("%w: a character is missing or wrong", ErrToken)
	}
	body, sum := b[:len(b)-tokenSumLen], sha256.Sum256(b[:len(b)-tokenSumLen])
	if !bytes.Equal(b[len(body):], sum[:tokenSumLen]) {
		return Token{}, fmt.Errorf("%w: a character is missing or wrong", ErrToken)
	}
	var t Token
	r := reader{rest: body}
	t.Network = string(r.next(r.byte()))
	t.Code = string(r.next(6))
	copy(t.CAFingerprint[:], r.next(len(t.CAFingerprint)))
	copy(t.Secret[:], r.next(len(t.Secret)))
	for n := r.byte(); n > 0 && !r.short; n-- {
		t.Addresses = append(t.Addresses, string(r.next(r.byte())))
	}
	if r.short || len(r.rest) != 0 {
		return Token{}, fmt.Errorf("%w: its parts have the wrong length", ErrToken)
	}
	if err := t.validate(); err != nil {
		return Token{}, err
	}
	return t, nil
}

// reader cuts bytes; short is set once they did not suffice.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) next(n int) []byte {
	if n > len(r.rest) {
		r.rest, r.short = nil, true
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) byte() int {
	if b := r.next(1); b != nil {
		return int(b[0])
	}
	return 0
}
