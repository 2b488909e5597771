package repo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// opener holds the options that say which repository is meant and how it opens.
type opener struct {
	console *term.Console

	repo, passwordFile, passwordCommand string
}

// flags gives the options to cmd and all below it. restic's variables stand in for them.
func (o *opener) flags(cmd *cobra.Command, c *term.Console) {
	o.console = c
	f := cmd.PersistentFlags()
	f.StringVarP(&o.repo, "repo", "r", "", "directory of the repository (default: $RESTIC_REPOSITORY)")
	f.StringVarP(&o.passwordFile, "password-file", "p", "", "file that holds the password (default: $RESTIC_PASSWORD_FILE)")
	f.StringVar(&o.passwordCommand, "password-command", "", "command that prints the password (default: $RESTIC_PASSWORD_COMMAND)")
}

// directory returns the repository's directory.
func (o *opener) directory() (string, error) {
	dir := o.repo
	if dir == "" {
		dir = o.console.Env("RESTIC_REPOSITORY")
	}
	if dir == "" {
		return "", term.Usagef("which repository? Give --repo PATH or set RESTIC_REPOSITORY")
	}
	return dir, nil
}

// password finds the password: by file, by command, or in RESTIC_PASSWORD.
func (o *opener) password(ctx context.Context) (string, error) {
	file, command := o.passwordFile, o.passwordCommand
	if file != "" && command != "" {
		return "", term.Usagef("--password-file and --password-command exclude each other")
	}
	if file == "" && command == "" {
		if p := o.console.Env("RESTIC_PASSWORD"); p != "" {
			return p, nil
		}
		file, command = o.console.Env("RESTIC_PASSWORD_FILE"), o.console.Env("RESTIC_PASSWORD_COMMAND")
	}
	switch {
	case file != "":
		return readPassword(file)
	case command != "":
		words := strings.Fields(command)
		out, err := exec.CommandContext(ctx, words[0], words[1:]...).Output()
		if err != nil {
			return "", fmt.Errorf("password command %q: %w", words[0], err)
		}
		return strings.TrimRight(string(out), "\r\n"), nil
	}
	return "", term.Usagef("no password: give --password-file FILE or --password-command COMMAND, or set RESTIC_PASSWORD")
}

// readPassword reads a password file: its first line, without a byte order mark, as stock restic does.
func readPassword(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	return strings.TrimRight(string(b), "\r\n"), nil
}

// use says what a command does with the repository.
type use int

const (
	reading   use = iota
	appending     // adds files and removes none
	removing      // removes files: alone, and not in a node's repository
)

// opened is a repository that is open for a command.
type opened struct {
	*repository.Repository
	local *chunkstore.Files
}

// open opens the repository. [opened.close] must be called.
func (o *opener) open(ctx context.Context, _ use, options repository.Options) (*opened, error) {
	dir, err := o.directory()
	if err != nil {
		return nil, err
	}
	password, err := o.password(ctx)
	if err != nil {
		return nil, err
	}
	files, err := chunkstore.Open(dir)
	if err != nil {
		return nil, err
	}
	repo, err := repository.Open(ctx, files, password, options)
	if err != nil {
		return nil, err
	}
	return &opened{repo, files}, nil
}

// close ends the use of the repository.
func (o *opened) close() error { return nil }
