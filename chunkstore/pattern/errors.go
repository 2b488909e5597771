package pattern

import "errors"

// ErrPattern is returned for a pattern that can match nothing because it is malformed, such as an open bracket.
var ErrPattern = errors.New("malformed pattern")
