package browse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/pattern"
	"dengbei/chunkstore/repository"
)

// Search looks for files by name and time. It may serve several snapshots in a row, one at a time, and does not read
// again what it knows to hold nothing.
type Search struct {
	Repo     *repository.Repository
	Patterns *pattern.Set

	// Oldest and Newest bound the modification time, both included; zero means no bound.
	Oldest, Newest time.Time

	barren map[[sha256.Size]byte]struct{} // directories, by place and tree, where nothing matches
}

// Run calls visit for each match in sn, as [Walk] does. Damage is as there.
func (s *Search) Run(ctx context.Context, sn *repository.Snapshot, visit func(Entry) error, damage func(string, error) error) error {
	if s.barren == nil {
		s.barren = make(map[[sha256.Size]byte]struct{})
	}
	hits := 0
	var since []int // hits when the directory of that depth was entered
	w := Walk{Repo: s.Repo, Damage: damage,
		Visit: func(e Entry) error {
			matched, below := s.Patterns.MatchBelow(e.Path)
			if matched && s.inTime(e.Node) {
				hits++
				if err := visit(e); err != nil {
					return err
				}
			}
			if e.Node.Type != repository.TypeDir || e.Node.Subtree == nil {
				return nil
			}
			if _, ok := s.barren[place(e)]; ok || !below {
				return ErrSkipDir
			}
			since = append(since[:strings.Count(e.Path, "/")-1], hits)
			return nil
		},
		Leave: func(e Entry) error {
			if since[strings.Count(e.Path, "/")-1] == hits {
				s.barren[place(e)] = struct{}{}
			}
			return nil
		},
	}
	return w.Run(ctx, sn.Tree)
}

// place names a directory by its path and what it holds: patterns look at paths.
func place(e Entry) [sha256.Size]byte {
	return sha256.Sum256(append(e.Node.Subtree[:], e.Path...))
}

func (s *Search) inTime(n *repository.Node) bool {
	return (s.Oldest.IsZero() || !n.ModTime.Before(s.Oldest)) && (s.Newest.IsZero() || !n.ModTime.After(s.Newest))
}

// Place is where a snapshot names a blob.
type Place struct {
	Type   repository.BlobType
	ID     repository.ID
	Path   string        // of the file, or of the directory for a tree; "/" for the snapshot's own
	Parent repository.ID // the tree that holds the file or directory; zero for "/"
}

// ObjectSearch looks for the places that name blobs, whether or not the index lists them. It may serve several snapshots
// in a row, one at a time.
type ObjectSearch struct {
	Repo *repository.Repository

	exact    map[blob]struct{}
	prefixes []prefix
	barren   map[repository.ID]struct{}
}

// prefix is the beginning of an ID.
type prefix struct {
	typ  repository.BlobType
	text string
}

// Add looks for the blob of that ID, or for all whose IDs begin so. It gives [ErrObject].
func (o *ObjectSearch) Add(typ repository.BlobType, id string) error {
	text, err := objectPrefix(id)
	if err != nil {
		return err
	}
	if full, err := repository.ParseID(text); err == nil {
		o.add(typ, full)
	} else {
		o.prefixes = append(o.prefixes, prefix{typ, text})
	}
	return nil
}

func objectPrefix(id string) (string, error) {
	text := strings.ToLower(id)
	if text == "" || len(text) > 2*digest.Size || strings.Trim(text, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q: %w", id, ErrObject)
	}
	return text, nil
}

func (o *ObjectSearch) add(typ repository.BlobType, id repository.ID) {
	if o.exact == nil {
		o.exact = make(map[blob]struct{})
	}
	o.exact[blob{typ, id}] = struct{}{}
}

// AddPacks looks for every blob that lies in the packs whose IDs begin with one of those given, and returns how many
// there are. It reads the whole index.
func (o *ObjectSearch) AddPacks(ids []string) (int, error) {
	var texts []string
	for _, id := range ids {
		text, err := objectPrefix(id)
		if err != nil {
			return 0, err
		}
		texts = append(texts, text)
	}
	n := 0
	for l := range o.Repo.Blobs() {
		at := l.Pack.ID.Hex()
		for _, text := range texts {
			if strings.HasPrefix(at, text) {
				o.add(l.Blob.Type, l.Blob.ID)
				n++
				break
			}
		}
	}
	return n, nil
}

func (o *ObjectSearch) wants(typ repository.BlobType, id repository.ID) bool {
	if _, ok := o.exact[blob{typ, id}]; ok {
		return true
	}
	if len(o.prefixes) == 0 {
		return false
	}
	var text [2 * digest.Size]byte
	hex.Encode(text[:], id[:])
	for _, p := range o.prefixes {
		if p.typ == typ && string(text[:len(p.text)]) == p.text {
			return true
		}
	}
	return false
}

// Run calls visit for each place in sn that names one of the blobs. Damage is as in [Walk].
func (o *ObjectSearch) Run(ctx context.Context, sn *repository.Snapshot, visit func(Place) error, damage func(string, error) error) error {
	if o.barren == nil {
		o.barren = make(map[repository.ID]struct{})
	}
	if o.wants(repository.TreeBlob, sn.Tree) {
		if err := visit(Place{repository.TreeBlob, sn.Tree, "/", repository.ID{}}); err != nil {
			return err
		}
	}
	hits := 0
	var since []int // as in Search
	w := Walk{Repo: o.Repo, Damage: damage,
		Visit: func(e Entry) error {
			named := make(map[repository.ID]bool)
			for _, id := range e.Node.Content {
				if o.wants(repository.DataBlob, id) && !named[id] {
					named[id] = true
					hits++
					if err := visit(Place{repository.DataBlob, id, e.Path, e.Parent}); err != nil {
						return err
					}
				}
			}
			if e.Node.Type != repository.TypeDir || e.Node.Subtree == nil {
				return nil
			}
			if o.wants(repository.TreeBlob, *e.Node.Subtree) {
				hits++
				if err := visit(Place{repository.TreeBlob, *e.Node.Subtree, e.Path, e.Parent}); err != nil {
					return err
				}
			}
			if _, ok := o.barren[*e.Node.Subtree]; ok {
				return ErrSkipDir
			}
			since = append(since[:strings.Count(e.Path, "/")-1], hits)
			return nil
		},
		Leave: func(e Entry) error {
			if since[strings.Count(e.Path, "/")-1] == hits {
				o.barren[*e.Node.Subtree] = struct{}{}
			}
			return nil
		},
	}
	return w.Run(ctx, sn.Tree)
}
