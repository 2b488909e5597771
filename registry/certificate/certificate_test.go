package certificate_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/registry/certificate"
	"dengbei/registry/tlog"

	"filippo.io/torchwood"
	xtlog "golang.org/x/mod/sumdb/tlog"
)

func TestGoldenCertificateHolds(t *testing.T) {
	n := newNetwork(t, 5, 3)
	raw := mustBuild(t, goldenBag(t, n))
	checkGolden(t, "certificate.tlog-proof", raw)
	checkGolden(t, "policy.txt", n.policy(t).Format())

	policyText, err := os.ReadFile(filepath.Join("testdata", "policy.txt"))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := tlog.ParsePolicy(policyText)
	if err != nil {
		t.Fatal(err)
	}
	v, err := certificate.Verify(raw, policy)
	if err != nil {
		t.Fatal(err)
	}
	if v.Number != "330102-2026-000217-4" || v.Authority != "330102" || v.Seq != leafIndex || v.TreeSize != treeSize || v.Origin != netOrigin {
		t.Errorf("Verify = %+v", v)
	}
	if want := time.Date(2026, 9, 21, 13, 46, 40, 125e6, time.UTC); !v.RegisteredAt.Equal(want) {
		t.Errorf("RegisteredAt = %v; want %v", v.RegisteredAt, want)
	}
	if len(v.Cosigned) != 3 || v.Cosigned[1].Witness != "330100-2" || v.Cosigned[1].At.Unix() != signedTime+1 {
		t.Errorf("Cosigned = %+v", v.Cosigned)
	}
	if !v.Decision.Checked || v.Decision.Key != n.authorityKey || len(v.Hidden()) != 0 {
		t.Errorf("Decision = %+v, hidden %v; want checked, nothing hidden", v.Decision, v.Hidden())
	}
	if v.PayloadFiles != 2 || v.PayloadBytes <= 0 {
		t.Errorf("payload = %d bytes in %d files; want 2 files", v.PayloadBytes, v.PayloadFiles)
	}

	// The certificate is a proof that other software checks without knowing what a certificate is.
	c, err := certificate.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	commitment, err := c.Commitment()
	if err != nil {
		t.Fatal(err)
	}
	var plain []string
	for line := range strings.Lines(string(policyText)) {
		if !strings.HasPrefix(line, "authority ") {
			plain = append(plain, line)
		}
	}
	theirs, err := torchwood.ParsePolicy([]byte(strings.Join(plain, "")))
	if err != nil {
		t.Fatal(err)
	}
	if err := torchwood.VerifyProof(theirs, xtlog.RecordHash(tlog.Leaf(c.Kind, commitment)), raw); err != nil {
		t.Errorf("torchwood.VerifyProof = %v", err)
	}
}

