// Package registry is what the centres of a network agree on: who is a member, what was registered under which number,
// where its backup lies and who holds it.
//
// It decides by applying committed commands, one after the other, to a [State]: a pure function of the log, the same
// on every node. It reads no clock, speaks to no one and checks no signature there; what the leader must refuse before
// it proposes a command is in [State.Admit]. Questions are answered by [Reader], from any node, while commands are
// applied.
//
// State lives in one Pebble directory. A batch of commands, its indexes, its Merkle tiles and the index of its last
// entry are written together or not at all; they need no sync, for the Raft log is the durable record and is replayed
// from the index found in the state. [FSM] gives the state to hashicorp/raft, with snapshots.
//
// Commands and stored values are messages of registrypb. Values that a Reader returns belong to the caller. Times are
// milliseconds since 1970-01-01 UTC; years and printed times are taken in Asia/Shanghai, which is UTC+8 without
// summer time here (GB/T 7408). Positions (seq) count from 0, serials, ordinals of manifests and members from 1.
package registry

import "time"

// shanghai is the zone of every year and deadline: UTC+8, fixed, whatever the machine's time-zone database says.
var shanghai = time.FixedZone("UTC+8", 8*60*60)

// maxMillis is 9999-12-31T15:59:59.999Z: the last instant whose year in Shanghai has four digits.
const maxMillis = 253402271999999

// timeLayout is RFC 3339 with milliseconds and the numeric zone.
const timeLayout = "2006-01-02T15:04:05.000-07:00"

// FormatTime prints an instant as certificates do: RFC 3339 with milliseconds in +08:00.
func FormatTime(millis int64) string { return time.UnixMilli(millis).In(shanghai).Format(timeLayout) }

// Year returns the year of an instant in Shanghai, as it stands in a registration number.
func Year(millis int64) int { return time.UnixMilli(millis).In(shanghai).Year() }

func validMillis(millis int64) bool { return millis >= 0 && millis <= maxMillis }
