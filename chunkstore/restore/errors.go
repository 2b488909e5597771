package restore

import "errors"

var (
	// ErrIncomplete is returned when something that was asked for is missing in the target; the [Result] lists what.
	ErrIncomplete = errors.New("restore is incomplete")

	// ErrSpecial is the outcome of what cannot be made here: a device without the rights of root, or a node of no known
	// type.
	ErrSpecial = errors.New("not restorable here")

	// ErrSize is the outcome of a file whose blobs do not add up to its size.
	ErrSize = errors.New("content does not add up to the file's size")

	// ErrInTheWay is the outcome of an entry whose place in the target is taken by something that is not replaced: a
	// symlink where a directory belongs, or a directory with content. Move it away and restore again.
	ErrInTheWay = errors.New("something else is in the way in the target")

	// ErrReserved is the outcome of an entry whose name the restore itself needs for an unfinished neighbour. Restore it
	// alone into another directory.
	ErrReserved = errors.New("name is reserved for unfinished files")

	// ErrVerify is the outcome of a file that was restored and whose bytes, read again, are not what they should be: the
	// disk or the memory of this machine is faulty, or somebody changed the file meanwhile.
	ErrVerify = errors.New("restored file differs when read again")
)
