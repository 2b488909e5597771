// Command backup compares backups by dengbei with those by restic, borg and kopia on this machine: the same three
// corpora, the programs in turn, several rounds, medians.
//
//	go run ./deploy/bench/backup [--quick] [--json] [--restic PROGRAM] [--borg PROGRAM] [--kopia PROGRAM]
//
// A peer that is not there is not compared with, and a note says so.
//
// Every figure is of a whole process: start, keys and index included. Sources are in the system's cache; repositories are
// taken out of it before they are restored or checked. Rates are of the corpus' size. A ratio above 1 says
// that dengbei is faster, or needs less.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dengbei/deploy/bench/process"
	"dengbei/deploy/bench/report"
)

type flags struct {
	report.Flags
	restic, borg, kopia, ours string
	dir                       string
	rounds                    int
	mib                       int64
	only                      string
}

func main() {
	var f flags
	f.Flags.Register(flag.CommandLine)
	flag.StringVar(&f.restic, "restic", "restic", "restic's `program`")
	flag.StringVar(&f.borg, "borg", "borg", "borg's `program`")
	flag.StringVar(&f.kopia, "kopia", "kopia", "kopia's `program`")
	flag.StringVar(&f.ours, "dengbei", "", "our `program`; by default it is built from this tree")
	flag.StringVar(&f.dir, "dir", "", "`directory` for corpora and repositories; by default a temporary one")
	flag.IntVar(&f.rounds, "rounds", 0, "how often everything is run; by default 3, with --quick 1")
	flag.Int64Var(&f.mib, "size", 0, "`MiB` of each corpus; by default 1024, with --quick 16")
	flag.StringVar(&f.only, "corpus", "", "only the corpus whose `name` begins so")
	process.Main("backup", func(ctx context.Context) error {
		flag.Parse()
		return run(ctx, &f)
	}, nil)
}

func run(ctx context.Context, f *flags) (err error) {
	if f.rounds == 0 {
		f.rounds = 3
		if f.Quick {
			f.rounds = 1
		}
	}
	if f.mib == 0 {
		f.mib = 1024
		if f.Quick {
			f.mib = 16
		}
	}
	dir, err := os.MkdirTemp(f.dir, "dengbei-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if f.ours == "" {
		f.ours = filepath.Join(dir, "dengbei")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", f.ours, "dengbei/cmd/dengbei")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build dengbei: %w", err)
		}
	}
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	r := report.New("backup")
	r.SetQuick(f.Quick)
	list, err := tools(ctx, r, state, f)
	if err != nil {
		return err
	}
	corpora, err := makeCorpora(filepath.Join(dir, "corpora"), f.mib<<20)
	if err != nil {
		return err
	}
	r.Note("%d MiB each, %d rounds, medians; sources are in the system's cache, repositories are not when they are restored or checked", f.mib, f.rounds)
	for _, c := range corpora {
		if !strings.HasPrefix(c.name, f.only) {
			continue
		}
		fit := slices.DeleteFunc(slices.Clone(list), func(t *tool) bool { return t.database && c.edit == nil })
		b := &bench{corpus: c, dir: filepath.Join(dir, "work"), tools: fit, results: map[string]map[string][]process.Cost{}, added: map[string]map[string][]float64{}}
		for round := range f.rounds {
			if err := b.round(ctx, round); err != nil {
				return fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
		}
		b.report(r)
	}
	return r.Print(os.Stdout, f.JSON)
}

// bench is the measurements of one corpus.
type bench struct {
	corpus  *corpus
	dir     string
	tools   []*tool
	results map[string]map[string][]process.Cost // by step, by tool
	added   map[string]map[string][]float64      // MiB by step, by tool
}

const (
	stepBackup    = "backup"
	stepUnchanged = "unchanged backup"
	stepEdited    = "edited backup"
	stepRestore   = "restore"
	stepCheck     = "check all data"
)

