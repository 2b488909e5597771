package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// launcher starts every process from one thread that lives as long as the network: Linux ties "kill the child when its
// parent dies" to the thread.
type launcher struct{ work chan func() }

func newLauncher() *launcher {
	l := &launcher{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range l.work {
			f()
		}
	}()
	return l
}

// close ends the thread, and with it, on Linux, whatever still runs.
func (l *launcher) close() { close(l.work) }

func (l *launcher) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = childAttr()
	done := make(chan error)
	l.work <- func() { done <- cmd.Start() }
	return <-done
}

// process is one running node.
type process struct {
	cmd  *exec.Cmd
	gone chan struct{} // closed once it has ended
	told atomic.Bool   // to end
}

// serving is what a node prints when its ports listen.
type serving struct {
	Peer string `json:"peer_address"`
}

const (
	servesWithin = 90 * time.Second // on a busy machine, after a crash
	endsWithin   = 20 * time.Second
)

// node starts a node and returns once its ports listen.
func (l *launcher) node(exe, config, logFile string) (*process, error) {
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
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1") // of a race build: a node with a race ends at once
	err = l.start(cmd)
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", exe, err)
	}
	p := &process{cmd: cmd, gone: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.gone)
	}()
	var s serving
	err = r.SetReadDeadline(time.Now().Add(servesWithin))
	if err == nil {
		err = json.NewDecoder(io.LimitReader(r, 1<<16)).Decode(&s)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the node of %s does not serve: %w\n%s", config, err, tail(logFile)), p.kill())
	}
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// died reports whether the process ended though nobody told it to.
func (p *process) died() bool { return !p.running() && !p.told.Load() }

// kill ends the process as a power cut ends a program, and waits until it is gone.
func (p *process) kill() error {
	p.told.Store(true)
	if p.running() {
		_ = p.cmd.Process.Kill() // gone already is fine
	}
	return p.wait("SIGKILL")
}

// stop asks the process to end, and waits until it has. One that does not is killed, which is an error.
func (p *process) stop() error {
	p.told.Store(true)
	if p.running() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	if err := p.wait("SIGTERM"); err != nil {
		return errors.Join(err, p.kill())
	}
	return nil
}

func (p *process) wait(after string) error {
	t := time.NewTimer(endsWithin)
	defer t.Stop()
	select {
	case <-p.gone:
		return nil
	case <-t.C:
		return fmt.Errorf("process %d still runs %v after %s", p.cmd.Process.Pid, endsWithin, after)
	}
}

// tail is the end of a log file for a message.
func tail(file string) string {
	const lines = 15
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
