// Command dengbei is the whole program: the node of an archive centre (node run), the operator's and the officer's
// commands, the registrant's commands, and a demonstration network of five centres on one machine (demo).
//
// Every command ends with one of five exit codes, see exit.go, and prints one JSON object with --json.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(mainExit())
}

// mainExit is main without os.Exit, so that a test binary can stand in for the program.
func mainExit() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	return run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.Getenv})
}

// streams is what a command reads and writes, and its environment.
type streams struct {
	in  io.Reader
	out io.Writer // results
	err io.Writer // progress and errors
	env func(string) string
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, std streams) int {
	a := &app{std: std}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	err := root.ExecuteContext(ctx)
	return a.exit(ctx, err)
}

// app is what all commands of one run share.
type app struct {
	std    streams
	json   bool
	target targetFlags
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "dengbei",
		Short: "registration and backup of archival records between archive centres (登记备份)",
		Long: `dengbei runs one archive centre's node and talks to it.

` + exitHelp + `
A command finds its node by --config FILE (on the node's own machine) or by --node HOST:PORT and --credential DIR;
DENGBEI_CONFIG, DENGBEI_NODE and DENGBEI_CREDENTIAL stand in for the flags.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON object on standard output")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%s: %v", cmd.CommandPath(), err)
	})
	root.AddCommand(
		a.nodeCommand(), a.networkCommand(), a.agreementCommand(), a.registrantCommand(), a.policyCommand(),
		a.submitCommand(), a.submissionCommand(), a.recordCommand(), a.certificateCommand(),
		a.backupCommand(), a.restoreCommand(), a.escrowCommand(), a.recoverCommand(),
		a.demoCommand(),
	)
	tidy(root)
	return root
}

// tidy makes every command report wrong arguments as wrong usage, refuse words it does not know, and name the exit codes in its help.
func tidy(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		if sub.Args != nil {
			sub.Args = usageArgs(sub.Args)
		} else {
			sub.Args = usageArgs(cobra.NoArgs)
		}
		if sub.Long == "" {
			sub.Long = sub.Short + "."
		}
		sub.Long += "\n\n" + exitHelp
		if !sub.Runnable() {
			sub.RunE = func(cmd *cobra.Command, _ []string) error {
				return usagef("%s needs one of its commands; see %s --help", cmd.CommandPath(), cmd.CommandPath())
			}
		}
		tidy(sub)
	}
}

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%s: %v", cmd.CommandPath(), err)
		}
		return nil
	}
}
