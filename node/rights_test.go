package node

import (
	"errors"
	"testing"

	"dengbei/node/config"
	"dengbei/node/identity"
	"dengbei/node/rpc"
	"dengbei/registry/registrypb"
)

// A node opens sealed fields for those who could open them at their own centre.
func TestOpenerAndSearchGoByTheCallersCentre(t *testing.T) {
	n := &Node{cfg: config.Config{Centre: "330102"}, keys: &keys{}}
	rec := &registrypb.Record{Authority: "330102", Registrant: "330102/unit"}
	who := func(code, account string, role identity.Role) identity.Subject {
		return identity.Subject{Network: "test", Code: code, Serial: 1, Account: account, Roles: []identity.Role{role}}
	}
	for _, tt := range []struct {
		name          string
		who           identity.Subject
		opens, search bool
	}{
		{"its own registrar", who("330102", "registrar", identity.Registrar), true, true},
		{"the city above", who("330100", "registrar", identity.Registrar), true, true},
		{"the province above", who("330000", "custodian", identity.Custodian), true, true},
		{"another county", who("330282", "registrar", identity.Registrar), false, false},
		{"a county of the same city", who("330105", "operator", identity.Operator), false, false},
		{"another city", who("330200", "operator", identity.Operator), false, false},
		{"the registrant", who("330102", "unit", identity.Registrant), true, true},
		{"another registrant, whom the filter keeps to its own", who("330102", "other", identity.Registrant), false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := n.opener(tt.who, rec) != nil; got != tt.opens {
				t.Errorf("opener opens: %t; want %t", got, tt.opens)
			}
			if err := n.maySearch(tt.who, "名单"); (err == nil) != tt.search || err != nil && !errors.Is(err, rpc.ErrDenied) {
				t.Errorf("maySearch = %v; want allowed %t", err, tt.search)
			}
			if err := n.maySearch(tt.who, ""); err != nil {
				t.Errorf("maySearch without a text = %v", err)
			}
		})
	}
	province := &Node{cfg: config.Config{Centre: "330000"}, keys: &keys{}}
	if province.opener(who("330282", "registrar", identity.Registrar), rec) != nil {
		t.Error("the province's node opens a county's record for another county")
	}
	if province.opener(who("330102", "registrar", identity.Registrar), rec) == nil {
		t.Error("the province's node does not open a record for its own authority")
	}
	if title, files, size := titleOf(nil, &registrypb.Record{Content: &registrypb.NewRecord{Title: "open", Sealed: []byte("sealed")}}); title != "open" || files != 0 || size != 0 {
		t.Errorf("titleOf without keys = %q, %d, %d; want the open title alone", title, files, size)
	}
}
