// Command restore shows what a restore of very many files, and of one very large file, costs in memory and time.
//
//	go run ./deploy/bench/restore [--quick] [--json] [--restic PROGRAM] [--dir DIRECTORY]
//
// It makes two repositories: one of 200,000 files of some kilobytes, and one of a single file of 20 GiB, most of it zero,
// in chunks of 64 KiB. Each is restored by a process of its own, whose peak resident memory, time and processor time are
// shown, the start of the process and the opening of the repository included. Stock restic restores the many files as
// well, and the large one if it knows --sparse. A ratio above 1 says that dengbei is faster or needs less. The program
// fails if a restore of ours needs more than 400 MiB.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"dengbei/deploy/bench/report"
)

// limitMiB is what a restore may need.
const limitMiB = 400

type flags struct {
	report.Flags
	restic, dir string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if task := os.Getenv(taskVariable); task != "" {
		err = child(ctx, task)
	} else {
		var f flags
		f.Flags.Register(flag.CommandLine)
		flag.StringVar(&f.restic, "restic", "restic", "stock restic's `program`")
		flag.StringVar(&f.dir, "dir", "", "`directory` for repositories and what is restored; by default a temporary one")
		flag.Parse()
		err = run(ctx, &f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "restore:", err)
		stop()
		os.Exit(1)
	}
}

// input is a repository that is restored.
type input struct {
	Name      string
	Files     int
	FileBytes int
	HugeBytes int64 // of the single file; then Files is 0
	Sparse    bool
}

func inputs(quick bool) []input {
	if quick {
		return []input{
			{Name: "20,000 files", Files: 20_000, FileBytes: 2 << 10},
			{Name: "sparse file of 2 GiB", HugeBytes: 2 << 30, Sparse: true},
		}
	}
	return []input{
		{Name: "200,000 files", Files: 200_000, FileBytes: 2 << 10},
		{Name: "sparse file of 20 GiB", HugeBytes: 20 << 30, Sparse: true},
	}
}

// cost is what a process needed.
type cost struct {
	Seconds, CPU, MiB float64
}

func run(ctx context.Context, f *flags) (err error) {
	dir, err := os.MkdirTemp(f.dir, "dengbei-bench-restore-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	out := report.New("restore")
	out.SetQuick(f.Quick)
	version := resticVersion(ctx, f.restic)
	if version == "" {
		out.Note("%s is not there: nothing is compared", f.restic)
	}
	var over error
	for i, in := range inputs(f.Quick) {
		repo := filepath.Join(dir, fmt.Sprint("repo", i))
		if _, err := self(ctx, task{Do: "make", Repo: repo, Input: in}); err != nil {
			return err
		}
		ours, err := self(ctx, task{Do: "restore", Repo: repo, Target: filepath.Join(dir, fmt.Sprint("ours", i)), Input: in})
		if err != nil {
			return err
		}
		if ours.MiB > limitMiB {
			over = errors.Join(over, fmt.Errorf("%s: %.0f MiB, more than %d", in.Name, ours.MiB, limitMiB))
		}
		var theirs *cost
		if version != "" {
			if theirs, err = stock(ctx, f.restic, repo, filepath.Join(dir, fmt.Sprint("restic", i)), in); err != nil {
				return err
			}
			if theirs == nil {
				out.Note("%s: %s has no --sparse and was not run", in.Name, version)
			}
		}
		addRows(out, in.Name, version, ours, theirs)
	}
	return errors.Join(out.Print(os.Stdout, f.JSON), over)
}

func addRows(out *report.Report, name, version string, ours, theirs *cost) {
	for _, r := range []struct {
		name, unit string
		of         func(*cost) float64
	}{
		{"peak memory", "MiB", func(c *cost) float64 { return c.MiB }},
		{"time", "s", func(c *cost) float64 { return c.Seconds }},
		{"processor time", "s", func(c *cost) float64 { return c.CPU }},
	} {
		row := report.Row{Name: name + ": " + r.name, Ours: r.of(ours), Unit: r.unit}
		if theirs != nil {
			row.Peer, row.PeerName = r.of(theirs), version
			row.Ratio = row.Peer / row.Ours
		}
		out.Add(row)
	}
}

// taskVariable, set in the environment, makes this program one of its own children.
const taskVariable = "DENGBEI_BENCH_RESTORE"

// task is what a child does: make a repository, or restore one.
type task struct {
	Do           string
	Repo, Target string
	Input        input
}

// self runs a task in a process of its own, so that its memory is its own.
func self(ctx context.Context, t task) (*cost, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), taskVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	start := time.Now()
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", t.Do, t.Input.Name, err)
	}
	c := &cost{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("%s %s: %w", t.Do, t.Input.Name, err)
	}
	c.Seconds, c.CPU = time.Since(start).Seconds(), cpuSeconds(cmd.ProcessState)
	return c, nil
}

func cpuSeconds(s *os.ProcessState) float64 { return (s.UserTime() + s.SystemTime()).Seconds() }

func resticVersion(ctx context.Context, program string) string {
	b, err := exec.CommandContext(ctx, program, "version").Output()
	words := strings.Fields(string(b))
	if err != nil || len(words) < 2 {
		return ""
	}
	return words[0] + " " + words[1]
}

// stock restores with restic. It returns nil if this restic cannot make holes and would have to.
func stock(ctx context.Context, program, repo, target string, in input) (*cost, error) {
	args := []string{"-q", "--no-cache", "-r", repo, "restore", "latest", "--target", target}
	if in.Sparse {
		help, _ := exec.CommandContext(ctx, program, "restore", "--help").CombinedOutput()
		if !strings.Contains(string(help), "--sparse") {
			return nil, nil
		}
		args = append(args, "--sparse")
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+password)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("restic: %w: %s", err, out)
	}
	c := &cost{Seconds: time.Since(start).Seconds(), CPU: cpuSeconds(cmd.ProcessState)}
	if use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.MiB = float64(use.Maxrss) / 1024
	}
	return c, nil
}
