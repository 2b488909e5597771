package process

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
)

// Peer is a program to compare with.
type Peer struct {
	Path    string
	Version string // name and number as rows name it, such as "restic 0.19.1"
	Build   string // the first line of what it says of itself
}

var versionNumber = regexp.MustCompile(`[0-9]+(\.[0-9]+)+[-+~.0-9A-Za-z]*`)

// FindPeer finds a program, which is a path or a name on PATH, and asks it with args for its version. The error says why
// name cannot be compared with, and is worth a note.
func FindPeer(ctx context.Context, name, program string, args ...string) (Peer, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return Peer{}, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var out, said limited
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return Peer{}, fmt.Errorf("%s %s: %w%s", path, strings.Join(args, " "), err, said.lastLine())
	}
	build, _, _ := strings.Cut(strings.TrimSpace(string(out.bytes)), "\n")
	number := versionNumber.FindString(build)
	if number == "" {
		return Peer{}, fmt.Errorf("%s %s: no version in %q", path, strings.Join(args, " "), build)
	}
	return Peer{path, name + " " + number, strings.TrimSpace(build)}, nil
}
