package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"dengbei/deploy/bench/process"
	"dengbei/deploy/bench/report"
)

// tool is a backup program with the arguments for what is measured. In them {repo}, {source} and {target} stand for
// directories and {made} for the number of backups in the repository; what a program keeps beside a repository may have a
// name that begins with {repo}.
type tool struct {
	name     string
	exe      string
	version  string // as rows name a peer
	build    string // as a note names it
	peer     bool
	database bool // meant for dumps: only the corpus that is edited is backed up with it
	env      []string

	init                   [][]string // several commands
	backup, restore, check []string
	inTarget               bool // restores into the working directory
}

const password = "correct horse battery staple"

// tools returns what is measured: ours first, then the peers that are there; the others are noted in r. state is for
// caches and settings of the programs.
func tools(ctx context.Context, r *report.Report, state string, f *flags) ([]*tool, error) {
	passwordFile := filepath.Join(state, "password")
	if err := os.WriteFile(passwordFile, []byte(password), 0o600); err != nil {
		return nil, err
	}
	list := []*tool{
		dengbei(f.ours, "dengbei", "standard", state, passwordFile),
		dengbei(f.ours, "dengbei, database chunks", "database", state, passwordFile),
	}
	for _, p := range []struct {
		*tool
		program, ask string
	}{
		{restic(state, passwordFile), f.restic, "version"},
		{borg(state), f.borg, "--version"},
		{kopia(state), f.kopia, "--version"},
	} {
		found, err := process.FindPeer(ctx, p.name, p.program, p.ask)
		if err != nil {
			r.NotCompared(p.name, err)
			continue
		}
		p.exe, p.version, p.build, p.peer = found.Path, found.Version, found.Build, true
		list = append(list, p.tool)
	}
	for _, t := range list {
		r.Note("%s: %s", t.name, t.build)
	}
	return list, nil
}

func dengbei(exe, name, chunks, state, passwordFile string) *tool {
	all := []string{"--repo", "{repo}", "--password-file", passwordFile, "--cache-dir", filepath.Join(state, name)}
	return &tool{
		name: name, exe: exe, build: "this tree", database: chunks == "database",
		init:    [][]string{append([]string{"repo", "init", "--chunks", chunks}, all...)},
		backup:  append([]string{"repo", "backup", "--quiet", "{source}"}, all...),
		restore: append([]string{"repo", "restore", "--quiet", "latest", "--target", "{target}"}, all...),
		check:   append([]string{"repo", "check", "--quiet", "--read-data"}, all...),
	}
}

func restic(state, passwordFile string) *tool {
	all := []string{"-r", "{repo}", "-p", passwordFile, "--cache-dir", filepath.Join(state, "restic"), "-q"}
	return &tool{
		name:    "restic",
		init:    [][]string{append([]string{"init"}, all...)},
		backup:  append([]string{"backup", "{source}"}, all...),
		restore: append([]string{"restore", "latest", "--target", "{target}"}, all...),
		check:   append([]string{"check", "--read-data"}, all...),
	}
}

func borg(state string) *tool {
	return &tool{
		name: "borg", inTarget: true,
		env: []string{
			"BORG_PASSPHRASE=" + password, "BORG_BASE_DIR=" + filepath.Join(state, "borg"),
			"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes", "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes",
		},
		init:    [][]string{{"init", "--encryption", "repokey-blake2", "{repo}"}},
		backup:  []string{"create", "{repo}::{made}", "{source}"},
		restore: []string{"extract", "{repo}::{made}"},
		check:   []string{"check", "--verify-data", "{repo}"},
	}
}

// kopia compresses nothing by itself, tidies repositories up in between, and copies into its cache what it reads: with
// zstd, and without the others, it does the work that the rest do.
func kopia(state string) *tool {
	all := []string{
		"--config-file", "{repo}.config", "--log-dir", filepath.Join(state, "kopia-log"), "--no-progress", "--no-auto-maintenance",
	}
	return &tool{
		name: "kopia",
		env:  []string{"KOPIA_PASSWORD=" + password, "KOPIA_CHECK_FOR_UPDATES=false"},
		init: [][]string{
			append([]string{"repository", "create", "filesystem", "--path", "{repo}", "--content-cache-size-mb", "0"}, all...),
			append([]string{"policy", "set", "--global", "--compression", "zstd"}, all...),
		},
		backup:  append([]string{"snapshot", "create", "{source}"}, all...),
		restore: append([]string{"restore", "{source}", "{target}"}, all...),
		check:   append([]string{"snapshot", "verify", "--verify-files-percent=100"}, all...),
	}
}

// place is where a tool works.
type place struct {
	repo, source, target string
	made                 int // backups in repo, with the one being made
}

// run runs t once. Written pages go to the disk before it, so that no run pays for the one before.
func (t *tool) run(ctx context.Context, args []string, at place) (process.Cost, error) {
	fill := strings.NewReplacer("{repo}", at.repo, "{source}", at.source, "{target}", at.target, "{made}", strconv.Itoa(at.made))
	filled := make([]string, len(args))
	for i, a := range args {
		filled[i] = fill.Replace(a)
	}
	cmd := exec.CommandContext(ctx, t.exe, filled...)
	cmd.Env = append(os.Environ(), t.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if t.inTarget && at.target != "" {
		if err := os.MkdirAll(at.target, 0o700); err != nil {
			return process.Cost{}, err
		}
		cmd.Dir = at.target
	}
	unix.Sync()
	cost, err := process.Measure(cmd)
	if err != nil {
		return process.Cost{}, fmt.Errorf("%s %s: %w", t.name, strings.Join(args, " "), err)
	}
	return cost, nil
}
