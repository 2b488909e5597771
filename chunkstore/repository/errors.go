package repository

import "errors"

var (
	// ErrPassword is returned when none of the key files that can be read opens with the password.
	ErrPassword = errors.New("no key of the repository opens with this password")

	// ErrUnreadable is returned for a file that is what its name says but is none of ours or of no known form: it was
	// not written with this repository's key, or its content breaks the format.
	ErrUnreadable = errors.New("file does not belong to this repository or breaks its format")

	// ErrDamaged is returned for a blob that none of its packs yields intact.
	ErrDamaged = errors.New("blob is damaged")

	// ErrNoBlob is returned for a blob that the index does not list.
	ErrNoBlob = errors.New("blob is not in the index")

	// ErrExists is returned by [Init] where there is a repository already.
	ErrExists = errors.New("repository exists already")

	// ErrNoRepository is returned by [Open] where there is no config.
	ErrNoRepository = errors.New("no repository here: config is missing")

	// ErrVersion is returned by [Open] for a repository of another format version.
	ErrVersion = errors.New("repository format version is not 2")

	// ErrEncoding is returned when a blob that was just encoded does not decode to what it was: the memory or the
	// processor of this machine is faulty. Nothing was stored.
	ErrEncoding = errors.New("encoded blob does not decode to its content: check this machine's memory")

	// ErrName is returned for a name that no file inside a directory may have.
	ErrName = errors.New("unsafe file name")

	// ErrSession is returned by a session that has ended.
	ErrSession = errors.New("session has ended")

	// ErrLocked is returned when another process holds the repository. Wait for it, or remove the lock if the process is
	// gone.
	ErrLocked = errors.New("repository is locked already")

	// ErrLockLost is returned for a write after the lock was removed or could not be refreshed in time. What was written
	// before stays; repeat the work.
	ErrLockLost = errors.New("lock of the repository is lost")

	// ErrKeyInUse is returned for the removal of the key that opened the repository, or of the last one.
	ErrKeyInUse = errors.New("key is in use")

	// ErrNoKey is returned for a key that the repository does not have.
	ErrNoKey = errors.New("no such key in the repository")

	// ErrTooLarge is returned for a blob or file beyond what the format or this program's bounds allow.
	ErrTooLarge = errors.New("too large")
)
