package term

import (
	"errors"
	"fmt"
)

// UsageError is a command line that cannot be meant.
type UsageError struct{ text string }

// Error implements error.
func (e *UsageError) Error() string { return e.text }

// Usagef makes a [UsageError].
func Usagef(format string, args ...any) error {
	return &UsageError{fmt.Sprintf(format, args...)}
}

// ErrFalse marks an answer that was found out and is no: a certificate that does not hold, a record that was refused.
var ErrFalse = errors.New("checked and false")

// falseError is an ErrFalse with its own text.
type falseError struct{ err error }

func (e *falseError) Error() string        { return e.err.Error() }
func (e *falseError) Unwrap() error        { return e.err }
func (e *falseError) Is(target error) bool { return target == ErrFalse }

// Falsef makes an error that is [ErrFalse], with its own text.
func Falsef(format string, args ...any) error {
	return &falseError{fmt.Errorf(format, args...)}
}

// CodeError is an error that means an exit code of its own.
type CodeError struct {
	Code int
	Err  error
}

// Error implements error.
func (e *CodeError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *CodeError) Unwrap() error { return e.Err }
