package repo

import (
	"errors"

	"github.com/spf13/cobra"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// Exit codes, as stock restic has them.
const (
	exitFailed       = 1
	exitIncomplete   = 3 // a backup without some of its files; a restore likewise
	exitNoRepository = 10
	exitLocked       = 11
	exitPassword     = 12
)

// ExitHelp tells the exit codes of these commands.
const ExitHelp = `Exit status, as restic's: 0 done, 1 failed or damage found, 2 wrong usage, 3 done but for some files, 10 no repository there,
11 locked by another process, 12 wrong password, 130 interrupted.
`

// Command returns the command group.
func Command(c *term.Console) *cobra.Command {
	r := &commands{Console: c}
	cmd := &cobra.Command{
		Use:   "repo",
		Short: "a repository on this machine, without any node",
		Long: `Work on one repository in restic's format, without any node. Names of commands and options are stock restic's.

A repository that belongs to a node is the node's to change: backup, forget, prune, key and repair refuse it.`,
	}
	r.opener.flags(cmd, c)
	cmd.AddCommand(
		r.initCommand(), r.backupCommand(), r.keyCommand(), r.unlockCommand(), r.serveCommand(), r.snapshotsCommand(), r.pruneCommand(), r.copyCommand(),
		r.checkCommand(), r.repairCommand(), r.restoreCommand(), r.dumpCommand(),
		r.lsCommand(), r.findCommand(), r.diffCommand(), r.statsCommand(), r.forgetCommand(), r.tagCommand(), r.catCommand(), r.listCommand(),
	)
	return cmd
}

// commands is what the commands share.
type commands struct {
	*term.Console
	opener opener
}

// incomplete marks an error after which most of the work is done nevertheless.
type incomplete struct{ error }

func (e incomplete) Unwrap() error { return e.error }

// run makes a command's errors carry this group's exit codes.
func (r *commands) run(do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := do(cmd, args)
		var usage *term.UsageError
		if err == nil || errors.As(err, &usage) {
			return err
		}
		return &term.CodeError{Code: exitCode(err), Err: err}
	}
}

func exitCode(err error) int {
	var part incomplete
	switch {
	case errors.As(err, &part):
		return exitIncomplete
	case errors.Is(err, repository.ErrNoRepository), errors.Is(err, chunkstore.ErrNotRepository):
		return exitNoRepository
	case errors.Is(err, repository.ErrLocked):
		return exitLocked
	case errors.Is(err, repository.ErrPassword):
		return exitPassword
	}
	return exitFailed
}
