package certificate

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"dengbei/registry/tlog"
)

// maxValueSize bounds one field's value in bytes.
const maxValueSize = 64 << 10

// timeLayout is RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000-07:00"

// checkForm wants a kind that this package knows, values that have their form and the indispensable fields disclosed.
// The statements join values with line feeds, so none of those may hold one.
func (c *Certificate) checkForm() error {
	if c.Kind != tlog.LeafRegistration {
		return fmt.Errorf("certificate: leaf kind %d is no registration: %w", c.Kind, tlog.ErrMalformed)
	}
	for _, id := range AlwaysDisclosed() {
		if !c.Fields[id].Disclosed {
			return fmt.Errorf("certificate: field %s is hidden, but must be shown; ask the authority for another certificate: %w", id, tlog.ErrMalformed)
		}
	}
	for i, f := range c.Fields {
		id := tlog.FieldID(i)
		if f.Disclosed && !hasForm(id, f.Value) {
			return fmt.Errorf("certificate: %.100q is not what field %s must hold: %w", f.Value, id, tlog.ErrMalformed)
		}
	}
	return nil
}

// hasForm reports whether v has the form that the commitment's description gives field id.
func hasForm(id tlog.FieldID, v string) bool {
	if len(v) > maxValueSize || !utf8.ValidString(v) {
		return false
	}
	switch id {
	case tlog.FieldOrigin, tlog.FieldNumber, tlog.FieldAuthority:
		return tlog.ValidKeyName(v)
	case tlog.FieldRegisteredAt, tlog.FieldReceivedAt:
		_, err := parseTime(v)
		return err == nil
	case tlog.FieldSubmission:
		submission, ordinal, ok := strings.Cut(v, "/")
		n, err := strconv.ParseUint(ordinal, 10, 32)
		return ok && isHex64(submission) && err == nil && strconv.FormatUint(n, 10) == ordinal
	case tlog.FieldDecision:
		b, err := base64.StdEncoding.DecodeString(v)
		return err == nil && len(b) == 64 && base64.StdEncoding.EncodeToString(b) == v
	case tlog.FieldPayload:
		_, _, err := parsePayload(v)
		return err == nil
	case tlog.FieldManifestSHA256, tlog.FieldManifestSM3, tlog.FieldReport, tlog.FieldMetadata:
		return isHex64(v)
	default:
		return true
	}
}

func isHex64(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// parseTime reads RFC 3339 with milliseconds in +08:00 and no other spelling.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(timeLayout, s)
	if err != nil || t.In(shanghai()).Format(timeLayout) != s {
		return time.Time{}, fmt.Errorf("time %.40q: want RFC 3339 with milliseconds in +08:00: %w", s, tlog.ErrMalformed)
	}
	return t.In(shanghai()), nil
}

// shanghai is UTC+8 without daylight saving, also on machines without a time-zone database.
func shanghai() *time.Location { return time.FixedZone("UTC+8", 8*60*60) }

// parsePayload reads "<bytes>.<files>".
func parsePayload(s string) (sizeBytes, files int64, err error) {
	a, b, ok := strings.Cut(s, ".")
	size, err1 := strconv.ParseUint(a, 10, 63)
	count, err2 := strconv.ParseUint(b, 10, 63)
	if !ok || err1 != nil || err2 != nil || size > math.MaxInt64 || strconv.FormatUint(size, 10)+"."+strconv.FormatUint(count, 10) != s {
		return 0, 0, fmt.Errorf("payload %.40q: want <bytes>.<files>: %w", s, tlog.ErrMalformed)
	}
	return int64(size), int64(count), nil
}
