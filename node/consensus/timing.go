package consensus

import "time"

// Timing is how patient a member is. Leader lease ≤ heartbeat ≤ election must hold, and all voters should agree.
type Timing struct {
	Heartbeat   time.Duration // silence after which a follower suspects the leader
	Election    time.Duration // how long a candidate waits for votes
	LeaderLease time.Duration // how long a leader goes on without a majority's answers
	Commit      time.Duration // idle interval at which a leader tells followers the commit index
	Transport   time.Duration // deadline of one call; snapshots get it per 256 KiB
}

// WAN is the default: it rides out stalls of seconds, and a lost leader costs 3 to 9 s. Its idle leader sends about 5 calls a second
// to each member, where Raft's own defaults send 20.
func WAN() Timing {
	return Timing{
		Heartbeat: 3 * time.Second, Election: 3 * time.Second, LeaderLease: 1500 * time.Millisecond,
		Commit: 250 * time.Millisecond, Transport: 10 * time.Second,
	}
}

// LAN is for members in one building or on one machine, which may be busy: a lost leader costs 1 to 3 s.
func LAN() Timing {
	return Timing{
		Heartbeat: time.Second, Election: time.Second, LeaderLease: 500 * time.Millisecond,
		Commit: 25 * time.Millisecond, Transport: 5 * time.Second,
	}
}
