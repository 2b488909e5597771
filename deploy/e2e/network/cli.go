package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// cliTimeout bounds one command line.
const cliTimeout = 5 * time.Minute

// CLI runs one dengbei command with --json in a process of its own and decodes what it prints into into, unless that is
// nil. Any exit status but 0 is an error that carries what the command said.
func (n *Network) CLI(ctx context.Context, into any, args ...string) error {
	out, status, err := n.run(ctx, n.Programs.Dengbei, append(args, "--json")...)
	if err == nil && status != 0 {
		err = fmt.Errorf("exit status %d", status)
	}
	if err == nil && into != nil {
		err = json.NewDecoder(bytes.NewReader(out.stdout)).Decode(into)
	}
	if err != nil {
		return fmt.Errorf("dengbei %s: %w: %s", strings.Join(args, " "), err, out.stderr)
	}
	return nil
}

// Verified is what dengbei-verify says of one certificate.
type Verified struct {
	File   string `json:"file"`
	Holds  bool   `json:"holds"`
	Error  string `json:"error"`
	Proven struct {
		Number string `json:"number"`
	} `json:"proven"`
}

// Verify runs dengbei-verify over certificate files and returns its verdicts, by file.
func (n *Network) Verify(ctx context.Context, policy string, files []string) (map[string]Verified, error) {
	out, status, err := n.run(ctx, n.Programs.Verify, append([]string{"--json", "--policy", policy}, files...)...)
	if err == nil && status > 1 { // 1 = one does not hold, which its line says
		err = fmt.Errorf("exit status %d", status)
	}
	verdicts := map[string]Verified{}
	for dec := json.NewDecoder(bytes.NewReader(out.stdout)); err == nil; {
		var v Verified
		if err = dec.Decode(&v); err == nil {
			verdicts[v.File] = v
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("dengbei-verify: %w: %s", err, out.stderr)
	}
	return verdicts, nil
}

type output struct{ stdout, stderr []byte }

// run returns what a program printed and its exit status.
func (n *Network) run(ctx context.Context, exe string, args ...string) (output, int, error) {
	ctx, cancel := context.WithTimeout(ctx, cliTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := n.launcher.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	o := output{out.Bytes(), bytes.TrimSpace(errs.Bytes())}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return o, exit.ExitCode(), nil
	}
	return o, 0, err
}
