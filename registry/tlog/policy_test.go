package tlog_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"dengbei/registry/tlog"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	xtlog "golang.org/x/mod/sumdb/tlog"
)

const (
	netOrigin  = "registry.example/33"
	signedTime = 1_790_000_000
)

// network is a log with five cosigners and one authority, all keys derived from names.
type network struct {
	logSigner note.Signer
	logVKey   string
	cosigners []*tlog.Cosigner
}

// namedKeys returns the signed-note key pair whose seed is the digest of name and salt.
func namedKeys(name, salt string) (skey, vkey string) {
	seed := sha256.Sum256([]byte(salt + name))
	pub := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	sum := sha256.Sum256(append([]byte(name+"\n\x01"), pub...))
	hash := binary.BigEndian.Uint32(sum[:])
	skey = fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, hash, base64.StdEncoding.EncodeToString(append([]byte{1}, seed[:]...)))
	return skey, fmt.Sprintf("%s+%08x+%s", name, hash, base64.StdEncoding.EncodeToString(append([]byte{1}, pub...)))
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	skey, vkey := namedKeys(netOrigin, "log ")
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{logSigner: signer, logVKey: vkey}
	for i := range 5 {
		name := fmt.Sprintf("%s/33010%d-%d", netOrigin, i, i+1)
		seed := sha256.Sum256([]byte(name))
		c, err := tlog.NewCosigner(name, ed25519.NewKeyFromSeed(seed[:]))
		if err != nil {
			t.Fatal(err)
		}
		n.cosigners = append(n.cosigners, c)
	}
	return n
}

// policyText is three of five cosigners.
func (n *network) policyText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# test network\nlog %s\n\n", n.logVKey)
	for i, c := range n.cosigners {
		fmt.Fprintf(&b, "witness w%d\t%s\n", i, c.VKey())
	}
	b.WriteString("group voters 3 w0 w1 w2 w3 w4\nquorum voters\n")
	return b.String()
}

