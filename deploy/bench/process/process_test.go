package process

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// program writes a shell script and returns its path.
func program(t *testing.T, script string) string {
	t.Helper()
	path := t.TempDir() + "/program"
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// linux skips a test where there is no /proc to ask.
func linux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("memory of processes is known on Linux only")
	}
}

func TestMeasure(t *testing.T) {
	linux(t)
	hold(256 << 20)
	cost, err := Measure(exec.Command(program(t, "exit 0")))
	if err != nil || cost.Wall <= 0 || cost.PeakBytes <= 0 {
		t.Errorf("Measure = %+v, %v", cost, err)
	}
	if cost.PeakBytes > 128<<20 {
		t.Errorf("a shell needs %.0f MiB: that is what the test held before", MiB(cost.PeakBytes))
	}

	cost, err = Measure(exec.Command(program(t, "echo first >&2; echo last >&2; exit 3")))
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.HasSuffix(err.Error(), ": last") {
		t.Errorf("a program that fails gives %v; want exit status 3 and the last line", err)
	}
	if cost.Wall <= 0 || cost.PeakBytes <= 0 {
		t.Errorf("a program that fails cost %+v", cost)
	}

	if cost, err = Measure(exec.Command("/nonexistent")); err == nil || errors.As(err, &exit) || cost != (Cost{}) {
		t.Errorf("a program that is not there = %+v, %v", cost, err)
	}
}

func TestMemoryOf(t *testing.T) {
	for _, tt := range []struct {
		name, status string
		now, peak    int64
		wrong        bool
	}{
		{"as Linux writes it", "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n", 1 << 20, 2 << 20, false},
		{"a zombie has no memory", "Name:\tx\nState:\tZ\n", 0, 0, true},
		{"no figure", "VmHWM:\tmuch kB\nVmRSS:\t1 kB\n", 0, 0, true},
		{"no unit", "VmHWM:\t1\nVmRSS:\t1\nThreads:\t9\n", 0, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now, peak, err := memoryOf(tt.status)
			if now != tt.now || peak != tt.peak || (err != nil) != tt.wrong {
				t.Errorf("memoryOf(%q) = %d, %d, %v; want %d, %d", tt.status, now, peak, err, tt.now, tt.peak)
			}
		})
	}
}

func TestLimitedKeepsTheEnd(t *testing.T) {
	var l limited
	for range 3 * limitBytes / 64 {
		_, _ = l.Write([]byte(strings.Repeat("x", 64)))
	}
	_, _ = l.Write([]byte("\nthe end\n\n"))
	if len(l.bytes) != limitBytes || l.lastLine() != ": the end" {
		t.Errorf("%d bytes, last line %q; want %d and the end", len(l.bytes), l.lastLine(), limitBytes)
	}
}
