package repository

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"dengbei/chunkstore"
)

// IndexFile is what one index file says: which blobs lie in which packs.
type IndexFile struct {
	Name chunkstore.Name `json:"-"` // set by what reads index files, ignored by what writes them

	Packs []IndexedPack `json:"packs"`

	// PacksToDelete are packs that nothing shall use any more, each since its Time: they are known and not searched. A
	// pack that another index file lists in Packs is in use all the same. Stock restic ignores this field.
	PacksToDelete []IndexedPack `json:"packs_to_delete,omitempty"`
}

// IndexedPack is a pack as an index file lists it.
type IndexedPack struct {
	ID    ID           `json:"id"`
	Blobs []PackedBlob `json:"blobs"`

	// Time says when the pack was marked for deletion. It is zero in [IndexFile.Packs], and stock restic ignores it.
	Time time.Time `json:"time,omitzero"`
}

// check refuses what cannot be, without the blobs.
func (p *IndexedPack) check() error {
	if p.ID.IsZero() {
		return fmt.Errorf("pack without ID: %w", ErrUnreadable)
	}
	if len(p.Blobs) > maxPackedBlobs {
		return fmt.Errorf("pack %s of %d blobs: %w", p.ID, len(p.Blobs), ErrTooLarge)
	}
	return nil
}

// checkIndexed refuses what no pack can hold.
func checkIndexed(b PackedBlob) error {
	if b.ID.IsZero() {
		return fmt.Errorf("blob without ID: %w", ErrUnreadable)
	}
	return b.check()
}

func (f *IndexFile) check() error {
	for _, packs := range [][]IndexedPack{f.Packs, f.PacksToDelete} {
		for _, p := range packs {
			if err := p.check(); err != nil {
				return fmt.Errorf("index: %w", err)
			}
			for _, b := range p.Blobs {
				if err := checkIndexed(b); err != nil {
					return fmt.Errorf("index: pack %s: %w", p.ID, err)
				}
			}
		}
	}
	return nil
}

// LoadIndexFile reads one index file.
func (r *Repository) LoadIndexFile(ctx context.Context, name chunkstore.Name) (*IndexFile, error) {
	b, err := r.loadUnpacked(ctx, name)
	if err != nil {
		return nil, err
	}
	f, err := decodeIndex(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f.Name = name
	return f, nil
}

// SaveIndexFile stores f as an index file, durably. What r itself finds changes only with [Repository.Reload].
func (r *Repository) SaveIndexFile(ctx context.Context, f *IndexFile) (chunkstore.Entry, error) {
	if err := f.check(); err != nil {
		return chunkstore.Entry{}, err
	}
	w := *f
	if w.Packs == nil {
		w.Packs = []IndexedPack{} // "packs":null is not for every reader
	}
	b, err := json.Marshal(w)
	if err != nil {
		return chunkstore.Entry{}, fmt.Errorf("write index: %w", err)
	}
	if len(b) > maxUnpackedBytes {
		return chunkstore.Entry{}, fmt.Errorf("write index: %d bytes: %w", len(b), ErrTooLarge)
	}
	return r.saveUnpacked(ctx, chunkstore.Index, b)
}

// IndexFiles yields the index files one after another, so that all packs with their blobs pass without being held at
// once. A file that cannot be read is yielded with its name alone and the reason, and the next one follows. An error
// with a nil file ends the sequence. The file is the caller's.
func (r *Repository) IndexFiles(ctx context.Context) iter.Seq2[*IndexFile, error] {
	return func(yield func(*IndexFile, error) bool) {
		for e, err := range r.files.List(ctx, chunkstore.Index) {
			if err != nil {
				yield(nil, err)
				return
			}
			f, err := r.LoadIndexFile(ctx, e.Name)
			if ctx.Err() != nil {
				yield(nil, ctx.Err())
				return
			}
			if err != nil {
				f = &IndexFile{Name: e.Name}
			}
			if !yield(f, err) {
				return
			}
		}
	}
}

// Reload brings what is known of the index up to what the index files say now: others may have added some and removed
// some. Packs of sessions of r that no index file names yet stay known. After an error everything is as before.
func (r *Repository) Reload(ctx context.Context) error {
	x := r.index
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.repo == nil {
		x.repo = r
	}
	return x.reload(ctx)
}

// Unreadable lists the key files that were passed over when the repository was opened, and the index files that were
// when the index was read last.
func (r *Repository) Unreadable() []Unreadable {
	r.index.mu.Lock()
	defer r.index.mu.Unlock()
	return slices.Concat(r.unreadable, r.index.unreadable)
}

// unindexed calls found for each pack that is none of the known ones and that is one of this repository, and counts
// them.
func (r *Repository) unindexed(ctx context.Context, known func(ID) bool, found func(chunkstore.Entry, []PackedBlob)) (int, error) {
	n := 0
	for e, err := range r.files.List(ctx, chunkstore.Pack) {
		if err != nil {
			return n, err
		}
		if known(IDOf(e.Name.ID)) {
			continue
		}
		blobs, err := r.PackHeader(ctx, e.Name, e.SizeBytes)
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		if err == nil && len(blobs) > 0 {
			found(e, blobs)
			n++
		}
	}
	return n, nil
}

// Has reports whether the index lists a blob in a pack that is in use.
func (r *Repository) Has(typ BlobType, id ID) bool { return r.index.has(typ, id) }

// Locate returns all the places where a blob lies, none if the index does not list it.
func (r *Repository) Locate(typ BlobType, id ID) []Location { return r.index.lookup(nil, typ, id) }

// Blobs yields every blob that the index lists, once for each place. Nothing may be written meanwhile.
func (r *Repository) Blobs() iter.Seq[Location] { return r.index.all() }

// Indexed reports whether an index file names a pack, be it to be deleted.
func (r *Repository) Indexed(pack chunkstore.Name) bool {
	return r.index.indexed(IDOf(pack.ID))
}

// MarkedSince returns since when a pack is marked for deletion. A pack in use is not marked, whatever an index file says.
func (r *Repository) MarkedSince(pack chunkstore.Name) (time.Time, bool) {
	return r.index.markedSince(IDOf(pack.ID))
}

// MarkedPacks yields the packs that are marked for deletion and since when; the zero time means that nobody knows.
func (r *Repository) MarkedPacks() iter.Seq2[chunkstore.Name, time.Time] {
	return func(yield func(chunkstore.Name, time.Time) bool) {
		for _, m := range r.index.markedPacks() {
			if !yield(packName(m.pack), m.at) {
				return
			}
		}
	}
}

// TableErr returns why the look-up table could not be kept in [Options.CacheDir]. All is in memory then.
func (r *Repository) TableErr() error {
	r.index.mu.Lock()
	defer r.index.mu.Unlock()
	return r.index.tableErr
}
