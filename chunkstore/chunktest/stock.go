package chunktest

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// HasStock reports whether stock restic is installed.
func HasStock() bool {
	_, err := exec.LookPath("restic")
	return err == nil
}

// Stock returns a command of stock restic on the repository directory dir, opened with [Password], or skips the test where
// there is no restic.
func Stock(t testing.TB, dir string, args ...string) *exec.Cmd {
	t.Helper()
	if !HasStock() {
		t.Skip("stock restic is not installed: what it would read or write is NOT checked")
	}
	cmd := exec.Command("restic", append([]string{"-r", dir, "--no-cache"}, args...)...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+Password, "RESTIC_FROM_PASSWORD="+Password, "TMPDIR="+t.TempDir())
	return cmd
}

// Run runs a command that must succeed and returns its standard output.
func Run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		if exit == nil {
			t.Fatal(err)
		}
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, exit.Stderr)
	}
	return string(out)
}
