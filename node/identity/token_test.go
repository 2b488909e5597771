package identity

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func newToken(t testing.TB) Token {
	t.Helper()
	tok, err := NewToken("zj", "330102", [32]byte{1, 2}, "a.example:7400", "10.0.0.1:7400")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestTokenRoundTrip(t *testing.T) {
	tok := newToken(t)
	got, err := ParseToken(" " + tok.String() + "\n")
	if err != nil || !reflect.DeepEqual(got, tok) {
		t.Fatalf("ParseToken(String()) = %+v, %v; want %+v", got, err, tok)
	}
	if other := newToken(t); other.SecretHash() == tok.SecretHash() {
		t.Error("two tokens have one secret")
	}
}

func TestParseTokenRefuses(t *testing.T) {
	text := newToken(t).String()
	for i := range text {
		c := byte('A')
		if text[i] == 'A' {
			c = 'B'
		}
		if tok, err := ParseToken(text[:i] + string(c) + text[i+1:]); !errors.Is(err, ErrToken) {
			t.Fatalf("character %d changed: %+v, %v; want ErrToken", i, tok, err)
		}
		if _, err := ParseToken(text[:i]); !errors.Is(err, ErrToken) {
			t.Fatalf("cut at %d: %v; want ErrToken", i, err)
		}
	}
	if _, err := ParseToken(tokenPrefix + strings.Repeat("A", maxTokenLen)); !errors.Is(err, ErrToken) {
		t.Errorf("a long token: %v; want ErrToken", err)
	}
	if _, err := NewToken("zj", "330102", [32]byte{}); !errors.Is(err, ErrToken) {
		t.Errorf("NewToken without address = %v; want ErrToken", err)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(newToken(f).String())
	f.Add("dbt1_")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err == nil && tok.String() != strings.TrimSpace(s) {
			t.Errorf("ParseToken(%q).String() = %q", s, tok)
		}
	})
}
