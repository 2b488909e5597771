// Package process is how the programs below deploy/bench start and end, and how they run and measure processes: themselves
// once more, and peers.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cost is what a process needed from its start to its end.
type Cost struct {
	Wall      time.Duration
	CPU       time.Duration // on all processors together, for user and system
	PeakBytes int64         // largest resident memory
}

// MiB converts a number of bytes.
func MiB(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// Measure runs cmd to its end. An error holds the last line of its standard error, unless the caller takes that; the cost
// of a process that ended with an exit status is valid with the error, an [exec.ExitError].
//
// The system counts what this process holds at the start of the other one as the other's too: its peak is not below the
// memory that this process has in use. That this process once had more does not count.
func Measure(cmd *exec.Cmd) (Cost, error) {
	var said limited
	if cmd.Stderr == nil {
		cmd.Stderr = &said
	}
	forgetPeak()
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if err != nil {
		err = fmt.Errorf("%w%s", err, said.lastLine())
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return Cost{}, err
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return Cost{}, errors.Join(err, errors.New("the system does not tell what a process used"))
	}
	cost := Cost{Wall: took, CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	cost.PeakBytes = usage.Maxrss << 10 // in KiB on Linux
	return cost, err
}

// forgetPeak makes the largest resident memory of this process what it has in use now: a process that it starts begins with
// its parent's. Where the system cannot, figures of small processes are too high.
func forgetPeak() {
	debug.FreeOSMemory()
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

// limitBytes is how much of a program's output is kept.
const limitBytes = 64 << 10

// limited keeps the end of what is written to it.
type limited struct{ bytes []byte }

// Write never fails.
func (l *limited) Write(b []byte) (int, error) {
	l.bytes = append(l.bytes, b...)
	if over := len(l.bytes) - limitBytes; over > 0 {
		l.bytes = append(l.bytes[:0], l.bytes[over:]...)
	}
	return len(b), nil
}

// lastLine returns the last line behind a colon, or nothing if there is none.
func (l *limited) lastLine() string {
	all := bytes.TrimSpace(l.bytes)
	line := all[bytes.LastIndexByte(all, '\n')+1:]
	if len(line) == 0 {
		return ""
	}
	return ": " + string(line)
}

// Memory returns resident memory of this process in bytes: now, and at its peak. [Measure] sets the peak back.
func Memory() (now, peak int64, err error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	return memoryOf(string(b))
}

// memoryOf reads the text of /proc/PID/status.
func memoryOf(status string) (now, peak int64, err error) {
	for _, want := range []struct {
		key   string
		value *int64
	}{{"VmRSS:", &now}, {"VmHWM:", &peak}} {
		_, after, _ := strings.Cut(status, want.key)
		words := strings.Fields(after)
		if len(words) < 2 || words[1] != "kB" {
			return 0, 0, fmt.Errorf("the system does not tell %s", strings.TrimSuffix(want.key, ":"))
		}
		kib, err := strconv.ParseInt(words[0], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s %w", want.key, err)
		}
		*want.value = kib << 10
	}
	return now, peak, nil
}
