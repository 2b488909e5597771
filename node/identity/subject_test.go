package identity

import (
	"crypto/x509"
	"errors"
	"net/url"
	"reflect"
	"testing"
)

func TestSubjectSurvivesACertificate(t *testing.T) {
	ca := newCA(t, "zj")
	for _, s := range []Subject{
		centre("330102", 3),
		centre("330000", 1, Voter),
		{Network: "zj", Code: "330102", Serial: 9, Account: "office-7", Roles: []Role{Registrant}},
		{Network: "zj", Code: "330102", Serial: 1<<64 - 1, Account: "a_b.c", Roles: []Role{Registrar, Custodian}},
	} {
		got, err := SubjectOf(issue(t, ca, s).Leaf)
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("SubjectOf = %+v, %v; want %+v", got, err, s)
		}
	}
	if got, want := centre("330102", 3).ServerID(), "330102-3"; got != want {
		t.Errorf("ServerID() = %q; want %q", got, want)
	}
}

func TestSubjectValidate(t *testing.T) {
	for _, tt := range []struct {
		name string
		give Subject
	}{
		{"no network", Subject{Code: "330102", Serial: 1, Roles: []Role{Centre}}},
		{"network with a colon", Subject{Network: "z:j", Code: "330102", Serial: 1, Roles: []Role{Centre}}},
		{"code of five digits", centre("33010", 1)},
		{"code in wide digits", centre("３", 1)},
		{"serial 0", centre("330102", 0)},
		{"no role", Subject{Network: "zj", Code: "330102", Serial: 1}},
		{"unknown role", centre("330102", 1, "king")},
		{"role twice", centre("330102", 1, Centre)},
		{"voter that is no centre", Subject{Network: "zj", Code: "330102", Serial: 1, Roles: []Role{Voter}}},
		{"centre with an account", Subject{Network: "zj", Code: "330102", Serial: 1, Account: "a", Roles: []Role{Centre}}},
		{"registrant without account", Subject{Network: "zj", Code: "330102", Serial: 1, Roles: []Role{Registrant}}},
		{"centre and registrar in one", Subject{Network: "zj", Code: "330102", Serial: 1, Account: "a", Roles: []Role{Registrar, Centre}}},
		{"account with a space", Subject{Network: "zj", Code: "330102", Serial: 1, Account: "a b", Roles: []Role{Registrar}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.give.Validate(); !errors.Is(err, ErrSubject) {
				t.Errorf("Validate(%+v) = %v; want ErrSubject", tt.give, err)
			}
		})
	}
}

func TestSubjectOfIsStrict(t *testing.T) {
	good := []string{"dengbei:network:zj", "dengbei:code:330102", "dengbei:serial:3", "dengbei:role:centre"}
	for _, tt := range []struct {
		name string
		give []string
		want error
	}{
		{"as issued", good, nil},
		{"no names", nil, ErrSubject},
		{"other order", []string{good[1], good[0], good[2], good[3]}, ErrSubject},
		{"serial with a leading zero", []string{good[0], good[1], "dengbei:serial:03", good[3]}, ErrSubject},
		{"serial with a sign", []string{good[0], good[1], "dengbei:serial:+3", good[3]}, ErrSubject},
		{"two codes", []string{good[0], good[1], "dengbei:code:330000", good[2], good[3]}, ErrSubject},
		{"role twice", append(append([]string{}, good...), good[3]), ErrSubject},
		{"roles out of order", append(append([]string{}, good[:3]...), "dengbei:role:voter", good[3]), ErrSubject},
		{"foreign scheme", append(append([]string{}, good...), "spiffe://zj/x"), ErrSubject},
		{"unknown key", append(append([]string{}, good...), "dengbei:level:1"), ErrSubject},
		{"query after the role", []string{good[0], good[1], good[2], "dengbei:role:centre?x"}, ErrSubject},
		{"escaped letter", []string{good[0], good[1], good[2], "dengbei:role:%63entre"}, ErrSubject},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c x509.Certificate
			for _, s := range tt.give {
				u, err := url.Parse(s)
				if err != nil {
					t.Fatal(err)
				}
				c.URIs = append(c.URIs, u)
			}
			if s, err := SubjectOf(&c); !errors.Is(err, tt.want) {
				t.Errorf("SubjectOf(%q) = %+v, %v; want %v", tt.give, s, err, tt.want)
			}
		})
	}
	if _, err := SubjectOf(&x509.Certificate{DNSNames: []string{"localhost"}}); !errors.Is(err, ErrSubject) {
		t.Errorf("SubjectOf(DNS name) = %v; want ErrSubject", err)
	}
}
