package archtest

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// owners names the only files that may import a library; a pattern is a path below the module as in [path.Match].
func owners() map[string][]string {
	return map[string][]string{
		"github.com/hashicorp/raft":       {"node/consensus/*.go", "registry/fsm.go", "registry/snapshot.go"},
		"github.com/hashicorp/memberlist": {"node/gossip/*.go"},
	}
}

// source is one file of the module, tests apart.
type source struct {
	path string // below the module, with slashes
	file *ast.File
	fset *token.FileSet
}

// sources parses every file that `go list` builds.
func sources(t *testing.T) []source {
	t.Helper()
	dir := root(t)
	var out []source
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			full := filepath.Join(p.Dir, name)
			rel, err := filepath.Rel(dir, full)
			if err != nil {
				t.Fatal(err)
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, full, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, source{filepath.ToSlash(rel), f, fset})
		}
	}
	return out
}

func parse(t *testing.T, name, text string) source {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return source{name, f, fset}
}

// imports returns what the file imports, by the name it uses.
func (s source) imports() map[string]string {
	out := map[string]string{}
	for _, i := range s.file.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue // the parser has refused it already
		}
		name := path.Base(p)
		if name == "v2" {
			name = path.Base(path.Dir(p))
		}
		if i.Name != nil {
			name = i.Name.Name
		}
		out[name] = p
	}
	return out
}

func below(importPath, library string) bool {
	return importPath == library || strings.HasPrefix(importPath, library+"/") || strings.HasPrefix(importPath, library+"-")
}

// checkImports returns a sentence for each library in the wrong file.
func checkImports(s source) []string {
	var out []string
	for _, p := range s.imports() {
		for library, files := range owners() {
			if below(p, library) && !slices.ContainsFunc(files, func(f string) bool { ok, err := path.Match(f, s.path); return ok && err == nil }) {
				out = append(out, s.path+" imports "+p+": only "+strings.Join(files, ", ")+" may")
			}
		}
		top, _, _ := strings.Cut(s.path, "/")
		server := below(path.Dir(s.path), "chunkstore/restserver")
		if (top == "chunkstore" || top == "registry") && !server && (p == "log/slog" || p == "log") {
			out = append(out, s.path+" imports "+p+": chunkstore and registry return errors and do not log; loops and servers do")
		}
	}
	return out
}

// checkRestore finds Raft's switch that loses membership changes on restart and hangs on long logs.
func checkRestore(s source) []string {
	const banned = "RestoreCommitted" + "Logs"
	var out []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && id.Name == banned {
			out = append(out, s.fset.Position(id.Pos()).String()+" names "+banned+": it loses membership changes and hangs; the state machine "+
				"is durable instead")
		}
		return true
	})
	return out
}

// isApplyPath reports whether a file must be a pure function of log and state. tlog/key.go makes keys, for commands; that the Apply path
// does not call it is checkPure's to see.
func isApplyPath(file string) bool {
	if file == "registry/tlog/key.go" {
		return false
	}
	for _, pattern := range []string{"registry/apply*.go", "registry/state*.go", "registry/tlog/*.go"} {
		if ok, err := path.Match(pattern, file); ok && err == nil {
			return true
		}
	}
	return false
}

// checkPure returns a sentence for each source of difference between two replicas.
func checkPure(s source) []string {
	if !isApplyPath(s.path) {
		return nil
	}
	bannedCalls := map[string][]string{
		"time": {"Now", "Since", "Until", "After", "Sleep", "NewTimer", "NewTicker", "Tick", "Local", "LoadLocation"},
		"os":   {"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Hostname", "Getpid"},
	}
	imports := s.imports()
	var out []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && strings.HasPrefix(id.Name, "Generate") {
			out = append(out, s.fset.Position(id.Pos()).String()+" uses "+id.Name+": keys are drawn by commands, not under Apply")
		}
		return true
	})
	for _, p := range imports {
		if p == "math/rand" || p == "math/rand/v2" || p == "crypto/rand" {
			out = append(out, s.path+" imports "+p+": seeds travel in the command")
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(bannedCalls[imports[x.Name]], sel.Sel.Name) {
			out = append(out, s.fset.Position(sel.Pos()).String()+" uses "+x.Name+"."+sel.Sel.Name+": under Apply only log and state count; "+
				"times and settings travel in the command")
		}
		return true
	})
	return out
}

func TestEveryFileKeepsTheRules(t *testing.T) {
	pure := 0
	for _, s := range sources(t) {
		for _, check := range []func(source) []string{checkImports, checkRestore, checkPure} {
			for _, breach := range check(s) {
				t.Error(breach)
			}
		}
		if isApplyPath(s.path) {
			pure++
		}
	}
	if pure == 0 {
		t.Error("no file is under the rules of Apply: have they moved? see isApplyPath")
	}
}

