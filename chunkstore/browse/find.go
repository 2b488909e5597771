package browse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// Latest, as a specification, is the newest snapshot that a filter picks.
const Latest = "latest"

// maxNamed bounds how many candidates an error names.
const maxNamed = 5

// Found is what a specification names: a snapshot, or one file or directory in it.
type Found struct {
	Snapshot *repository.Snapshot

	// Path is absolute inside the snapshot and clean: "/" for the whole of it.
	Path string

	// Node is what lies at Path, nil for "/".
	Node *repository.Node

	// Tree is the directory at Path; zero if Node is something else.
	Tree repository.ID

	// PassedOver are files in snapshots/ that might have been meant and cannot be read. They are worth a note.
	PassedOver []repository.Unreadable
}

// Directory returns an error matching [ErrNotDirectory] unless f is a directory.
func (f *Found) Directory() error {
	if f.Tree.IsZero() {
		return fmt.Errorf("%q in snapshot %s is a %s: %w", f.Path, Short(f.Snapshot.ID), typeOf(f.Node), ErrNotDirectory)
	}
	return nil
}

// typeOf names the type of a node. A hostile tree may say anything there.
func typeOf(n *repository.Node) string {
	switch n.Type {
	case repository.TypeFile, repository.TypeDir, repository.TypeSymlink, repository.TypeDevice, repository.TypeCharDevice, repository.TypeFifo,
		repository.TypeSocket:
		return n.Type
	}
	return "node of an unknown type"
}

// Short is an ID as lists show it: its first 8 digits.
func Short(id digest.Digest) string { return id.Hex()[:8] }

// Find returns what spec names: "latest", an ID or the beginning of one, and a path behind a colon if a part of the
// snapshot is meant. Only "latest" heeds the filter, as in stock restic; it passes over partial snapshots unless the
// filter's tags ask for them. The errors are [ErrSpec], [ErrNoSnapshot], [ErrAmbiguous] and [ErrNoPath], with the
// candidates named. Symlinks in the path are not followed.
func Find(ctx context.Context, repo *repository.Repository, spec string, filter Filter) (*Found, error) {
	name, sub, _ := strings.Cut(spec, ":")
	sn, passed, err := FindSnapshot(ctx, repo, name, filter)
	if err != nil {
		return nil, err
	}
	f, err := At(ctx, repo, sn, sub)
	if err != nil {
		return nil, err
	}
	f.PassedOver = passed
	return f, nil
}

// FindSnapshot is [Find] for a specification without a path.
func FindSnapshot(ctx context.Context, repo *repository.Repository, spec string, filter Filter) (*repository.Snapshot, []repository.Unreadable, error) {
	if spec == Latest {
		return latest(ctx, repo, filter)
	}
	prefix := strings.ToLower(spec)
	if prefix == "" || len(prefix) > 2*digest.Size || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, nil, fmt.Errorf("%q: %w", spec, ErrSpec)
	}
	if len(prefix) == 2*digest.Size { // nothing else needs to be read
		id, err := digest.Parse(prefix)
		if err != nil {
			return nil, nil, fmt.Errorf("%q: %w", spec, ErrSpec)
		}
		return whole(ctx, repo, id)
	}
	var passed []repository.Unreadable
	var fit []*repository.Snapshot
	var first error
	for e, err := range repo.Files().List(ctx, chunkstore.Snapshot) {
		if err != nil {
			return nil, nil, err
		}
		if !strings.HasPrefix(e.Name.ID.Hex(), prefix) {
			continue
		}
		sn, err := repo.LoadSnapshot(ctx, e.Name.ID)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil { // planted or rotten: it must not make the ID of a sound one ambiguous
			passed, first = append(passed, repository.Unreadable{Name: e.Name, Err: err}), orFirst(first, err)
			continue
		}
		fit = append(fit, sn)
	}
	switch {
	case len(fit) == 1:
		return fit[0], passed, nil
	case len(fit) > 1:
		return nil, nil, fmt.Errorf("%q begins the IDs of %s: %w; give more digits", spec, nameAll(fit), ErrAmbiguous)
	case first != nil:
		return nil, nil, fmt.Errorf("%q fits %s only, which cannot be read: %w", spec, passed[0].Name, first)
	}
	return nil, nil, fmt.Errorf("no snapshot's ID begins with %q: %w; the command snapshots lists all", spec, ErrNoSnapshot)
}

func orFirst(first, err error) error {
	if first != nil {
		return first
	}
	return err
}

// whole returns the snapshot of a full ID.
func whole(ctx context.Context, repo *repository.Repository, id digest.Digest) (*repository.Snapshot, []repository.Unreadable, error) {
	sn, err := repo.LoadSnapshot(ctx, id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("snapshot %s: %w; the command snapshots lists all", id.Hex(), ErrNoSnapshot)
	}
	return sn, nil, err
}

