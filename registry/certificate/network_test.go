package certificate_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dengbei/registry/certificate"
	"dengbei/registry/tlog"

	"github.com/emmansun/gmsm/sm3"
	"golang.org/x/mod/sumdb/note"
	xtlog "golang.org/x/mod/sumdb/tlog"
)

var update = flag.Bool("update", false, "rewrite golden files")

const (
	netOrigin  = "registry.example/33"
	signedTime = 1_790_000_000
	leafIndex  = 217
	treeSize   = 300
)

// network is everything that signs: a log, cosigners and the authority of 330102. Keys are derived from names, so that
// golden files do not change.
type network struct {
	log          note.Signer
	logVKey      string
	cosigners    []*tlog.Cosigner
	authority    string // secret key
	authorityKey string
	formerKey    string
	quorum       int
}

func namedKeys(name, salt string) (skey, vkey string) {
	seed := sha256.Sum256([]byte(salt + name))
	pub := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	sum := sha256.Sum256(append([]byte(name+"\n\x01"), pub...))
	hash := binary.BigEndian.Uint32(sum[:])
	skey = fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, hash, base64.StdEncoding.EncodeToString(append([]byte{1}, seed[:]...)))
	return skey, fmt.Sprintf("%s+%08x+%s", name, hash, base64.StdEncoding.EncodeToString(append([]byte{1}, pub...)))
}

func newNetwork(t testing.TB, cosigners, quorum int) *network {
	t.Helper()
	skey, vkey := namedKeys(netOrigin, "log ")
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	n := &network{log: signer, logVKey: vkey, quorum: quorum}
	n.authority, n.authorityKey = namedKeys(netOrigin+"/330102/authority", "2026 ")
	_, n.formerKey = namedKeys(netOrigin+"/330102/authority", "2019 ")
	for i := range cosigners {
		name := fmt.Sprintf("%s/33%02d00-%d", netOrigin, i, i+1)
		seed := sha256.Sum256([]byte(name))
		c, err := tlog.NewCosigner(name, ed25519.NewKeyFromSeed(seed[:]))
		if err != nil {
			t.Fatal(err)
		}
		n.cosigners = append(n.cosigners, c)
	}
	return n
}

func (n *network) spec() tlog.PolicySpec {
	s := tlog.PolicySpec{Logs: []tlog.PolicyLog{{VKey: n.logVKey}}, Quorum: "voters",
		Authorities: []tlog.PolicyAuthority{{Code: "330102", VKey: n.formerKey}, {Code: "330102", VKey: n.authorityKey}}}
	g := tlog.PolicyGroup{Name: "voters", K: n.quorum}
	for i, c := range n.cosigners {
		name := fmt.Sprintf("33%02d00-%d", i, i+1)
		s.Witnesses = append(s.Witnesses, tlog.PolicyWitness{Name: name, VKey: c.VKey()})
		g.Members = append(g.Members, name)
	}
	s.Groups = []tlog.PolicyGroup{g}
	return s
}

func (n *network) policy(t testing.TB) *tlog.Policy {
	t.Helper()
	return mustPolicy(t, n.spec())
}

