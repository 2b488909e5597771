// Package archtest holds the rules of the house as tests: which package may import which, who may touch Raft, gossip and logs, and what
// the pure part of the registry must not call. It has no code of its own.
package archtest
