package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dengbei/cmd/dengbei/term"
	"dengbei/node"
	"dengbei/node/identity"
	"dengbei/node/rpc"
	"dengbei/registry"
)

// Exit codes of every command.
const (
	exitDone        = 0
	exitFalse       = 1
	exitUsage       = 2
	exitUnknown     = 3
	exitInterrupted = 130
)

const exitHelp = `Exit status: 0 done, 1 checked and false or refused, 2 wrong usage, 3 could not find out, 130 interrupted.
`

// exitCode is the one place where errors become exit codes.
func exitCode(ctx context.Context, err error) int {
	var usage *term.UsageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case ctx.Err() != nil:
		return exitInterrupted
	}
	var own *term.CodeError
	switch {
	case errors.As(err, &own):
		return own.Code
	case errors.Is(err, term.ErrFalse), isRefusedInput(err), isRefusedHere(err):
		return exitFalse
	}
	if rpc.Reason(err) != "" { // the node was reached and looked
		switch status.Code(err) {
		case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.PermissionDenied, codes.DataLoss, codes.OutOfRange:
			return exitFalse
		}
	}
	return exitUnknown
}

// isRefusedHere reports whether this program itself found out what a node would have refused for: the exit status does not
// tell who looked.
func isRefusedHere(err error) bool {
	for _, refusal := range []error{registry.ErrInvitation, registry.ErrUnknownCode, identity.ErrToken, node.ErrEnrolled} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// exit reports err on the error stream and returns the exit code.
func (a *app) exit(ctx context.Context, err error) int {
	code := exitCode(ctx, err)
	if err == nil {
		return code
	}
	if code == exitInterrupted {
		fmt.Fprintln(a.Err, "dengbei: interrupted")
		return code
	}
	fmt.Fprintf(a.Err, "dengbei: %v\n", err)
	return code
}
