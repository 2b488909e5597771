// Command dengbei is the whole program: the node of an archive centre (node run), the operator's and the officer's
// commands, the registrant's commands, and a demonstration network of five centres on one machine (demo).
//
// Every command ends with one of five exit codes, see exit.go, and prints one JSON object with --json.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/repo"
	"dengbei/cmd/dengbei/term"
)

func main() {
	os.Exit(mainExit())
}

// mainExit is main without os.Exit, so that a test binary can stand in for the program.
func mainExit() int {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // under nohup it stays ignored
		signals = append(signals, syscall.SIGHUP) // the terminal is gone
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	return run(ctx, os.Args[1:], &term.Console{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Getenv})
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, c *term.Console) int {
	a := &app{Console: c}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(c.In)
	root.SetOut(c.Out)
	root.SetErr(c.Err)
	err := root.ExecuteContext(ctx)
	return a.exit(ctx, err)
}

// app is what all commands of one run share.
type app struct {
	*term.Console
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
	root.PersistentFlags().BoolVar(&a.JSON, "json", false, "print one JSON object on standard output")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return term.Usagef("%s: %v", cmd.CommandPath(), err)
	})
	root.AddCommand(
		a.nodeCommand(), a.networkCommand(), a.agreementCommand(), a.registrantCommand(), a.policyCommand(),
		a.submitCommand(), a.submissionCommand(), a.recordCommand(), a.certificateCommand(),
		a.backupCommand(), a.restoreCommand(), a.escrowCommand(), a.recoverCommand(),
		a.demoCommand(), repo.Command(a.Console),
	)
	tidy(root, exitHelp)
	return root
}

// tidy makes every command report wrong arguments as wrong usage, refuse words it does not know, and name the exit codes in its help.
func tidy(cmd *cobra.Command, help string) {
	for _, sub := range cmd.Commands() {
		help := help
		if sub.Name() == "repo" {
			help = repo.ExitHelp
		}
		if sub.Args != nil {
			sub.Args = usageArgs(sub.Args)
		} else {
			sub.Args = usageArgs(cobra.NoArgs)
		}
		if sub.Long == "" {
			sub.Long = sub.Short + "."
		}
		sub.Long += "\n\n" + help
		if !sub.Runnable() {
			sub.RunE = func(cmd *cobra.Command, _ []string) error {
				return term.Usagef("%s needs one of its commands; see %s --help", cmd.CommandPath(), cmd.CommandPath())
			}
		}
		tidy(sub, help)
	}
}

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return term.Usagef("%s: %v", cmd.CommandPath(), err)
		}
		return nil
	}
}
