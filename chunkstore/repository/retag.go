package repository

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// Retagged is a snapshot whose tags were changed: its file, and the one that took its place.
type Retagged struct {
	Old, New digest.Digest
}

// SetTags gives each snapshot in tags, by its ID, those tags and no others, and returns what was changed; a snapshot that
// has them already is left alone. Everything else a snapshot says stays, also what this program does not know. The new
// one names as its original the first that it goes back to.
//
// The new file is durable before the old one is removed, so that a snapshot is there at any point, and after a cut
// perhaps twice. Calling again with the old ID then removes the old one and writes no third.
func (r *Repository) SetTags(ctx context.Context, tags map[digest.Digest][]string) ([]Retagged, error) {
	all, _, err := r.Snapshots(ctx)
	if err != nil {
		return nil, fmt.Errorf("set tags: %w", err)
	}
	var done []Retagged
	for id := range tags {
		if !slices.ContainsFunc(all, func(sn *Snapshot) bool { return sn.ID == id }) {
			return nil, fmt.Errorf("set tags: snapshot %s cannot be read: %w", id.Hex(), ErrUnreadable)
		}
	}
	for _, sn := range all {
		want, ok := tags[sn.ID]
		if !ok || slices.Equal(want, sn.Tags) {
			continue
		}
		original := IDOf(sn.ID)
		if sn.Original != nil {
			original = *sn.Original
		}
		var next digest.Digest
		if i := slices.IndexFunc(all, func(other *Snapshot) bool { return other.isRetagged(sn, original, want) }); i >= 0 {
			next = all[i].ID
		} else if next, err = r.retag(ctx, sn.ID, original, want); err != nil {
			return done, fmt.Errorf("set tags of snapshot %s: %w", sn.ID.Hex(), err)
		}
		if err := r.files.Remove(ctx, sn.Name()); err != nil {
			return done, fmt.Errorf("set tags of snapshot %s: %w", sn.ID.Hex(), err)
		}
		done = append(done, Retagged{sn.ID, next})
	}
	return done, nil
}

// isRetagged reports whether s is what a change of sn's tags, cut off before its end, has left.
func (s *Snapshot) isRetagged(sn *Snapshot, original ID, tags []string) bool {
	return s.ID != sn.ID && s.Original != nil && *s.Original == original && slices.Equal(s.Tags, tags) &&
		s.Tree == sn.Tree && s.Time.Equal(sn.Time) && s.Hostname == sn.Hostname && slices.Equal(s.Paths, sn.Paths)
}

// retag stores a copy of a snapshot with other tags.
func (r *Repository) retag(ctx context.Context, id digest.Digest, original ID, tags []string) (digest.Digest, error) {
	b, err := r.loadUnpacked(ctx, chunkstore.Name{Kind: chunkstore.Snapshot, ID: id})
	if err != nil {
		return digest.Digest{}, err
	}
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal(b, &fields); err != nil {
		return digest.Digest{}, fmt.Errorf("%w: %w", err, ErrUnreadable)
	}
	delete(fields, "tags")
	if len(tags) > 0 {
		if fields["tags"], err = json.Marshal(tags); err != nil {
			return digest.Digest{}, err
		}
	}
	if fields["original"], err = json.Marshal(original); err != nil {
		return digest.Digest{}, err
	}
	if b, err = json.Marshal(fields); err != nil {
		return digest.Digest{}, err
	}
	if _, err := decodeSnapshot(b); err != nil {
		return digest.Digest{}, err
	}
	e, err := r.saveUnpacked(ctx, chunkstore.Snapshot, b)
	return e.Name.ID, err
}
