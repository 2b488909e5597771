package identity

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Role is what a credential entitles its holder to be. What a role may do is decided elsewhere.
type Role string

// The roles. Their order here is their order in a certificate: add at the end.
const (
	Centre     Role = "centre"     // a node of an enrolled centre
	Voter      Role = "voter"      // a centre that votes; the only role that opens the Raft protocol
	Operator   Role = "operator"   // administers one node
	Registrar  Role = "registrar"  // officer of the authority (档案主管部门)
	Custodian  Role = "custodian"  // officer of the archive (档案馆)
	Registrant Role = "registrant" // hands records in
)

func roleOrder() []Role {
	return []Role{Centre, Voter, Operator, Registrar, Custodian, Registrant}
}

// Subject is who a credential stands for: a centre (no account) or a person's account at a centre.
type Subject struct {
	Network string // 1 to 63 of a-z 0-9 . -
	Code    string // six digits of GB/T 2260
	Serial  uint64 // enrolment serial within Network, 1 or more
	Account string // 1 to 64 of a-z 0-9 . _ -; empty for a centre
	Roles   []Role // at least one, each once, any order
}

const (
	maxNetworkLen = 63
	maxAccountLen = 64
)

// Validate returns an error matching [ErrSubject] if s cannot be put into a certificate.
func (s Subject) Validate() error {
	if !validName(s.Network, maxNetworkLen, false) {
		return fmt.Errorf("network %q: %w: want 1 to %d of a-z, 0-9, '.', '-'", s.Network, ErrSubject, maxNetworkLen)
	}
	if !validCode(s.Code) {
		return fmt.Errorf("code %q: %w: want six digits of GB/T 2260", s.Code, ErrSubject)
	}
	if s.Serial == 0 {
		return fmt.Errorf("serial 0: %w: serials start at 1", ErrSubject)
	}
	if len(s.Roles) == 0 {
		return fmt.Errorf("roles: %w: want at least one", ErrSubject)
	}
	for i, r := range s.Roles {
		if !slices.Contains(roleOrder(), r) {
			return fmt.Errorf("role %q: %w: unknown", r, ErrSubject)
		}
		if slices.Contains(s.Roles[:i], r) {
			return fmt.Errorf("role %q: %w: named twice", r, ErrSubject)
		}
		if centre := r == Centre || r == Voter; centre != (s.Account == "") {
			return fmt.Errorf("role %q, account %q: %w: a centre has no account, a person has one", r, s.Account, ErrSubject)
		}
	}
	if s.Has(Voter) && !s.Has(Centre) {
		return fmt.Errorf("role %q: %w: only a centre votes", Voter, ErrSubject)
	}
	if s.Account != "" && !validName(s.Account, maxAccountLen, true) {
		return fmt.Errorf("account %q: %w: want 1 to %d of a-z, 0-9, '.', '_', '-'", s.Account, ErrSubject, maxAccountLen)
	}
	return nil
}

func validCode(code string) bool {
	return len(code) == 6 && strings.Trim(code, "0123456789") == ""
}

func validName(s string, maxLen int, underscore bool) bool {
	if s == "" || len(s) > maxLen {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '-', c == '_' && underscore:
		default:
			return false
		}
	}
	return s[0] != '.' && s[0] != '-'
}

// Has reports whether s carries role r.
func (s Subject) Has(r Role) bool { return slices.Contains(s.Roles, r) }

// ServerID returns the name of the enrolment, "<code>-<serial>": for a centre its Raft server ID.
func (s Subject) ServerID() string { return s.Code + "-" + strconv.FormatUint(s.Serial, 10) }

// String returns the server ID, with the account before it if there is one.
func (s Subject) String() string {
	if s.Account == "" {
		return s.ServerID()
	}
	return s.Account + "@" + s.ServerID()
}

const uriScheme = "dengbei"

// uris returns the names of s in their only order.
func (s Subject) uris() []*url.URL {
	var out []*url.URL
	add := func(key, value string) {
		out = append(out, &url.URL{Scheme: uriScheme, Opaque: key + ":" + value})
	}
	add("network", s.Network)
	add("code", s.Code)
	add("serial", strconv.FormatUint(s.Serial, 10))
	if s.Account != "" {
		add("account", s.Account)
	}
	for _, r := range roleOrder() {
		if s.Has(r) {
			add("role", string(r))
		}
	}
	return out
}

// SubjectOf reads the subject in c and refuses every spelling but the one that [CA.Issue] writes. It does not say that c is
// trusted: see [Trust.Verify].
func SubjectOf(c *x509.Certificate) (Subject, error) {
	if len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses) != 0 {
		return Subject{}, fmt.Errorf("read subject: %w: names of another kind are present", ErrSubject)
	}
	if len(c.URIs) > 4+len(roleOrder()) {
		return Subject{}, fmt.Errorf("read subject: %w: %d names", ErrSubject, len(c.URIs))
	}
	var s Subject
	for _, u := range c.URIs {
		key, value, ok := strings.Cut(u.Opaque, ":")
		if u.Scheme != uriScheme || !ok {
			return Subject{}, fmt.Errorf("read subject: %w: name %q", ErrSubject, u)
		}
		switch key {
		case "network":
			s.Network = value
		case "code":
			s.Code = value
		case "serial":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return Subject{}, fmt.Errorf("read subject: %w: serial %q", ErrSubject, value)
			}
			s.Serial = n
		case "account":
			s.Account = value
		case "role":
			s.Roles = append(s.Roles, Role(value))
		default:
			return Subject{}, fmt.Errorf("read subject: %w: name %q", ErrSubject, u)
		}
	}
	if err := s.Validate(); err != nil {
		return Subject{}, fmt.Errorf("read subject: %w", err)
	}
	same := func(a, b *url.URL) bool { return a.String() == b.String() }
	if !slices.EqualFunc(c.URIs, s.uris(), same) {
		return Subject{}, fmt.Errorf("read subject: %w: names repeat or are out of order", ErrSubject)
	}
	return s, nil
}
