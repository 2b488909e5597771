// Package transcribe copies snapshots from one repository into another, without cutting files anew.
//
// What the target has is not read. Everything else is read from the source pack by pack, verified against its name,
// and encrypted with the target's key; what is compressed stays as it is. A copy names the snapshot it was made of, as
// stock restic does it, so that copying again copies what is new only.
//
// Directories come after the content they name, and a snapshot comes when everything it needs is durable and in the
// target's index: a copy that is cut off leaves no snapshot that lacks anything, and the next one reads only what was
// not stored. A blob that cannot be read in the source stops the copy and is named; snapshots copied before stay.
//
// Both repositories should cut files alike (see [Alike]); otherwise what both hold is stored twice in the target, once as
// each cuts it. The source is only read. Memory is 45 bytes a directory of the source and a bounded amount for the rest.
package transcribe
