package registry

import "fmt"

// Reject says why a committed command changed nothing. Every node computes the same. The numbers are part of the
// state's chain: add at the end, never change or reuse.
type Reject uint16

// The reasons. RejectNone is no refusal.
const (
	RejectNone              Reject = 0
	RejectMalformed         Reject = 1
	RejectNotFounded        Reject = 2
	RejectFounded           Reject = 3
	RejectInvitation        Reject = 4
	RejectInvitationUsed    Reject = 5
	RejectInvitationExpired Reject = 6
	RejectActiveMember      Reject = 7
	RejectNotMember         Reject = 8
	RejectUnknownRegistrant Reject = 9
	RejectUnknownRepository Reject = 10
	RejectRepositoryExists  Reject = 11
	RejectAgreementExists   Reject = 12
	RejectNoAgreement       Reject = 13
	RejectStaleManifest     Reject = 14
	RejectManifestExists    Reject = 15
	RejectUnknownManifest   Reject = 16
	RejectCheckpointOrder   Reject = 17
	RejectCheckpointRoot    Reject = 18
	RejectUnknownRecord     Reject = 19
	RejectUnknownKey        Reject = 20
)

var rejects = [...]struct {
	name string
	err  error
}{
	RejectNone:              {"NONE", nil},
	RejectMalformed:         {"MALFORMED", ErrMalformed},
	RejectNotFounded:        {"NOT_FOUNDED", ErrNotFounded},
	RejectFounded:           {"FOUNDED", ErrFounded},
	RejectInvitation:        {"INVITATION", ErrInvitation},
	RejectInvitationUsed:    {"INVITATION_USED", ErrInvitationUsed},
	RejectInvitationExpired: {"INVITATION_EXPIRED", ErrInvitationExpired},
	RejectActiveMember:      {"ACTIVE_MEMBER", ErrActiveMember},
	RejectNotMember:         {"NOT_MEMBER", ErrNotMember},
	RejectUnknownRegistrant: {"UNKNOWN_REGISTRANT", ErrUnknownRegistrant},
	RejectUnknownRepository: {"UNKNOWN_REPOSITORY", ErrUnknownRepository},
	RejectRepositoryExists:  {"REPOSITORY_EXISTS", ErrRepositoryExists},
	RejectAgreementExists:   {"AGREEMENT_EXISTS", ErrAgreementExists},
	RejectNoAgreement:       {"NO_AGREEMENT", ErrNoAgreement},
	RejectStaleManifest:     {"STALE_MANIFEST", ErrStaleManifest},
	RejectManifestExists:    {"MANIFEST_EXISTS", ErrManifestExists},
	RejectUnknownManifest:   {"UNKNOWN_MANIFEST", ErrUnknownManifest},
	RejectCheckpointOrder:   {"CHECKPOINT_ORDER", ErrCheckpointOrder},
	RejectCheckpointRoot:    {"CHECKPOINT_ROOT", ErrCheckpointRoot},
	RejectUnknownRecord:     {"UNKNOWN_RECORD", ErrUnknownRecord},
	RejectUnknownKey:        {"UNKNOWN_KEY", ErrUnknownKey},
}

// String returns the code's public name ("STALE_MANIFEST").
func (r Reject) String() string {
	if int(r) < len(rejects) {
		return rejects[r].name
	}
	return fmt.Sprintf("REJECT_%d", uint16(r))
}

// Err returns the sentinel of r, nil for RejectNone.
func (r Reject) Err() error {
	if int(r) < len(rejects) {
		return rejects[r].err
	}
	return fmt.Errorf("refusal %d: %w", uint16(r), ErrUnknownKind)
}

// Registered is one registered record of a submission.
type Registered struct {
	Seq    uint64
	Number string
}

// Result is what one committed command did. A refusal is an outcome that every node computes alike, not a failure to
// apply.
type Result struct {
	Reject Reject
	Detail string // the item that was refused; for people, not part of the chain

	// Existing reports that the command had been applied before and this is its first outcome.
	Existing bool
	// Records are the records of a RegisterSubmission, in the submission's order.
	Records []Registered
	// Sequence is the number of the manifest that a RegisterSubmission or PutReceipt is about, in its repository.
	Sequence uint64
	// Member is the server ID that FoundNetwork or EnrolMember gave out.
	Member string
	// AtMillis is the registry's time at which the command was applied.
	AtMillis int64
}

// Err returns nil, or an error with the item that matches the refusal's sentinel.
func (r Result) Err() error {
	if r.Reject == RejectNone {
		return nil
	}
	if r.Detail == "" {
		return r.Reject.Err()
	}
	return fmt.Errorf("%s: %w", r.Detail, r.Reject.Err())
}
