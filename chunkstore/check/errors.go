package check

import "errors"

var (
	// ErrUnindexed is the finding for a pack that no index file names: left by an interrupted backup, or planted.
	ErrUnindexed = errors.New("pack is in no index")

	// ErrSize is the finding for a pack that is not as long as its blobs, and for files that do not add up.
	ErrSize = errors.New("wrong size")

	// ErrHeader is the finding for a pack whose own list of blobs is not what the index says.
	ErrHeader = errors.New("pack header and index differ")

	// ErrMissing is the finding for a pack that the index names and that is not there.
	ErrMissing = errors.New("pack is missing")

	// ErrSplit is the finding for a pack of which an index file lists some of the blobs only: the format wants all in one
	// file. Readers are not hindered.
	ErrSplit = errors.New("index file lists part of the pack")

	// ErrRepeated is the finding for a pack that several index files list alike. Readers are not hindered.
	ErrRepeated = errors.New("pack is listed in several index files")

	// ErrMixed is the finding for a pack with trees and data, which the format keeps apart. Readers are not hindered.
	ErrMixed = errors.New("pack holds trees and data")

	// ErrUnsteady is the finding for a file that was read wrongly once and rightly the second time: the file is sound, the
	// disk, its cable, the controller or the memory of this machine may not be.
	ErrUnsteady = errors.New("read wrongly once, rightly the second time: check disk, cables and memory")

	// ErrDepth is the finding for directories nested deeper than any file system can hold.
	ErrDepth = errors.New("directories are nested too deep")

	// ErrState says why a state file was ignored.
	ErrState = errors.New("state file is damaged or not this repository's")

	// ErrSubset is returned for text that describes no part of the data.
	ErrSubset = errors.New("malformed subset")
)
