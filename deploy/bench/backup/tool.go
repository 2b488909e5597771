package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tool is a backup program with the arguments for what is measured. repo, source and target stand for directories.
type tool struct {
	name, exe string
	version   string
	env       []string

	init, backup, restore, check []string
	inTarget                     bool // restores into the working directory

	made int // backups in the present repository
}

const password = "correct horse battery staple"

// tools returns what is measured: ours first. state is for caches and settings of the programs.
func tools(ctx context.Context, ours, state string, f *flags) ([]*tool, error) {
	passwordFile := filepath.Join(state, "password")
	if err := os.WriteFile(passwordFile, []byte(password), 0o600); err != nil {
		return nil, err
	}
	own := func(name, chunks string) *tool {
		all := []string{"--repo", "repo", "--password-file", passwordFile, "--cache-dir", filepath.Join(state, name)}
		return &tool{
			name: name, exe: ours,
			init:    append([]string{"repo", "init", "--chunks", chunks}, all...),
			backup:  append([]string{"repo", "backup", "--quiet", "source"}, all...),
			restore: append([]string{"repo", "restore", "--quiet", "latest", "--target", "target"}, all...),
			check:   append([]string{"repo", "check", "--quiet", "--read-data"}, all...),
		}
	}
	list := []*tool{own("dengbei", "standard"), own("dengbei, database chunks", "database")}
	if exe, err := exec.LookPath(f.restic); err == nil {
		all := []string{"-r", "repo", "-p", passwordFile, "--cache-dir", filepath.Join(state, "restic"), "-q"}
		list = append(list, &tool{
			name: "restic", exe: exe,
			init:    append([]string{"init"}, all...),
			backup:  append([]string{"backup", "source"}, all...),
			restore: append([]string{"restore", "latest", "--target", "target"}, all...),
			check:   append([]string{"check", "--read-data"}, all...),
		})
	}
	if exe, err := exec.LookPath(f.borg); err == nil {
		list = append(list, &tool{
			name: "borg", exe: exe, inTarget: true,
			env: []string{
				"BORG_PASSPHRASE=" + password, "BORG_BASE_DIR=" + filepath.Join(state, "borg"),
				"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes",
			},
			init:    []string{"init", "--encryption", "repokey-blake2", "repo"},
			backup:  []string{"create", "repo::{made}", "source"},
			restore: []string{"extract", "repo::{made}"},
			check:   []string{"check", "--verify-data", "repo"},
		})
	}
	if exe, err := exec.LookPath(f.kopia); err == nil {
		config := []string{"--config-file", filepath.Join(state, "kopia.config"), "--log-dir", filepath.Join(state, "kopia-log"), "--no-progress"}
		list = append(list, &tool{
			name: "kopia", exe: exe,
			env:     []string{"KOPIA_PASSWORD=" + password, "KOPIA_CHECK_FOR_UPDATES=false", "KOPIA_CACHE_DIRECTORY=" + filepath.Join(state, "kopia-cache")},
			init:    append([]string{"repository", "create", "filesystem", "--path", "repo"}, config...),
			backup:  append([]string{"snapshot", "create", "source"}, config...),
			restore: append([]string{"restore", "source", "target"}, config...),
			check:   append([]string{"snapshot", "verify", "--verify-files-percent=100"}, config...),
		})
	}
	if len(list) == 2 {
		return nil, fmt.Errorf("no peer: neither %q nor %q nor %q is a program", f.restic, f.borg, f.kopia)
	}
	for _, t := range list {
		args := "version"
		if t.name == "borg" || t.name == "kopia" {
			args = "--version"
		}
		if t.exe == ours {
			t.version = "this tree"
			continue
		}
		out, err := exec.CommandContext(ctx, t.exe, args).Output()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", t.exe, args, err)
		}
		t.version = strings.TrimSpace(strings.SplitN(string(out), "\n", 2)[0])
	}
	return list, nil
}

// cost is what one run of a program took.
type cost struct {
	seconds    float64
	cpuSeconds float64
	peakMiB    float64
}

// run runs t once. Written pages go to the disk before it, so that no run pays for the one before.
func (t *tool) run(ctx context.Context, args []string, repo, src, target string) (cost, error) {
	replace := map[string]string{"repo": repo, "source": src, "target": target}
	switch args[0] {
	case "init":
		t.made = 0
	case "create":
		t.made++
	}
	filled := make([]string, len(args))
	for i, a := range args {
		filled[i] = a
		if path, ok := replace[a]; ok && i > 0 {
			filled[i] = path
		} else if rest, ok := strings.CutPrefix(a, "repo::"); ok {
			filled[i] = repo + "::" + strings.ReplaceAll(rest, "{made}", strconv.Itoa(t.made))
		}
	}
	cmd := exec.CommandContext(ctx, t.exe, filled...)
	cmd.Env = append(os.Environ(), t.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if t.inTarget && strings.HasPrefix(args[0], "extract") {
		if err := os.MkdirAll(target, 0o700); err != nil {
			return cost{}, err
		}
		cmd.Dir = target
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	unix.Sync()
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if err != nil {
		return cost{}, fmt.Errorf("%s %s: %w: %s", t.name, strings.Join(args, " "), err, lastLine(errs.String()))
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return cost{}, errors.New("the system does not tell what a process used")
	}
	return cost{took.Seconds(), (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), float64(usage.Maxrss) / 1024}, nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
