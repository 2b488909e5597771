package archive

import "errors"

var (
	// ErrChanged is returned when a file or directory changed while it was read: what was stored may be a state that
	// never existed. Repeat when nobody writes to it.
	ErrChanged = errors.New("changed while it was read")

	// ErrSpecial is returned in a strict backup for what is neither file, directory nor symlink. Leave it out.
	ErrSpecial = errors.New("neither file, directory nor symlink")

	// ErrRoots is returned for roots that do not make up one tree: none, malformed, or one inside another.
	ErrRoots = errors.New("roots do not fit together")

	// ErrNothing is returned when none of the roots could be read: such a snapshot would only be mistaken for a backup.
	ErrNothing = errors.New("nothing could be read")
)
