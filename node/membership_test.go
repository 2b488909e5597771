package node

import (
	"errors"
	"testing"

	"dengbei/node/identity"
	"dengbei/registry"
	"dengbei/registry/registrypb"
)

func TestMembershipKnowsWhoIsCurrent(t *testing.T) {
	state, _ := logOf(t, 0)
	apply(t, state, &registrypb.Command{Kind: &registrypb.Command_RevokeMember{RevokeMember: &registrypb.RevokeMember{Code: "330000", Serial: 1, Reason: "test"}}})
	m := &membership{state: func() *registry.State { return state }, initial: []*registrypb.Member{
		{Code: "330102", Serial: 4, PeerAddress: "127.0.0.1:4"}, {Code: "330100", Serial: 2, Voter: true, PeerAddress: "127.0.0.1:2"},
	}}
	subject := func(code string, serial uint64) identity.Subject {
		return identity.Subject{Network: "test", Code: code, Serial: serial, Roles: []identity.Role{identity.Centre, identity.Voter}}
	}
	for _, tt := range []struct {
		name          string
		give          identity.Subject
		current, vote bool
	}{
		{"revoked by the registry", subject("330000", 1), false, false},
		{"a county of the enrolment's list", subject("330102", 4), true, false},
		{"a voter of the enrolment's list", subject("330100", 2), true, true},
		{"enrolled later than anything known here", subject("330200", 9), true, true},
		{"never enrolled", subject("330200", 3), false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := m.Current(tt.give); (err == nil) != tt.current {
				t.Errorf("Current = %v; want allowed %v", err, tt.current)
			}
			if err := m.MayVote(identity.Peer{Subject: tt.give, Verified: true}); (err == nil) != tt.vote {
				t.Errorf("MayVote = %v; want allowed %v", err, tt.vote)
			}
		})
	}
	if _, err := m.Resolve("330000-1"); !errors.Is(err, registry.ErrNotMember) {
		t.Errorf("Resolve of a revoked member = %v; want ErrNotMember", err)
	}
	if got, err := m.Resolve("330102-4"); err != nil || got != "127.0.0.1:4" {
		t.Errorf("Resolve = %q, %v; want the enrolled address", got, err)
	}
}
