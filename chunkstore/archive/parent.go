package archive

import (
	"context"
	"slices"
	"time"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// FindParents returns what a backup of paths on host goes on from, as [Options.Parent] and [Options.Partial] want it: the
// newest complete snapshot of that host that holds all the paths and is not newer than at, and the partial ones of
// exactly these paths, the newest first. Snapshots that cannot be read are passed over and returned.
func FindParents(ctx context.Context, repo *repository.Repository, host string, paths []string, at time.Time) (parent digest.Digest, partial []digest.Digest, _ []repository.Unreadable, _ error) {
	paths = slices.Sorted(slices.Values(paths))
	all, unreadable, err := repo.Snapshots(ctx)
	if err != nil {
		return parent, nil, nil, err
	}
	for _, sn := range slices.Backward(all) {
		if sn.Hostname != host {
			continue
		}
		has := slices.Sorted(slices.Values(sn.Paths))
		switch {
		case sn.Partial():
			if slices.Equal(has, paths) {
				partial = append(partial, sn.ID)
			}
		case parent.IsZero() && !sn.Time.After(at) && holds(has, paths):
			parent = sn.ID
		}
	}
	return parent, partial, unreadable, nil
}

// holds reports whether each of wanted is in has, which is sorted.
func holds(has, wanted []string) bool {
	for _, p := range wanted {
		if _, ok := slices.BinarySearch(has, p); !ok {
			return false
		}
	}
	return true
}
