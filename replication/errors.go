package replication

import "errors"

var (
	// ErrFull is returned when the local store has no room for what is to be kept. Nothing half done counts; what was
	// received so far stays for resuming. Free or add space; the replicator tries again by itself.
	ErrFull = errors.New("no space left in the local store")

	// ErrBusy is returned by [Store.Receive] while another transfer of the same file is open, and by [Gather] for a file
	// that stayed so.
	ErrBusy = errors.New("file is being received already")

	// ErrRefused is returned when a source does not let this centre read a repository, and by [Server] to a peer that may
	// not.
	ErrRefused = errors.New("access to the repository is refused")

	// ErrIncomplete is returned by [Gather] when no source could deliver some file in good order.
	ErrIncomplete = errors.New("no source delivered every file")

	// ErrNoSource is returned when nobody is known to have, or could be asked for, what is to be fetched.
	ErrNoSource = errors.New("no source can be asked")

	// ErrInconsistent is returned when a manifest, the registry and a file that hashes to its name contradict each other.
	// No transfer can cure it: the owner registered a wrong manifest.
	ErrInconsistent = errors.New("registered manifest contradicts itself")

	// ErrConfig is returned by [New], [NewServer] and [Gather] for a configuration that lacks something.
	ErrConfig = errors.New("incomplete configuration")
)
