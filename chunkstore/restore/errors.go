package restore

import "errors"

var (
	// ErrIncomplete is returned when something that was asked for is missing in the target; the [Result] lists what.
	ErrIncomplete = errors.New("restore is incomplete")

	// ErrSpecial is the outcome of devices, pipes and sockets, which are not restored.
	ErrSpecial = errors.New("neither file, directory nor symlink: not restored")

	// ErrSize is the outcome of a file whose blobs do not add up to its size.
	ErrSize = errors.New("content does not add up to the file's size")
)
