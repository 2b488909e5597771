package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"dengbei/chunkstore"
	"dengbei/chunkstore/check"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/registrypb"
)

// backupsService is about repositories: what lies where, and getting it back.
type backupsService struct {
	nodepb.UnimplementedBackupsServer
	n *Node
}

// restorePiece is how much content one message carries.
const restorePiece = 512 << 10

// List shows this centre's own repositories and those it holds for others.
func (s backupsService) List(ctx context.Context, _ *nodepb.ListBackupsRequest) (*nodepb.ListBackupsReply, error) {
	n := s.n
	if err := n.own(ctx); err != nil {
		return nil, err
	}
	state := n.ledger.state()
	own, err := state.Repositories(n.cfg.Centre)
	if err != nil {
		return nil, err
	}
	held, err := n.holdings.assigned()
	if err != nil {
		return nil, err
	}
	reply := &nodepb.ListBackupsReply{}
	for _, r := range append(own, held...) {
		x := &nodepb.Repository{Id: r.GetId(), Class: r.GetClass(), Owner: r.GetOwner(), Held: r.GetOwner() != n.cfg.Centre}
		store, err := n.holdings.store(r.GetId(), false)
		if errors.Is(err, chunkstore.ErrNotRepository) || isNotExist(err) {
			continue // nothing of it is here yet
		}
		if err != nil {
			return nil, err
		}
		x.Path = store.files.Dir()
		if err := s.measure(ctx, store, x); err != nil {
			return nil, err
		}
		if !x.GetHeld() {
			x.PasswordFile = repositoryPasswordPath(n.cfg, r.GetId())
			if head, err := state.Head(r.GetId()); err == nil {
				x.Sequence = head.GetSequence()
			} else if !errors.Is(err, registry.ErrNotFound) {
				return nil, err
			}
		} else if x.Sequence, err = s.receipted(r.GetId()); err != nil {
			return nil, err
		}
		reply.Repositories = append(reply.Repositories, x)
	}
	return reply, nil
}

func (s backupsService) measure(ctx context.Context, store *backupStore, x *nodepb.Repository) error {
	for _, kind := range chunkstore.Kinds() {
		if kind == chunkstore.Lock {
			continue
		}
		for e, err := range store.files.List(ctx, kind) {
			if err != nil {
				return fmt.Errorf("repository %s: %w", x.GetId(), err)
			}
			x.Files++
			x.SizeBytes += uint64(e.SizeBytes)
			if kind == chunkstore.Snapshot {
				x.Snapshots = append(x.Snapshots, e.Name.ID.Hex())
			}
		}
	}
	return nil
}

func (s backupsService) receipted(id string) (uint64, error) {
	receipts, err := s.n.ledger.state().Receipts(id)
	if err != nil {
		return 0, err
	}
	for _, r := range receipts {
		if r.GetHolder() == s.n.cfg.Centre {
			return r.GetManifestSequence(), nil
		}
	}
	return 0, nil
}

// Restore streams the bag of one record of this centre. Nothing is sent that does not hash to its name; what is damaged
// here is healed from the holders on the way and named at the end.
func (s backupsService) Restore(req *nodepb.RestoreRequest, stream nodepb.Backups_RestoreServer) error {
	n := s.n
	if err := n.own(stream.Context()); err != nil {
		return err
	}
	rec, err := recordsService{n: n}.find(stream.Context(), &nodepb.ShowRecordRequest{Number: req.GetNumber()})
	if err != nil {
		return err
	}
	if rec.GetAuthority() != n.cfg.Centre {
		return fmt.Errorf("record %s lies at centre %s, restore it there: %w", rec.GetNumber(), rec.GetAuthority(), rpc.ErrElsewhere)
	}
	ctx, list := collectHealed(stream.Context())
	end := &nodepb.RestoreEnd{}
	if err := s.sendBag(ctx, rec, stream, end); err != nil {
		return err
	}
	for _, h := range list.all() {
		end.Healed = append(end.Healed, &nodepb.Healed{File: h.Repository + "/" + h.File, Source: h.Source})
	}
	return stream.Send(&nodepb.RestoreReply{Part: &nodepb.RestoreReply_End{End: end}})
}

