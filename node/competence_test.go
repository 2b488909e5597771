package node

import (
	"errors"
	"testing"

	"dengbei/node/identity"
	"dengbei/node/rpc"
	"dengbei/registry/registrypb"
)

func TestCompetentLetsACentreSpeakForItselfOnly(t *testing.T) {
	county := identity.Subject{Network: "test", Code: "330102", Serial: 4, Roles: []identity.Role{identity.Centre}}
	founder := identity.Subject{Network: "test", Code: "330000", Serial: founderSerial, Roles: []identity.Role{identity.Centre, identity.Voter}}
	register := func(code string) *registrypb.Command {
		return &registrypb.Command{Kind: &registrypb.Command_RegisterSubmission{RegisterSubmission: &registrypb.RegisterSubmission{Authority: code}}}
	}
	receipt := func(code string) *registrypb.Command {
		return &registrypb.Command{Kind: &registrypb.Command_PutReceipt{PutReceipt: &registrypb.PutReceipt{Receipt: &registrypb.Receipt{Holder: code}}}}
	}
	agreement := func(owner, holder string) *registrypb.Command {
		return &registrypb.Command{Kind: &registrypb.Command_PutAgreement{PutAgreement: &registrypb.PutAgreement{
			Agreement: &registrypb.Agreement{Owner: owner, Holder: holder},
		}}}
	}
	revoke := &registrypb.Command{Kind: &registrypb.Command_RevokeMember{RevokeMember: &registrypb.RevokeMember{Code: "330100"}}}
	checkpoint := &registrypb.Command{Kind: &registrypb.Command_PublishCheckpoint{PublishCheckpoint: &registrypb.PublishCheckpoint{}}}
	for _, tt := range []struct {
		name string
		who  identity.Subject
		give *registrypb.Command
		want bool
	}{
		{"its own registration", county, register("330102"), true},
		{"another authority's registration", county, register("330105"), false},
		{"the province registers for no county", founder, register("330102"), false},
		{"its own receipt", county, receipt("330102"), true},
		{"a receipt in another's name", county, receipt("330100"), false},
		{"an agreement as the owner", county, agreement("330102", "330000"), true},
		{"an agreement as the holder", county, agreement("330000", "330102"), true},
		{"an agreement between others", county, agreement("330000", "330100"), false},
		{"a revocation by a county", county, revoke, false},
		{"a revocation by the holder of the CA", founder, revoke, true},
		{"a checkpoint, which the leader makes itself", founder, checkpoint, false},
		{"a command without a kind", county, &registrypb.Command{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := competent(tt.who, tt.give)
			if (err == nil) != tt.want || err != nil && !errors.Is(err, rpc.ErrDenied) {
				t.Errorf("competent = %v; want allowed %v", err, tt.want)
			}
		})
	}
}