// latest returns the newest whole snapshot that filter picks.
func latest(ctx context.Context, repo *repository.Repository, filter Filter) (*repository.Snapshot, []repository.Unreadable, error) {
	all, passed, err := repo.Snapshots(ctx)
	if err != nil {
		return nil, nil, err
	}
	var partial []*repository.Snapshot
	for _, sn := range slices.Backward(all) {
		if !filter.Match(sn) {
			continue
		}
		if sn.Partial() && !filter.asksForPartial() {
			partial = append(partial, sn)
			continue
		}
		return sn, passed, nil
	}
	if len(partial) > 0 {
		return nil, nil, fmt.Errorf("latest: only partial snapshots of backups that were cut off are there, %s: %w; give the ID if one is meant",
			nameAll(partial), ErrNoSnapshot)
	}
	if filter.IsZero() {
		return nil, nil, fmt.Errorf("latest: the repository has no snapshot that can be read (%d cannot): %w", len(passed), ErrNoSnapshot)
	}
	return nil, nil, fmt.Errorf("latest: none of %d snapshots fits %s (hosts: %s; %d cannot be read): %w", len(all), filter, hostsOf(all),
		len(passed), ErrNoSnapshot)
}

// nameAll names some snapshots by the digits that tell them apart.
func nameAll(list []*repository.Snapshot) string {
	var names []string
	for _, sn := range list {
		if len(names) == maxNamed {
			names = append(names, fmt.Sprintf("and %d more", len(list)-maxNamed))
			break
		}
		names = append(names, sn.ID.Hex()[:distinct(list)])
	}
	return strings.Join(names, ", ")
}

// distinct returns how many digits tell the snapshots apart, at least 8.
func distinct(list []*repository.Snapshot) int {
	n := 8
	for ; n < 2*digest.Size; n++ {
		seen := make(map[string]bool, len(list))
		for _, sn := range list {
			seen[sn.ID.Hex()[:n]] = true
		}
		if len(seen) == len(list) {
			break
		}
	}
	return n
}

// hostsOf names the hosts of the snapshots.
func hostsOf(list []*repository.Snapshot) string {
	var hosts []string
	for _, sn := range list {
		if q := fmt.Sprintf("%q", sn.Hostname); !slices.Contains(hosts, q) && len(hosts) <= maxNamed {
			hosts = append(hosts, q)
		}
	}
	if len(hosts) > maxNamed {
		hosts[maxNamed] = "more"
	}
	return strings.Join(hosts, ", ")
}

// Select returns the snapshots that specs name, each once, in the order in which they are named; without specs, all that
// the filter picks, the oldest first. What a spec names must exist: nothing is left out in silence. Paths behind a colon
// are refused with [ErrSpec].
func Select(ctx context.Context, repo *repository.Repository, specs []string, filter Filter) ([]*repository.Snapshot, []repository.Unreadable, error) {
	if len(specs) == 0 {
		all, passed, err := repo.Snapshots(ctx)
		if err != nil {
			return nil, nil, err
		}
		return slices.DeleteFunc(all, func(sn *repository.Snapshot) bool { return !filter.Match(sn) }), passed, nil
	}
	var list []*repository.Snapshot
	var passed []repository.Unreadable
	for _, spec := range specs {
		sn, p, err := FindSnapshot(ctx, repo, spec, filter)
		if err != nil {
			return nil, nil, err
		}
		for _, u := range p {
			if !slices.ContainsFunc(passed, func(v repository.Unreadable) bool { return u.Name == v.Name }) {
				passed = append(passed, u)
			}
		}
		if !slices.ContainsFunc(list, func(other *repository.Snapshot) bool { return other.ID == sn.ID }) {
			list = append(list, sn)
		}
	}
	return list, passed, nil
}

// At returns what lies at sub in sn. Slashes at the ends do not matter; an empty sub is the whole snapshot. It gives
// [ErrNoPath] where nothing lies, with the part of the path that exists.
func At(ctx context.Context, repo *repository.Repository, sn *repository.Snapshot, sub string) (*Found, error) {
	f := &Found{Snapshot: sn, Path: "/", Tree: sn.Tree}
	for name := range strings.SplitSeq(strings.TrimPrefix(path.Clean("/"+sub), "/"), "/") {
		if name == "" {
			continue
		}
		if f.Tree.IsZero() {
			return nil, fmt.Errorf("%q in snapshot %s: %q is a %s: %w", sub, Short(sn.ID), f.Path, typeOf(f.Node), ErrNoPath)
		}
		t, err := repo.LoadTree(ctx, f.Tree)
		if err != nil {
			return nil, fmt.Errorf("%q in snapshot %s: %w", f.Path, Short(sn.ID), err)
		}
		n := t.Find(name)
		if n == nil {
			return nil, fmt.Errorf("%q in snapshot %s: there is no %q in %q: %w", sub, Short(sn.ID), name, f.Path, ErrNoPath)
		}
		f.Node, f.Path, f.Tree = n, path.Join(f.Path, name), repository.ID{}
		if n.Type == repository.TypeDir {
			if n.Subtree == nil {
				return nil, fmt.Errorf("%q in snapshot %s: directory names no tree: %w", f.Path, Short(sn.ID), repository.ErrUnreadable)
			}
			f.Tree = *n.Subtree
		}
	}
	return f, nil
}
