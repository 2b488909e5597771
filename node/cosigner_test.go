package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"dengbei/registry"
	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

const testOrigin = "test/registry/1"

// logOf returns a state whose log has n registrations, and the log's secret key.
func logOf(t *testing.T, n int) (*registry.State, string) {
	t.Helper()
	state, err := registry.Open(t.TempDir(), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := state.Close(); err != nil {
			t.Error(err)
		}
	})
	skey, vkey, err := tlog.GenerateLogKey(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, state, founding(t, vkey))
	apply(t, state, &registrypb.Command{Kind: &registrypb.Command_PutRegistrant{PutRegistrant: &registrypb.PutRegistrant{
		Registrant: &registrypb.Registrant{Id: "330000/unit", Authority: "330000", Name: "unit", PublicKey: make([]byte, 32)},
	}}})
	apply(t, state, &registrypb.Command{Kind: &registrypb.Command_PutRepository{PutRepository: &registrypb.PutRepository{
		Repository: &registrypb.Repository{Id: "330000-standard-1", Owner: "330000", Class: "standard", Epoch: 1, Files: []*registrypb.RepositoryFile{
			{Name: "config", Content: []byte("c")}, {Name: "keys/" + fmt.Sprintf("%064x", 1), Content: []byte("k")},
		}},
	}}})
	grow(t, state, 0, n)
	return state, skey
}

// founding founds a network of the centre 330000 with a log key.
func founding(t *testing.T, vkey string) *registrypb.Command {
	t.Helper()
	_, authority, err := tlog.GenerateAuthorityKey(testOrigin + "/330000/authority")
	if err != nil {
		t.Fatal(err)
	}
	return &registrypb.Command{Kind: &registrypb.Command_FoundNetwork{FoundNetwork: &registrypb.FoundNetwork{
		Name: "test", Origin: testOrigin, LogVkey: vkey, CaCertificate: []byte{1}, Quorum: 1,
		Founder: &registrypb.Member{Code: "330000", Voter: true, PeerAddress: "127.0.0.1:1", AuthorityVkey: authority,
			CosignerVkey: "x", ReceiptKey: make([]byte, ed25519.PublicKeySize), CredentialSha256: make([]byte, 32), SealingRecipient: "age1x"},
	}}}
}

func apply(t *testing.T, state *registry.State, c *registrypb.Command) {
	t.Helper()
	c.AtMillis = 1_790_000_000_000
	b, err := registry.EncodeEntry(c)
	if err != nil {
		t.Fatal(err)
	}
	r := state.Apply([]registry.LogEntry{{Index: state.Applied() + 1, Data: b}})
	if err := r[0][0].Err(); err != nil {
		t.Fatal(err)
	}
}

// grow registers records from+1 to n.
func grow(t *testing.T, state *registry.State, from, n int) {
	t.Helper()
	var parent []byte
	if head, err := state.Head("330000-standard-1"); err == nil {
		parent = head.GetDigest()
	}
	for i := from; i < n; i++ {
		hidden := make([][]byte, len(hiddenFields()))
		for j := range hidden {
			hidden[j] = make([]byte, 32)
		}
		id := make([]byte, 32)
		id[0], id[1] = byte(i+1), byte((i+1)>>8)
		manifest := &registrypb.Manifest{Digest: id, Repository: "330000-standard-1", Parent: parent, Snapshot: fmt.Sprintf("%064x", i),
			SetRoot: make([]byte, 32), Files: 1, SizeBytes: 1, DocumentBytes: 1}
		apply(t, state, &registrypb.Command{Kind: &registrypb.Command_RegisterSubmission{RegisterSubmission: &registrypb.RegisterSubmission{
			Submission: id, Authority: "330000", Registrant: "330000/unit", Class: "standard", ReceivedAtMillis: 1, Manifest: manifest,
			Records: []*registrypb.NewRecord{{OpenSeed: make([]byte, 32), Hidden: hidden, Sealed: []byte{1}, Path: "records/x/0",
				Report: make([]byte, 32), DecisionSignature: "x"}},
		}}})
		parent = id
	}
}