func mustPolicy(t testing.TB, s tlog.PolicySpec) *tlog.Policy {
	t.Helper()
	p, err := tlog.NewPolicy(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// record returns the values of a record whose bag has the given manifests.
func (n *network) record(t testing.TB, manifest256, manifest3 []byte, sizeBytes, files int64) [tlog.RegistrationFieldCount]string {
	t.Helper()
	hex256, hex3 := sha256.Sum256(manifest256), sm3.Sum(manifest3)
	report, metadata := sha256.Sum256([]byte("report")), sha256.Sum256([]byte("metadata"))
	v := [tlog.RegistrationFieldCount]string{
		tlog.FieldOrigin:         netOrigin,
		tlog.FieldNumber:         "330102-2026-000217-4",
		tlog.FieldRegisteredAt:   "2026-09-21T21:46:40.125+08:00",
		tlog.FieldAuthority:      "330102",
		tlog.FieldSubmission:     strings.Repeat("5a", 32) + "/0",
		tlog.FieldReceivedAt:     "2026-09-20T09:00:00.000+08:00",
		tlog.FieldClass:          "standard",
		tlog.FieldRegistrant:     "330102/office 区政府办公室",
		tlog.FieldTitle:          "关于开展数字档案备份工作的通知 <附件>",
		tlog.FieldPayload:        fmt.Sprintf("%d.%d", sizeBytes, files),
		tlog.FieldManifestSHA256: hex.EncodeToString(hex256[:]),
		tlog.FieldManifestSM3:    hex.EncodeToString(hex3[:]),
		tlog.FieldReport:         hex.EncodeToString(report[:]),
		tlog.FieldMetadata:       hex.EncodeToString(metadata[:]),
	}
	n.decide(t, &v)
	return v
}

// decide signs the decision that v states.
func (n *network) decide(t testing.TB, v *[tlog.RegistrationFieldCount]string) {
	t.Helper()
	sig, err := tlog.SignStatement(n.authority, tlog.DecisionStatement(v[tlog.FieldAuthority], v[tlog.FieldSubmission],
		v[tlog.FieldManifestSHA256], v[tlog.FieldManifestSM3], v[tlog.FieldReport]))
	if err != nil {
		t.Fatal(err)
	}
	v[tlog.FieldDecision] = sig
}

// register puts the record into a log and returns what its certificate is built from.
func (n *network) register(t testing.TB, values [tlog.RegistrationFieldCount]string) certificate.Input {
	t.Helper()
	open, hidden := sha256.Sum256([]byte("open seed")), sha256.Sum256([]byte("hidden seed"))
	in := certificate.Input{Policy: n.policy(t), Values: values, OpenSeed: open[:], HiddenSeed: hidden[:], Index: leafIndex, AuthorityKey: n.authorityKey}
	var digests [][32]byte
	for i, v := range values {
		id, seed := tlog.FieldID(i), open[:]
		if id.Hidden() {
			seed = hidden[:]
		}
		salt, err := tlog.Salt(seed, id)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, tlog.FieldDigest(id, salt, []byte(v)))
	}
	copy(in.Hidden[:], digests[tlog.FieldRegistrant:])
	commitment, err := tlog.Commit(digests)
	if err != nil {
		t.Fatal(err)
	}
	in.Signature, err = tlog.SignStatement(n.authority, tlog.CertificateStatement(values[tlog.FieldOrigin], values[tlog.FieldNumber], leafIndex, commitment))
	if err != nil {
		t.Fatal(err)
	}
	n.publish(t, &in, tlog.Leaf(tlog.LeafRegistration, commitment))
	return in
}

// publish builds the log around leaf and fills in proof and countersigned checkpoint.
func (n *network) publish(t testing.TB, in *certificate.Input, leaf []byte) {
	t.Helper()
	var hashes []xtlog.Hash
	read := xtlog.HashReaderFunc(func(at []int64) ([]xtlog.Hash, error) {
		out := make([]xtlog.Hash, len(at))
		for i, x := range at {
			out[i] = hashes[x]
		}
		return out, nil
	})
	for i := range int64(treeSize) {
		l := tlog.Leaf(tlog.LeafRegistration, sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i))))
		if i == leafIndex {
			l = leaf
		}
		more, err := xtlog.StoredHashes(i, l, read)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, more...)
	}
	root, err := xtlog.TreeHash(treeSize, read)
	if err != nil {
		t.Fatal(err)
	}
	if in.Hashes, err = xtlog.ProveRecord(treeSize, leafIndex, read); err != nil {
		t.Fatal(err)
	}
	c := tlog.Checkpoint{Origin: netOrigin, Size: treeSize, Root: root}
	signed, err := tlog.SignCheckpoint(c, n.log)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i, cosigner := range n.cosigners {
		line, err := cosigner.Cosign(c.String(), signedTime+int64(i))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	if in.Checkpoint, _, err = n.policy(t).Assemble(signed, lines); err != nil {
		t.Fatal(err)
	}
}

// goldenBag returns the input for the record whose bag is testdata/bag.
func goldenBag(t testing.TB, n *network) certificate.Input {
	t.Helper()
	if *update {
		writeManifests(t, filepath.Join("testdata", "bag"))
	}
	m256, err := os.ReadFile(filepath.Join("testdata", "bag", "manifest-sha256.txt"))
	if err != nil {
		t.Fatal(err)
	}
	m3, err := os.ReadFile(filepath.Join("testdata", "bag", "manifest-sm3.txt"))
	if err != nil {
		t.Fatal(err)
	}
	size, files := payload(t, filepath.Join("testdata", "bag"))
	return n.register(t, n.record(t, m256, m3, size, files))
}

// writeManifests writes both manifests of a bag from its data folder and returns them.
func writeManifests(t testing.TB, dir string) (manifest256, manifest3 []byte) {
	t.Helper()
	encode := strings.NewReplacer("%", "%25", "\n", "%0A", "\r", "%0D")
	walkData(t, dir, func(path string, content []byte) {
		d256, d3 := sha256.Sum256(content), sm3.Sum(content)
		manifest256 = fmt.Appendf(manifest256, "%x  %s\n", d256, encode.Replace(path))
		manifest3 = fmt.Appendf(manifest3, "%x  %s\n", d3, encode.Replace(path))
	})
	for name, b := range map[string][]byte{"manifest-sha256.txt": manifest256, "manifest-sm3.txt": manifest3} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return manifest256, manifest3
}

func payload(t testing.TB, dir string) (sizeBytes, files int64) {
	t.Helper()
	walkData(t, dir, func(_ string, content []byte) {
		sizeBytes += int64(len(content))
		files++
	})
	return sizeBytes, files
}

func walkData(t testing.TB, dir string, visit func(path string, content []byte)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "data"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		visit(filepath.ToSlash(rel), b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func mustBuild(t testing.TB, in certificate.Input) []byte {
	t.Helper()
	raw, err := certificate.Build(in)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what is made now; a released format is never changed\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
