package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"dengbei/registry"
	"dengbei/registry/tlog"
)

// ErrDiverged is returned when this node's own log and a checkpoint it is asked to sign disagree. One of the two nodes
// is wrong; nothing may be signed before people know which.
var ErrDiverged = errors.New("checkpoint differs from this node's log")

// cosigner recomputes the log's root from this node's own leaves, by code that the tree in the state does not share,
// and signs a checkpoint only if it finds the same. It never signs a smaller checkpoint than before.
type cosigner struct {
	key   *tlog.Cosigner
	path  string
	state func() *registry.State

	mu   sync.Mutex     // guards the rest; held while leaves are hashed and the promise is synced
	tree *compact.Range // over the leaves hashed so far
	last promise
}

// promise is the largest checkpoint this centre has signed. It is synced before the signature leaves the node.
type promise struct {
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

func openCosigner(path string, key *tlog.Cosigner, state func() *registry.State) (*cosigner, error) {
	factory := &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	c := &cosigner{key: key, path: path, state: state, tree: factory.NewEmptyRange(0)}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &c.last)
	}
	if err != nil {
		return nil, fmt.Errorf("last signed checkpoint %s: %w; without it this node could sign a fork: ask the other cosigners", path, err)
	}
	return c, nil
}

// Cosign returns the signature line for a checkpoint that the log's key has signed, after recomputing it.
func (c *cosigner) Cosign(_ context.Context, signed []byte) (string, error) {
	network, err := c.state().Network()
	if err != nil {
		return "", err
	}
	verifier, err := note.NewVerifier(network.GetLogVkey())
	if err != nil {
		return "", fmt.Errorf("log key: %w", err)
	}
	n, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return "", fmt.Errorf("checkpoint is not signed by the log: %w: %w", tlog.ErrMalformed, err)
	}
	cp, err := tlog.ParseCheckpoint(n.Text)
	if err != nil {
		return "", err
	}
	if cp.Origin != network.GetOrigin() {
		return "", fmt.Errorf("checkpoint of log %q, this is %q: %w", cp.Origin, network.GetOrigin(), ErrDiverged)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.promise(cp); err != nil {
		return "", err
	}
	return c.key.Cosign(n.Text, time.Now().Unix())
}

// promise checks cp against the node's own leaves and makes it durable as the largest signed one. c.mu is held.
func (c *cosigner) promise(cp tlog.Checkpoint) error {
	if cp.Size < c.last.Size {
		return fmt.Errorf("checkpoint of size %d after one of size %d was signed: %w", cp.Size, c.last.Size, ErrDiverged)
	}
	// After a restart the root that was promised is recomputed on the way to the new one.
	for _, step := range []promise{c.last, {cp.Size, cp.Root[:]}} {
		if step.Size < c.tree.End() || step.Size == 0 {
			continue
		}
		root, err := c.advance(step.Size)
		if err != nil {
			return err
		}
		if string(root) != string(step.Root) {
			return fmt.Errorf("root at size %d: own leaves give %x, want %x: %w", step.Size, root, step.Root, ErrDiverged)
		}
	}
	if cp.Size == c.last.Size {
		if string(cp.Root[:]) != string(c.last.Root) {
			return fmt.Errorf("second root %x at size %d after %x was signed: %w", cp.Root, cp.Size, c.last.Root, ErrDiverged)
		}
		return nil
	}
	next := promise{cp.Size, cp.Root[:]}
	b, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("remember checkpoint: %w", err)
	}
	if err := writeDurable(c.path, b); err != nil {
		return fmt.Errorf("remember checkpoint before signing: %w", err)
	}
	c.last = next
	return nil
}

// advance hashes the node's leaves up to size and returns the root there.
func (c *cosigner) advance(size uint64) ([]byte, error) {
	state := c.state()
	if have := state.Size(); have < size {
		return nil, fmt.Errorf("log has %d leaves here, the checkpoint %d: %w", have, size, errBehind)
	}
	for c.tree.End() < size {
		leaf, err := state.Leaf(c.tree.End())
		if err != nil {
			return nil, fmt.Errorf("leaf %d: %w", c.tree.End(), err)
		}
		if err := c.tree.Append(rfc6962.DefaultHasher.HashLeaf(leaf), nil); err != nil {
			return nil, fmt.Errorf("leaf %d: %w", c.tree.End(), err)
		}
	}
	root, err := c.tree.GetRootHash(nil)
	if err != nil {
		return nil, fmt.Errorf("root at size %d: %w", size, err)
	}
	return root, nil
}

// errBehind means that this replica has not applied what it should sign: ask again.
var errBehind = errors.New("this node is behind")
