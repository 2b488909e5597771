// Package consensus runs one member of the network's Raft group.
//
// It takes a state machine and bytes and knows nothing of what they mean. Addresses in Raft are server IDs ("330102-3"): Dial turns
// one into a connection and answers for who is at its other end; the listener must let in only those who may speak Raft, because
// Raft itself does not ask.
//
// The state machine is durable and knows its own applied index. At start it is compared with the newest snapshot: a machine that is
// as far keeps its state, one that is behind is restored, and one that is ahead of the log is refused, because the log has lost
// entries that others may have been told of.
//
// A proposal whose fate is not known gives [ErrOutcomeUnknown]: it may still be applied, so commands must be safe to repeat.
package consensus