func (n *network) signed(t testing.TB, c tlog.Checkpoint) []byte {
	t.Helper()
	raw, err := tlog.SignCheckpoint(c, n.logSigner)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (n *network) cosign(t testing.TB, c tlog.Checkpoint, who ...int) []string {
	t.Helper()
	var lines []string
	for _, i := range who {
		line, err := n.cosigners[i].Cosign(c.String(), signedTime+int64(i))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

func mustPolicy(t testing.TB, text string) *tlog.Policy {
	t.Helper()
	p, err := tlog.ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func someCheckpoint() tlog.Checkpoint {
	return tlog.Checkpoint{Origin: netOrigin, Size: 7, Root: sha256.Sum256([]byte("root"))}
}

func TestCheckIsStrict(t *testing.T) {
	n := newNetwork(t)
	c := someCheckpoint()
	signed := string(n.signed(t, c))
	other := c
	other.Size++
	line := func(who ...int) string { return strings.Join(n.cosign(t, c, who...), "") }
	late := func(i int) string {
		l, err := n.cosigners[i].Cosign(c.String(), signedTime+99)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	strangerSeed := sha256.Sum256([]byte("stranger"))
	stranger, err := tlog.NewCosigner("stranger.example", ed25519.NewKeyFromSeed(strangerSeed[:]))
	if err != nil {
		t.Fatal(err)
	}
	unknown, err := stranger.Cosign(c.String(), signedTime)
	if err != nil {
		t.Fatal(err)
	}
	// The log's own key under a checkpoint that names another log.
	elsewhere := c
	elsewhere.Origin = "other.example/1"
	foreign, err := note.Sign(&note.Note{Text: elsewhere.String()}, n.logSigner)
	if err != nil {
		t.Fatal(err)
	}
	foreignLines := strings.Join(n.cosign(t, elsewhere, 0, 1, 2), "")
	badLine := strings.Join(n.cosign(t, other, 2), "")
	for _, tt := range []struct {
		name string
		note string
		want error
	}{
		{"exactly the quorum", signed + line(0, 2, 4), nil},
		{"first three", signed + line(0, 1, 2), nil},
		{"one cosignature short", signed + line(0, 2), tlog.ErrQuorum},
		{"no cosignature", signed, tlog.ErrQuorum},
		{"one more than needed", signed + line(0, 1, 2, 3), tlog.ErrPolicy},
		{"out of the policy's order", signed + line(2, 0, 4), tlog.ErrPolicy},
		{"the same line twice", signed + line(0, 2, 2), tlog.ErrPolicy},
		{"one witness twice at two times", signed + line(0, 2) + late(2), tlog.ErrPolicy},
		{"unknown line after", signed + line(0, 2, 4) + unknown, tlog.ErrPolicy},
		{"unknown line in place of a witness", signed + line(0, 2) + unknown, tlog.ErrPolicy},
		{"log signature missing", c.String() + "\n" + line(0, 2, 4), tlog.ErrPolicy},
		{"log signature twice", signed + strings.SplitAfter(signed, "\n")[4] + line(0, 2, 4), tlog.ErrPolicy},
		{"log signature last", c.String() + "\n" + line(0, 2, 4) + strings.SplitAfter(signed, "\n")[4], tlog.ErrPolicy},
		{"cosignature of another checkpoint", signed + line(0, 1) + badLine, tlog.ErrPolicy},
		{"log signature of another checkpoint", c.String() + "\n" + strings.SplitAfter(string(n.signed(t, other)), "\n")[4] + line(0, 2, 4), tlog.ErrPolicy},
		{"checkpoint of another log under this log's key", string(foreign) + foreignLines, tlog.ErrPolicy},
		{"empty", "", tlog.ErrMalformed},
		{"no signature at all", c.String() + "\n", tlog.ErrMalformed},
		{"extension line", strings.Replace(signed, "\n\n", "\next\n\n", 1) + line(0, 2, 4), tlog.ErrMalformed},
		{"last newline missing", strings.TrimSuffix(signed+line(0, 2, 4), "\n"), tlog.ErrMalformed},
		{"base64 with loose last bits", loosen(signed + line(0, 2, 4)), tlog.ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := mustPolicy(t, n.policyText()).Check([]byte(tt.note))
			if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Fatalf("Check() = %v; want %v", err, tt.want)
			}
			if err == nil && got != c {
				t.Errorf("Check() = %+v; want %+v", got, c)
			}
			if errors.Is(tt.want, tlog.ErrPolicy) && tt.want == tlog.ErrPolicy && errors.Is(err, tlog.ErrQuorum) {
				t.Errorf("Check() = %v; want no ErrQuorum", err)
			}
		})
	}
}

// loosen changes the unused bits of the last base64 character: same signature bytes, another file.
func loosen(note string) string {
	i := strings.LastIndexByte(note, '=') - 1
	for note[i] == '=' {
		i--
	}
	b := []byte(note)
	b[i]++
	return string(b)
}

func TestCheckRefusesOtherLog(t *testing.T) {
	n := newNetwork(t)
	c := someCheckpoint()
	full := append(n.signed(t, c), strings.Join(n.cosign(t, c, 0, 1, 2), "")...)
	_, otherKey := namedKeys(netOrigin, "another ")
	_, otherLog := namedKeys("other.example/1", "log ")
	for _, vkey := range []string{otherKey, otherLog} {
		p := mustPolicy(t, strings.Replace(n.policyText(), n.logVKey, vkey, 1))
		if _, err := p.Check(full); !errors.Is(err, tlog.ErrPolicy) {
			t.Errorf("Check with log key %s = %v; want ErrPolicy", vkey, err)
		}
	}
	// A log that changed its key is one log with two lines.
	both := mustPolicy(t, "log "+otherKey+"\n"+n.policyText())
	if _, err := both.Check(full); err != nil {
		t.Errorf("Check with both log keys = %v; want nil", err)
	}
}

func TestNestedGroupsCountExactly(t *testing.T) {
	n := newNetwork(t)
	text := strings.Replace(n.policyText(), "group voters 3 w0 w1 w2 w3 w4\nquorum voters",
		"group a 2 w0 w1 w2\ngroup b all w3 w4\ngroup both any a b\nquorum both", 1)
	p := mustPolicy(t, text)
	c := someCheckpoint()
	for _, tt := range []struct {
		who  []int
		want error
	}{
		{[]int{0, 1}, nil},
		{[]int{1, 2}, nil},
		{[]int{3, 4}, nil},
		{[]int{0, 3}, tlog.ErrQuorum},
		{[]int{0, 1, 2}, tlog.ErrPolicy},
		{[]int{0, 1, 3}, tlog.ErrPolicy},
		{[]int{0, 1, 3, 4}, tlog.ErrPolicy},
	} {
		raw := append(n.signed(t, c), strings.Join(n.cosign(t, c, tt.who...), "")...)
		if _, err := p.Check(raw); !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
			t.Errorf("Check signed by %v = %v; want %v", tt.who, err, tt.want)
		}
	}
	raw, used, err := p.Assemble(n.signed(t, c), n.cosign(t, c, 4, 3, 2))
	if err != nil || len(used) != 2 || used[0].Witness != "w3" || used[1].Witness != "w4" {
		t.Fatalf("Assemble = %v, %v; want w3 and w4", used, err)
	}
	if _, err := p.Check(raw); err != nil {
		t.Error(err)
	}
}

func TestAssembleTakesTheQuorumAndPassesOverBadLines(t *testing.T) {
	n := newNetwork(t)
	p := mustPolicy(t, n.policyText())
	c := someCheckpoint()
	other := c
	other.Root[0] ^= 1
	lines := append(n.cosign(t, other, 0), "rubbish")
	lines = append(lines, n.cosign(t, c, 4, 3)...)
	if _, _, err := p.Assemble(n.signed(t, c), lines); !errors.Is(err, tlog.ErrQuorum) {
		t.Fatalf("Assemble with two good lines = %v; want ErrQuorum", err)
	}
	lines = append(lines, n.cosign(t, c, 1, 0)...)
	raw, used, err := p.Assemble(n.signed(t, c), lines)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, u := range used {
		names = append(names, u.Witness)
	}
	if got := strings.Join(names, " "); got != "w0 w1 w3" {
		t.Errorf("Assemble used %s; want w0 w1 w3", got)
	}
	open, err := p.Open(raw)
	if err != nil || len(open.Cosignatures) != 3 || open.Cosignatures[2].UnixSeconds != signedTime+3 {
		t.Errorf("Open = %+v, %v; want three cosignatures, the last at %d", open, err, signedTime+3)
	}
	if _, _, err := p.Assemble(n.signed(t, other), lines[2:]); !errors.Is(err, tlog.ErrQuorum) {
		t.Errorf("Assemble of another root = %v; want ErrQuorum", err)
	}
}

func TestQuorumNoneWantsNoCosignature(t *testing.T) {
	n := newNetwork(t)
	p := mustPolicy(t, strings.Replace(n.policyText(), "quorum voters", "quorum none", 1))
	c := someCheckpoint()
	raw, used, err := p.Assemble(n.signed(t, c), n.cosign(t, c, 0))
	if err != nil || len(used) != 0 {
		t.Fatalf("Assemble = %v, %v; want no cosignature", used, err)
	}
	if _, err := p.Check(raw); err != nil {
		t.Error(err)
	}
	if _, err := p.Check(append(raw, n.cosign(t, c, 0)[0]...)); !errors.Is(err, tlog.ErrPolicy) {
		t.Errorf("Check with a cosignature = %v; want ErrPolicy", err)
	}
}

func TestParsePolicyNamesTheFault(t *testing.T) {
	n := newNetwork(t)
	good := n.policyText()
	_, a1 := namedKeys("a1.example", "authority ")
	_, otherLog := namedKeys("other.example/1", "log ")
	w := n.cosigners[0].VKey()
	for _, tt := range []struct {
		name, text, want string // want is a part of the error; empty = accepted
	}{
		{"as written", good, ""},
		{"authorities", good + "authority 330102 " + a1 + "\n", ""},
		{"URL", strings.Replace(good, n.logVKey, n.logVKey+" https://log.example/", 1), ""},
		{"no log", strings.Replace(good, "log ", "# log ", 1), "no log line"},
		{"two logs", good + "log " + otherLog + "\n", "a policy is for one log"},
		{"no quorum", strings.Replace(good, "quorum voters\n", "", 1), "no quorum line"},
		{"two quorums", good + "quorum w0\n", "second quorum"},
		{"quorum undefined", strings.Replace(good, "quorum voters", "quorum all", 1), "not defined above"},
		{"quorum before its group", strings.Replace(good, "group voters 3 w0 w1 w2 w3 w4\nquorum voters\n", "quorum voters\ngroup voters 3 w0 w1 w2 w3 w4\n", 1), "not defined above"},
		{"group before its member", "group g 1 w0\n" + good, "not defined above"},
		{"threshold 0", strings.Replace(good, "voters 3", "voters 0", 1), "want 1 to 5"},
		{"threshold 6", strings.Replace(good, "voters 3", "voters 6", 1), "want 1 to 5"},
		{"threshold 03", strings.Replace(good, "voters 3", "voters 03", 1), "not all, any or a number"},
		{"member twice", strings.Replace(good, "w3 w4\n", "w3 w3\n", 1), "member of voters already"},
		{"witness name twice", strings.Replace(good, "witness w1", "witness w0 "+w+"\nwitness w1", 1), "taken"},
		{"witness named none", strings.Replace(good, "witness w0", "witness none "+w+"\nwitness w0", 1), "reserved"},
		{"witness key twice", good + "witness again " + w + "\n", "same key as witness w0"},
		{"authority key of two codes", good + "authority 330102 " + a1 + "\nauthority 330103 " + a1 + "\n", "same key as authority 330102"},
		{"authority with the log's key", good + "authority 330102 " + n.logVKey + "\n", "same key as log"},
		{"witness with a log key", strings.Replace(good, w, a1, 1), "signature type 0x01"},
		{"log with a cosigner key", strings.Replace(good, n.logVKey, w, 1), "signature type 0x04"},
		{"broken key", strings.Replace(good, w, w[:len(w)-6]+"AAAA"+w[len(w)-2:], 1), "hash does not fit"},
		{"key hash in capitals", strings.Replace(good, n.logVKey, upperHash(n.logVKey), 1), "hash does not fit"},
		{"unknown keyword", good + "trust me\n", "no line of a policy"},
		{"carriage return", strings.ReplaceAll(good, "\n", "\r\n"), "control character"},
		{"cut off", strings.TrimSuffix(good, "\n"), "does not end with a newline"},
		{"empty", "", "no quorum line"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := tlog.ParsePolicy([]byte(tt.text))
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				again, err := tlog.ParsePolicy(p.Format())
				if err != nil || !bytes.Equal(again.Format(), p.Format()) {
					t.Errorf("Format does not parse to itself: %v\n%s", err, p.Format())
				}
				return
			}
			if !errors.Is(err, tlog.ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ParsePolicy = %v; want ErrMalformed with %q", err, tt.want)
			}
		})
	}
}