func TestFileRulesFindBreaches(t *testing.T) {
	for _, tt := range []struct {
		name, path, text string
		want             int
	}{
		{"consensus imports raft", "node/consensus/x.go", `package p; import _ "github.com/hashicorp/raft"`, 0},
		{"the adapter imports raft", "registry/fsm.go", `package p; import _ "github.com/hashicorp/raft"`, 0},
		{"state imports raft", "registry/query.go", `package p; import _ "github.com/hashicorp/raft"`, 1},
		{"node imports the log store", "node/x.go", `package p; import _ "github.com/hashicorp/raft-boltdb/v2"`, 1},
		{"rpc imports memberlist", "node/rpc/x.go", `package p; import _ "github.com/hashicorp/memberlist"`, 1},
		{"chunkstore logs", "chunkstore/archive/x.go", `package p; import _ "log/slog"`, 1},
		{"node logs", "node/x.go", `package p; import _ "log/slog"`, 0},
		{"the switch is set", "node/consensus/x.go", "package p; func f() { c.Restore" + "CommittedLogs = true }", 1},
		{"Apply reads the clock", "registry/apply.go", `package p; import "time"; var _ = time.Now()`, 1},
		{"Apply reads the clock by another name", "registry/apply_record.go", `package p; import c "time"; var _ = c.Now`, 1},
		{"Apply draws", "registry/state.go", `package p; import _ "math/rand/v2"`, 1},
		{"the log reads a setting", "registry/tlog/tree.go", `package p; import "os"; var _ = os.Getenv("X")`, 1},
		{"Apply draws a key", "registry/apply.go", `package p; import "dengbei/registry/tlog"; var _, _, _ = tlog.GenerateLogKey("o")`, 1},
		{"tlog draws a key", "registry/tlog/key.go", `package p; import _ "crypto/rand"`, 0},
		{"admit reads the clock", "registry/admit.go", `package p; import "time"; var _ = time.Now()`, 0},
		{"Apply computes with time", "registry/apply.go", `package p; import "time"; var _ = time.UnixMilli(0)`, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := parse(t, tt.path, tt.text)
			if got := slices.Concat(checkImports(s), checkRestore(s), checkPure(s)); len(got) != tt.want {
				t.Errorf("breaches = %q; want %d", got, tt.want)
			}
		})
	}
}

// checkNames returns a sentence for each directory or top-level name that is not to be. names are paths with slashes.
func checkNames(names []string) []string {
	top := []string{
		"cmd", "node", "replication", "chunkstore", "registry", "deploy", "docs", ".ci", "Makefile", "LICENSE", "CONTRIBUTING.md",
		"CHANGELOG.md", "README.md", "go.mod", "go.sum", ".gitignore", ".gitattributes", ".github",
	}
	banned := []string{"internal", "pkg", "util", "utils", "common", "helper", "helpers", "misc"}
	seen := map[string]bool{}
	var out []string
	add := func(s string) {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	for _, name := range names {
		parts := strings.Split(name, "/")
		if !slices.Contains(top, parts[0]) {
			add(parts[0] + " stands at the top: only " + strings.Join(top, " ") + " do")
		}
		for i, dir := range parts[:len(parts)-1] {
			if slices.Contains(banned, dir) && !slices.Contains(parts[:i], "testdata") {
				add(strings.Join(parts[:i+1], "/") + ": no directory is called " + dir + "; name the noun inside")
			}
		}
	}
	return out
}

// files lists the module's files: the tracked ones, or all where there is no git.
func files(t *testing.T) []string {
	t.Helper()
	dir := root(t)
	cmd := exec.CommandContext(t.Context(), "git", "ls-files", "-z")
	cmd.Dir = dir
	if out, err := cmd.Output(); err == nil && len(out) > 0 {
		return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	}
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil && !errors.Is(err, os.ErrNotExist) { // built beside the test
			return err
		}
		if d.IsDir() {
			if d.Name() == ".git" {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		out = append(out, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNames(t *testing.T) {
	for _, breach := range checkNames(files(t)) {
		t.Error(breach)
	}
	for name, want := range map[string]int{
		"registry/apply.go": 0, "node/internal/x.go": 1, "scripts/x.sh": 1, "cmd/dengbei/util/x.go": 1, "registry/testdata/pkg/x": 0,
		"registry/common.go": 0,
	} {
		if got := checkNames([]string{name}); len(got) != want {
			t.Errorf("checkNames(%s) = %q; want %d", name, got, want)
		}
	}
}

// A third party runs the verifier on a machine of its own choosing; it must not be able to call anybody.
func TestVerifierLinksNoNetwork(t *testing.T) {
	found := false
	for _, p := range packages(t) {
		if p.name() != "cmd/dengbei-verify" {
			continue
		}
		found = true
		for _, d := range p.Deps {
			if d == "net/http" || below(d, "google.golang.org/grpc") {
				t.Errorf("cmd/dengbei-verify links %s", d)
			}
		}
	}
	if !found {
		t.Error("cmd/dengbei-verify is not there: the rule holds for nothing")
	}
}
