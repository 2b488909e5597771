package tlog

import "errors"

// ErrMalformed is returned for bytes that are no leaf, note, policy, proof or seed of this format.
var ErrMalformed = errors.New("malformed")

// ErrPolicy is returned when a well-formed note does not satisfy a policy.
var ErrPolicy = errors.New("policy not satisfied")

// ErrQuorum is returned when a policy is not satisfied because cosignatures are missing. It matches [ErrPolicy] too.
var ErrQuorum error = quorumError{}

// ErrSignature is returned when a signature does not verify.
var ErrSignature = errors.New("signature does not verify")

type quorumError struct{}

func (quorumError) Error() string        { return "too few cosignatures" }
func (quorumError) Is(target error) bool { return target == ErrPolicy }
