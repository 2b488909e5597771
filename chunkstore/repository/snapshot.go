package repository

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// Snapshot names the tree of a root directory and says where it came from. Names and order of fields are the format's.
type Snapshot struct {
	Time           time.Time `json:"time"` // the writer's clock; retention uses the registry's
	Parent         *ID       `json:"parent,omitempty"`
	Tree           ID        `json:"tree"`
	Paths          []string  `json:"paths"`
	Hostname       string    `json:"hostname,omitempty"`
	Username       string    `json:"username,omitempty"`
	UID            uint32    `json:"uid,omitempty"`
	GID            uint32    `json:"gid,omitempty"`
	Excludes       []string  `json:"excludes,omitempty"`
	Tags           []string  `json:"tags,omitempty"`
	Original       *ID       `json:"original,omitempty"`
	ProgramVersion string    `json:"program_version,omitempty"`

	// ID is the name of the snapshot's file.
	ID digest.Digest `json:"-"`
}

// Name returns the name of the snapshot's file.
func (s *Snapshot) Name() chunkstore.Name {
	return chunkstore.Name{Kind: chunkstore.Snapshot, ID: s.ID}
}

// LoadSnapshot reads one snapshot. Other files in snapshots/ do not matter to it.
func (r *Repository) LoadSnapshot(ctx context.Context, id digest.Digest) (*Snapshot, error) {
	name := chunkstore.Name{Kind: chunkstore.Snapshot, ID: id}
	b, err := r.loadUnpacked(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("load snapshot: %w", err)
	}
	sn, err := decodeSnapshot(b)
	if err != nil {
		return nil, fmt.Errorf("load snapshot: %s: %w", name, err)
	}
	sn.ID = id
	return sn, nil
}

func decodeSnapshot(b []byte) (*Snapshot, error) {
	var sn Snapshot
	if err := json.Unmarshal(b, &sn); err != nil {
		return nil, fmt.Errorf("snapshot: %w: %w", err, ErrUnreadable)
	}
	if sn.Tree.IsZero() {
		return nil, fmt.Errorf("snapshot has no tree: %w", ErrUnreadable)
	}
	return &sn, nil
}

// Snapshots reads all snapshots, the oldest first. Files that cannot be read are passed over and returned beside them.
func (r *Repository) Snapshots(ctx context.Context) ([]*Snapshot, []Unreadable, error) {
	var all []*Snapshot
	var unreadable []Unreadable
	for e, err := range r.files.List(ctx, chunkstore.Snapshot) {
		if err != nil {
			return nil, nil, err
		}
		sn, err := r.LoadSnapshot(ctx, e.Name.ID)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			unreadable = append(unreadable, Unreadable{e.Name, err})
			continue
		}
		all = append(all, sn)
	}
	slices.SortFunc(all, func(a, b *Snapshot) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return a.ID.Compare(b.ID)
	})
	return all, unreadable, nil
}

// HasTags reports whether s carries all the tags. An empty tag is had by a snapshot without tags, whatever else is asked.
func (s *Snapshot) HasTags(tags []string) bool {
	for _, tag := range tags {
		if tag == "" && len(s.Tags) == 0 {
			return true
		}
		if !slices.Contains(s.Tags, tag) {
			return false
		}
	}
	return true
}
