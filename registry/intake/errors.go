package intake

import (
	"errors"
	"fmt"
	"strconv"

	"dengbei/chunkstore/digest"
)

var (
	// ErrRule is matched by every [*RuleError]: the delivery, not the system, has to change.
	ErrRule = errors.New("rule broken")
	// ErrSyntax is returned for bytes that are no canonical description or state.
	ErrSyntax = errors.New("malformed description")
	// ErrExists is matched by [*ExistsError]: the quarantine already holds that submission.
	ErrExists = errors.New("submission exists")
	// ErrBusy is returned when the submission is being received, or the quarantine is open in another process.
	ErrBusy = errors.New("busy")
	// ErrFull is returned when the disk is full. What was being received is removed; it can be sent again.
	ErrFull = errors.New("quarantine is full")
	// ErrNotFound is returned for a submission, record or file that the quarantine does not hold.
	ErrNotFound = errors.New("not found in the quarantine")
	// ErrAborted is returned by an [Incoming] that was aborted or committed before.
	ErrAborted = errors.New("no longer receiving")
	// ErrState is returned for a step that the submission's phase does not allow.
	ErrState = errors.New("phase does not allow this")
	// ErrDamaged is returned when stored bytes of the quarantine itself are not what was written.
	ErrDamaged = errors.New("quarantine is damaged")
)

// Rule names a check by its number in the table of check items, as the inspection report does.
type Rule string

// The rules this package refuses by.
const (
	RulePathSafety Rule = "X-7"
	RuleSecrecy    Rule = "X-1"
	RuleStructure  Rule = "1-13"
	RuleForm       Rule = "1-3"
	RuleDigest     Rule = "1-1a"
	RuleIdentity   Rule = "1-14"
	RuleCount      Rule = "2-1"
	RuleBytes      Rule = "2-2"
	RuleContent    Rule = "2-7"
)

// Name returns what the rule is about, in English; "" for a rule this package does not know.
func (r Rule) Name() string {
	switch r {
	case RulePathSafety:
		return "path safety"
	case RuleSecrecy:
		return "secrecy gate"
	case RuleStructure:
		return "package structure"
	case RuleForm:
		return "form"
	case RuleDigest:
		return "digest"
	case RuleIdentity:
		return "package identity"
	case RuleCount:
		return "item count"
	case RuleBytes:
		return "byte count"
	case RuleContent:
		return "content intact"
	default:
		return ""
	}
}

// RuleError is a refusal: which rule, on which item, what was found and what to do. It matches [ErrRule].
type RuleError struct {
	Rule Rule
	Item string // path, element or folder as given, unquoted
	What string // what was found
	Way  string // what the sender can do
	Err  error  // the cause, or nil
}

// maxItemText keeps a hostile name from filling a log.
const maxItemText = 512

// Error names rule, item, finding and way out in one line.
func (e *RuleError) Error() string {
	item := e.Item
	if len(item) > maxItemText {
		item = item[:maxItemText] + "..."
	}
	s := fmt.Sprintf("rule %s %s: %s: %s", string(e.Rule), e.Rule.Name(), strconv.Quote(item), e.What)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s + "; " + e.Way
}

// Unwrap returns the cause.
func (e *RuleError) Unwrap() error { return e.Err }

// Is reports that every RuleError is an [ErrRule].
func (e *RuleError) Is(target error) bool { return target == ErrRule }

// ExistsError says that a submission is already in the quarantine, and how far it got. It matches [ErrExists].
type ExistsError struct {
	ID    digest.Digest
	State State
}

// Error names the submission and its phase.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("submission %s: %v in phase %s; ask for its state instead of sending it again", e.ID.Hex(), ErrExists, e.State.Phase)
}

// Is reports that every ExistsError is an [ErrExists].
func (e *ExistsError) Is(target error) bool { return target == ErrExists }
