// Package intake takes a submission in: it describes a delivery, and keeps what a centre received until it is registered.
//
// A [Submission] is one delivery of one or more records. Its [ID] is the SHA-256 of its canonical encoding, without
// times and without signatures, so sending the same content again is recognised. [ReadFolder] describes a delivery that
// lies in a plain folder. A [Quarantine] is the centre's durable store of submissions before registration: bytes are
// confirmed only after they were synced, read back and hashed with SHA-256 and SM3.
//
// The package decides what cannot be taken in at all (see [Rule]). It does not inspect content, does not know who may
// submit, and checks no signature.
//
// Sizes are bytes, instants UTC, paths slash separated and relative to the payload of their record. Ordinals of records
// count from 0.
package intake
