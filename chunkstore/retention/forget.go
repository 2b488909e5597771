package retention

import (
	"context"
	"fmt"
	"slices"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// Forget removes the snapshots of these IDs, one by one and each durably, the oldest first, so that what is left when it
// is cut off is the newest. One that is gone already is no error, nor is one that cannot be read; so the call may be
// repeated. On an error the message tells how many are gone.
func Forget(ctx context.Context, repo *repository.Repository, ids []digest.Digest) error {
	type aged struct {
		id digest.Digest
		at time.Time
	}
	var list []aged
	for _, id := range ids {
		sn, err := repo.LoadSnapshot(ctx, id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a := aged{id: id} // what cannot be read goes first: it is nothing to lose
		if err == nil {
			a.at = sn.Time
		}
		list = append(list, a)
	}
	slices.SortStableFunc(list, func(a, b aged) int { return a.at.Compare(b.at) })
	for i, a := range list {
		if err := repo.Files().Remove(ctx, chunkstore.Name{Kind: chunkstore.Snapshot, ID: a.id}); err != nil {
			return fmt.Errorf("forget: %d of %d snapshots are removed: %w", i, len(list), err)
		}
	}
	return nil
}
