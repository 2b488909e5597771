package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/node/config"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/registrypb"
	"dengbei/replication"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
)

// holdings is what this centre keeps for others, and how replication sees the registry, the peers and the disk.
type holdings struct {
	cfg    config.Config
	ledger *ledger
	keys   *keys
	docs   *documents
	peers  *rpc.Peers
	serial uint64

	changed chan struct{} // a value after the state changed

	mu     sync.Mutex // guards stores, held while a directory is opened
	stores map[string]*backupStore
}

func newHoldings(cfg config.Config, l *ledger, ks *keys, docs *documents, peers *rpc.Peers, serial uint64) *holdings {
	return &holdings{cfg: cfg, ledger: l, keys: ks, docs: docs, peers: peers, serial: serial,
		changed: make(chan struct{}, 1), stores: map[string]*backupStore{}}
}

var (
	_ replication.Ledger = (*holdings)(nil)
	_ replication.Peers  = (*holdings)(nil)
)

// watch turns the state's changes into values for replication, until ctx ends.
func (h *holdings) watch(ctx context.Context) {
	for ctx.Err() == nil {
		wait := h.ledger.state().Changed()
		select {
		case h.changed <- struct{}{}:
		default:
		}
		select {
		case <-ctx.Done():
		case <-wait:
		}
	}
}

// Changed implements [replication.Ledger].
func (h *holdings) Changed() <-chan struct{} { return h.changed }

