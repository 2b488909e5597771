package access

import (
	"testing"

	"google.golang.org/grpc"

	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/replication/replicationpb"
)

func services() []grpc.ServiceDesc {
	return []grpc.ServiceDesc{
		nodepb.Enrolment_ServiceDesc, nodepb.Network_ServiceDesc, nodepb.Submissions_ServiceDesc, nodepb.Records_ServiceDesc,
		nodepb.Backups_ServiceDesc, nodepb.Peering_ServiceDesc, replicationpb.Transfer_ServiceDesc,
	}
}

func TestTableHasExactlyTheMethodsThatExist(t *testing.T) {
	exist := map[string]bool{}
	for _, d := range services() {
		for _, m := range d.Methods {
			exist["/"+d.ServiceName+"/"+m.MethodName] = true
		}
		for _, s := range d.Streams {
			exist["/"+d.ServiceName+"/"+s.StreamName] = true
		}
	}
	for m := range exist {
		if len(rights[m]) == 0 {
			t.Errorf("%s is allowed to nobody: give it a row", m)
		}
	}
	for _, m := range Methods() {
		if !exist[m] {
			t.Errorf("%s is in the table and in no service", m)
		}
	}
}

func TestAllowed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		method string
		roles  []identity.Role
		want   bool
	}{
		{"a machine without a credential enrols", "/dengbei.node.v1.Enrolment/Enrol", nil, true},
		{"and does nothing else", "/dengbei.node.v1.Network/Members", nil, false},
		{"a registrant hands in", "/dengbei.node.v1.Submissions/Submit", []identity.Role{identity.Registrant}, true},
		{"an officer does not", "/dengbei.node.v1.Submissions/Submit", []identity.Role{identity.Registrar}, false},
		{"a registrant does not decide", "/dengbei.node.v1.Submissions/Decide", []identity.Role{identity.Registrant}, false},
		{"an operator does not decide", "/dengbei.node.v1.Submissions/Decide", []identity.Role{identity.Operator}, false},
		{"a registrant forwards nothing", "/dengbei.node.v1.Peering/Propose", []identity.Role{identity.Registrant}, false},
		{"a centre invites nobody", "/dengbei.node.v1.Network/Invite", []identity.Role{identity.Centre, identity.Voter}, false},
		{"an unknown method is nobody's", "/dengbei.node.v1.Network/Nonsense", []identity.Role{identity.Operator}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Allowed(tt.method, tt.roles); got != tt.want {
				t.Errorf("Allowed(%s, %v) = %v; want %v", tt.method, tt.roles, got, tt.want)
			}
		})
	}
}
