package registry

import "errors"

// Refusals of commands. Each has a [Reject] code; a [Result] carries the code, [Result.Err] wraps the error.
var (
	// ErrMalformed is returned for a command that breaks the format: lengths, names, counts, times.
	ErrMalformed = errors.New("malformed command")
	// ErrNotFounded is returned for every command before the network was founded.
	ErrNotFounded = errors.New("no network founded yet: found it or join one first")
	// ErrFounded is returned for a second founding.
	ErrFounded = errors.New("a network is already founded in this log")
	// ErrInvitation is returned for an enrolment whose token is unknown or was made for another centre or role.
	ErrInvitation = errors.New("no invitation for this token, centre and role: ask for a new one")
	// ErrInvitationUsed is returned when a token comes a second time, as an invitation or for an enrolment.
	ErrInvitationUsed = errors.New("invitation already given out or used: ask for a new one")
	// ErrInvitationExpired is returned for an enrolment or invitation past its date.
	ErrInvitationExpired = errors.New("invitation expired: ask for a new one")
	// ErrActiveMember is returned for an enrolment of a code that has an active member which the invitation does not replace.
	ErrActiveMember = errors.New("centre has an active member: invite with replacement, or revoke it first")
	// ErrNotMember is returned when a command needs an active member that the network does not have.
	ErrNotMember = errors.New("not an active member")
	// ErrUnknownRegistrant is returned for a registrant that is not known or belongs to another authority.
	ErrUnknownRegistrant = errors.New("registrant not known to this authority")
	// ErrUnknownRepository is returned for a repository that is not registered or belongs to another centre.
	ErrUnknownRepository = errors.New("repository not registered for this centre")
	// ErrRepositoryExists is returned for other content under a registered repository's ID.
	ErrRepositoryExists = errors.New("repository is registered with other content: use the next epoch")
	// ErrAgreementExists is returned for an agreement whose ID stands for other parties or another class.
	ErrAgreementExists = errors.New("agreement is registered for other parties or another class: use a new ID")
	// ErrNoAgreement is returned for a receipt that no agreement in force covers.
	ErrNoAgreement = errors.New("no agreement in force covers this holder and repository")
	// ErrStaleManifest is returned for a manifest whose parent is not the newest one of its repository.
	ErrStaleManifest = errors.New("manifest does not follow the newest one of its repository: build it again on top of that")
	// ErrManifestExists is returned for a known manifest digest with another summary or repository.
	ErrManifestExists = errors.New("manifest is registered with another summary")
	// ErrUnknownManifest is returned for a receipt over a manifest that is not registered or whose set differs.
	ErrUnknownManifest = errors.New("manifest not registered with this set of files")
	// ErrCheckpointOrder is returned for a checkpoint that is not larger than the last published one.
	ErrCheckpointOrder = errors.New("checkpoint is not larger than the last published one")
	// ErrCheckpointRoot is returned for a checkpoint beyond the log's size or with another root.
	ErrCheckpointRoot = errors.New("checkpoint disagrees with the log: do not sign, compare the nodes' roots")
	// ErrUnknownRecord is returned for a position or number that is not registered, or not by this authority.
	ErrUnknownRecord = errors.New("no such record of this authority")
	// ErrUnknownKey is returned for a statement made with a key that is not the authority's registered one.
	ErrUnknownKey = errors.New("key is not the one registered for this authority")
)

// Refusals of [State.Admit] and of values, which no log ever holds.
var (
	// ErrTooLarge is returned for a command above [MaxCommandBytes].
	ErrTooLarge = errors.New("command too large: split the batch")
	// ErrSignature is returned for a signature that does not verify with the registered key.
	ErrSignature = errors.New("signature does not verify with the registered key")
	// ErrUnknownCode is returned for a code that is not in the table of divisions.
	ErrUnknownCode = errors.New("code of no known administrative division (GB/T 2260)")
	// ErrUnknownKind is returned for a command that this build does not know.
	ErrUnknownKind = errors.New("command is newer than this build: upgrade this node")
	// ErrNumber is returned for text that is no registration number.
	ErrNumber = errors.New("not a registration number")
)

// Errors of reading and of the directory.
var (
	// ErrNotFound is returned when the state holds no such item.
	ErrNotFound = errors.New("not registered")
	// ErrClosed is returned by readers of a state that was closed or replaced by a restored one.
	ErrClosed = errors.New("state is closed")
	// ErrCorrupt is returned for a directory, value or snapshot that cannot be read.
	ErrCorrupt = errors.New("registry state is damaged: move its directory away and let the node restore from its peers")
)
