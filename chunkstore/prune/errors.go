package prune

import "errors"

var (
	// ErrUnsafe is returned when it cannot be told what is needed, or something that is needed is not whole: an index file,
	// snapshot or tree that cannot be read, a pack that is missing or of the wrong size, a blob in no index. Nothing was
	// removed. The error names the files and the way out.
	ErrUnsafe = errors.New("prune would not be safe")

	// ErrOptions is returned for options that contradict each other.
	ErrOptions = errors.New("options of prune")
)
