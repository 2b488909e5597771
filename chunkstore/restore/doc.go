// Package restore brings files back from a snapshot: all of it, a part, or one file as a stream.
//
// Every byte is held to the hash of its blob before it is written. Nothing is written outside the target directory,
// whatever names and links the snapshot or the target contain. A file appears under its name only when it is whole and
// synced. What cannot be restored does not stop the rest: it is named in the [Result], and the error matches
// [ErrIncomplete].
//
// Hard links come back as separate files; devices, pipes and sockets do not come back and are named.
package restore
