package transcribe

import "errors"

// ErrSame is returned when source and target are the same repository.
var ErrSame = errors.New("source and target are the same repository")
