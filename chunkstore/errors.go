package chunkstore

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrFull is returned when the file system has no room, or the owner no quota, for what was to be stored. Nothing
	// half done remains. Free space, then repeat.
	ErrFull = errors.New("no space left in the repository's file system")

	// ErrConfigExists is returned when other bytes are put under the name of an existing config: that would make every
	// stored file unreadable.
	ErrConfigExists = errors.New("repository already has another config")

	// ErrExists is returned by [Create] where there is a repository already.
	ErrExists = errors.New("there is a repository already")

	// ErrName is returned for text or a value that names no repository file.
	ErrName = errors.New("malformed file name")

	// ErrBusy is returned by [Files.Receive] while another receive of the same file is open.
	ErrBusy = errors.New("file is being received already")

	// ErrSize is returned when a received file is shorter or longer than announced.
	ErrSize = errors.New("file is not as long as announced")

	// ErrOwned is returned for a change, by others than the node, of a repository that belongs to a node.
	ErrOwned = errors.New("the repository belongs to a node")

	// ErrNotRepository is returned by [Open] for a directory that is not laid out as a repository, and by [Create] for
	// one that holds something else.
	ErrNotRepository = errors.New("not a repository directory")
)

// full marks err with [ErrFull] when it says that the disk or the quota is exhausted.
func full(err error) error {
	if err != nil && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