// round runs every step with one tool after the other; who begins changes.
func (b *bench) round(ctx context.Context, round int) error {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	order := slices.Concat(b.tools[round%len(b.tools):], b.tools[:round%len(b.tools)])
	repo := func(t *tool) string { return filepath.Join(b.dir, strings.ReplaceAll(t.name, " ", "-")) }
	target := filepath.Join(b.dir, "target")
	made := 0
	each := func(step string, args func(*tool) []string) error {
		at := place{source: b.corpus.dir, made: made}
		if step == stepRestore {
			at.target = target
		}
		for _, t := range order {
			at.repo = repo(t)
			before, err := usedMiB(at.repo)
			if err != nil {
				return err
			}
			if step == stepRestore || step == stepCheck {
				if err := evict(at.repo); err != nil {
					return err
				}
			}
			c, err := t.run(ctx, args(t), at)
			if err != nil {
				return err
			}
			now, err := usedMiB(at.repo)
			if err != nil {
				return err
			}
			put(b.results, step, t.name, c)
			put(b.added, step, t.name, now-before)
			if step == stepRestore {
				if err := errors.Join(sameBytes(b.corpus, target), os.RemoveAll(target)); err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
			}
		}
		return nil
	}
	backUp := func(step string) error {
		made++
		return each(step, func(t *tool) []string { return t.backup })
	}
	for _, t := range order {
		if err := os.MkdirAll(repo(t), 0o700); err != nil {
			return err
		}
		for _, args := range t.init {
			if _, err := t.run(ctx, args, place{repo: repo(t), source: b.corpus.dir}); err != nil {
				return err
			}
		}
	}
	if err := backUp(stepBackup); err != nil {
		return err
	}
	if err := backUp(stepUnchanged); err != nil {
		return err
	}
	if err := each(stepRestore, func(t *tool) []string { return t.restore }); err != nil {
		return err
	}
	if err := each(stepCheck, func(t *tool) []string { return t.check }); err != nil {
		return err
	}
	if b.corpus.edit == nil {
		return nil
	}
	if err := b.corpus.edit(round); err != nil {
		return err
	}
	return backUp(stepEdited)
}

func put[T any](m map[string]map[string][]T, step, tool string, v T) {
	if m[step] == nil {
		m[step] = map[string][]T{}
	}
	m[step][tool] = append(m[step][tool], v)
}

// usedMiB returns the size of all files below dir.
func usedMiB(dir string) (float64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return float64(sum) / (1 << 20), err
}

// evict takes the files below dir out of the system's cache: what is restored or checked was not written a moment ago.
func evict(dir string) error {
	unix.Sync()
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// sameBytes reports whether the restore below target has as many bytes as the corpus, wherever the tool put it.
func sameBytes(c *corpus, target string) error {
	mib, err := usedMiB(target)
	if err != nil {
		return err
	}
	if got := int64(mib*(1<<20) + 0.5); got != c.bytes {
		return fmt.Errorf("restored %d bytes of %d", got, c.bytes)
	}
	return nil
}

// report writes the medians: ours beside each peer, or alone where there is none.
func (b *bench) report(r *report.Report) {
	mib := float64(b.corpus.bytes) / (1 << 20)
	first := slices.IndexFunc(b.tools, func(t *tool) bool { return t.peer })
	own, peers := b.tools, []*tool{{}}
	if first >= 0 {
		own, peers = b.tools[:first], b.tools[first:]
	}
	for _, step := range []string{stepBackup, stepUnchanged, stepEdited, stepRestore, stepCheck} {
		ran := b.results[step]
		if ran == nil {
			continue
		}
		for _, ours := range own {
			for _, peer := range peers {
				add := func(what, unit string, o, p float64, higher bool) {
					ratio := o / p
					if !higher {
						ratio = p / o
					}
					r.Add(report.Row{
						Name: fmt.Sprintf("%s: %s, %s", b.corpus.name, step, what), OursName: ours.name, Ours: o,
						PeerName: peer.version, Peer: p, Unit: unit, Ratio: ratio,
					})
				}
				cost := func(what, unit string, of func(process.Cost) float64, higher bool) {
					add(what, unit, median(ran[ours.name], of), median(ran[peer.name], of), higher)
				}
				cost("rate", "MiB/s", func(c process.Cost) float64 { return mib / c.Wall.Seconds() }, true)
				cost("CPU", "s/GiB", func(c process.Cost) float64 { return c.CPU.Seconds() / mib * 1024 }, false)
				cost("peak memory", "MiB", func(c process.Cost) float64 { return process.MiB(c.PeakBytes) }, false)
				if step == stepBackup || step == stepEdited {
					add("added", "MiB", medianOf(b.added[step][ours.name]), medianOf(b.added[step][peer.name]), false)
				}
			}
		}
	}
}

func median(all []process.Cost, of func(process.Cost) float64) float64 {
	values := make([]float64, len(all))
	for i, c := range all {
		values[i] = of(c)
	}
	return medianOf(values)
}

func medianOf(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	if len(values) == 0 {
		return 0
	}
	m := len(values) / 2
	if len(values)%2 == 1 {
		return values[m]
	}
	return (values[m-1] + values[m]) / 2
}
