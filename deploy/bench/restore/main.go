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
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"dengbei/deploy/bench/process"
	"dengbei/deploy/bench/report"
)

// limitMiB is what a restore may need.
const limitMiB = 400

type flags struct {
	report.Flags
	restic, dir string
	files       int
	mib         int64
}

func main() {
	var f flags
	f.Flags.Register(flag.CommandLine)
	flag.StringVar(&f.restic, "restic", "restic", "stock restic's `program`")
	flag.StringVar(&f.dir, "dir", "", "`directory` for repositories and what is restored; by default a temporary one")
	flag.IntVar(&f.files, "files", 0, "how `many` files; by default 200,000, with --quick 20,000")
	flag.Int64Var(&f.mib, "size", 0, "`MiB` of the large file; by default 20480, with --quick 2048")
	process.Main("restore", func(ctx context.Context) error {
		flag.Parse()
		return run(ctx, &f)
	}, children)
}

// input is a repository that is restored.
type input struct {
	Name      string
	Files     int
	FileBytes int
	HugeBytes int64 // of the single file; then Files is 0
	Sparse    bool
}

func inputs(f *flags) []input {
	files, mib := f.files, f.mib
	if files == 0 {
		files = 200_000
		if f.Quick {
			files = 20_000
		}
	}
	if mib == 0 {
		mib = 20 << 10
		if f.Quick {
			mib = 2 << 10
		}
	}
	size := fmt.Sprintf("%d MiB", mib)
	if mib%1024 == 0 {
		size = fmt.Sprintf("%d GiB", mib/1024)
	}
	return []input{
		{Name: thousands(files) + " files", Files: files, FileBytes: 2 << 10},
		{Name: "sparse file of " + size, HugeBytes: mib << 20, Sparse: true},
	}
}

// thousands writes n with a comma before every three digits.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// cost is what a restore needed.
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
	peer, absent := process.FindPeer(ctx, "restic", f.restic, "version")
	if absent != nil {
		out.NotCompared("restic", absent)
	}
	var over error
	for i, in := range inputs(f) {
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
		if absent == nil {
			if theirs, err = stock(ctx, peer, repo, filepath.Join(dir, fmt.Sprint("restic", i)), in); err != nil {
				return err
			}
			if theirs == nil {
				out.Note("%s: %s has no --sparse and was not run", in.Name, peer.Version)
			}
		}
		addRows(out, in.Name, peer.Version, ours, theirs)
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

// task is what a child does: make a repository, or restore one.
type task struct {
	Do           string
	Repo, Target string
	Input        input
}

// self runs a task in a process of its own, so that its memory is its own.
func self(ctx context.Context, t task) (*cost, error) {
	peakMiB, c, err := children.Run(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", t.Do, t.Input.Name, err)
	}
	return &cost{c.Wall.Seconds(), c.CPU.Seconds(), peakMiB}, nil
}

// stock restores with restic. It returns nil if this restic cannot make holes and would have to.
func stock(ctx context.Context, restic process.Peer, repo, target string, in input) (*cost, error) {
	args := []string{"-q", "--no-cache", "-r", repo, "restore", "latest", "--target", target}
	if in.Sparse {
		help, _ := exec.CommandContext(ctx, restic.Path, "restore", "--help").CombinedOutput()
		if !strings.Contains(string(help), "--sparse") {
			return nil, nil
		}
		args = append(args, "--sparse")
	}
	cmd := exec.CommandContext(ctx, restic.Path, args...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+password)
	c, err := process.Measure(cmd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", restic.Version, err)
	}
	return &cost{c.Wall.Seconds(), c.CPU.Seconds(), process.MiB(c.PeakBytes)}, nil
}