func TestEveryChangedByteIsRefused(t *testing.T) {
	n := newNetwork(t, 3, 2)
	raw := mustBuild(t, goldenBag(t, n))
	policy := n.policy(t)
	refused := func(t *testing.T, what string, at int, changed []byte) {
		if _, err := certificate.Verify(changed, policy); !errors.Is(err, certificate.ErrRefused) {
			t.Errorf("byte %d %s: Verify = %v; want ErrRefused", at, what, err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const parts = 8
	for part := range parts {
		random := rand.New(rand.NewPCG(random.Uint64(), 0))
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for at := part; at < len(raw); at += parts {
				for _, change := range []byte{0x01, byte(2 + random.IntN(254))} {
					changed := slices.Clone(raw)
					changed[at] ^= change
					refused(t, "changed", at, changed)
				}
				refused(t, "removed", at, slices.Delete(slices.Clone(raw), at, at+1))
				refused(t, "inserted", at, slices.Insert(slices.Clone(raw), at, "\n =A"[random.IntN(4)]))
				refused(t, "and the rest cut off", at, raw[:at])
			}
		})
	}
	t.Run("appended", func(t *testing.T) {
		for _, b := range []byte("\n =A\x00") {
			refused(t, "appended", len(raw), append(slices.Clone(raw), b))
		}
	})
}

// reextra replaces a part of the JSON inside a certificate.
func reextra(t *testing.T, raw []byte, old, new string) []byte {
	t.Helper()
	p, err := tlog.ParseProof(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(p.Extra, []byte(old)) {
		t.Fatalf("%q is not in %s", old, p.Extra)
	}
	p.Extra = bytes.Replace(p.Extra, []byte(old), []byte(new), 1)
	return tlog.FormatProof(p)
}

func TestVerifyRefusesWhatWasNotRegistered(t *testing.T) {
	n := newNetwork(t, 5, 3)
	in := goldenBag(t, n)
	raw := mustBuild(t, in)
	otherSkey, otherVKey := namedKeys(netOrigin+"/330103/authority", "2026 ")
	c, err := certificate.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	commitment, err := c.Commitment()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := tlog.SignStatement(otherSkey, tlog.CertificateStatement(netOrigin, in.Values[tlog.FieldNumber], leafIndex, commitment))
	if err != nil {
		t.Fatal(err)
	}
	other, err := tlog.SignStatement(n.authority, tlog.CertificateStatement(netOrigin, in.Values[tlog.FieldNumber], leafIndex+1, commitment))
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*certificate.Certificate)) []byte {
		d := *c
		change(&d)
		raw, err := d.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	policyWith := func(change func(*tlog.PolicySpec)) *tlog.Policy {
		s := n.policy(t).Spec()
		change(&s)
		return mustPolicy(t, s)
	}
	wrongLog := newNetwork(t, 5, 3)
	_, wrongLog.logVKey = namedKeys(netOrigin, "wrong ")
	ok := n.policy(t)
	for _, tt := range []struct {
		name   string
		raw    []byte
		policy *tlog.Policy
		want   certificate.Rule // empty = holds
	}{
		{"as issued", raw, ok, ""},
		{"an authority key was added since", raw, policyWith(func(s *tlog.PolicySpec) {
			s.Authorities = append(s.Authorities, tlog.PolicyAuthority{Code: "330103", VKey: otherVKey})
		}), ""},
		{"another log key", raw, wrongLog.policy(t), certificate.RulePolicy},
		{"another cosigner key", raw, policyWith(func(s *tlog.PolicySpec) { s.Witnesses[1].VKey = newCosignerKey(t) }), certificate.RulePolicy},
		{"a larger quorum", raw, policyWith(func(s *tlog.PolicySpec) { s.Groups[0].K = 4 }), certificate.RulePolicy},
		{"a smaller quorum", raw, policyWith(func(s *tlog.PolicySpec) { s.Groups[0].K = 2 }), certificate.RulePolicy},
		{"one cosignature missing", cutLastLine(raw), ok, certificate.RulePolicy},
		{"last cosignature twice", append(slices.Clone(raw), lastLine(raw)...), ok, certificate.RulePolicy},
		{"unknown signature line", append(slices.Clone(raw), "— stranger.example AAAAAAAAAAAA\n"...), ok, certificate.RulePolicy},
		{"authority not in the policy", raw, policyWith(func(s *tlog.PolicySpec) { s.Authorities = s.Authorities[:1] }), certificate.RuleStatement},
		{"authority's key under another code", raw, policyWith(func(s *tlog.PolicySpec) {
			for i := range s.Authorities {
				s.Authorities[i].Code = "330103"
			}
		}), certificate.RuleStatement},
		{"statement signed by another authority", with(func(c *certificate.Certificate) { c.AuthorityKey, c.Signature = otherVKey, foreign }),
			policyWith(func(s *tlog.PolicySpec) {
				s.Authorities = append(s.Authorities, tlog.PolicyAuthority{Code: "330103", VKey: otherVKey})
			}), certificate.RuleStatement},
		{"statement about another position", with(func(c *certificate.Certificate) { c.Signature = other }), ok, certificate.RuleStatement},
		{"another title", with(func(c *certificate.Certificate) { c.Fields[tlog.FieldTitle].Value += "。" }), ok, certificate.RuleInclusion},
		{"another number", with(func(c *certificate.Certificate) { c.Fields[tlog.FieldNumber].Value = "330102-2026-000218-2" }), ok, certificate.RuleInclusion},
		{"another salt", with(func(c *certificate.Certificate) { c.Fields[tlog.FieldClass].Salt[0]++ }), ok, certificate.RuleInclusion},
		{"another position", with(func(c *certificate.Certificate) { c.Index++ }), ok, certificate.RuleInclusion},
		{"position outside the tree", with(func(c *certificate.Certificate) { c.Index = 1 << 62 }), ok, certificate.RuleInclusion},
		{"fields in another order", reextra(t, raw, `"name":"number"`, `"name":"title"`), ok, certificate.RuleForm},
		{"blank in the JSON", reextra(t, raw, `,"kind"`, `, "kind"`), ok, certificate.RuleForm},
		{"key in capitals", reextra(t, raw, `"kind"`, `"KIND"`), ok, certificate.RuleForm},
		{"key twice", reextra(t, raw, `"kind":1`, `"kind":1,"kind":1`), ok, certificate.RuleForm},
		{"unknown key", reextra(t, raw, `"kind":1`, `"kind":1,"note":"x"`), ok, certificate.RuleForm},
		{"escaped letter", reextra(t, raw, `"standard"`, `"\u0073tandard"`), ok, certificate.RuleForm},
		{"another kind", reextra(t, raw, `"kind":1`, `"kind":2`), ok, certificate.RuleForm},
		{"bytes that are not UTF-8", reextra(t, raw, `"standard"`, "\"standard\xff\""), ok, certificate.RuleForm},
		{"bytes after the JSON", reextra(t, raw, `"signature":`, `"signature":"x"}{"signature":`), ok, certificate.RuleForm},
		{"null for a value", reextra(t, raw, `"value":"standard"`, `"value":null`), ok, certificate.RuleForm},
		{"nothing", nil, ok, certificate.RuleForm},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := certificate.Verify(tt.raw, tt.policy)
			var refused *certificate.RefusedError
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("Verify = %v; want nil", err)
			case tt.want != "" && (!errors.As(err, &refused) || refused.Rule != tt.want || !errors.Is(err, certificate.ErrRefused)):
				t.Errorf("Verify = %v; want rule %s", err, tt.want)
			}
		})
	}
}

