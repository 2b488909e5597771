package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// launcher starts processes, all from one thread that lives as long as they: Linux ties "kill the child when its parent dies" to the
// thread, not to the process.
type launcher struct {
	work chan func()
	died chan struct{} // closed when a process ended that nobody had told to
	once sync.Once
}

func newLauncher() *launcher {
	l := &launcher{work: make(chan func()), died: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		for f := range l.work {
			f()
		}
	}()
	return l
}

// close ends the thread. Processes that still run are killed by that on Linux.
func (l *launcher) close() { close(l.work) }

func (l *launcher) start(cmd *exec.Cmd) error {
	err := make(chan error)
	l.work <- func() { err <- cmd.Start() }
	return <-err
}

// process is one running node.
type process struct {
	cmd  *exec.Cmd
	log  string // file
	addr serving
	gone chan struct{} // closed once it ended

	mu       sync.Mutex // guards expected
	expected bool       // it was told to end
}

// readyTimeout is how long a node may take until it serves, on a busy machine.
const readyTimeout = 60 * time.Second

// node starts a node and returns once it serves.
func (l *launcher) node(exe, configFile, logFile string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(exe, "node", "run", "--config", configFile, "--json")
	cmd.SysProcAttr = childAttr()
	cmd.Stderr = log
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.Stdout = w
	err = l.start(cmd)
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", exe, err)
	}
	p := &process{cmd: cmd, log: logFile, gone: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		p.mu.Lock()
		expected := p.expected
		p.mu.Unlock()
		if !expected {
			l.once.Do(func() { close(l.died) })
		}
		close(p.gone)
	}()
	if err := r.SetReadDeadline(time.Now().Add(readyTimeout)); err != nil {
		return nil, errors.Join(err, p.stop(0))
	}
	if err := json.NewDecoder(io.LimitReader(r, 1<<16)).Decode(&p.addr); err != nil {
		return nil, errors.Join(fmt.Errorf("node of %s does not serve: %w; its log ends with: %s", configFile, err, tail(logFile)), p.stop(0))
	}
	return p, nil
}

// running reports whether the process has not ended.
func (p *process) running() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// kill ends the whole group at once, as a power cut would, and waits until it is gone.
func (p *process) kill() error { return p.stop(0) }

// stop asks the process to end, kills its group after patience, and waits until it is gone.
func (p *process) stop(patience time.Duration) error {
	p.mu.Lock()
	p.expected = true
	p.mu.Unlock()
	if patience > 0 {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) // gone already is fine
		select {
		case <-p.gone:
		case <-time.After(patience):
		}
	}
	if p.running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	select {
	case <-p.gone:
		return nil
	case <-time.After(10 * time.Second):
		return fmt.Errorf("process %d does not end after SIGKILL", p.cmd.Process.Pid)
	}
}

// tail is the end of a log file for a message.
func tail(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}
