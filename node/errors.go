package node

import "errors"

// Errors of founding, enrolling and starting.
var (
	// ErrNotEnrolled is returned when the data directory belongs to no network yet.
	ErrNotEnrolled = errors.New("not part of a network: run `dengbei network init` or `dengbei node enrol` first")
	// ErrEnrolled is returned when the data directory belongs to a network already.
	ErrEnrolled = errors.New("already part of a network: use an empty data_dir, or start the node")
)
