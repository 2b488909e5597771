package certificate

import (
	"errors"
	"fmt"
)

// ErrRefused is returned for a certificate that does not hold. The error is a [*RefusedError].
var ErrRefused = errors.New("certificate does not hold")

// ErrHidden is returned when a check needs a field that the certificate hides.
var ErrHidden = errors.New("field is hidden in this certificate")

// ErrLanguage is returned for a language without a catalogue.
var ErrLanguage = errors.New("no such language")

// Rule names what a certificate must fulfil. The values are part of the verifier's JSON output: add, never rename.
type Rule string

// The rules, in the order in which they are checked.
const (
	RuleForm      Rule = "form"      // the file is a certificate in its only spelling, and its values have their form
	RulePolicy    Rule = "policy"    // the checkpoint is signed and countersigned as the policy wants
	RuleInclusion Rule = "inclusion" // the leaf made from the fields stands in the log at the stated position
	RuleStatement Rule = "statement" // the authority of the record signed number, position and commitment
	RuleDecision  Rule = "decision"  // the authority signed the decision that the record states
)

// Rules returns every rule.
func Rules() []Rule {
	return []Rule{RuleForm, RulePolicy, RuleInclusion, RuleStatement, RuleDecision}
}

// RefusedError says which rule a certificate breaks. It matches [ErrRefused] and whatever Err matches.
type RefusedError struct {
	Rule Rule
	Err  error
}

// Error implements error.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("%v (rule %s): %v", ErrRefused, e.Rule, e.Err)
}

// Unwrap returns [ErrRefused] and the cause.
func (e *RefusedError) Unwrap() []error { return []error{ErrRefused, e.Err} }

func refuse(rule Rule, err error) error { return &RefusedError{Rule: rule, Err: err} }
