package gossip

import "errors"

var (
	// ErrConfig is returned by [Start] for a Config that cannot work.
	ErrConfig = errors.New("invalid gossip configuration")

	// ErrLeave is returned by [Gossip.Close] when the farewell did not get out in time; the others notice by themselves.
	ErrLeave = errors.New("left without a farewell")
)
