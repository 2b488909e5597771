package intake

import (
	"fmt"
	"slices"
	"strings"
)

// secrecyElements are the names under which a metadata element carries the secrecy level (DA/T 46 密级).
func secrecyElements() []string {
	return []string{"密级", "secrecy", "securitylevel", "security level"}
}

// CheckSecrecy is the gate X-1: nothing above XZ may enter, neither by the record's code nor by a 密级 element of its
// metadata. It returns a [*RuleError] of [RuleSecrecy]. What it refuses must not be stored.
func CheckSecrecy(s *Submission) error {
	for i := range s.Records {
		if err := CheckRecordSecrecy(i, &s.Records[i]); err != nil {
			return err
		}
	}
	return nil
}

// CheckRecordSecrecy is [CheckSecrecy] for one record with its ordinal.
func CheckRecordSecrecy(ordinal int, r *Record) error {
	level := r.Secrecy
	if level == "" {
		level = SecrecyPublic
	}
	if level != SecrecyPublic && level != SecrecyRestricted {
		return secrecyError(ordinal, level)
	}
	for _, e := range r.Metadata {
		if !slices.Contains(secrecyElements(), strings.ToLower(strings.TrimSpace(e.Name))) {
			continue
		}
		if level := classified(e.Value); level != "" {
			return secrecyError(ordinal, level)
		}
	}
	return nil
}

// classified returns the code of a level above XZ that v names, or "".
func classified(v string) string {
	v = strings.ToUpper(strings.TrimSpace(v))
	for _, l := range []struct{ code, word string }{{SecrecyTop, "绝密"}, {SecrecyConfidential, "机密"}, {SecrecySecret, "秘密"}} {
		if v == l.code || strings.HasPrefix(v, l.word) {
			return l.code
		}
	}
	return ""
}

func secrecyError(ordinal int, level string) *RuleError {
	return &RuleError{Rule: RuleSecrecy, Item: fmt.Sprintf("record %d", ordinal),
		What: fmt.Sprintf("secrecy %s is above XZ, the highest this network takes", level),
		Way:  "do not send it here: hand it in under the rules for state secrets, and report the attempt to your secrecy office"}
}
