package browse

import "errors"

var (
	// ErrNoSnapshot is returned when nothing in the repository fits what was asked for.
	ErrNoSnapshot = errors.New("no such snapshot")

	// ErrAmbiguous is returned for the beginning of an ID that several snapshots share.
	ErrAmbiguous = errors.New("several snapshots fit")

	// ErrSpec is returned for text that cannot name a snapshot.
	ErrSpec = errors.New("not a snapshot: want latest, an ID or the beginning of one, with :FOLDER behind it if a part is meant")

	// ErrNoPath is returned for a path that a snapshot does not hold.
	ErrNoPath = errors.New("no such path in the snapshot")

	// ErrObject is returned for text that is no ID of a blob or pack, nor the beginning of one.
	ErrObject = errors.New("not an ID or the beginning of one")

	// ErrSkipDir is returned by a visit function for a directory to leave out what the directory holds. For anything else
	// it means nothing.
	ErrSkipDir = errors.New("skip this directory")

	// ErrNotDirectory is returned where a directory is needed and something else lies there.
	ErrNotDirectory = errors.New("not a directory")
)
