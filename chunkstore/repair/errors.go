package repair

import "errors"

var (
	// ErrOther is returned by [From] and [Entrance] when the other copy is not of the same repository.
	ErrOther = errors.New("the other copy is not of this repository")

	// ErrNowhere is the reason for a file that the other copy does not have either.
	ErrNowhere = errors.New("the other copy does not have it")
)
