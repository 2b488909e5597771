package repository

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

func (k KeyInfo) who() string { return k.Username + "@" + k.Hostname }

func TestKeysAreAddedRemovedAndReplaced(t *testing.T) {
	r, files := newRepo(t, Options{})
	ctx := t.Context()
	first := r.KeyName()
	second, err := r.AddKey(ctx, "second", KeyOptions{Cost: cheap, Hostname: "h", Username: "u"})
	must(t, err)
	keys, unreadable, err := r.Keys(ctx)
	must(t, err)
	if len(keys) != 2 || len(unreadable) != 0 || !keys[0].Current || keys[1].Current || keys[1].who() != "u@h" {
		t.Errorf("Keys() = %v, %v; want the first in use and u@h", keys, unreadable)
	}
	if err := r.RemoveKey(ctx, first.ID); !errors.Is(err, ErrKeyInUse) {
		t.Errorf("RemoveKey(in use) = %v; want ErrKeyInUse", err)
	}
	if err := r.RemoveKey(ctx, digest.Of(nil)); !errors.Is(err, ErrNoKey) {
		t.Errorf("RemoveKey(unknown) = %v; want ErrNoKey", err)
	}
	other, err := Open(ctx, files, "second", Options{})
	must(t, err)
	third, err := other.ChangePassword(ctx, "third", KeyOptions{Cost: cheap})
	must(t, err)
	if other.KeyName() != third.Name {
		t.Errorf("KeyName() = %v; want the new key", other.KeyName())
	}
	if _, err := Open(ctx, files, "second", Options{}); !errors.Is(err, ErrPassword) {
		t.Errorf("Open(replaced password) = %v; want ErrPassword", err)
	}
	if _, err := files.Stat(second.Name); err == nil {
		t.Error("the replaced key file stays")
	}
	must(t, other.RemoveKey(ctx, first.ID))
	for p, want := range map[string]error{password: ErrPassword, "third": nil} {
		if _, err := Open(ctx, files, p, Options{}); !errors.Is(err, want) {
			t.Errorf("Open(%q) = %v; want %v", p, err, want)
		}
	}
	if _, err := r.AddKey(ctx, "", KeyOptions{Cost: cheap}); !errors.Is(err, ErrPassword) {
		t.Errorf("AddKey(empty) = %v; want ErrPassword", err)
	}
	if _, err := r.AddKey(ctx, "x", KeyOptions{Cost: cheap, Hostname: strings.Repeat("h", maxKeyFileBytes)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("AddKey(endless host) = %v; want ErrTooLarge", err)
	}
}

// removeFails is files whose Remove fails.
type removeFails struct{ *chunkstore.Files }

func (removeFails) Remove(context.Context, chunkstore.Name) error { return errors.New("interrupted") }

func TestAnInterruptedChangeOfPasswordLeavesBoth(t *testing.T) {
	_, files := newRepo(t, Options{})
	r, err := Open(t.Context(), removeFails{files}, password, Options{})
	must(t, err)
	if _, err := r.ChangePassword(t.Context(), "new", KeyOptions{Cost: cheap}); err == nil {
		t.Error("ChangePassword() = nil; want the error of the removal")
	}
	for _, p := range []string{password, "new"} {
		_, err := Open(t.Context(), files, p, Options{})
		must(t, err)
	}
}

func TestMasterKeyOpensWithoutPassword(t *testing.T) {
	r, files := newRepo(t, Options{})
	other, _ := newRepo(t, Options{})
	ctx := t.Context()
	text, err := r.MasterKey().Encode()
	must(t, err)
	key, err := ParseMasterKey(text)
	must(t, err)
	must(t, files.Remove(ctx, r.KeyName()))
	opened, err := OpenWithKey(ctx, files, key, Options{})
	must(t, err)
	if opened.Config().ID != r.Config().ID {
		t.Error("OpenWithKey() opens another repository")
	}
	if _, err := opened.ChangePassword(ctx, "new", KeyOptions{Cost: cheap}); !errors.Is(err, ErrNoKey) {
		t.Errorf("ChangePassword() without a password = %v; want ErrNoKey", err)
	}
	e, err := opened.AddKey(ctx, "new", KeyOptions{Cost: cheap})
	must(t, err)
	if err := opened.RemoveKey(ctx, e.Name.ID); !errors.Is(err, ErrKeyInUse) {
		t.Errorf("RemoveKey(last) = %v; want ErrKeyInUse", err)
	}
	_, err = Open(ctx, files, "new", Options{})
	must(t, err)
	if _, err := OpenWithKey(ctx, files, other.MasterKey(), Options{}); !errors.Is(err, ErrPassword) {
		t.Errorf("OpenWithKey(another's) = %v; want ErrPassword", err)
	}
	for _, junk := range []string{"", "{}", "[]", `{"mac":{"k":"AAAA","r":"AAAA"},"encrypt":"AAAA"}`, strings.Repeat(" ", maxKeyFileBytes+1)} {
		if _, err := ParseMasterKey([]byte(junk)); !errors.Is(err, ErrUnreadable) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("ParseMasterKey(%.20q) = %v; want ErrUnreadable", junk, err)
		}
	}
	secret := string(text[20:40])
	for _, s := range []string{fmt.Sprint(key), fmt.Sprintf("%+v %#v %x", key, key, key)} {
		if strings.Contains(s, secret) || strings.ContainsAny(s, "0123456789") {
			t.Errorf("printed as %q; want no key", s)
		}
	}
}

