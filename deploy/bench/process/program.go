package process

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// taskVariable, set in the environment, makes a program one of its own children: it holds the task.
const taskVariable = "DENGBEI_BENCH_TASK"

// Main is the main function of a program: it calls run with a context that ends when somebody interrupts the program or
// reads no more of what it prints; run then returns and removes its data. An error of run is printed behind the program's
// name, and the exit status is then 1.
//
// A process that [Child.Run] has started does child's task in place of run. child is nil in a program without tasks.
func Main(program string, run func(context.Context) error, child server) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	if task := os.Getenv(taskVariable); task != "" && child != nil {
		run = func(ctx context.Context) error { return child.serve(ctx, task) }
	}
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
		os.Exit(1)
	}
}

// server does a task given as text and prints its answer. Only a [Child] is one.
type server interface {
	serve(ctx context.Context, task string) error
}

// Child is what a program does in processes of its own, so that memory and time are theirs alone. Task and answer travel as
// JSON; the answer, of at most 64 KiB, is all that such a process may print on standard output.
type Child[Task, Answer any] func(context.Context, Task) (Answer, error)

// Run starts this program once more for the task, and waits. The process ends with ctx, and what it says on standard error
// is shown.
func (Child[Task, Answer]) Run(ctx context.Context, task Task) (answer Answer, cost Cost, err error) {
	program, err := os.Executable()
	if err != nil {
		return answer, cost, err
	}
	text, err := json.Marshal(task)
	if err != nil {
		return answer, cost, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), taskVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	var out limited
	cmd.Stdout = &out
	if cost, err = Measure(cmd); err != nil {
		return answer, cost, err
	}
	if err := json.Unmarshal(out.bytes, &answer); err != nil {
		return answer, cost, fmt.Errorf("answer of a child: %w", err)
	}
	return answer, cost, nil
}

func (c Child[Task, Answer]) serve(ctx context.Context, text string) error {
	var task Task
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		return fmt.Errorf("%s: %w", taskVariable, err)
	}
	answer, err := c(ctx, task)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(answer)
}
