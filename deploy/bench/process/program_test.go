package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// chore is what the tests have a child do.
type chore struct {
	Do    string
	Bytes int
}

// outcome is a child's answer.
type outcome struct {
	Did  string
	Peak int64
}

var children = Child[chore, outcome](doChore)

func doChore(ctx context.Context, c chore) (outcome, error) {
	switch c.Do {
	case "hold":
		hold(c.Bytes)
		_, peak, err := Memory()
		return outcome{Did: "held", Peak: peak}, err
	case "wait":
		fmt.Println("waiting")
		<-ctx.Done()
		return outcome{}, fmt.Errorf("ended: %w", ctx.Err())
	case "talk":
		for {
			if _, err := fmt.Println("and so on"); err != nil {
				return outcome{}, errors.New("nobody listens")
			}
		}
	}
	return outcome{}, errors.New("no such chore")
}

// hold has n bytes in memory for a moment.
func hold(n int) {
	b := make([]byte, n)
	for i := 0; i < n; i += 4 << 10 {
		b[i] = 1
	}
}

func TestMain(m *testing.M) {
	code := 0
	Main("process.test", func(context.Context) error { code = m.Run(); return nil }, children)
	os.Exit(code)
}

func TestChild(t *testing.T) {
	linux(t)
	got, cost, err := children.Run(t.Context(), chore{Do: "hold", Bytes: 64 << 20})
	if err != nil || got.Did != "held" || got.Peak < 64<<20 {
		t.Fatalf("hold 64 MiB = %+v, %v; want held and a peak of 64 MiB", got, err)
	}
	if cost.PeakBytes < 64<<20 || cost.Wall <= 0 || cost.CPU <= 0 {
		t.Errorf("a child that held 64 MiB cost %+v", cost)
	}
	if _, _, err := children.Run(t.Context(), chore{Do: "nothing we know"}); err == nil {
		t.Error("a child whose task failed gave an answer")
	}
}

// started is this program as its own child, at work.
type started struct {
	cmd  *exec.Cmd
	out  io.ReadCloser
	said strings.Builder
}

func start(t *testing.T, task string) *started {
	t.Helper()
	s := &started{cmd: exec.CommandContext(t.Context(), os.Args[0])}
	s.cmd.Env = append(os.Environ(), taskVariable+"="+task)
	s.cmd.Stderr = &s.said
	var err error
	if s.out, err = s.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// fails waits for the end, which must be exit status 1 after these words.
func (s *started) fails(t *testing.T, want string) {
	t.Helper()
	err := s.cmd.Wait()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the program ends with %v; want exit status 1", err)
	}
	if s.said.String() != want {
		t.Errorf("it says %q; want %q", s.said.String(), want)
	}
}

func TestMainEndsWithASignal(t *testing.T) {
	s := start(t, `{"Do":"wait"}`)
	if line, err := bufio.NewReader(s.out).ReadString('\n'); line != "waiting\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.fails(t, "process.test: ended: context canceled\n")
}

func TestMainReturnsWhenNobodyReads(t *testing.T) {
	s := start(t, `{"Do":"talk"}`)
	if err := s.out.Close(); err != nil {
		t.Fatal(err)
	}
	s.fails(t, "process.test: nobody listens\n")
}
