// Package replication keeps every registered backup held by the centres that the registry asks to hold it.
//
// A holder compares the repositories assigned to it, as its own replica of the registry lists them, with what its store
// has, fetches the missing files from the owner and from other holders, and reports what is complete. Nobody pushes, and a
// node that was away has more to do, not other things. The package decides nothing that centres must agree on.
//
// A receipt is confirmed only after every file of the set was hashed as read back from disk, every new file was compared
// with its registered leaf root, and the set with its registered root. A crash before that repeats the rest of the work,
// never the confirmation. Work is idempotent: two replicators on one store waste bandwidth only. Nothing is ever deleted
// here.
//
// Sizes are bytes, rates bytes per second, instants UTC. Files are verified without a key: names are hashes of ciphertext.
package replication

import (
	"context"
	"io"
	"time"

	"dengbei/chunkstore/digest"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
)

// ManifestRef is a registered backup manifest. Files, SizeBytes and SetRoot are those of the whole set after it.
type ManifestRef struct {
	Digest    digest.Digest // SHA-256 of the document
	Parent    digest.Digest // zero for the first
	Sequence  uint64        // from 1 in each repository, without gaps
	SetRoot   [32]byte
	Files     uint64
	SizeBytes int64
}

// Holding is a repository that this centre must hold.
type Holding struct {
	Repository string
	Manifests  []ManifestRef // all of them from sequence 1, in order
	Receipted  uint64        // highest sequence that this centre has a registered receipt for, 0 for none
	Copies     int           // other holders with a receipt for the newest manifest, the owner not counted
	Urgency    int           // greater goes first among equally endangered ones
}

// last returns the newest manifest.
func (h Holding) last() (ManifestRef, bool) {
	if len(h.Manifests) == 0 {
		return ManifestRef{}, false
	}
	return h.Manifests[len(h.Manifests)-1], true
}

// Receipt states that this centre holds every file of the set after a manifest, re-hashed and durable.
type Receipt struct {
	Repository string
	Manifest   digest.Digest
	Sequence   uint64
	SetRoot    [32]byte
	Files      uint64
	SizeBytes  int64
	VerifiedAt time.Time // when the last file was verified, this centre's clock, UTC
}

// Ledger is this centre's replica of the registry. Methods may be called concurrently.
type Ledger interface {
	// Holdings lists the repositories that this centre must hold.
	Holdings(ctx context.Context) ([]Holding, error)

	// Sources lists who can be asked for the files of a manifest, the owner first, then holders with a receipt for that
	// sequence or a later one. This centre is not among them.
	Sources(ctx context.Context, repository string, sequence uint64) (serverIDs []string, err error)

	// Confirm signs and registers r. On nil the registry has it. Confirming the same receipt again is not an error.
	Confirm(ctx context.Context, r Receipt) error

	// Changed delivers a value after holdings may have changed. Several changes may be one value. It is never closed.
	Changed() <-chan struct{}
}

// Store is one repository's files on the local disk. Methods may be called concurrently.
type Store interface {
	// Has reports whether name is stored, and its size. It reads no content.
	Has(ctx context.Context, name string) (sizeBytes int64, ok bool, err error)

	// Receive starts or resumes the transfer of f. It gives [ErrBusy] while another one of the same name is open, in this
	// or another process, fs.ErrExist if the name is stored, [ErrFull] without room.
	Receive(ctx context.Context, f manifest.File) (Incoming, error)

	// Open returns the content of name, or an error matching fs.ErrNotExist. The last Read gives digest.ErrMismatch in
	// place of io.EOF if the bytes do not hash to the name.
	Open(ctx context.Context, name string) (io.ReadCloser, error)

	// Quarantine moves a damaged file aside, so that the name can be received again.
	Quarantine(ctx context.Context, name string) error
}

// Incoming is a file on its way. One goroutine at a time uses it.
type Incoming interface {
	// Offset returns how many bytes are there, from this or an earlier transfer that was cut off.
	Offset() int64

	// Write appends; [ErrFull] without room.
	io.Writer

	// Commit syncs, reads the file back from disk, and names it durably if it hashes to what was announced; the Incoming
	// is closed then. Otherwise it gives digest.ErrMismatch, nothing of the bytes remains, and the Incoming is closed.
	Commit(ctx context.Context) error

	// Close ends the transfer and keeps what was written for the next one. After Commit it does nothing.
	Close() error

	// Discard ends the transfer and removes what was written.
	Discard() error
}

// Documents is the local store of immutable documents named by their SHA-256. Methods may be called concurrently.
type Documents interface {
	// Open returns the document, or an error matching fs.ErrNotExist.
	Open(ctx context.Context, d digest.Digest) (io.ReadCloser, error)

	// Put stores r under d. On nil it survives power loss. Bytes that do not hash to d leave no trace and give
	// digest.ErrMismatch. Putting a stored document again is not an error.
	Put(ctx context.Context, d digest.Digest, r io.Reader) error
}

// Peers reaches other centres by the server ID that their credential must carry.
type Peers interface {
	// Dial returns a client for serverID. Peers owns the connection; the caller does not close it.
	Dial(ctx context.Context, serverID string) (replicationpb.TransferClient, error)
}

// Observer is told what happens, for metrics and the journal of a copy. Methods are called concurrently and must return
// at once.
type Observer interface {
	// Received: f arrived from source, is durable, and matches name and leaf root.
	Received(repository, source string, f manifest.File)

	// Damaged: source delivered, or admitted to have, bytes of name that are not that file. Documents are
	// "documents/<hex>" here.
	Damaged(repository, source, name string)

	// Missing: source has no file of that name, or refuses it.
	Missing(repository, source, name string)

	// Confirmed: the registry has the receipt.
	Confirmed(r Receipt)
}

// silent is the Observer in place of nil.
type silent struct{}

func (silent) Received(string, string, manifest.File) {}
func (silent) Damaged(string, string, string)         {}
func (silent) Missing(string, string, string)         {}
func (silent) Confirmed(Receipt)                      {}
