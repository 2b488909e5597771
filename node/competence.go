package node

import (
	"context"
	"fmt"

	"dengbei/node/identity"
	"dengbei/node/rpc"
	"dengbei/registry/registrypb"
)

// own refuses people of other centres: a node does the bidding of its own.
func (n *Node) own(ctx context.Context) error {
	if caller := rpc.CallerOf(ctx).Subject; caller.Code != n.cfg.Centre {
		return fmt.Errorf("%s belongs to centre %s, this is %s: %w", caller, caller.Code, n.cfg.Centre, rpc.ErrDenied)
	}
	return nil
}

// competent refuses commands that a centre may not propose: each speaks for itself only, members are the business of the
// node that holds the CA, and checkpoints that of the leader.
func competent(caller identity.Subject, c *registrypb.Command) error {
	var code string
	switch k := c.GetKind().(type) {
	case *registrypb.Command_RegisterSubmission:
		code = k.RegisterSubmission.GetAuthority()
	case *registrypb.Command_PutRegistrant:
		code = k.PutRegistrant.GetRegistrant().GetAuthority()
	case *registrypb.Command_PutRepository:
		code = k.PutRepository.GetRepository().GetOwner()
	case *registrypb.Command_PutReceipt:
		code = k.PutReceipt.GetReceipt().GetHolder()
	case *registrypb.Command_SignStatement:
		code = k.SignStatement.GetAuthority()
	case *registrypb.Command_PutEscrow:
		code = k.PutEscrow.GetCode()
	case *registrypb.Command_PutAgreement:
		code = k.PutAgreement.GetAgreement().GetOwner()
		if k.PutAgreement.GetAgreement().GetHolder() == caller.Code {
			code = caller.Code
		}
	case *registrypb.Command_InviteMember, *registrypb.Command_EnrolMember, *registrypb.Command_RevokeMember:
		if caller.Serial != founderSerial {
			return fmt.Errorf("%s may not change the membership: %w", caller, rpc.ErrDenied)
		}
		return nil
	default:
		return fmt.Errorf("%s may not propose %T: %w", caller, c.GetKind(), rpc.ErrDenied)
	}
	if code != caller.Code {
		return fmt.Errorf("%s may not propose for centre %q: %w", caller, code, rpc.ErrDenied)
	}
	return nil
}
