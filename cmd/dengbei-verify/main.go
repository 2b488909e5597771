// Command dengbei-verify checks registration certificates and restored files for a third party. It needs a policy file
// of keys and nothing else: no network code is linked, and a test holds that.
//
// Exit status: 0 every certificate holds, 1 one does not, 2 wrong usage, 3 something could not be read, 130 interrupted.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o, code := parseOptions(args, stdout, stderr)
	if o == nil {
		return code
	}
	return o.verify(ctx, stdout, stderr)
}
