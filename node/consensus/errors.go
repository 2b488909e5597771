package consensus

import "errors"

var (
	// ErrNotLeader is returned when this node does not lead; nothing was appended, ask [Raft.Leader].
	ErrNotLeader = errors.New("not the leader")

	// ErrOutcomeUnknown is returned when a proposal was appended and then lost sight of: it may or may not be applied.
	ErrOutcomeUnknown = errors.New("outcome unknown")

	// ErrBusy is returned when the queue did not take the proposal in time; nothing was appended.
	ErrBusy = errors.New("consensus is busy")

	// ErrTooLarge is returned for a proposal above [MaxEntryBytes]; nothing was appended.
	ErrTooLarge = errors.New("entry is too large")

	// ErrClosed is returned after Close; nothing was appended.
	ErrClosed = errors.New("consensus is closed")

	// ErrStateAhead is returned by [Start] when the state machine has applied entries that the log does not hold.
	ErrStateAhead = errors.New("state is ahead of the log")

	// ErrBootstrapped is returned by [Raft.Bootstrap] when the node has a log or a snapshot already.
	ErrBootstrapped = errors.New("already has a Raft state")

	// ErrConfig is returned by [Start] for a Config that cannot work.
	ErrConfig = errors.New("invalid consensus configuration")

	// ErrNothingNew is returned by [Raft.Snapshot] when nothing was applied since the start.
	ErrNothingNew = errors.New("nothing new to snapshot")
)
