// Package retention decides which snapshots are kept, and removes the others.
//
// A [Policy] is applied to each group of snapshots by itself, see [GroupBy]. It selects as stock restic's forget does:
// snapshots are looked at from the newest to the oldest, and of each hour, day, ISO week, month and year the newest one
// represents it, in the time zone that the snapshot's own time carries. Deciding is a pure function of the snapshots and
// of the instant that passes for now; it reads and writes nothing.
//
// Where restic lets data be lost in silence, this package differs. An empty policy keeps everything. A snapshot that
// carries a time more than [FutureTolerance] after now is kept, takes nobody's place and is named: one wrong clock does
// not push out all others. A partial snapshot, left by a backup that was cut off, takes nobody's place either and goes as
// soon as a later snapshot of its group is there. A group of which no whole snapshot would be left is named by
// [Decision.Emptied], for the caller to refuse.
//
// [Forget] removes whole files, one by one and each durably, the oldest first: cut off anywhere, every snapshot is either
// as it was or gone, and running it again does the rest. It removes no data; prune does.
//
// Functions may be called concurrently, and lists given are not changed.
package retention
