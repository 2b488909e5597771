package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

const golden = "../../registry/certificate/testdata"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dengbei-verify": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error { return os.CopyFS(filepath.Join(e.WorkDir, "net"), os.DirFS(golden)) },
	})
}

// TestLinksNoNetworkCode holds the promise that this program cannot talk to anybody.
func TestLinksNoNetworkCode(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list -deps: %v", err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 50 {
		t.Fatalf("go list -deps lists %d packages; that cannot be all", len(deps))
	}
	for _, d := range deps {
		for _, forbidden := range []string{"net/http", "crypto/tls", "google.golang.org/grpc", "google.golang.org/protobuf", "dengbei/registry/registrypb",
			"dengbei/node", "filippo.io/torchwood", "golang.org/x/net", "github.com/hashicorp"} {
			if d == forbidden || strings.HasPrefix(d, forbidden+"/") {
				t.Errorf("links %s", d)
			}
		}
		if d == "net" || d == "dengbei/registry" {
			t.Errorf("links %s", d)
		}
	}
}

// TestBuiltBinary runs the program as it is installed.
func TestBuiltBinary(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary")
	}
	binary := filepath.Join(t.TempDir(), "dengbei-verify")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	out, err := exec.Command(binary, filepath.Join(golden, "certificate.tlog-proof"), "--policy", filepath.Join(golden, "policy.txt"), "--files", filepath.Join(golden, "bag"), "--json").Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil || !r.Holds || r.FilesHold == nil || !*r.FilesHold || r.Proven.Number != "330102-2026-000217-4" {
		t.Errorf("result = %+v, %v; want all to hold\n%s", r, err, out)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, os.ErrClosed }

func TestUnwrittenResultIsNoResult(t *testing.T) {
	var stderr bytes.Buffer
	args := []string{filepath.Join(golden, "certificate.tlog-proof"), "--policy", filepath.Join(golden, "policy.txt")}
	if got := run(args, brokenPipe{}, &stderr); got != exitUnread {
		t.Errorf("run with a broken output = %d; want %d", got, exitUnread)
	}
	if got := run(append(args, "--json"), brokenPipe{}, &stderr); got != exitUnread {
		t.Errorf("run --json with a broken output = %d; want %d", got, exitUnread)
	}
}
