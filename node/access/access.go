// Package access is the one table of rights: which role may call which method. gRPC reads it here; what is not in the
// table is allowed to nobody.
package access

import (
	"slices"
	"strings"

	"dengbei/node/identity"
)

// anyone is a caller without a credential: a machine that wants to enrol.
const anyone identity.Role = "anyone"

// table lists the roles that may call each method.
func table() map[string][]identity.Role {
	const (
		centre     = identity.Centre
		operator   = identity.Operator
		registrar  = identity.Registrar
		custodian  = identity.Custodian
		registrant = identity.Registrant
	)
	return map[string][]identity.Role{
		"/dengbei.node.v1.Enrolment/Enrol": {anyone},

		"/dengbei.node.v1.Network/Invite":        {operator},
		"/dengbei.node.v1.Network/Members":       {operator, registrar, custodian, centre},
		"/dengbei.node.v1.Network/Status":        {operator, registrar, custodian, centre},
		"/dengbei.node.v1.Network/PutAgreement":  {operator},
		"/dengbei.node.v1.Network/AddRegistrant": {operator, registrar},
		"/dengbei.node.v1.Network/Issue":         {centre},
		"/dengbei.node.v1.Network/Policy":        {operator, registrar, custodian, registrant, centre},

		"/dengbei.node.v1.Submissions/Submit": {registrant},
		"/dengbei.node.v1.Submissions/List":   {registrar, custodian, operator, registrant},
		"/dengbei.node.v1.Submissions/Show":   {registrar, custodian, operator, registrant},
		"/dengbei.node.v1.Submissions/Watch":  {registrar, custodian, operator, registrant},
		"/dengbei.node.v1.Submissions/Report": {registrar, custodian, registrant},
		"/dengbei.node.v1.Submissions/Decide": {registrar},

		"/dengbei.node.v1.Records/List":        {registrar, custodian, operator, registrant},
		"/dengbei.node.v1.Records/Show":        {registrar, custodian, operator, registrant},
		"/dengbei.node.v1.Records/Certificate": {registrar, custodian, operator, registrant},

		"/dengbei.node.v1.Backups/List":    {operator, custodian},
		"/dengbei.node.v1.Backups/Restore": {custodian, operator, registrant},
		"/dengbei.node.v1.Backups/Escrow":  {operator},
		"/dengbei.node.v1.Backups/Recover": {operator},
		"/dengbei.node.v1.Backups/Check":   {operator, custodian},

		"/dengbei.node.v1.Peering/Propose":   {centre},
		"/dengbei.node.v1.Peering/ReadIndex": {centre},
		"/dengbei.node.v1.Peering/Cosign":    {centre},

		"/dengbei.replication.v1.Transfer/Fetch":    {centre},
		"/dengbei.replication.v1.Transfer/Document": {centre},
	}
}

var rights = table()

// Allowed reports whether a caller with these roles may call method, as in "/package.Service/Method". A caller without
// a credential has no roles.
func Allowed(method string, roles []identity.Role) bool {
	for _, r := range rights[method] {
		if r == anyone || slices.Contains(roles, r) {
			return true
		}
	}
	return false
}

// Roles lists the roles that may call method, for messages.
func Roles(method string) string {
	var names []string
	for _, r := range rights[method] {
		names = append(names, string(r))
	}
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

// Methods returns every method of the table, sorted.
func Methods() []string {
	var out []string
	for m := range rights {
		out = append(out, m)
	}
	slices.Sort(out)
	return out
}
