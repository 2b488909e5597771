package archtest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "dengbei"

// arrows is every import inside the module that is allowed, tests apart. A new package needs a row, one sentence in its package
// comment and a reason in the commit; a new arrow must point down and needs a reason too. A row may end in "/..." for all below; an
// allowed name may too.
//
// registry, chunkstore and replication never meet but in chunkstore/digest: TestTreesNeverMeet holds that, whatever stands here.
func arrows() map[string][]string {
	return map[string][]string{
		"chunkstore":            {"chunkstore/digest"},
		"chunkstore/digest":     {},
		"chunkstore/repository": {"chunkstore", "chunkstore/digest"},
		"chunkstore/boundary":   {},
		"chunkstore/pattern":    {},
		"chunkstore/archive":    {"chunkstore", "chunkstore/boundary", "chunkstore/digest", "chunkstore/repository", "chunkstore/pattern"},
		"chunkstore/restore":    {"chunkstore", "chunkstore/digest", "chunkstore/repository", "chunkstore/pattern"},
		"chunkstore/check":      {"chunkstore", "chunkstore/digest", "chunkstore/repository"},
		"chunkstore/browse":     {"chunkstore", "chunkstore/digest", "chunkstore/repository", "chunkstore/pattern"},
		"chunkstore/retention":  {"chunkstore", "chunkstore/digest", "chunkstore/repository"},
		"chunkstore/prune":      {"chunkstore", "chunkstore/digest", "chunkstore/repository"},
		"chunkstore/repair":     {"chunkstore", "chunkstore/digest", "chunkstore/repository"},
		"chunkstore/transcribe": {"chunkstore", "chunkstore/digest", "chunkstore/repository"},
		"chunkstore/restserver": {"chunkstore", "chunkstore/digest", "chunkstore/repository"},
		"chunkstore/chunktest":  {"chunkstore", "chunkstore/digest", "chunkstore/repository"},

		"registry":             {"chunkstore/digest", "registry/registrypb", "registry/tlog"},
		"registry/registrypb":  {},
		"registry/tlog":        {},
		"registry/certificate": {"chunkstore/digest", "registry/tlog"},
		"registry/intake":      {"chunkstore/digest"},
		"registry/fournature":  {"chunkstore/digest", "registry/intake"},
		"registry/catalogue":   {"chunkstore/digest", "registry", "registry/registrypb"},

		"replication":                 {"chunkstore/digest", "replication/manifest", "replication/replicationpb"},
		"replication/manifest":        {"chunkstore/digest"},
		"replication/replicationpb":   {},
		"replication/replicationtest": {"chunkstore/digest", "replication", "replication/manifest"},

		"node/config":    {"chunkstore/digest"},
		"node/consensus": {"chunkstore/digest"},
		"node/gossip":    {"chunkstore/digest"},
		"node/identity":  {"chunkstore/digest"},
		"node/metrics":   {},
		"node/archtest":  {},
		"node/nodepb":    {"registry/registrypb"}, // the API shows the durable messages as they are
		"node/access":    {"node/identity"},
		"node/console":   {"node/access", "node/nodepb"},
		"node/rpc": {
			"node/access", "node/identity", "node/nodepb", "chunkstore", "chunkstore/digest", "registry", "registry/...", "replication",
			"replication/manifest", "replication/replicationpb",
		},
		"node":          {"node/...", "chunkstore", "chunkstore/...", "registry", "registry/...", "replication", "replication/..."},
		"node/launch":   {},
		"node/nodetest": {"node", "node/config"},

		"cmd/dengbei/term": {},
		"cmd/dengbei/repo": {"cmd/dengbei/term", "chunkstore", "chunkstore/..."}, // works without any node
		"cmd/dengbei": {
			"cmd/dengbei/term", "cmd/dengbei/repo", "node", "node/config", "node/identity", "node/launch", "node/nodepb", "node/rpc", "chunkstore", "chunkstore/...", "registry", "registry/...",
		},
		"cmd/dengbei-verify": {"chunkstore/digest", "registry/certificate", "registry/tlog"},

		// Outside the product: they start it, measure it or check its files, and nothing imports them.
		"deploy/...": {"deploy/bench/process", "deploy/bench/report", "node", "node/...", "chunkstore", "chunkstore/...", "registry", "registry/...", "replication", "replication/..."},
		"docs/...":   {},
	}
}

// pkg is what `go list` says of one package, tests apart.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

