// Command backup compares backups by dengbei with those by restic, borg and kopia on this machine: the same three
// corpora, the programs in turn, several rounds, medians.
//
//	go run ./deploy/bench/backup [--quick] [--json] [--restic PROGRAM] [--borg PROGRAM] [--kopia PROGRAM]
//
// Every figure is of a whole process: start, keys and index included. Sources are in the system's cache; repositories are
// taken out of it before they are restored or checked. Rates are of the corpus' size. A ratio above 1 says
// that dengbei is faster, or needs less.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

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
	flag.Int64Var(&f.mib, "size", 0, "`MiB` of each corpus; by default 1024, with --quick 48")
	flag.StringVar(&f.only, "corpus", "", "only the corpus whose `name` begins so")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &f); err != nil {
		fmt.Fprintln(os.Stderr, "backup:", err)
		stop()
		os.Exit(1)
	}
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
			f.mib = 48
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
	list, err := tools(ctx, f.ours, state, f)
	if err != nil {
		return err
	}
	corpora, err := makeCorpora(filepath.Join(dir, "corpora"), f.mib<<20)
	if err != nil {
		return err
	}
	r := report.New("backup")
	r.SetQuick(f.Quick)
	for _, t := range list {
		r.Note("%s: %s", t.name, t.version)
	}
	r.Note("%d MiB each, %d rounds, medians; sources are in the system's cache, repositories are not when they are restored or checked", f.mib, f.rounds)
	for _, c := range corpora {
		if !strings.HasPrefix(c.name, f.only) {
			continue
		}
		b := &bench{corpus: c, dir: filepath.Join(dir, "work"), tools: list, results: map[string]map[string][]cost{}, added: map[string]map[string][]float64{}}
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
	results map[string]map[string][]cost    // by step, by tool
	added   map[string]map[string][]float64 // MiB by step, by tool
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
	each := func(step string, args func(*tool) []string, after func(*tool) error) error {
		for _, t := range order {
			target := filepath.Join(b.dir, "target")
			before, err := usedMiB(repo(t))
			if err != nil {
				return err
			}
			if step == stepRestore || step == stepCheck {
				if err := evict(repo(t)); err != nil {
					return err
				}
			}
			c, err := t.run(ctx, args(t), repo(t), b.corpus.dir, target)
			if err != nil {
				return err
			}
			now, err := usedMiB(repo(t))
			if err != nil {
				return err
			}
			put(b.results, step, t.name, c)
			put(b.added, step, t.name, now-before)
			if after != nil {
				if err := after(t); err != nil {
					return err
				}
			}
			if err := os.RemoveAll(target); err != nil {
				return err
			}
		}
		return nil
	}
	for _, t := range order {
		if t.name == "kopia" { // its settings name one repository
			if err := os.RemoveAll(filepath.Join(filepath.Dir(b.dir), "state", "kopia.config")); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(repo(t), 0o700); err != nil {
			return err
		}
		if _, err := t.run(ctx, t.init, repo(t), b.corpus.dir, ""); err != nil {
			return err
		}
	}
	if err := each(stepBackup, func(t *tool) []string { return t.backup }, nil); err != nil {
		return err
	}
	if err := each(stepUnchanged, func(t *tool) []string { return t.backup }, nil); err != nil {
		return err
	}
	same := func(t *tool) error { return sameBytes(b.corpus, filepath.Join(b.dir, "target")) }
	if err := each(stepRestore, func(t *tool) []string { return t.restore }, same); err != nil {
		return err
	}
	if err := each(stepCheck, func(t *tool) []string { return t.check }, nil); err != nil {
		return err
	}
	if b.corpus.edit == nil {
		return nil
	}
	if err := b.corpus.edit(round); err != nil {
		return err
	}
	return each(stepEdited, func(t *tool) []string { return t.backup }, nil)
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

// report writes the medians: ours beside each peer.
func (b *bench) report(r *report.Report) {
	mib := float64(b.corpus.bytes) / (1 << 20)
	for _, step := range []string{stepBackup, stepUnchanged, stepEdited, stepRestore, stepCheck} {
		ran := b.results[step]
		if ran == nil {
			continue
		}
		for _, ours := range b.tools[:2] {
			if ours.name != "dengbei" && b.corpus.edit == nil {
				continue // database chunks are for dumps
			}
			for _, peer := range b.tools[2:] {
				add := func(what, unit string, of func(cost) float64, higher bool) {
					o, p := median(ran[ours.name], of), median(ran[peer.name], of)
					ratio := o / p
					if !higher {
						ratio = p / o
					}
					r.Add(report.Row{
						Name: fmt.Sprintf("%s: %s, %s", b.corpus.name, step, what), OursName: ours.name, Ours: o,
						PeerName: peer.version, Peer: p, Unit: unit, Ratio: ratio,
					})
				}
				add("rate", "MiB/s", func(c cost) float64 { return mib / c.seconds }, true)
				add("CPU", "s/GiB", func(c cost) float64 { return c.cpuSeconds / mib * 1024 }, false)
				add("peak memory", "MiB", func(c cost) float64 { return c.peakMiB }, false)
				if step == stepBackup || step == stepEdited {
					o, p := medianOf(b.added[step][ours.name]), medianOf(b.added[step][peer.name])
					r.Add(report.Row{
						Name: fmt.Sprintf("%s: %s, added", b.corpus.name, step), OursName: ours.name, Ours: o,
						PeerName: peer.version, Peer: p, Unit: "MiB", Ratio: p / o,
					})
				}
			}
		}
	}
}

func median(all []cost, of func(cost) float64) float64 {
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
