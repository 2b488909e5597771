package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Settings of a run, taken from the environment.
const (
	// EnvRun must be "1" for tests that start networks; without it they are skipped, so that `go test ./...` stays quick.
	EnvRun = "DENGBEI_E2E"
	// EnvRace builds the programs with the race detector if it is "1". A race ends a node, and so fails the test.
	EnvRace = "DENGBEI_E2E_RACE"
	// EnvPrograms names a directory with both programs, built before; nothing is built then.
	EnvPrograms = "DENGBEI_E2E_PROGRAMS"
	// EnvKeep leaves a failed network's directory in place, data and all, if it is "1"; otherwise only its logs stay.
	EnvKeep = "DENGBEI_E2E_KEEP"
)

// Programs are the paths of the programs under test.
type Programs struct {
	Dengbei string
	Verify  string
}

// Build builds the programs from the sources around the working directory into dir.
func Build(ctx context.Context, dir string) (Programs, error) {
	if ready := os.Getenv(EnvPrograms); ready != "" {
		dir = ready
	} else {
		root, err := moduleRoot()
		if err != nil {
			return Programs{}, err
		}
		args := []string{"build", "-o", dir + string(filepath.Separator)}
		if os.Getenv(EnvRace) == "1" {
			args = append(args, "-race")
		}
		cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/dengbei", "./cmd/dengbei-verify")...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return Programs{}, fmt.Errorf("build the programs: %w\n%s", err, out)
		}
	}
	p := Programs{Dengbei: filepath.Join(dir, "dengbei"), Verify: filepath.Join(dir, "dengbei-verify")}
	for _, file := range []string{p.Dengbei, p.Verify} {
		if _, err := os.Stat(file); err != nil {
			return Programs{}, fmt.Errorf("programs under test: %w", err)
		}
	}
	return p, nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(dir, "go.mod"))
		if err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if !errors.Is(err, os.ErrNotExist) || up == dir {
			return "", fmt.Errorf("find go.mod above the test: %w", err)
		}
		dir = up
	}
}
