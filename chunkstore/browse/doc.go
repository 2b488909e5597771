// Package browse finds snapshots and looks into them without restoring anything: it lists, searches, compares and
// measures what they hold.
//
// A snapshot is named as in stock restic: by "latest", by its ID or the beginning of it, each with ":sub/folder" behind
// it if a part is meant; see [Find]. A [Filter] narrows by host, tags and paths with restic's meaning. Files in
// snapshots/ that are no snapshots of this repository are passed over and reported beside the result, never an obstacle.
//
// Trees are walked one directory at a time: memory holds the directories on the way down and, where trees seen once are
// not walked again, 32 bytes for each. A tree that cannot be read, a name that no file may have and a directory that
// contains itself cost the part below them and are reported with their place; the walk goes on.
//
// Nothing here writes. Functions may be called concurrently. Every error that ends a call for the context's reason
// matches ctx.Err().
package browse