func upperHash(vkey string) string {
	parts := strings.SplitN(vkey, "+", 3)
	return parts[0] + "+" + strings.ToUpper(parts[1]) + "+" + parts[2]
}

func TestPolicyKeepsEveryAuthorityKey(t *testing.T) {
	n := newNetwork(t)
	_, a1 := namedKeys("a.example/1", "authority ")
	_, a2 := namedKeys("a.example/2", "authority ")
	p := mustPolicy(t, n.policyText()+"authority 330102 "+a1+"\nauthority 330102 "+a2+"\n")
	if got := p.AuthorityKeys("330102"); len(got) != 2 || got[0] != a1 || got[1] != a2 {
		t.Errorf("AuthorityKeys(330102) = %v; want both", got)
	}
	if got := p.AuthorityKeys("330103"); got != nil {
		t.Errorf("AuthorityKeys(330103) = %v; want none", got)
	}
	if got := p.Origin(); got != netOrigin {
		t.Errorf("Origin() = %q; want %q", got, netOrigin)
	}
}

func TestPolicyRefusesAQuorumThatNoNoteHolds(t *testing.T) {
	n := newNetwork(t)
	spec := tlog.PolicySpec{Logs: []tlog.PolicyLog{{VKey: n.logVKey}}, Quorum: "all"}
	g := tlog.PolicyGroup{Name: "all"}
	for i := range 100 {
		seed := sha256.Sum256([]byte{byte(i)})
		c, err := tlog.NewCosigner(fmt.Sprintf("w%d", i), ed25519.NewKeyFromSeed(seed[:]))
		if err != nil {
			t.Fatal(err)
		}
		spec.Witnesses = append(spec.Witnesses, tlog.PolicyWitness{Name: c.Name(), VKey: c.VKey()})
		g.Members = append(g.Members, c.Name())
	}
	g.K = 99
	spec.Groups = []tlog.PolicyGroup{g}
	if _, err := tlog.NewPolicy(spec); err != nil {
		t.Errorf("99 cosignatures: %v", err)
	}
	spec.Groups[0].K = 100
	if _, err := tlog.NewPolicy(spec); !errors.Is(err, tlog.ErrMalformed) {
		t.Errorf("100 cosignatures: %v; want ErrMalformed", err)
	}
}

