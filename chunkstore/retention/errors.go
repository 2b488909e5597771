package retention

import "errors"

// ErrSyntax is returned for text that is no duration, count or grouping.
var ErrSyntax = errors.New("malformed")