func newCosignerKey(t *testing.T) string {
	t.Helper()
	n := newNetwork(t, 6, 3)
	return n.cosigners[5].VKey()
}

func lastLine(raw []byte) []byte { return raw[len(cutLastLine(raw)):] }

func cutLastLine(raw []byte) []byte {
	return raw[:bytes.LastIndexByte(raw[:len(raw)-1], '\n')+1]
}

func TestVerifyRefusesAnUnsignedDecision(t *testing.T) {
	n := newNetwork(t, 5, 3)
	values := n.record(t, []byte("a"), []byte("b"), 1, 1)
	values[tlog.FieldReport] = strings.Repeat("0", 64) // another report than the one decided on
	_, err := certificate.Build(n.register(t, values))
	var refused *certificate.RefusedError
	if !errors.As(err, &refused) || refused.Rule != certificate.RuleDecision {
		t.Errorf("Build = %v; want rule %s", err, certificate.RuleDecision)
	}
}

func TestVerifyRefusesARecordOfAnotherLog(t *testing.T) {
	n := newNetwork(t, 5, 3)
	values := n.record(t, []byte("a"), []byte("b"), 1, 1)
	values[tlog.FieldOrigin] = "other.example/1"
	_, err := certificate.Build(n.register(t, values))
	var refused *certificate.RefusedError
	if !errors.As(err, &refused) || refused.Rule != certificate.RuleInclusion {
		t.Errorf("Build = %v; want rule %s", err, certificate.RuleInclusion)
	}
}

func TestIndispensableFieldsCannotBeHidden(t *testing.T) {
	n := newNetwork(t, 5, 3)
	c, err := certificate.Parse(mustBuild(t, goldenBag(t, n)))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range certificate.AlwaysDisclosed() {
		d := *c
		d.Fields[id] = certificate.HiddenField(c.Fields[id].Digest(id))
		if _, err := d.Encode(); !errors.Is(err, tlog.ErrMalformed) {
			t.Errorf("Encode with %s hidden = %v; want ErrMalformed", id, err)
		}
	}
}

func TestBuildCertifiesOnlyWhatHolds(t *testing.T) {
	n := newNetwork(t, 5, 3)
	for _, tt := range []struct {
		name   string
		change func(*certificate.Input)
		want   error
	}{
		{"as registered", func(*certificate.Input) {}, nil},
		{"no policy", func(in *certificate.Input) { in.Policy = nil }, tlog.ErrPolicy},
		{"hidden value that was not registered", func(in *certificate.Input) { in.Values[tlog.FieldTitle] = "x" }, tlog.ErrMalformed},
		{"hidden seed of another record", func(in *certificate.Input) { in.HiddenSeed = in.OpenSeed }, tlog.ErrMalformed},
		{"no open seed", func(in *certificate.Input) { in.OpenSeed = nil }, tlog.ErrMalformed},
		{"open value that was not registered", func(in *certificate.Input) { in.Values[tlog.FieldClass] = "x" }, certificate.ErrRefused},
		{"time without milliseconds", func(in *certificate.Input) { in.Values[tlog.FieldRegisteredAt] = "2026-09-21T21:46:40+08:00" }, tlog.ErrMalformed},
		{"time in another zone", func(in *certificate.Input) { in.Values[tlog.FieldRegisteredAt] = "2026-09-21T13:46:40.125+00:00" }, tlog.ErrMalformed},
		{"line feed in the number", func(in *certificate.Input) { in.Values[tlog.FieldNumber] = "1\n2" }, tlog.ErrMalformed},
		{"number of files with a leading zero", func(in *certificate.Input) { in.Values[tlog.FieldPayload] = "1.01" }, tlog.ErrMalformed},
		{"no statement", func(in *certificate.Input) { in.Signature = "" }, certificate.ErrRefused},
		{"checkpoint without cosignatures", func(in *certificate.Input) {
			in.Checkpoint = cutLastLine(cutLastLine(cutLastLine(in.Checkpoint)))
		}, tlog.ErrQuorum},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := goldenBag(t, n)
			tt.change(&in)
			if _, err := certificate.Build(in); !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Errorf("Build = %v; want %v", err, tt.want)
			}
		})
	}
}