// plantKeys puts key files before the real one that are what a hostile writer would leave.
func plantKeys(t *testing.T, files *chunkstore.Files) {
	t.Helper()
	plant := func(b []byte) {
		must(t, files.PutBytes(t.Context(), chunkstore.Name{Kind: chunkstore.Key, ID: digest.Of(b)}, b))
	}
	stranger := randomSecret()
	for i := range 40 { // well-formed, of a password nobody has
		_, err := writeKey(t.Context(), files, stranger, fmt.Sprint("stranger", i), KeyOptions{Cost: cheap}, time.Now())
		must(t, err)
	}
	outer, err := deriveSecret(password, make([]byte, saltBytes), cheap)
	must(t, err)
	master, err := stranger.marshal()
	must(t, err)
	sound := keyFile{KDF: "scrypt", N: cheap.N, R: cheap.R, P: cheap.P, Salt: make([]byte, saltBytes), Data: outer.seal(append(make([]byte, ivBytes), master...))}
	for _, change := range []func(k *keyFile){
		func(k *keyFile) {}, // our password, another repository's master key
		func(k *keyFile) { k.Salt = k.Salt[:8] },
		func(k *keyFile) { k.Salt = nil },
		func(k *keyFile) { k.Data = k.Data[:10] },
		func(k *keyFile) { k.Data = nil },
		func(k *keyFile) { k.KDF = "none" },
		func(k *keyFile) { k.N = 1 << 40 },
		func(k *keyFile) { k.N = 3 },
		func(k *keyFile) { k.N = -4 },
		func(k *keyFile) { k.R = 1 << 50 },
		func(k *keyFile) { k.P = 1 << 50 },
		func(k *keyFile) { k.N, k.R, k.P = 1<<62, 1<<62, 1<<62 },
		func(k *keyFile) { k.R = 0 },
		func(k *keyFile) { k.Data = outer.seal(append(make([]byte, ivBytes), "{}"...)) },
		func(k *keyFile) { k.Data = outer.seal(append(make([]byte, ivBytes), `{"mac":{"k":"AA=="}}`...)) },
	} {
		k := sound
		change(&k)
		b, err := json.Marshal(k)
		must(t, err)
		plant(b)
		plant(b[:len(b)/2])
	}
	plant(nil)
	plant([]byte("null"))
	plant(bytes.Repeat([]byte(" "), maxKeyFileBytes+1))
}

func TestPlantedKeysLockNobodyOut(t *testing.T) {
	r, files := newRepo(t, Options{})
	plantKeys(t, files)
	got, err := Open(t.Context(), files, password, Options{})
	must(t, err)
	if got.Config().ID != r.Config().ID {
		t.Error("another repository was opened")
	}
	if _, err := Open(t.Context(), files, "wrong", Options{}); !errors.Is(err, ErrPassword) {
		t.Errorf("Open(wrong) = %v; want ErrPassword", err)
	}
	keys, unreadable, err := got.Keys(t.Context())
	must(t, err)
	if len(keys) != 44 || len(unreadable) < 20 {
		t.Errorf("Keys() = %d keys, %d unreadable; want 44 keys", len(keys), len(unreadable))
	}
	for _, u := range unreadable {
		must(t, got.RemoveKey(t.Context(), u.Name.ID))
	}
}

func TestCostlyKeysComeLast(t *testing.T) {
	r, files := newRepo(t, Options{})
	dear := Scrypt{N: 1 << 17, R: 8, P: 8} // the most that is let through; 20 of them take a minute
	must(t, dear.check())
	k := keyFile{KDF: "scrypt", N: dear.N, R: dear.R, P: dear.P, Salt: make([]byte, saltBytes), Data: make([]byte, 200)}
	for i := range 20 {
		k.Username = fmt.Sprint(i)
		b, err := json.Marshal(k)
		must(t, err)
		must(t, files.PutBytes(t.Context(), chunkstore.Name{Kind: chunkstore.Key, ID: digest.Of(b)}, b))
	}
	began := time.Now()
	_, err := Open(t.Context(), files, password, Options{})
	must(t, err)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Open() took %s", took)
	}
	r.options.KeyID = digest.Digest{}
	keys, err := r.keyFiles(t.Context())
	must(t, err)
	if keys[0].name != r.KeyName() {
		t.Error("a costly key is tried before a cheap one")
	}
	r.options.KeyHint = "zz"
	for _, k := range keys[1:] {
		if k.file.Username == "7" {
			r.options.KeyHint = k.name.ID.Hex()[:8]
		}
	}
	keys, err = r.keyFiles(t.Context())
	must(t, err)
	if keys[0].file.Username != "7" {
		t.Error("the hinted key is not tried first")
	}
}
