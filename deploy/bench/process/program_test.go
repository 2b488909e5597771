package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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

func TestMainEndsWithASignal(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), taskVariable+`={"Do":"wait"}`)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "waiting\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("a program that was interrupted ends with %v; want exit status 1", err)
	}
	if want := "process.test: ended: context canceled\n"; said.String() != want {
		t.Errorf("it says %q; want %q", said.String(), want)
	}
}

func TestMainReturnsWhenNobodyReads(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), taskVariable+`={"Do":"talk"}`)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("a program that nobody reads ends with %v; want exit status 1", err)
	}
	if want := "process.test: nobody listens\n"; said.String() != want {
		t.Errorf("it says %q; want %q", said.String(), want)
	}
}
