package repository

import (
	"context"
	"fmt"

	"dengbei/chunkstore"
)

// LoadPlain returns what a config, snapshot, index or lock file holds: JSON, decrypted, as it was written. Key files are
// JSON as they lie there and come unchanged.
func (r *Repository) LoadPlain(ctx context.Context, name chunkstore.Name) ([]byte, error) {
	switch name.Kind {
	case chunkstore.Key:
		return r.readFile(ctx, name, maxKeyFileBytes)
	case chunkstore.Pack:
		return nil, fmt.Errorf("load %s: a pack is no JSON: %w", name, ErrUnreadable)
	}
	return r.loadUnpacked(ctx, name)
}
