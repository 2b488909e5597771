package chunktest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Begin is called by a victim, a test program run by [Killed], when what may be cut off begins.
func Begin() { fmt.Println("begin") }

// Killed runs this test program once more with env added to its environment, which tells its TestMain what to do, and kills
// it so long after it has begun. It reports whether the program had ended before.
func Killed(t testing.TB, after time.Duration, env ...string) (ended bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	Must(t, err)
	Must(t, cmd.Start())
	line, _ := bufio.NewReader(out).ReadString('\n')
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err = cmd.Wait()
	if line != "begin\n" || err != nil && cmd.ProcessState.Exited() {
		t.Fatalf("the victim ended by itself: %v, said %q", err, line)
	}
	return err == nil
}
