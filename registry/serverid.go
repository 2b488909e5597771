package registry

import (
	"fmt"
	"strconv"
	"strings"

	"dengbei/registry/registrypb"
)

// ServerID names a member: "<code>-<serial>". A centre that enrols again has a new one.
func ServerID(code string, serial uint64) string { return code + "-" + strconv.FormatUint(serial, 10) }

// MemberID returns m's server ID.
func MemberID(m *registrypb.Member) string { return ServerID(m.GetCode(), m.GetSerial()) }

// ParseServerID is the inverse of [ServerID]. It accepts one spelling only.
func ParseServerID(id string) (code string, serial uint64, err error) {
	code, digits, _ := strings.Cut(id, "-")
	serial, err = strconv.ParseUint(digits, 10, 63)
	if err != nil || serial == 0 || !validCode(code) || ServerID(code, serial) != id {
		return "", 0, fmt.Errorf("server ID %.40q: want <code>-<serial>: %w", id, ErrMalformed)
	}
	return code, serial, nil
}

// maxClassBytes bounds the name of a protection class.
const maxClassBytes = 32

// ValidClass reports whether s can name a protection class: 1 to 32 of a-z 0-9 -, the first a letter. The name becomes part
// of a repository's ID, and that of paths.
func ValidClass(s string) bool {
	return s != "" && len(s) <= maxClassBytes && 'a' <= s[0] && s[0] <= 'z' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// RepositoryID returns the only ID that a repository of this owner, class and epoch can have.
func RepositoryID(owner, class string, epoch uint32) string {
	return owner + "-" + class + "-" + strconv.FormatUint(uint64(epoch), 10)
}
