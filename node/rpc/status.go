package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/registry"
	"dengbei/registry/intake"
	"dengbei/registry/tlog"
)

// Errors of the services themselves.
var (
	// ErrNotFound is returned for a number, submission or centre this node does not know.
	ErrNotFound = errors.New("not found")
	// ErrNotPublished is returned while no published checkpoint covers the record.
	ErrNotPublished = errors.New("not under a published checkpoint yet")
	// ErrNoLeader is returned when no leader is known: the quorum is away.
	ErrNoLeader = errors.New("no leader known, the quorum is away")
	// ErrOutcomeUnknown is returned when the reply to a proposal was lost: it may or may not be committed. Repeating is safe.
	ErrOutcomeUnknown = errors.New("outcome unknown, safe to repeat")
	// ErrRecovering is returned while this centre's repositories are not back yet.
	ErrRecovering = errors.New("this centre is not recovered yet")
	// ErrInvalid is returned for a request that cannot be meant.
	ErrInvalid = errors.New("invalid request")
	// ErrState is returned when the object's state does not allow what is asked.
	ErrState = errors.New("not possible in this state")
	// ErrElsewhere is returned for what only another centre's node can do; the text says which.
	ErrElsewhere = errors.New("ask another node")
	// ErrLost is returned when no verified copy of something can be found.
	ErrLost = errors.New("no verified copy found")
)

const (
	reasonInternal = "INTERNAL"
	domain         = "dengbei"
)

type row struct {
	err    error
	code   codes.Code
	reason string
}

