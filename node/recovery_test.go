package node

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"dengbei/node/config"
	"dengbei/node/identity"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// A repository made after the keys were split cannot be opened any more. It must not take the others with it.
func TestRecoveryGoesOnWithoutAPasswordThatIsInNoEscrow(t *testing.T) {
	const escrowed, late = "330000-standard-1", "330000-permanent-1"
	fsm, err := registry.NewFSM(filepath.Join(t.TempDir(), "state"), registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := fsm.Close(); err != nil {
			t.Error(err)
		}
	}()
	var secret identity.Secret
	secret[0] = 1
	plain, err := json.Marshal(escrowBundle{Format: escrowFormat, Centre: "330000", Passwords: map[string]string{escrowed: "password"}})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := identity.SealBundle(secret, plain)
	if err != nil {
		t.Fatal(err)
	}
	_, vkey, err := tlog.GenerateLogKey(testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	repository := func(class string) *registrypb.Command {
		return &registrypb.Command{Kind: &registrypb.Command_PutRepository{PutRepository: &registrypb.PutRepository{
			Repository: &registrypb.Repository{Id: registry.RepositoryID("330000", class, 1), Owner: "330000", Class: class, Epoch: 1},
		}}}
	}
	commands := []*registrypb.Command{founding(t, vkey), repository("standard"), repository("permanent"), {Kind: &registrypb.Command_PutEscrow{
		PutEscrow: &registrypb.PutEscrow{Code: "330000", Bundle: bundle, Threshold: 2, Shares: 2},
	}}}
	for _, c := range commands {
		c.AtMillis = 1_790_000_000_000
	}
	data, err := registry.EncodeEntry(commands...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range fsm.Apply(&raft.Log{Index: 1, Data: data}).([]registry.Result) {
		if err := r.Err(); err != nil {
			t.Fatal(err)
		}
	}
	cfg := config.Config{DataDir: t.TempDir(), Centre: "330000"}
	l := &ledger{fsm: fsm}
	n := &Node{cfg: cfg, ledger: l, keys: &keys{}, keeper: newKeeper(cfg, l, nil, nil)}
	recovering := func(want bool) {
		t.Helper()
		if got, err := n.keeper.Recovering(); got != want || err != nil {
			t.Errorf("Recovering() = %t, %v; want %t", got, err, want)
		}
	}
	recovering(true)
	for range 2 { // a recovery may be repeated
		r := &recovery{n: n, tell: func(string, uint64, uint64) error { return nil }, noKey: map[string]bool{}}
		if err := r.keys(secret); err != nil {
			t.Fatalf("keys: %v; want it to go on", err)
		}
		if !r.noKey[late] || len(r.noKey) != 1 {
			t.Errorf("without key: %v; want %s alone", r.noKey, late)
		}
	}
	if b, err := os.ReadFile(repositoryPasswordPath(cfg, escrowed)); err != nil || string(b) != "password\n" {
		t.Errorf("password of %s = %q, %v", escrowed, b, err)
	}
	if _, err := os.Stat(repositoryPasswordPath(cfg, late)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s has a password, %v; none would open it", late, err)
	}
	recovering(true) // until the files are back
	if err := os.Remove(n.keeper.recoveringMark(escrowed)); err != nil {
		t.Fatal(err)
	}
	recovering(false)
	if _, err := n.keeper.load(context.Background(), late, "permanent"); !errors.Is(err, rpc.ErrLost) {
		t.Errorf("load of a repository whose key is lost = %v; want ErrLost", err)
	}
	if got, err := n.notEscrowed(); err != nil || len(got) != 0 {
		t.Errorf("notEscrowed() = %q, %v; want none, a split would not help", got, err)
	}
}