func signedAt(t *testing.T, skey string, size uint64, root [32]byte) []byte {
	t.Helper()
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tlog.SignCheckpoint(tlog.Checkpoint{Origin: testOrigin, Size: size, Root: root}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newTestCosigner(t *testing.T, state *registry.State, path string) *cosigner {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := tlog.NewCosigner(testOrigin+"/330000/x", key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := openCosigner(path, k, func() *registry.State { return state })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func rootAt(t *testing.T, state *registry.State, size uint64) [32]byte {
	t.Helper()
	root, err := state.Root(size)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestCosignerSignsWhatItsOwnLeavesGive(t *testing.T) {
	ctx := context.Background()
	state, skey := logOf(t, 3)
	path := filepath.Join(t.TempDir(), "cosigned.json")
	c := newTestCosigner(t, state, path)
	if _, err := c.Cosign(ctx, signedAt(t, skey, 2, rootAt(t, state, 2))); err != nil {
		t.Fatalf("Cosign(size 2) = %v; want a signature", err)
	}
	forked := rootAt(t, state, 3)
	forked[0] ^= 1
	for _, tt := range []struct {
		name string
		note []byte
		want error
	}{
		{"another root", signedAt(t, skey, 3, forked), ErrDiverged},
		{"another root at the size signed before", signedAt(t, skey, 2, forked), ErrDiverged},
		{"a smaller checkpoint than before", signedAt(t, skey, 1, rootAt(t, state, 1)), ErrDiverged},
		{"a checkpoint beyond this replica", signedAt(t, skey, 9, forked), errBehind},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if line, err := c.Cosign(ctx, tt.note); !errors.Is(err, tt.want) {
				t.Errorf("Cosign = %q, %v; want %v", line, err, tt.want)
			}
		})
	}
	if _, err := c.Cosign(ctx, signedAt(t, skey, 2, rootAt(t, state, 2))); err != nil {
		t.Errorf("Cosign(size 2) again = %v; want the same promise repeated", err)
	}
	if _, err := c.Cosign(ctx, signedAt(t, skey, 3, rootAt(t, state, 3))); err != nil {
		t.Errorf("Cosign(size 3) = %v; want a signature", err)
	}
}

func TestCosignerKeepsItsPromiseOverARestart(t *testing.T) {
	ctx := context.Background()
	state, skey := logOf(t, 3)
	path := filepath.Join(t.TempDir(), "cosigned.json")
	if _, err := newTestCosigner(t, state, path).Cosign(ctx, signedAt(t, skey, 3, rootAt(t, state, 3))); err != nil {
		t.Fatal(err)
	}
	c := newTestCosigner(t, state, path)
	if _, err := c.Cosign(ctx, signedAt(t, skey, 2, rootAt(t, state, 2))); !errors.Is(err, ErrDiverged) {
		t.Errorf("Cosign(size 2) after a restart = %v; want ErrDiverged, 3 was signed", err)
	}
	grow(t, state, 3, 5)
	if _, err := c.Cosign(ctx, signedAt(t, skey, 5, rootAt(t, state, 5))); err != nil {
		t.Errorf("Cosign(size 5) after a restart = %v; want a signature", err)
	}
}

func TestCosignerRefusesANoteOfAnotherLogKey(t *testing.T) {
	state, _ := logOf(t, 1)
	_, other := logOf(t, 1)
	c := newTestCosigner(t, state, filepath.Join(t.TempDir(), "cosigned.json"))
	if _, err := c.Cosign(context.Background(), signedAt(t, other, 1, rootAt(t, state, 1))); !errors.Is(err, tlog.ErrMalformed) {
		t.Errorf("Cosign with another log's key = %v; want ErrMalformed", err)
	}
}