func TestDiscloseKeepsTheProofAndTheSecrets(t *testing.T) {
	n := newNetwork(t, 5, 3)
	in := goldenBag(t, n)
	raw := mustBuild(t, in)
	c, err := certificate.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Disclose(tlog.FieldManifestSHA256, tlog.FieldManifestSM3)
	if err != nil {
		t.Fatal(err)
	}
	less, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "certificate-less.tlog-proof", less)
	v, err := certificate.Verify(less, n.policy(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := v.Value(tlog.FieldTitle); ok || v.PayloadFiles != -1 {
		t.Error("title or payload is shown; want hidden")
	}
	if got, _ := v.Value(tlog.FieldManifestSM3); got != in.Values[tlog.FieldManifestSM3] {
		t.Errorf("manifest_sm3 = %q; want %q", got, in.Values[tlog.FieldManifestSM3])
	}
	want := []tlog.FieldID{tlog.FieldDecision, tlog.FieldSubmission, tlog.FieldReport}
	if v.Decision.Checked || !slices.Equal(v.Decision.Missing, want) {
		t.Errorf("Decision = %+v; want not checked for want of %v", v.Decision, want)
	}
	p, err := tlog.ParseProof(less)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range v.Hidden() {
		salt, err := tlog.Salt(map[bool][]byte{true: in.HiddenSeed, false: in.OpenSeed}[id.Hidden()], id)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(p.Extra, []byte(in.Values[id])) || bytes.Contains(p.Extra, []byte(base64.StdEncoding.EncodeToString(salt[:]))) {
			t.Errorf("value or salt of %s is in the certificate", id)
		}
	}
	if _, err := d.Disclose(tlog.FieldTitle); !errors.Is(err, certificate.ErrHidden) {
		t.Errorf("Disclose of a hidden field = %v; want ErrHidden", err)
	}

	// A centre that does not have the hidden seed makes the same certificate as one that hides everything.
	in.HiddenSeed = nil
	open := mustBuild(t, in)
	hideAll, err := c.Disclose(tlog.FieldSubmission, tlog.FieldReceivedAt, tlog.FieldClass, tlog.FieldDecision)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := hideAll.Encode(); err != nil || !bytes.Equal(got, open) {
		t.Errorf("certificate without the hidden seed differs from one with every hidden field hidden: %v", err)
	}
}

func TestExtraIsJSON(t *testing.T) {
	n := newNetwork(t, 5, 3)
	values := n.record(t, nil, nil, 0, 0)
	values[tlog.FieldTitle] = "a\"\\\b\t\n\f\r\x01\x7f </b>\u2028é"
	raw := mustBuild(t, n.register(t, values))
	p, err := tlog.ParseProof(raw)
	if err != nil {
		t.Fatal(err)
	}
	var x struct {
		Fields []struct{ Name, Value string }
	}
	if err := json.Unmarshal(p.Extra, &x); err != nil {
		t.Fatal(err)
	}
	if got := x.Fields[tlog.FieldTitle].Value; got != values[tlog.FieldTitle] {
		t.Errorf("title = %q; want %q", got, values[tlog.FieldTitle])
	}
}

func FuzzVerify(f *testing.F) {
	n := newNetwork(f, 3, 2)
	raw := mustBuild(f, goldenBag(f, n))
	policy := n.policy(f)
	p, err := tlog.ParseProof(raw)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, []byte(nil))
	f.Add([]byte(nil), p.Extra)
	f.Fuzz(func(t *testing.T, file, extra []byte) {
		if len(extra) > 0 { // fuzz the JSON behind its base64
			q := p
			q.Extra = extra
			file = tlog.FormatProof(q)
		}
		if _, err := certificate.Verify(file, policy); err == nil && !bytes.Equal(file, raw) {
			t.Fatalf("another file holds: %q", file)
		} else if err != nil && !errors.Is(err, certificate.ErrRefused) {
			t.Fatalf("Verify = %v; want ErrRefused", err)
		}
		if c, err := certificate.Parse(file); err == nil {
			if again, err := c.Encode(); err != nil || !bytes.Equal(again, file) {
				t.Fatalf("Encode(Parse(%q)) = %q, %v", file, again, err)
			}
		}
	})
}

// BenchmarkVerify is a certificate of a network of twelve voters: log, seven cosigners, statement and decision.
func BenchmarkVerify(b *testing.B) {
	n := newNetwork(b, 12, 7)
	raw := mustBuild(b, goldenBag(b, n))
	policy := n.policy(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := certificate.Verify(raw, policy); err != nil {
			b.Fatal(err)
		}
	}
}
