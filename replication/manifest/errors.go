package manifest

import "errors"

var (
	// ErrSyntax is returned by [Parse] and [ParseSet] for text that is not exactly what the format allows, and by
	// [Document.Encode] for values that it cannot express.
	ErrSyntax = errors.New("malformed manifest")

	// ErrChain is returned by [Apply] for a document that does not continue the set: another repository or parent, a file
	// added twice, a file released that is not there, counts that do not add up.
	ErrChain = errors.New("manifest does not continue the set")

	// ErrRoot is returned by [Set.Check] when a set is not the one that a manifest announces.
	ErrRoot = errors.New("set of files has another root than announced")
)