// statusTable gives each domain error its code and public reason; the first match wins. Reasons are public: add, never
// rename.
func statusTable() []row {
	return []row{
		{ErrDenied, codes.PermissionDenied, "DENIED"},
		{ErrNotPublished, codes.FailedPrecondition, "NOT_PUBLISHED"},
		{ErrNoLeader, codes.Unavailable, "NO_LEADER"},
		{ErrOutcomeUnknown, codes.Aborted, "OUTCOME_UNKNOWN"},
		{ErrRecovering, codes.FailedPrecondition, "RECOVERING"},
		{ErrInvalid, codes.InvalidArgument, "INVALID"},
		{ErrState, codes.FailedPrecondition, "STATE"},
		{ErrElsewhere, codes.FailedPrecondition, "ELSEWHERE"},
		{ErrLost, codes.DataLoss, "LOST"},
		{ErrNotFound, codes.NotFound, "NOT_FOUND"},

		{intake.ErrFull, codes.ResourceExhausted, "QUARANTINE_FULL"},
		{intake.ErrRule, codes.InvalidArgument, "RULE"},
		{intake.ErrSyntax, codes.InvalidArgument, "MALFORMED_DESCRIPTION"},
		{intake.ErrExists, codes.AlreadyExists, "SUBMISSION_EXISTS"},
		{intake.ErrBusy, codes.Unavailable, "SUBMISSION_BUSY"},
		{intake.ErrNotFound, codes.NotFound, "SUBMISSION_NOT_FOUND"},
		{intake.ErrState, codes.FailedPrecondition, "SUBMISSION_STATE"},
		{intake.ErrAborted, codes.Aborted, "SUBMISSION_ABORTED"},
		{intake.ErrDamaged, codes.DataLoss, "QUARANTINE_DAMAGED"},

		{registry.ErrSignature, codes.PermissionDenied, "SIGNATURE"},
		{registry.ErrUnknownRegistrant, codes.PermissionDenied, "UNKNOWN_REGISTRANT"},
		{registry.ErrUnknownCode, codes.InvalidArgument, "UNKNOWN_CODE"},
		{registry.ErrTooLarge, codes.InvalidArgument, "COMMAND_TOO_LARGE"},
		{registry.ErrUnknownKind, codes.Unimplemented, "UNKNOWN_KIND"},
		{registry.ErrNumber, codes.InvalidArgument, "NUMBER"},
		{registry.ErrMalformed, codes.InvalidArgument, "MALFORMED"},
		{registry.ErrNotFounded, codes.Unavailable, "NOT_FOUNDED"},
		{registry.ErrFounded, codes.AlreadyExists, "FOUNDED"},
		{registry.ErrInvitationUsed, codes.PermissionDenied, "INVITATION_USED"},
		{registry.ErrInvitationExpired, codes.PermissionDenied, "INVITATION_EXPIRED"},
		{registry.ErrInvitation, codes.PermissionDenied, "INVITATION"},
		{registry.ErrActiveMember, codes.AlreadyExists, "ACTIVE_MEMBER"},
		{registry.ErrNotMember, codes.FailedPrecondition, "NOT_MEMBER"},
		{registry.ErrUnknownRepository, codes.NotFound, "UNKNOWN_REPOSITORY"},
		{registry.ErrRepositoryExists, codes.AlreadyExists, "REPOSITORY_EXISTS"},
		{registry.ErrAgreementExists, codes.AlreadyExists, "AGREEMENT_EXISTS"},
		{registry.ErrNoAgreement, codes.FailedPrecondition, "NO_AGREEMENT"},
		{registry.ErrStaleManifest, codes.Aborted, "STALE_MANIFEST"},
		{registry.ErrManifestExists, codes.AlreadyExists, "MANIFEST_EXISTS"},
		{registry.ErrUnknownManifest, codes.NotFound, "UNKNOWN_MANIFEST"},
		{registry.ErrCheckpointOrder, codes.FailedPrecondition, "CHECKPOINT_ORDER"},
		{registry.ErrCheckpointRoot, codes.DataLoss, "CHECKPOINT_ROOT"},
		{registry.ErrUnknownRecord, codes.NotFound, "UNKNOWN_RECORD"},
		{registry.ErrUnknownKey, codes.PermissionDenied, "UNKNOWN_KEY"},
		{registry.ErrNotFound, codes.NotFound, "NOT_REGISTERED"},
		{registry.ErrClosed, codes.Unavailable, "STATE_CLOSED"},
		{registry.ErrCorrupt, codes.DataLoss, "STATE_CORRUPT"},

		{chunkstore.ErrFull, codes.ResourceExhausted, "STORE_FULL"},
		{digest.ErrMismatch, codes.DataLoss, "DIGEST_MISMATCH"},
		{digest.ErrSyntax, codes.InvalidArgument, "DIGEST_SYNTAX"},
		{tlog.ErrMalformed, codes.InvalidArgument, "MALFORMED_NOTE"},

		{context.Canceled, codes.Canceled, "CANCELLED"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE"},
	}
}

var statusRows = statusTable()

// ToStatus gives err its gRPC code and reason. An error that the table does not know becomes INTERNAL without its text.
func ToStatus(err error) error {
	_, out := toStatus(err)
	return out
}

// toStatus also returns the reason, empty for an error that had a status already.
func toStatus(err error) (reason string, out error) {
	if err == nil {
		return "", nil
	}
	var remote *Error
	if errors.As(err, &remote) {
		return remote.Reason, withReason(remote.Code, remote.Reason, err.Error())
	}
	if s, ok := status.FromError(err); ok && s.Code() != codes.Unknown {
		return "", err
	}
	for _, r := range statusRows {
		if errors.Is(err, r.err) {
			return r.reason, withReason(r.code, r.reason, err.Error())
		}
	}
	return reasonInternal, withReason(codes.Internal, reasonInternal, "internal error, see the node's log")
}

// ReasonOf returns the public reason of a domain error.
func ReasonOf(err error) string {
	reason, _ := toStatus(err)
	return reason
}

func withReason(code codes.Code, reason, text string) error {
	s := status.New(code, text)
	d, err := s.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: domain})
	if err != nil {
		return s.Err()
	}
	return d.Err()
}

// Is lets an error of another node match the sentinel of its reason.
func (e *Error) Is(target error) bool {
	for _, r := range statusRows {
		if r.reason == e.Reason {
			return r.err == target
		}
	}
	return false
}

// ByReason returns the sentinel of a public reason, or an error with the reason's name.
func ByReason(reason string) error {
	for _, r := range statusRows {
		if r.reason == reason {
			return r.err
		}
	}
	return fmt.Errorf("reason %s", reason)
}
