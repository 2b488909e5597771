package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"dengbei/chunkstore/chunktest"
	"dengbei/node/identity"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"dengbei": func() { os.Exit(mainExit()) }})
}

// TestScripts runs the program as processes. "exits CODE dengbei …" checks the exact exit code; "[!long] skip" begins a
// script of many seconds.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			golden := filepath.Join("..", "..", "registry", "certificate", "testdata")
			if err := os.CopyFS(filepath.Join(env.WorkDir, "golden"), os.DirFS(golden)); err != nil {
				return err
			}
			return makeCredential(filepath.Join(env.WorkDir, "unit"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Condition: func(cond string) (bool, error) {
			if cond == "long" {
				return os.Getenv(chunktest.EnvLong) == "1", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// makeCredential makes the credential directory of a registrant of a network that nobody runs.
func makeCredential(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := identity.CreateCA("test")
	if err != nil {
		return err
	}
	key, err := identity.LoadOrCreateKey(dir, clientName)
	if err != nil {
		return err
	}
	csr, err := identity.CSR(key)
	if err != nil {
		return err
	}
	der, err := ca.Issue(csr, identity.Subject{Network: "test", Code: "330102", Serial: 1, Account: "unit", Roles: []identity.Role{identity.Registrant}})
	if err != nil {
		return err
	}
	cred, err := identity.NewCredential(key, der, ca.Cert)
	if err != nil {
		return err
	}
	if err := cred.Save(dir, clientName); err != nil {
		return err
	}
	signing, err := identity.LoadOrCreateSigningKey(filepath.Join(dir, signingFile))
	if err == nil && len(signing) != ed25519.PrivateKeySize {
		err = errors.New("signing key has the wrong length")
	}
	return err
}
