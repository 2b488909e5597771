// Package launch starts nodes as processes of their own and ends them: for the demonstration and the end-to-end tests.
package launch

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
	"sync/atomic"
	"syscall"
	"time"
)

// Launcher starts processes, all from one thread that lives as long as they: Linux ties "kill the child when its parent
// dies" to the thread, not to the process. Methods may be called concurrently.
type Launcher struct {
	work chan func()
	died chan struct{}
	once sync.Once
}

// New returns a Launcher, which must be closed.
func New() *Launcher {
	l := &Launcher{work: make(chan func()), died: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		for f := range l.work {
			f()
		}
	}()
	return l
}

// Close ends the thread. Processes that still run are killed by that on Linux.
func (l *Launcher) Close() { close(l.work) }

// Died is closed when a node ended that nobody had told to.
func (l *Launcher) Died() <-chan struct{} { return l.died }

// Start starts cmd. Unless it says otherwise, it gets [Attr].
func (l *Launcher) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = Attr()
	}
	err := make(chan error)
	l.work <- func() { err <- cmd.Start() }
	return <-err
}

// Process is one running node.
type Process struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed once it has ended
	told atomic.Bool   // to end

	// Serving is what the node printed when its ports listened.
	Serving Serving
}

// Serving is what a node prints when its ports listen.
type Serving struct {
	Centre string `json:"centre"`
	Peer   string `json:"peer_address"`
	Gossip string `json:"gossip_address"`
	Web    string `json:"web_address"`
}

const (
	servesWithin = 90 * time.Second // on a busy machine, after a crash
	endsWithin   = 20 * time.Second
)

// Node starts the program exe as the node of a configuration file and returns once its ports listen. Its log is appended
// to logFile. env is added to this process' environment.
func (l *Launcher) Node(exe, config, logFile string, env ...string) (*Process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command(exe, "node", "run", "--config", config, "--json")
	cmd.Stdout, cmd.Stderr = w, log
	cmd.Env = append(os.Environ(), env...)
	err = l.Start(cmd)
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", exe, err)
	}
	p := &Process{cmd: cmd, gone: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		if !p.told.Load() {
			l.once.Do(func() { close(l.died) })
		}
		close(p.gone)
	}()
	err = r.SetReadDeadline(time.Now().Add(servesWithin))
	if err == nil {
		err = json.NewDecoder(io.LimitReader(r, 1<<16)).Decode(&p.Serving)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the node of %s does not serve: %w\n%s", config, err, Tail(logFile, 5)), p.Kill())
	}
	return p, nil
}

// Running reports whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// Died reports whether the process ended though nobody told it to.
func (p *Process) Died() bool { return !p.Running() && !p.told.Load() }

// Kill ends the process and its children as a power cut ends a program, and waits until it is gone.
func (p *Process) Kill() error {
	p.told.Store(true)
	if p.Running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // gone already is fine
	}
	return p.wait(endsWithin)
}

// Stop asks the process to end and waits for so long. One that then still runs is killed, which is an error.
func (p *Process) Stop(patience time.Duration) error {
	p.told.Store(true)
	if p.Running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	}
	if err := p.wait(patience); err != nil {
		return errors.Join(err, p.Kill())
	}
	return nil
}

func (p *Process) wait(patience time.Duration) error {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-p.gone:
		return nil
	case <-t.C:
		return fmt.Errorf("process %d still runs after %v", p.cmd.Process.Pid, patience)
	}
}

// Tail returns the last lines of a log file, for a message.
func Tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// PID returns the process' number.
func (p *Process) PID() int { return p.cmd.Process.Pid }