// name returns the package's path below the module.
func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

// root returns the module's directory.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if !errors.Is(err, os.ErrNotExist) || up == dir {
			t.Fatalf("find go.mod above the test: %v", err)
		}
		dir = up
	}
}

// packages lists every package of the module.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "./...")
	cmd.Dir = root(t)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) < 5 {
		t.Fatalf("go list gave %d packages: the rules would hold for nothing", len(all))
	}
	return all
}

// row returns the allowed imports of a package.
func row(table map[string][]string, name string) ([]string, bool) {
	if r, ok := table[name]; ok {
		return r, true
	}
	for pattern, r := range table {
		if matches(pattern, name) {
			return r, true
		}
	}
	return nil, false
}

func matches(pattern, name string) bool {
	tree, ok := strings.CutSuffix(pattern, "/...")
	return pattern == name || ok && strings.HasPrefix(name, tree+"/")
}

// checkArrows returns a sentence for each breach.
func checkArrows(table map[string][]string, all []pkg) []string {
	var out []string
	for _, p := range all {
		allowed, ok := row(table, p.name())
		if !ok {
			out = append(out, "package "+p.name()+" is in no row: add one to arrows in node/archtest/arrows_test.go, with the arrows it "+
				"needs and the reason in the commit")
			continue
		}
		for _, i := range p.Imports {
			if !strings.HasPrefix(i, module+"/") {
				continue
			}
			target := strings.TrimPrefix(i, module+"/")
			if !slices.ContainsFunc(allowed, func(a string) bool { return matches(a, target) }) {
				out = append(out, p.name()+" imports "+target+": the arrow is not allowed; declare the small interface where it is used and "+
					"let node connect, or add the arrow to node/archtest/arrows_test.go with a reason")
			}
		}
	}
	return out
}

func TestArrows(t *testing.T) {
	for _, breach := range checkArrows(arrows(), packages(t)) {
		t.Error(breach)
	}
}

// checkTrees returns a sentence for each import from one of the three trees into another.
func checkTrees(all []pkg) []string {
	tree := func(name string) string {
		top, _, _ := strings.Cut(name, "/")
		if top == "registry" || top == "chunkstore" || top == "replication" {
			return top
		}
		return ""
	}
	var out []string
	for _, p := range all {
		from := tree(p.name())
		for _, i := range p.Imports {
			target, ours := strings.CutPrefix(i, module+"/")
			if !ours || from == "" || target == "chunkstore/digest" {
				continue
			}
			if to := tree(target); to != from {
				out = append(out, p.name()+" imports "+target+": "+from+" may import nothing of ours but itself and chunkstore/digest")
			}
		}
	}
	return out
}

func TestTreesNeverMeet(t *testing.T) {
	for _, breach := range checkTrees(packages(t)) {
		t.Error(breach)
	}
}

// The rules must bite: each of these breaks exactly one.
func TestRulesFindBreaches(t *testing.T) {
	give := func(name string, imports ...string) []pkg {
		p := pkg{ImportPath: module + "/" + name, Imports: []string{"fmt"}}
		for _, i := range imports {
			p.Imports = append(p.Imports, module+"/"+i)
		}
		return []pkg{p}
	}
	for _, tt := range []struct {
		name          string
		give          []pkg
		arrows, trees int
	}{
		{"an allowed arrow", give("registry", "chunkstore/digest", "registry/tlog"), 0, 0},
		{"the wiring", give("node", "node/rpc", "registry/intake", "chunkstore"), 0, 0},
		{"an unknown package", give("registry/magic"), 1, 0},
		{"an arrow up", give("node/identity", "node/rpc"), 1, 0},
		{"registry to chunkstore", give("registry", "chunkstore/repository"), 1, 1},
		{"replication to registry", give("replication", "registry"), 1, 1},
		{"chunkstore to replication", give("chunkstore/archive", "replication/manifest"), 1, 1},
		{"chunkstore to node", give("chunkstore", "node/identity"), 1, 1},
		{"deploy, by its tree's row", give("deploy/e2e", "node/config"), 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := checkArrows(arrows(), tt.give); len(got) != tt.arrows {
				t.Errorf("checkArrows = %q; want %d", got, tt.arrows)
			}
			if got := checkTrees(tt.give); len(got) != tt.trees {
				t.Errorf("checkTrees = %q; want %d", got, tt.trees)
			}
		})
	}
}
