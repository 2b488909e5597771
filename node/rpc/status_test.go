package rpc

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dengbei/registry"
	"dengbei/registry/intake"
)

func TestToStatusGivesCodeAndReason(t *testing.T) {
	for _, tt := range []struct {
		name   string
		give   error
		code   codes.Code
		reason string
	}{
		{"a wrapped sentinel", fmt.Errorf("record 1: %w", ErrNotPublished), codes.FailedPrecondition, "NOT_PUBLISHED"},
		{"a rule of intake", &intake.RuleError{Rule: intake.RulePathSafety, Item: "../a", What: "leaves the folder", Way: "rename"}, codes.InvalidArgument, "RULE"},
		{"a refusal of the registry", registry.RejectStaleManifest.Err(), codes.Aborted, "STALE_MANIFEST"},
		{"what the table does not know", errors.New("secret detail"), codes.Internal, "INTERNAL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := ToStatus(tt.give)
			if got := status.Code(out); got != tt.code {
				t.Errorf("code = %v; want %v", got, tt.code)
			}
			if got := Reason(fromStatus(out)); got != tt.reason {
				t.Errorf("reason = %q; want %q", got, tt.reason)
			}
			if strings.Contains(out.Error(), "secret") {
				t.Errorf("%q tells what it must not", out)
			}
		})
	}
}

func TestRemoteErrorMatchesItsSentinel(t *testing.T) {
	remote := fromStatus(ToStatus(fmt.Errorf("x: %w", registry.ErrUnknownRegistrant)))
	if !errors.Is(remote, registry.ErrUnknownRegistrant) || errors.Is(remote, registry.ErrSignature) {
		t.Errorf("errors.Is(%v) does not follow the reason", remote)
	}
	again := ToStatus(fmt.Errorf("leader 330000-1: %w", remote))
	if got := Reason(fromStatus(again)); got != "UNKNOWN_REGISTRANT" {
		t.Errorf("a forwarded error has reason %q; want the first one", got)
	}
}

func TestEveryRejectHasAReasonInTheTable(t *testing.T) {
	for r := registry.RejectNone + 1; r.Err() != nil && !strings.HasPrefix(r.String(), "REJECT_"); r++ {
		if got := ReasonOf(r.Err()); got != r.String() {
			t.Errorf("reason of %v = %q; want %q, the reject's own name", r.Err(), got, r)
		}
	}
}

// The domain packages whose errors reach callers.
func TestEveryDomainErrorIsInTheTable(t *testing.T) {
	reasons := map[string]bool{}
	for _, r := range statusRows {
		if reasons[r.reason] {
			t.Errorf("reason %s stands twice in the table", r.reason)
		}
		reasons[r.reason] = true
	}
	inTable := tableNames(t)
	for _, dir := range []string{"../../registry", "../../registry/intake", "../../node/rpc"} {
		for _, name := range exportedErrors(t, dir) {
			if !inTable[name] {
				t.Errorf("%s has no row in the status table", name)
			}
		}
	}
}

func exportedErrors(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					if strings.HasPrefix(n.Name, "Err") {
						names = append(names, f.Name.Name+"."+n.Name)
					}
				}
			}
		}
	}
	return names
}

func tableNames(t *testing.T) map[string]bool {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "status.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.SelectorExpr:
			if p, ok := x.X.(*ast.Ident); ok {
				out[p.Name+"."+x.Sel.Name] = true
			}
		case *ast.CompositeLit:
			for _, e := range x.Elts {
				if id, ok := e.(*ast.Ident); ok {
					out["rpc."+id.Name] = true
				}
			}
		}
		return true
	})
	return out
}