func (s backupsService) sendBag(ctx context.Context, rec *registrypb.Record, stream nodepb.Backups_RestoreServer, end *nodepb.RestoreEnd) error {
	own, err := s.n.keeper.Registered(ctx, rec.GetRepository())
	if err != nil {
		return err
	}
	snapshot, err := digest.Parse(rec.GetSnapshot())
	if err != nil {
		return fmt.Errorf("record %s: snapshot: %w", rec.GetNumber(), err)
	}
	bag := "/" + rec.GetContent().GetPath()
	root, err := restore.Find(ctx, own.repo, snapshot, bag)
	if err != nil {
		return fmt.Errorf("record %s: %w: %w", rec.GetNumber(), rpc.ErrLost, err)
	}
	if root.Subtree == nil {
		return fmt.Errorf("record %s: %s is no directory: %w", rec.GetNumber(), bag, rpc.ErrLost)
	}
	return restore.Walk(ctx, own.repo, *root.Subtree, func(path string, node *repository.Node, err error) error {
		if err != nil {
			return fmt.Errorf("%s of record %s: %w: %w", path, rec.GetNumber(), rpc.ErrLost, err)
		}
		if node.Type != repository.TypeFile {
			return nil
		}
		size, err := s.sendFile(ctx, own, path, node, stream)
		if err != nil {
			return fmt.Errorf("%s of record %s: %w", path, rec.GetNumber(), err)
		}
		end.Files++
		end.SizeBytes += uint64(size)
		return nil
	})
}

func (s backupsService) sendFile(ctx context.Context, own *ownRepository, path string, node *repository.Node, stream nodepb.Backups_RestoreServer) (int64, error) {
	err := stream.Send(&nodepb.RestoreReply{Part: &nodepb.RestoreReply_File{File: &nodepb.RestoredFile{
		Path: strings.TrimPrefix(path, "/"), SizeBytes: node.SizeBytes, Mode: uint32(node.Mode.Perm()), ModifiedAtMillis: node.ModTime.UnixMilli(),
	}}})
	if err != nil {
		return 0, err
	}
	return copyContent(ctx, own.repo, node, func(b []byte) error {
		for piece := range slices.Chunk(b, restorePiece) {
			if err := stream.Send(&nodepb.RestoreReply{Part: &nodepb.RestoreReply_Data{Data: piece}}); err != nil {
				return err
			}
		}
		return nil
	})
}

// copyContent gives write the content of a file blob by blob, each held to its hash, and returns how much there was. The
// bytes are write's until it returns.
func copyContent(ctx context.Context, repo *repository.Repository, node *repository.Node, write func([]byte) error) (int64, error) {
	var total int64
	var buf []byte
	for _, id := range node.Content {
		b, err := repo.LoadBlob(ctx, repository.DataBlob, id, buf[:0])
		if err != nil {
			return total, fmt.Errorf("%w: %w", rpc.ErrLost, err)
		}
		total += int64(len(b))
		if err := write(b); err != nil {
			return total, err
		}
		buf = b
	}
	if total != int64(node.SizeBytes) {
		return total, fmt.Errorf("content of %d bytes, the snapshot says %d: %w", total, node.SizeBytes, rpc.ErrLost)
	}
	return total, nil
}

// Escrow registers this centre's keys, encrypted under the caller's secret.
func (s backupsService) Escrow(ctx context.Context, req *nodepb.EscrowRequest) (*nodepb.EscrowReply, error) {
	secret, err := secretOf(req.GetSecret())
	if err != nil {
		return nil, err
	}
	if req.GetThreshold() < 2 || req.GetShares() < req.GetThreshold() {
		return nil, fmt.Errorf("%d of %d shares: want at least 2, and no more than there are: %w", req.GetThreshold(), req.GetShares(), rpc.ErrInvalid)
	}
	if err := s.n.own(ctx); err != nil {
		return nil, err
	}
	if err := s.n.Escrow(ctx, secret, req.GetThreshold(), req.GetShares()); err != nil {
		return nil, err
	}
	return &nodepb.EscrowReply{Network: s.n.network.GetNetwork(), Code: s.n.cfg.Centre}, nil
}

func secretOf(b []byte) (identity.Secret, error) {
	var secret identity.Secret
	if len(b) != len(secret) {
		return secret, fmt.Errorf("secret of %d bytes, want %d: %w", len(b), len(secret), rpc.ErrInvalid)
	}
	copy(secret[:], b)
	return secret, nil
}

// Recover rebuilds this centre.
func (s backupsService) Recover(req *nodepb.RecoverRequest, stream nodepb.Backups_RecoverServer) error {
	secret, err := secretOf(req.GetSecret())
	if err != nil {
		return err
	}
	if err := s.n.own(stream.Context()); err != nil {
		return err
	}
	report, err := s.n.Recover(stream.Context(), secret, func(phase string, done, total uint64) error {
		return stream.Send(&nodepb.RecoverReply{Phase: phase, Done: done, Total: total})
	})
	if err != nil {
		return err
	}
	return stream.Send(&nodepb.RecoverReply{Phase: "done", Report: report})
}

