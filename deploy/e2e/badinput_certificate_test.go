package e2e

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dengbei/registry/tlog"
)

// badCertificates are true ones with one byte changed, and true ones under the wrong keys.
func badCertificates(t *testing.T, b *badNetwork) {
	s := b.handIn(t, folder(t, map[string]string{"正文.txt": "certified"}), "published")
	if len(s.Submission.Numbers) != 1 {
		t.Fatalf("numbers = %q; want one", s.Submission.Numbers)
	}
	dir := t.TempDir()
	certificate, policy := filepath.Join(dir, "certificate"), filepath.Join(dir, "policy")
	b.dengbei(t, "certificate", "get", s.Submission.Numbers[0], "-o", certificate, "--config", b.county.File).want(t, 0)
	b.dengbei(t, "policy", "get", "-o", policy, "--config", b.county.File).want(t, 0)
	verify := func(t *testing.T, args ...string) ran {
		t.Helper()
		return b.execute(t, b.Programs.Verify, nil, append([]string{"--lang", "en"}, args...)...)
	}
	verify(t, certificate, "--policy", policy).want(t, 0, s.Submission.Numbers[0])
	raw, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	write := func(t *testing.T, name string, b []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	t.Run("one byte changed", func(t *testing.T) {
		for i := range raw {
			changed := bytes.Clone(raw)
			changed[i] ^= 1
			write(t, fmt.Sprintf("changed-%05d", i), changed)
		}
		files, err := filepath.Glob(filepath.Join(dir, "changed-*"))
		if err != nil || len(files) != len(raw) {
			t.Fatalf("%d files, %v; want %d", len(files), err, len(raw))
		}
		r := verify(t, append(files, "--json", "--policy", policy)...)
		r.want(t, 1)
		verdicts := 0
		for dec := json.NewDecoder(strings.NewReader(r.stdout)); ; verdicts++ {
			var v struct {
				File, Rule string
				Holds      bool
			}
			if err := dec.Decode(&v); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if v.Holds || v.Rule == "" {
				t.Errorf("%s holds: %t, rule %q; want it refused by a rule", filepath.Base(v.File), v.Holds, v.Rule)
			}
		}
		if verdicts != len(raw) {
			t.Errorf("%d verdicts; want %d", verdicts, len(raw))
		}
		verify(t, files[len(files)/2], "--policy", policy).want(t, 1, files[len(files)/2], "rule")
		b.dengbei(t, "certificate", "verify", files[len(files)/2], "--policy", policy).want(t, 1, "rule")
	})
	t.Run("cut off", func(t *testing.T) {
		verify(t, write(t, "cut", raw[:len(raw)/2]), "--policy", policy).want(t, 1, "rule")
		verify(t, write(t, "nothing", nil), "--policy", policy).want(t, 1, "rule")
	})
	for _, line := range []string{"log", "witness", "authority"} {
		t.Run("policy with another key of a "+line, func(t *testing.T) {
			other := write(t, "policy-"+line, withOtherKeys(t, keys, line))
			verify(t, certificate, "--policy", other).want(t, 1, certificate, "rule")
			b.dengbei(t, "certificate", "verify", certificate, "--policy", other).want(t, 1, "rule")
			// The right file beside it is enough.
			verify(t, certificate, "--policy", other, "--policy", policy).want(t, 0)
		})
	}
	t.Run("policy with a broken key", func(t *testing.T) {
		at := bytes.Index(keys, []byte("\nlog "))
		if bytes.HasPrefix(keys, []byte("log ")) {
			at = 0
		}
		end := at + 1 + bytes.IndexByte(keys[at+1:], '\n')
		broken := bytes.Clone(keys)
		broken[end-2] ^= 1
		verify(t, certificate, "--policy", write(t, "policy-broken", broken)).want(t, 3, "policy-broken")
	})
	t.Run("certificate for a policy", func(t *testing.T) {
		verify(t, certificate, "--policy", certificate).want(t, 3, certificate)
		verify(t, policy, "--policy", policy).want(t, 1, "rule form")
	})
}

// withOtherKeys replaces every key in the lines of a kind by a fresh one of the same name.
func withOtherKeys(t *testing.T, policy []byte, kind string) []byte {
	t.Helper()
	p, err := tlog.ParsePolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	spec := p.Spec()
	name := func(vkey string) string { n, _, _ := strings.Cut(vkey, "+"); return n }
	fresh := func(make func(string) (string, string, error), vkey string) string {
		t.Helper()
		_, other, err := make(name(vkey))
		if err != nil {
			t.Fatal(err)
		}
		return other
	}
	switch kind {
	case "log":
		for i := range spec.Logs {
			spec.Logs[i].VKey = fresh(tlog.GenerateLogKey, spec.Logs[i].VKey)
		}
	case "witness":
		for i := range spec.Witnesses {
			_, key, err := ed25519.GenerateKey(nil)
			if err != nil {
				t.Fatal(err)
			}
			c, err := tlog.NewCosigner(name(spec.Witnesses[i].VKey), key)
			if err != nil {
				t.Fatal(err)
			}
			spec.Witnesses[i].VKey = c.VKey()
		}
	case "authority":
		for i := range spec.Authorities {
			spec.Authorities[i].VKey = fresh(tlog.GenerateAuthorityKey, spec.Authorities[i].VKey)
		}
	}
	other, err := tlog.NewPolicy(spec)
	if err != nil {
		t.Fatal(err)
	}
	return other.Format()
}
