package tlog_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"dengbei/registry/tlog"

	"golang.org/x/mod/sumdb/note"
)

func TestParseCheckpointRefusesOtherSpellings(t *testing.T) {
	good := someCheckpoint().String()
	if c, err := tlog.ParseCheckpoint(good); err != nil || c != someCheckpoint() {
		t.Fatalf("ParseCheckpoint(%q) = %+v, %v", good, c, err)
	}
	for _, tt := range []struct{ name, text string }{
		{"empty", ""},
		{"leading zero", strings.Replace(good, "\n7\n", "\n07\n", 1)},
		{"plus sign", strings.Replace(good, "\n7\n", "\n+7\n", 1)},
		{"negative", strings.Replace(good, "\n7\n", "\n-7\n", 1)},
		{"too large", strings.Replace(good, "\n7\n", "\n9223372036854775808\n", 1)},
		{"extension", good + "more\n"},
		{"no last newline", strings.TrimSuffix(good, "\n")},
		{"blank in origin", strings.Replace(good, netOrigin, "a b", 1)},
		{"no origin", strings.Replace(good, netOrigin, "", 1)},
		{"carriage return", strings.ReplaceAll(good, "\n", "\r\n")},
		{"short root", strings.Replace(good, "=\n", "\n", 1)},
	} {
		if c, err := tlog.ParseCheckpoint(tt.text); !errors.Is(err, tlog.ErrMalformed) {
			t.Errorf("%s: ParseCheckpoint = %+v, %v; want ErrMalformed", tt.name, c, err)
		}
	}
}

func TestGeneratedKeysSignAndVerify(t *testing.T) {
	skey, vkey, err := tlog.GenerateLogKey(netOrigin)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tlog.VerifierKey(skey); err != nil || got != vkey {
		t.Errorf("VerifierKey = %s, %v; want %s", got, err, vkey)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := tlog.SignCheckpoint(someCheckpoint(), signer)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(raw, note.VerifierList(v)); err != nil {
		t.Errorf("note.Open = %v", err)
	}
	other := someCheckpoint()
	other.Origin = "other.example"
	if _, err := tlog.SignCheckpoint(other, signer); !errors.Is(err, tlog.ErrMalformed) {
		t.Errorf("SignCheckpoint for another log = %v; want ErrMalformed", err)
	}
	for _, name := range []string{"", "a b", "a+b", "a\nb", "\xff"} {
		if _, _, err := tlog.GenerateAuthorityKey(name); !errors.Is(err, tlog.ErrMalformed) {
			t.Errorf("GenerateAuthorityKey(%q) = %v; want ErrMalformed", name, err)
		}
	}
	for _, bad := range []string{"", vkey, skey + "A", strings.Replace(skey, netOrigin, "x", 1)} {
		if _, err := tlog.VerifierKey(bad); !errors.Is(err, tlog.ErrMalformed) {
			t.Errorf("VerifierKey(%d bytes) = %v; want ErrMalformed", len(bad), err)
		}
	}
}

func TestCosignerSignsCheckpointsOnly(t *testing.T) {
	c := newNetwork(t).cosigners[0]
	if _, err := c.Cosign("dengbei/certificate/v1\na\nb\n0\n00\n", signedTime); !errors.Is(err, tlog.ErrMalformed) {
		t.Errorf("Cosign of a statement = %v; want ErrMalformed", err)
	}
	if _, err := c.Cosign(someCheckpoint().String(), -1); !errors.Is(err, tlog.ErrMalformed) {
		t.Errorf("Cosign before 1970 = %v; want ErrMalformed", err)
	}
}

func TestStatements(t *testing.T) {
	if got, want := string(tlog.CertificateStatement("log", "330102-2026-1", 41, sha256.Sum256(nil))),
		"dengbei/certificate/v1\nlog\n330102-2026-1\n41\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"; got != want {
		t.Errorf("CertificateStatement = %q; want %q", got, want)
	}
	statement := tlog.DecisionStatement("330102", "ab/0", "m256", "m3", "r")
	if got, want := string(statement), "dengbei/decision/v1\n330102\nab/0\nm256\nm3\nr\naccept\n"; got != want {
		t.Errorf("DecisionStatement = %q; want %q", got, want)
	}
	skey, vkey := namedKeys("authority.example/330102", "")
	sig, err := tlog.SignStatement(skey, statement)
	if err != nil {
		t.Fatal(err)
	}
	_, otherKey := namedKeys("authority.example/330103", "")
	for _, tt := range []struct {
		name, vkey, sig string
		statement       []byte
		want            error
	}{
		{"as signed", vkey, sig, statement, nil},
		{"other statement", vkey, sig, append([]byte("x"), statement...), tlog.ErrSignature},
		{"other key", otherKey, sig, statement, tlog.ErrSignature},
		{"line break in base64", vkey, sig[:8] + "\n" + sig[8:], statement, tlog.ErrMalformed},
		{"cut", vkey, sig[:80], statement, tlog.ErrMalformed},
		{"no key", "", sig, statement, tlog.ErrMalformed},
	} {
		if err := tlog.VerifyStatement(tt.vkey, tt.statement, tt.sig); !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
			t.Errorf("%s: VerifyStatement = %v; want %v", tt.name, err, tt.want)
		}
	}
}

