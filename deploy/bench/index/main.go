// Command index measures the look-up table of a large repository: it writes the index files of a repository of ten million
// blobs, without packs, and then opens it in processes of their own.
//
//	go run ./deploy/bench/index [--quick] [--json] [--blobs N] [--restic PROGRAM] [--dir DIRECTORY]
//
// It prints how long the table takes to be built and how much memory, how long opening takes once it is there, resident
// memory after opening and after a million look-ups, and the time of one look-up of a blob that is there and of one that
// is not, with the table in the system's cache. The same with everything in memory, and stock restic's reading of the same
// index, stand beside it as peers.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"dengbei/deploy/bench/report"
)

const (
	password = "bench"

	childVariable = "DENGBEI_BENCH_INDEX" // has a process measure one thing and print it

	goalOpen     = 2 * time.Second
	goalResident = 300 << 20
	goalLookup   = 5 * time.Microsecond
)

type flags struct {
	report.Flags
	blobs  int
	restic string
	dir    string
}

func main() {
	if os.Getenv(childVariable) != "" {
		if err := child(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "index:", err)
			os.Exit(1)
		}
		return
	}
	var f flags
	f.Register(flag.CommandLine)
	flag.IntVar(&f.blobs, "blobs", 0, "how many `blobs`; by default 10,000,000, with --quick 1,000,000")
	flag.StringVar(&f.restic, "restic", "restic", "restic's `program`")
	flag.StringVar(&f.dir, "dir", "", "`directory` for repository and table; by default a temporary one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &f); err != nil {
		fmt.Fprintln(os.Stderr, "index:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, f *flags) error {
	if f.blobs == 0 {
		f.blobs = 10_000_000
		if f.Quick {
			f.blobs = 1_000_000
		}
	}
	dir, err := os.MkdirTemp(f.dir, "dengbei-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := report.New("index")
	r.SetQuick(f.Quick)
	s := setup{Repo: filepath.Join(dir, "repository"), Cache: filepath.Join(dir, "cache"), Blobs: f.blobs}
	began := time.Now()
	if err := s.write(ctx); err != nil {
		return fmt.Errorf("write the index: %w", err)
	}
	r.Note("%d blobs in %d index files, written in %.1f s", s.Blobs, s.indexFiles(), time.Since(began).Seconds())

	built, err := s.child(ctx, "build")
	if err != nil {
		return err
	}
	open, err := s.child(ctx, "open")
	if err != nil {
		return err
	}
	var info int64
	if all, err := filepath.Glob(filepath.Join(s.Cache, "*", "*")); err == nil && len(all) == 1 {
		if st, err := os.Stat(all[0]); err == nil {
			info = st.Size()
		}
	}
	r.Note("the table takes %.1f MiB on disk", mib(info))
	memory, err := s.child(ctx, "memory")
	if err != nil {
		return err
	}
	const ram = "table in memory"
	beside := func(name, unit string, ours, peer float64, peerName string) {
		r.Add(report.Row{Name: name, Unit: unit, Ours: ours, Peer: peer, PeerName: peerName, Ratio: peer / ours})
	}
	beside("build the table: time", "s", built.OpenSeconds, memory.OpenSeconds, ram)
	beside("build the table: peak memory", "MiB", mib(built.Peak), mib(memory.Peak), ram)
	beside("open: time", "s", open.OpenSeconds, memory.OpenSeconds, ram)
	beside("open: resident memory", "MiB", mib(open.ResidentOpen), mib(memory.ResidentOpen), ram)
	beside("open: peak memory", "MiB", mib(open.PeakOpen), mib(memory.PeakOpen), ram)
	beside("after a million look-ups: resident memory", "MiB", mib(open.Resident), mib(memory.Resident), ram)
	beside("after a million look-ups: peak memory", "MiB", mib(open.Peak), mib(memory.Peak), ram)
	beside("look-up of a blob that is there: median", "µs", open.Present.Median, memory.Present.Median, ram)
	beside("look-up of a blob that is there: p99", "µs", open.Present.P99, memory.Present.P99, ram)
	beside("look-up of a blob that is not there: median", "µs", open.Absent.Median, memory.Absent.Median, ram)
	beside("look-up of a blob that is not there: p99", "µs", open.Absent.P99, memory.Absent.P99, ram)
	beside("place of a blob: median", "µs", open.Place.Median, memory.Place.Median, ram)
	beside("place of a blob: p99", "µs", open.Place.P99, memory.Place.P99, ram)
	if err := s.restic(ctx, f.restic, func(version string, seconds float64, peak int64) {
		beside("open and look one blob up, whole process: time", "s", open.ProcessSeconds, seconds, version)
		beside("open and look one blob up, whole process: peak memory", "MiB", mib(open.PeakOpen), mib(peak), version)
	}); err != nil {
		r.Note("restic was not measured: %v", err)
	}
	r.Note("goals: open ≤ %v: %s; resident ≤ %d MiB: %s; look-up ≤ %v median: %s", goalOpen,
		verdict(open.OpenSeconds <= goalOpen.Seconds()), goalResident>>20, verdict(open.Resident <= goalResident), goalLookup,
		verdict(max(open.Present.Median, open.Absent.Median) <= float64(goalLookup)/float64(time.Microsecond)))
	return r.Print(os.Stdout, f.JSON)
}

func verdict(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// child measures one thing in a process of its own.
func (s *setup) child(ctx context.Context, what string) (*result, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s.Measure = what
	arg, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), childVariable+"="+string(arg))
	cmd.Stderr = os.Stderr
	began := time.Now()
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r.ProcessSeconds = r.UntilFirst + max(0, time.Since(began).Seconds()-r.Seconds) // with the start of the process
	return &r, nil
}

// restic has stock restic look up a blob that is not there, for which it reads the whole index.
func (s *setup) restic(ctx context.Context, program string, found func(version string, seconds float64, peak int64)) error {
	version, err := exec.CommandContext(ctx, program, "version").Output()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "-r", s.Repo, "--no-cache", "--no-lock", "cat", "blob", strings.Repeat("ab", 32))
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+password)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	err = cmd.Run()
	seconds := time.Since(began).Seconds()
	if !strings.Contains(stderr.String(), "not found") { // that is the answer we want
		return fmt.Errorf("restic cat blob: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return fmt.Errorf("no resource usage on this system")
	}
	words := strings.Fields(string(version))
	found(strings.Join(words[:min(2, len(words))], " "), seconds, usage.Maxrss<<10)
	return nil
}

// memory returns resident memory now and at its peak, in bytes.
func memory() (now, peak int64, err error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(words[1], 10, 64)
		switch words[0] {
		case "VmRSS:":
			now = n << 10
		case "VmHWM:":
			peak = n << 10
		}
	}
	return now, peak, nil
}