// TestTorchwoodAgrees lets an independent implementation of the C2SP formats read what this one writes, and the reverse.
func TestTorchwoodAgrees(t *testing.T) {
	n := newNetwork(t)
	var hashes []xtlog.Hash
	read := xtlog.HashReaderFunc(func(at []int64) ([]xtlog.Hash, error) {
		var out []xtlog.Hash
		for _, i := range at {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	const size, at = 11, 6
	var leaf []byte
	for i := range size {
		l := tlog.Leaf(tlog.LeafRegistration, sha256.Sum256([]byte{byte(i)}))
		if i == at {
			leaf = l
		}
		more, err := xtlog.StoredHashes(int64(i), l, read)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, more...)
	}
	root, err := xtlog.TreeHash(size, read)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := xtlog.ProveRecord(size, at, read)
	if err != nil {
		t.Fatal(err)
	}
	c := tlog.Checkpoint{Origin: netOrigin, Size: size, Root: root}
	p := mustPolicy(t, n.policyText())
	raw, _, err := p.Assemble(n.signed(t, c), n.cosign(t, c, 0, 1, 2, 3))
	if err != nil {
		t.Fatal(err)
	}
	file := tlog.ProofFile{Extra: []byte(`{"a":1}`), Index: at, Hashes: proof, Checkpoint: raw}
	encoded := tlog.FormatProof(file)
	theirs, err := torchwood.ParsePolicy(p.Format())
	if err != nil {
		t.Fatal(err)
	}
	if err := torchwood.VerifyProof(theirs, xtlog.RecordHash(leaf), encoded); err != nil {
		t.Errorf("torchwood.VerifyProof = %v", err)
	}
	if extra, err := torchwood.ProofExtraData(encoded); err != nil || string(extra) != `{"a":1}` {
		t.Errorf("torchwood.ProofExtraData = %q, %v", extra, err)
	}
	if want := torchwood.FormatProofWithExtraData(at, file.Extra, proof, raw); !bytes.Equal(encoded, want) {
		t.Errorf("FormatProof =\n%s\nwant\n%s", encoded, want)
	}
	parsed, err := tlog.ParseProof(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if err := parsed.CheckInclusion(c, leaf); err != nil {
		t.Error(err)
	}
	wrong := parsed
	wrong.Index = at + 1
	if err := wrong.CheckInclusion(c, leaf); !errors.Is(err, tlog.ErrPolicy) {
		t.Errorf("CheckInclusion at another position = %v; want ErrPolicy", err)
	}
	wrong.Index = size
	if err := wrong.CheckInclusion(c, leaf); !errors.Is(err, tlog.ErrPolicy) {
		t.Errorf("CheckInclusion outside the tree = %v; want ErrPolicy", err)
	}

	// A cosignature made by torchwood verifies here, with the same key text and the same time.
	seed := sha256.Sum256([]byte(n.cosigners[4].Name()))
	signer, err := torchwood.NewCosignatureSigner(n.cosigners[4].Name(), ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := n.cosigners[4].VKey(), signer.Verifier().String(); got != want {
		t.Errorf("VKey() = %s; want %s", got, want)
	}
	both, err := note.Sign(&note.Note{Text: c.String()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.SplitAfter(string(both), "\n")[4]
	co, err := p.VerifyCosignature(c.String(), line)
	if err != nil || co.Witness != "w4" {
		t.Fatalf("VerifyCosignature of torchwood's line = %+v, %v", co, err)
	}
	v, err := tlog.NewCosignatureVerifier(n.cosigners[4].VKey())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := note.Open(both, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	want, err := torchwood.CosignatureTimestamp(opened.Sigs[0])
	if err != nil || co.UnixSeconds != want {
		t.Errorf("cosignature time = %d, %v; want %d", co.UnixSeconds, err, want)
	}
	if got, err := v.VerifyLine(c.String(), line); err != nil || got != want {
		t.Errorf("VerifyLine = %d, %v; want %d", got, err, want)
	}
	if _, err := v.VerifyLine(someCheckpoint().String(), line); !errors.Is(err, tlog.ErrSignature) {
		t.Errorf("VerifyLine of another checkpoint = %v; want ErrSignature", err)
	}
	if theirs, ours := mustTheirs(t, c.String()), c.String(); theirs != ours {
		t.Errorf("torchwood writes %q; want %q", theirs, ours)
	}
}

func mustTheirs(t *testing.T, text string) string {
	t.Helper()
	c, err := torchwood.ParseCheckpoint(text)
	if err != nil {
		t.Fatal(err)
	}
	return c.String()
}
