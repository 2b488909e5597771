package tlog

import "errors"

// ErrMalformed is returned for bytes that are no leaf, note, policy, proof or seed of this format.
var ErrMalformed = errors.New("malformed")
