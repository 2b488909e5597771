package repair

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// PacksOptions says how [Packs] goes about it.
type PacksOptions struct {
	// DryRun has nothing changed.
	DryRun bool

	// Progress, if not nil, is called after each pack.
	Progress func(done, total int)
}

// PacksResult is what [Packs] did, or with DryRun would do.
type PacksResult struct {
	Saved     int // blobs stored anew
	Elsewhere int // blobs that another pack yields as well
	Lost      []LostBlob
	SetAside  []chunkstore.Name // the packs, once everything sound in them was stored elsewhere
}

// LostBlob is a blob that no pack yields.
type LostBlob struct {
	Type repository.BlobType
	ID   repository.ID
	Pack chunkstore.Name // where it should be
	Err  error
}

// Packs stores what can still be read of the given packs in new ones, takes the given ones out of the index and sets them
// aside. Blobs that cannot be read are in no index afterwards: the next backup stores them again if it meets their
// content, and [Snapshots] leaves out what needs them.
func Packs(ctx context.Context, repo *repository.Repository, ids []digest.Digest, o PacksOptions) (*PacksResult, error) {
	s := &salvage{repo: repo.WithoutHealing(), options: o, ids: make(map[repository.ID]bool), saved: make(map[blob]bool)}
	for _, id := range ids {
		s.ids[repository.IDOf(id)] = true
	}
	if err := s.run(ctx); err != nil {
		return nil, fmt.Errorf("repair packs: %w", err)
	}
	return &s.result, repo.Reload(ctx)
}

type blob struct {
	typ repository.BlobType
	id  repository.ID
}

type salvage struct {
	repo    *repository.Repository
	options PacksOptions
	ids     map[repository.ID]bool
	session *repository.Session
	saved   map[blob]bool
	result  PacksResult
}

func (s *salvage) run(ctx context.Context) error {
	listed, err := s.listings(ctx)
	if err != nil {
		return err
	}
	packs, err := listPacks(ctx, s.repo.Files())
	if err != nil {
		return err
	}
	s.session = s.repo.NewSession()
	defer s.session.Close()
	n := 0
	for id := range s.ids {
		p := packs.find(id)
		if p == nil && listed[id] == nil {
			return fmt.Errorf("%s: %w", packName(id), fs.ErrNotExist)
		}
		if err := s.pack(ctx, id, p, listed[id]); err != nil {
			return err
		}
		if n++; s.options.Progress != nil {
			s.options.Progress(n, len(s.ids))
		}
	}
	s.result.Lost = slices.DeleteFunc(s.result.Lost, func(l LostBlob) bool { return s.saved[blob{l.Type, l.ID}] })
	for id := range s.ids {
		if packs.find(id) != nil {
			s.result.SetAside = append(s.result.SetAside, packName(id))
		}
	}
	if s.options.DryRun {
		return nil
	}
	// New packs, then the index that names them, then the index without the old ones, then the old ones go.
	if err := s.session.Flush(ctx); err != nil {
		return err
	}
	if err := s.unlist(ctx); err != nil {
		return err
	}
	for _, name := range s.result.SetAside {
		if err := s.repo.SetAside(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// listings returns what the index says of the packs.
func (s *salvage) listings(ctx context.Context) (map[repository.ID][]repository.PackedBlob, error) {
	listed := make(map[repository.ID][]repository.PackedBlob)
	for f, err := range s.repo.IndexFiles(ctx) {
		if f == nil {
			return nil, err
		}
		for _, packs := range [][]repository.IndexedPack{f.Packs, f.PacksToDelete} {
			for _, p := range packs {
				if s.ids[p.ID] {
					listed[p.ID] = append(listed[p.ID], p.Blobs...)
				}
			}
		}
	}
	return listed, nil
}

// pack saves what can be saved of one pack: what the index or its header says is in it.
func (s *salvage) pack(ctx context.Context, id repository.ID, p *pack, listed []repository.PackedBlob) error {
	all := listed
	if p != nil {
		if header, err := s.repo.PackHeader(ctx, packName(id), p.size); err == nil {
			all = append(slices.Clone(header), listed...)
		}
	}
	tried := make(map[repository.PackedBlob]bool, len(all))
	for _, b := range all {
		if tried[b] {
			continue
		}
		tried[b] = true
		key := blob{b.Type, b.ID}
		if s.saved[key] {
			continue
		}
		env, err := s.read(ctx, id, p, b)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			if !s.options.DryRun {
				if err := s.session.SaveEnvelope(ctx, b, env); err != nil {
					return err
				}
			}
			s.saved[key] = true
			s.result.Saved++
			continue
		}
		elsewhere, eerr := s.elsewhere(ctx, b)
		if eerr != nil {
			return eerr
		}
		if elsewhere {
			s.saved[key] = true
			s.result.Elsewhere++
			continue
		}
		s.result.Lost = append(s.result.Lost, LostBlob{b.Type, b.ID, packName(id), err})
	}
	return nil
}

// read returns the envelope of a blob that decodes, at the second attempt if need be.
func (s *salvage) read(ctx context.Context, id repository.ID, p *pack, b repository.PackedBlob) ([]byte, error) {
	if p == nil {
		return nil, fs.ErrNotExist
	}
	if int64(b.Offset)+int64(b.Length) > p.size {
		return nil, fmt.Errorf("blob %s lies past the end: %w", b.ID, repository.ErrDamaged)
	}
	var err error
	for range 2 {
		env := make([]byte, b.Length)
		if err = s.repo.Files().ReadRange(ctx, packName(id), int64(b.Offset), env); err == nil {
			_, err = s.repo.OpenEnvelope(slices.Clone(env), b)
		}
		if err == nil || ctx.Err() != nil {
			return env, err
		}
	}
	return nil, err
}

// elsewhere reports whether a pack that stays yields the blob.
func (s *salvage) elsewhere(ctx context.Context, b repository.PackedBlob) (bool, error) {
	for _, l := range s.repo.Locate(b.Type, b.ID) {
		if s.ids[repository.IDOf(l.Pack.ID)] {
			continue
		}
		env := make([]byte, l.Blob.Length)
		err := s.repo.Files().ReadRange(ctx, l.Pack, int64(l.Blob.Offset), env)
		if err == nil {
			_, err = s.repo.OpenEnvelope(env, l.Blob)
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err == nil {
			return true, nil
		}
	}
	return false, nil
}

// unlist replaces the index files that name the packs by ones that do not.
func (s *salvage) unlist(ctx context.Context) error {
	named := func(p repository.IndexedPack) bool { return s.ids[p.ID] }
	var old []chunkstore.Name
	for f, err := range s.repo.IndexFiles(ctx) {
		if f == nil {
			return err
		}
		if err != nil || !slices.ContainsFunc(f.Packs, named) && !slices.ContainsFunc(f.PacksToDelete, named) {
			continue
		}
		old = append(old, f.Name)
		f.Packs, f.PacksToDelete = slices.DeleteFunc(f.Packs, named), slices.DeleteFunc(f.PacksToDelete, named)
		if len(f.Packs)+len(f.PacksToDelete) == 0 {
			continue
		}
		if _, err := s.repo.SaveIndexFile(ctx, f); err != nil {
			return err
		}
	}
	var err error
	for _, name := range old {
		err = errors.Join(err, s.repo.Files().Remove(ctx, name))
	}
	return err
}