// Check reads this centre's own repositories with their keys, and every byte of what it holds for others.
func (s backupsService) Check(req *nodepb.CheckRequest, stream nodepb.Backups_CheckServer) error {
	n := s.n
	ctx := stream.Context()
	if err := n.own(ctx); err != nil {
		return err
	}
	own, err := n.ledger.state().Repositories(n.cfg.Centre)
	if err != nil {
		return err
	}
	for _, r := range own {
		if lost, err := n.keeper.keyLost(r.GetId()); err != nil {
			return err
		} else if lost {
			err := stream.Send(&nodepb.CheckReply{Repository: r.GetId(), Finding: "its password was lost with the centre and is in no escrow: nobody can open it"})
			if err != nil {
				return err
			}
			continue
		}
		repo, err := n.keeper.Registered(ctx, r.GetId())
		if err != nil {
			return err
		}
		findings, err := check.Check(ctx, repo.repo.WithoutHealing(), check.Options{ReadData: req.GetReadData()})
		if err != nil {
			return fmt.Errorf("check %s: %w", r.GetId(), err)
		}
		found := map[string]bool{}
		for _, f := range findings {
			found[f.Name.String()] = true
			if err := stream.Send(&nodepb.CheckReply{Repository: r.GetId(), Finding: f.String()}); err != nil {
				return err
			}
		}
		store, err := n.holdings.store(r.GetId(), false)
		if err != nil {
			return err
		}
		head, err := n.ledger.state().Head(r.GetId())
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return err
		}
		if err := s.compare(ctx, r.GetId(), head.GetSequence(), store, found, stream); err != nil {
			return err
		}
		if err := stream.Send(&nodepb.CheckReply{Repository: r.GetId(), Done: 1, Total: 1}); err != nil {
			return err
		}
	}
	held, err := n.holdings.assigned()
	if err != nil {
		return err
	}
	for _, r := range held {
		if err := s.checkHeld(ctx, r.GetId(), req.GetReadData(), stream); err != nil {
			return err
		}
	}
	return nil
}

func (s backupsService) checkHeld(ctx context.Context, id string, readData bool, stream nodepb.Backups_CheckServer) error {
	receipted, err := s.receipted(id)
	if err != nil {
		return err
	}
	store, err := s.n.holdings.store(id, false)
	if errors.Is(err, chunkstore.ErrNotRepository) || errors.Is(err, fs.ErrNotExist) {
		if receipted == 0 {
			return nil
		}
		return stream.Send(&nodepb.CheckReply{Repository: id, Finding: fmt.Sprintf("the copy that this centre gave its receipt for is gone: %v", err)})
	}
	if err != nil {
		return err
	}
	var done uint64
	found := map[string]bool{}
	for _, kind := range chunkstore.Kinds() {
		for e, err := range store.files.List(ctx, kind) {
			if err != nil {
				return fmt.Errorf("check %s: %w", id, err)
			}
			done++
			if !readData {
				continue
			}
			if err := store.files.Verify(ctx, e.Name); err != nil {
				found[e.Name.String()] = true
				if err := stream.Send(&nodepb.CheckReply{Repository: id, Finding: fmt.Sprintf("%s: %v", e.Name, err), Done: done}); err != nil {
					return err
				}
			}
		}
	}
	if err := s.compare(ctx, id, receipted, store, found, stream); err != nil {
		return err
	}
	return stream.Send(&nodepb.CheckReply{Repository: id, Done: done, Total: done})
}

// compare names the files of a registered set that are missing here or have another length: what is gone is in no
// listing of the disk. Files that were found damaged already are passed over.
func (s backupsService) compare(ctx context.Context, id string, sequence uint64, store *backupStore, found map[string]bool, stream nodepb.Backups_CheckServer) error {
	set, err := s.n.keeper.setAt(id, sequence)
	if err != nil {
		return fmt.Errorf("check %s: %w", id, err)
	}
	for f := range set.Files() {
		if found[f.Name] {
			continue
		}
		size, ok, err := store.Has(ctx, f.Name)
		if err != nil {
			return fmt.Errorf("check %s: %w", id, err)
		}
		finding := ""
		switch {
		case !ok:
			finding = f.Name + ": missing or damaged, and registered in the manifest"
		case size != f.SizeBytes:
			finding = fmt.Sprintf("%s: %d bytes, registered are %d", f.Name, size, f.SizeBytes)
		default:
			continue
		}
		if err := stream.Send(&nodepb.CheckReply{Repository: id, Finding: finding}); err != nil {
			return err
		}
	}
	return nil
}
