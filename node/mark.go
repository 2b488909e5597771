package node

import (
	"errors"
	"fmt"
	"syscall"

	"dengbei/chunkstore"
)

// markRepository marks the directory of a repository as a node's, so that people's commands leave it alone. Where nothing
// can be written it goes without: reading and serving must not end for that, and it is marked when it is opened next.
func markRepository(files *chunkstore.Files, o chunkstore.Owner) error {
	err := chunkstore.MarkOwned(files.Dir(), o)
	if err == nil || errors.Is(err, chunkstore.ErrFull) || errors.Is(err, syscall.EROFS) {
		return nil
	}
	return fmt.Errorf("repository %s: %w", o.Repository, err)
}
