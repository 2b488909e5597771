// Command index measures the look-up table of a large repository: it writes the index files of a repository of ten million
// blobs, without packs, and then opens it in processes of their own.
//
//	go run ./deploy/bench/index [--quick] [--json] [--blobs N] [--restic PROGRAM] [--dir DIRECTORY]
//
// It prints how long the table takes to be built and how much memory, how long opening takes once it is there, resident
// memory after opening and after a million look-ups, and the time of one look-up of a blob that is there and of one that
// is not, with the table in the system's cache. The same with everything in memory, and stock restic's reading of the same
// index, stand beside it as peers. Other programs cannot read such a repository.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"dengbei/deploy/bench/process"
	"dengbei/deploy/bench/report"
)

const (
	password = "bench"

	million = 1_000_000

	goalOpen     = 2 * time.Second
	goalResident = 300 << 20
	goalLookup   = 5 * time.Microsecond
)

type flags struct {
	report.Flags
	blobs   int
	lookups int
	restic  string
	dir     string
}

func main() {
	var f flags
	f.Register(flag.CommandLine)
	flag.IntVar(&f.blobs, "blobs", 0, "how many `blobs`; by default 10,000,000, with --quick 1,000,000")
	flag.IntVar(&f.lookups, "lookups", million, "how many `look-ups` of each kind")
	flag.StringVar(&f.restic, "restic", "restic", "restic's `program`")
	flag.StringVar(&f.dir, "dir", "", "`directory` for repository and table; by default a temporary one")
	process.Main("index", func(ctx context.Context) error {
		flag.Parse()
		return run(ctx, &f)
	}, children)
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
	s := setup{Repo: filepath.Join(dir, "repository"), Cache: filepath.Join(dir, "cache"), Blobs: f.blobs, Lookups: max(1, f.lookups)}
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
	r.Note("the table takes %.1f MiB on disk", process.MiB(info))
	memory, err := s.child(ctx, "memory")
	if err != nil {
		return err
	}
	const ram = "table in memory"
	beside := func(name, unit string, ours, peer float64, peerName string) {
		r.Add(report.Row{Name: name, Unit: unit, Ours: ours, Peer: peer, PeerName: peerName, Ratio: peer / ours})
	}
	beside("build the table: time", "s", built.OpenSeconds, memory.OpenSeconds, ram)
	beside("build the table: peak memory", "MiB", process.MiB(built.Peak), process.MiB(memory.Peak), ram)
	beside("open: time", "s", open.OpenSeconds, memory.OpenSeconds, ram)
	beside("open: resident memory", "MiB", process.MiB(open.ResidentOpen), process.MiB(memory.ResidentOpen), ram)
	beside("open: peak memory", "MiB", process.MiB(open.PeakOpen), process.MiB(memory.PeakOpen), ram)
	after := "after a million look-ups"
	if s.Lookups != million {
		after = fmt.Sprintf("after %d look-ups", s.Lookups)
	}
	beside(after+": resident memory", "MiB", process.MiB(open.Resident), process.MiB(memory.Resident), ram)
	beside(after+": peak memory", "MiB", process.MiB(open.Peak), process.MiB(memory.Peak), ram)
	beside("look-up of a blob that is there: median", "µs", open.Present.Median, memory.Present.Median, ram)
	beside("look-up of a blob that is there: p99", "µs", open.Present.P99, memory.Present.P99, ram)
	beside("look-up of a blob that is not there: median", "µs", open.Absent.Median, memory.Absent.Median, ram)
	beside("look-up of a blob that is not there: p99", "µs", open.Absent.P99, memory.Absent.P99, ram)
	beside("place of a blob: median", "µs", open.Place.Median, memory.Place.Median, ram)
	beside("place of a blob: p99", "µs", open.Place.P99, memory.Place.P99, ram)
	peer, err := process.FindPeer(ctx, "restic", f.restic, "version")
	var theirs process.Cost
	if err == nil {
		theirs, err = s.restic(ctx, peer)
	}
	if err != nil {
		r.NotCompared("restic", err)
	} else {
		beside("open and look one blob up, whole process: time", "s", open.ProcessSeconds, theirs.Wall.Seconds(), peer.Version)
		beside("open and look one blob up, whole process: peak memory", "MiB", process.MiB(open.PeakOpen), process.MiB(theirs.PeakBytes), peer.Version)
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

// child measures one thing in a process of its own.
func (s *setup) child(ctx context.Context, what string) (*result, error) {
	s.Measure = what
	r, cost, err := children.Run(ctx, *s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r.ProcessSeconds = r.UntilFirst + max(0, cost.Wall.Seconds()-r.Seconds) // with the start of the process
	return r, nil
}

// restic has stock restic look up a blob that is not there, for which it reads the whole index.
func (s *setup) restic(ctx context.Context, peer process.Peer) (process.Cost, error) {
	cmd := exec.CommandContext(ctx, peer.Path, "-r", s.Repo, "--no-cache", "--no-lock", "cat", "blob", strings.Repeat("ab", 32))
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+password)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cost, err := process.Measure(cmd)
	if !strings.Contains(stderr.String(), "not found") { // that is the answer we want
		return cost, fmt.Errorf("restic cat blob: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return cost, nil
}