// assigned lists the repositories that agreements in force give to this centre.
func (h *holdings) assigned() ([]*registrypb.Repository, error) {
	state := h.ledger.state()
	agreements, err := state.Agreements("", h.cfg.Centre)
	if err != nil {
		return nil, err
	}
	now := state.NowMillis()
	var out []*registrypb.Repository
	seen := map[string]bool{}
	for _, a := range agreements {
		if !registry.InForce(a, now) {
			continue
		}
		repos, err := state.Repositories(a.GetOwner())
		if err != nil {
			return nil, err
		}
		for _, r := range repos {
			if (a.GetClass() == "" || a.GetClass() == r.GetClass()) && !seen[r.GetId()] {
				seen[r.GetId()] = true
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// Holdings implements [replication.Ledger].
func (h *holdings) Holdings(context.Context) ([]replication.Holding, error) {
	repos, err := h.assigned()
	if err != nil {
		return nil, err
	}
	state := h.ledger.state()
	var out []replication.Holding
	for _, r := range repos {
		chain, err := state.Manifests(r.GetId(), 0, 0)
		if err != nil {
			return nil, err
		}
		if len(chain) == 0 {
			continue
		}
		holding := replication.Holding{Repository: r.GetId()}
		for _, m := range chain {
			ref, err := manifestRef(m)
			if err != nil {
				return nil, fmt.Errorf("manifest %d of %s: %w", m.GetSequence(), r.GetId(), err)
			}
			holding.Manifests = append(holding.Manifests, ref)
		}
		receipts, err := state.Receipts(r.GetId())
		if err != nil {
			return nil, err
		}
		newest := chain[len(chain)-1].GetSequence()
		for _, x := range receipts {
			switch {
			case x.GetHolder() == h.cfg.Centre && x.GetHolderSerial() == h.serial:
				holding.Receipted = x.GetManifestSequence()
			case x.GetHolder() != h.cfg.Centre && x.GetManifestSequence() == newest:
				holding.Copies++
			}
		}
		out = append(out, holding)
	}
	return out, nil
}

func manifestRef(m *registrypb.Manifest) (replication.ManifestRef, error) {
	ref := replication.ManifestRef{Sequence: m.GetSequence(), Files: m.GetFiles(), SizeBytes: int64(m.GetSizeBytes())}
	var err error
	if ref.Digest, err = digest.FromBytes(digest.SHA256, m.GetDigest()); err != nil {
		return ref, err
	}
	if len(m.GetParent()) > 0 {
		if ref.Parent, err = digest.FromBytes(digest.SHA256, m.GetParent()); err != nil {
			return ref, err
		}
	}
	copy(ref.SetRoot[:], m.GetSetRoot())
	return ref, nil
}

// Sources implements [replication.Ledger].
func (h *holdings) Sources(_ context.Context, repository string, sequence uint64) ([]string, error) {
	state := h.ledger.state()
	r, err := state.Repository(repository)
	if err != nil {
		return nil, err
	}
	var out []string
	add := func(code string, serial uint64) error {
		if code == h.cfg.Centre {
			return nil
		}
		m, err := state.Member(code)
		if errors.Is(err, registry.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if serial == 0 || m.GetSerial() == serial {
			out = append(out, registry.MemberID(m))
		}
		return nil
	}
	if err := add(r.GetOwner(), 0); err != nil {
		return nil, err
	}
	receipts, err := state.Receipts(repository)
	if err != nil {
		return nil, err
	}
	for _, x := range receipts {
		if x.GetManifestSequence() < sequence || x.GetHolder() == r.GetOwner() {
			continue
		}
		if err := add(x.GetHolder(), x.GetHolderSerial()); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Confirm implements [replication.Ledger].
func (h *holdings) Confirm(ctx context.Context, r replication.Receipt) error {
	receipt := &registrypb.Receipt{
		Repository: r.Repository, Manifest: r.Manifest.Bytes(), ManifestSequence: r.Sequence,
		Holder: h.cfg.Centre, HolderSerial: h.serial, SetRoot: r.SetRoot[:], Files: r.Files, SizeBytes: uint64(r.SizeBytes),
		VerifiedAtMillis: r.VerifiedAt.UnixMilli(),
	}
	receipt.Signature = ed25519.Sign(h.keys.Receipt, registry.ReceiptStatement(receipt))
	_, err := h.ledger.ProposeOne(ctx, &registrypb.Command{Kind: &registrypb.Command_PutReceipt{PutReceipt: &registrypb.PutReceipt{Receipt: receipt}}})
	return err
}

// Dial implements [replication.Peers].
func (h *holdings) Dial(_ context.Context, serverID string) (replicationpb.TransferClient, error) {
	conn, err := h.peers.Conn(serverID)
	if err != nil {
		return nil, err
	}
	return replicationpb.NewTransferClient(conn), nil
}

// OpenStore returns where a repository lies on this node: its own or one it holds. A held one is made if it is not
// there yet.
func (h *holdings) OpenStore(_ context.Context, repository string) (replication.Store, error) {
	s, err := h.store(repository, true)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (h *holdings) store(id string, create bool) (*backupStore, error) {
	r, err := h.ledger.state().Repository(id)
	if err != nil {
		return nil, err
	}
	if err := manifest.CheckRepository(id); err != nil {
		return nil, err
	}
	base := heldDir(h.cfg)
	if r.GetOwner() == h.cfg.Centre {
		base = repositoriesDir(h.cfg)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.stores[id]; s != nil {
		return s, nil
	}
	dir := filepath.Join(base, id)
	var files *chunkstore.Files
	if create {
		if err := os.MkdirAll(base, 0o700); err != nil {
			return nil, fmt.Errorf("repository %s: %w", id, err)
		}
		files, err = chunkstore.Create(dir)
		if errors.Is(err, chunkstore.ErrExists) {
			files, err = chunkstore.Open(dir)
		}
	} else {
		files, err = chunkstore.Open(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", id, storeError(err))
	}
	held := r.GetOwner() != h.cfg.Centre
	if err := markRepository(files, chunkstore.Owner{Repository: id, Centre: r.GetOwner(), Held: held}); err != nil {
		return nil, err
	}
	s := &backupStore{files: files, docs: h.docs}
	for _, f := range r.GetFiles() {
		if f.GetName() == "config" {
			s.config = digest.Of(f.GetContent())
		}
	}
	h.stores[id] = s
	return s, nil
}

// Allow decides who may read a repository here: its owner, and centres that hold it under an agreement.
func (h *holdings) Allow(ctx context.Context, repository string) error {
	caller := rpc.CallerOf(ctx)
	code := caller.Subject.Code
	state := h.ledger.state()
	r, err := state.Repository(repository)
	if errors.Is(err, registry.ErrNotFound) {
		return fmt.Errorf("repository %q: %w", repository, replication.ErrRefused)
	}
	if err != nil {
		return err
	}
	if r.GetOwner() == code {
		return nil
	}
	agreements, err := state.Agreements(r.GetOwner(), code)
	if err != nil {
		return err
	}
	for _, a := range agreements {
		if registry.InForce(a, state.NowMillis()) && (a.GetClass() == "" || a.GetClass() == r.GetClass()) {
			return nil
		}
	}
	return fmt.Errorf("centre %s has no agreement for repository %s: %w", code, repository, replication.ErrRefused)
}

// OpenContent opens a file for a peer.
func (h *holdings) OpenContent(ctx context.Context, repository, name string) (replication.Content, int64, error) {
	s, err := h.store(repository, false)
	if err != nil {
		return nil, 0, err
	}
	return s.content(ctx, name)
}

// OpenDocument opens a document for a peer that may read the repository.
func (h *holdings) OpenDocument(_ context.Context, _ string, d digest.Digest) (replication.Content, int64, error) {
	return h.docs.content(d)
}

// sources dials everybody who can be asked for a repository up to a manifest.
func (h *holdings) sources(ctx context.Context, repository string, sequence uint64) ([]replication.Source, error) {
	ids, err := h.Sources(ctx, repository, sequence)
	if err != nil {
		return nil, err
	}
	var out []replication.Source
	for _, id := range ids {
		client, err := h.Dial(ctx, id)
		if err != nil {
			return nil, err
		}
		out = append(out, replication.Source{ServerID: id, Client: client})
	}
	return out, nil
}
