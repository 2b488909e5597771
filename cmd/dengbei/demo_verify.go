package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const verifierName = "dengbei-verify"

// findVerifier finds the third party's program beside this one, or builds it from the sources around the working directory.
func (d *demo) findVerifier(ctx context.Context) error {
	beside := filepath.Join(filepath.Dir(d.exe), verifierName)
	if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
		d.verifier = beside
	} else if root := moduleRoot(); root != "" {
		d.verifier = filepath.Join(d.dir, "bin", verifierName)
		cmd := exec.CommandContext(ctx, "go", "build", "-o", d.verifier, "./cmd/"+verifierName)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", verifierName, err, bytes.TrimSpace(out))
		}
	} else if d.verifier, err = exec.LookPath(verifierName); err != nil {
		return fmt.Errorf("%s is neither beside %s nor in the PATH, and there are no sources to build it from: put it there", verifierName, d.exe)
	}
	d.report.Verifier.Path = d.verifier
	return nil
}

// verifierLine is what dengbei-verify prints of one certificate.
type verifierLine struct {
	File   string `json:"file"`
	Holds  bool   `json:"holds"`
	Error  string `json:"error"`
	Proven *struct {
		Number string `json:"number"`
	} `json:"proven"`
	Files *struct {
		Files    int   `json:"files"`
		Bytes    int64 `json:"bytes"`
		Problems []struct {
			Path    string `json:"path"`
			Problem string `json:"problem"`
			Detail  string `json:"detail"`
		} `json:"problems"`
	} `json:"files"`
	FilesError string `json:"files_error"`
}

// verify runs dengbei-verify as a process of its own, without a network where the system allows that.
func (d *demo) verify(ctx context.Context, args ...string) ([]verifierLine, error) {
	args = append([]string{"--json", "--policy", d.policy}, args...)
	out, err := d.runVerifier(ctx, withoutNetwork(os.Getuid(), os.Getgid()), args)
	if isNotPermitted(err) {
		d.noteVerifier("this system does not let the demo take the network away from a process: " + err.Error())
		out, err = d.runVerifier(ctx, nil, args)
	} else if err == nil {
		d.noteVerifier("")
	}
	if err != nil {
		return nil, err
	}
	var lines []verifierLine
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var l verifierLine
		if err := dec.Decode(&l); errors.Is(err, io.EOF) {
			return lines, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", verifierName, err)
		}
		lines = append(lines, l)
	}
}

// noteVerifier remembers why a verifier ran with a network; once is enough to say that it was not shown.
func (d *demo) noteVerifier(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := &d.report.Verifier
	if v.Note == "" {
		v.Note = why
	}
	v.NetworkRemoved = v.Note == ""
}

// errVerifierStart marks a verifier that could not even be started.
type errVerifierStart struct{ err error }

func (e *errVerifierStart) Error() string { return e.err.Error() }
func (e *errVerifierStart) Unwrap() error { return e.err }

func isNotPermitted(err error) bool {
	var start *errVerifierStart
	return errors.As(err, &start)
}

// runVerifier returns what the program printed. That a certificate does not hold is for the caller to read there.
func (d *demo) runVerifier(ctx context.Context, attr *syscall.SysProcAttr, args []string) ([]byte, error) {
	noNetwork := attr != nil
	cmd := exec.CommandContext(ctx, d.verifier, args...)
	cmd.SysProcAttr = attr
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := d.launcher.Start(cmd); err != nil {
		if noNetwork {
			return nil, &errVerifierStart{err}
		}
		return nil, fmt.Errorf("start %s: %w", d.verifier, err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitFalse {
		err = nil // it says why in its output
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", verifierName, err, strings.TrimSpace(errs.String()))
	}
	return out.Bytes(), nil
}

// verifiedFiles is how a restored bag compares with its certificate.
type verifiedFiles struct {
	files    int
	bytes    int64
	problems []string
}

func (d *demo) verifyFiles(ctx context.Context, number, dir string) (verifiedFiles, error) {
	var v verifiedFiles
	lines, err := d.verify(ctx, "--files", dir, d.certs[number])
	if err != nil {
		return v, err
	}
	if len(lines) != 1 || lines[0].Proven == nil || !lines[0].Holds || lines[0].Proven.Number != number {
		return v, fmt.Errorf("certificate %s does not hold: %s", number, lineError(lines))
	}
	if lines[0].Files == nil {
		return v, fmt.Errorf("files of %s were not compared: %s", number, lines[0].FilesError)
	}
	f := lines[0].Files
	v.files, v.bytes = f.Files, f.Bytes
	for _, p := range f.Problems {
		v.problems = append(v.problems, fmt.Sprintf("%s: %s %s %s", number, p.Path, p.Problem, p.Detail))
	}
	return v, nil
}

func lineError(lines []verifierLine) string {
	if len(lines) == 0 {
		return "no answer"
	}
	return lines[0].Error
}

// certificatesPerCall keeps the command line short.
const certificatesPerCall = 100

// verifyAll checks every certificate.
func (d *demo) verifyAll(ctx context.Context) error {
	var files []string
	want := map[string]string{}
	for number, file := range d.certs {
		files = append(files, file)
		want[file] = number
	}
	slices.Sort(files)
	held := 0
	for part := range slices.Chunk(files, certificatesPerCall) {
		lines, err := d.verify(ctx, part...)
		if err != nil {
			return err
		}
		for _, l := range lines {
			if !l.Holds || l.Proven == nil || l.Proven.Number != want[l.File] {
				return fmt.Errorf("certificate %s does not hold: %s", l.File, l.Error)
			}
			held++
		}
	}
	if held != len(d.certs) {
		return fmt.Errorf("%s answered for %d of %d certificates", verifierName, held, len(d.certs))
	}
	if d.report.Verifier.NetworkRemoved {
		d.say("%s, a process of its own without a network, found that all %d certificates hold", verifierName, held)
	} else {
		d.say("%s found that all %d certificates hold", verifierName, held)
		d.more("NOT shown: that it needs no network. %s", d.report.Verifier.Note)
	}
	return nil
}