func TestParseProofRefusesOtherSpellings(t *testing.T) {
	n := newNetwork(t)
	good := string(tlog.FormatProof(tlog.ProofFile{Extra: []byte("x"), Index: 3, Hashes: []tlog.Hash{{1}, {2}}, Checkpoint: n.signed(t, someCheckpoint())}))
	if _, err := tlog.ParseProof([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, text string }{
		{"empty", ""},
		{"version 2", strings.Replace(good, "@v1", "@v2", 1)},
		{"carriage returns", strings.ReplaceAll(good, "\n", "\r\n")},
		{"leading zero", strings.Replace(good, "index 3", "index 03", 1)},
		{"sign", strings.Replace(good, "index 3", "index +3", 1)},
		{"no index", strings.Replace(good, "index 3\n", "", 1)},
		{"extra after index", strings.Replace(good, "extra eA==\nindex 3\n", "index 3\nextra eA==\n", 1)},
		{"loose bits in extra", strings.Replace(good, "eA==", "eB==", 1)},
		{"CR inside base64", strings.Replace(good, "eA==", "e\rA==", 1)},
		{"short hash", strings.Replace(good, "=\n", "\n", 1)},
		{"no checkpoint", good[:strings.Index(good, "\n\n")+2]},
		{"64 hashes", strings.Replace(good, "index 3\n", "index 3\n"+strings.Repeat("AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", 62), 1)},
		{"one more byte", good + "x"},
	} {
		if p, err := tlog.ParseProof([]byte(tt.text)); !errors.Is(err, tlog.ErrMalformed) {
			t.Errorf("%s: ParseProof = %+v, %v; want ErrMalformed", tt.name, p, err)
		}
	}
}

func FuzzParseProof(f *testing.F) {
	n := newNetwork(f)
	signed := n.signed(f, someCheckpoint())
	f.Add(tlog.FormatProof(tlog.ProofFile{Checkpoint: signed}))
	f.Add(tlog.FormatProof(tlog.ProofFile{Extra: []byte{}, Index: 1, Hashes: make([]tlog.Hash, 2), Checkpoint: signed}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := tlog.ParseProof(raw)
		if err != nil {
			if !errors.Is(err, tlog.ErrMalformed) {
				t.Fatalf("ParseProof = %v; want ErrMalformed", err)
			}
			return
		}
		if got := tlog.FormatProof(p); !bytes.Equal(got, raw) {
			t.Fatalf("FormatProof(ParseProof(%q)) = %q", raw, got)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	n := newNetwork(f)
	_, a := namedKeys("a.example", "authority ")
	f.Add([]byte(n.policyText() + "authority 330102 " + a + "\n"))
	f.Add([]byte("log x\nquorum none\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := tlog.ParsePolicy(text)
		if err != nil {
			if !errors.Is(err, tlog.ErrMalformed) {
				t.Fatalf("ParsePolicy = %v; want ErrMalformed", err)
			}
			return
		}
		again, err := tlog.ParsePolicy(p.Format())
		if err != nil || !bytes.Equal(again.Format(), p.Format()) {
			t.Fatalf("Format of %q does not parse to itself: %v", text, err)
		}
	})
}

// FuzzCheck looks for a second note that satisfies the policy for the same signatures.
func FuzzCheck(f *testing.F) {
	n := newNetwork(f)
	p := mustPolicy(f, n.policyText())
	c := someCheckpoint()
	good := append(n.signed(f, c), strings.Join(n.cosign(f, c, 0, 1, 2), "")...)
	f.Add(good)
	f.Add(append(n.signed(f, c), strings.Join(n.cosign(f, c, 2, 3, 4), "")...))
	f.Add([]byte("a\n0\nAAAA\n\n— a AAAAAAA=\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := p.Check(raw)
		if err == nil && (got != c || len(raw) != len(good)) {
			t.Fatalf("Check(%q) accepts another note", raw)
		}
		if err != nil && !errors.Is(err, tlog.ErrMalformed) && !errors.Is(err, tlog.ErrPolicy) {
			t.Fatalf("Check = %v; want ErrMalformed or ErrPolicy", err)
		}
	})
}
