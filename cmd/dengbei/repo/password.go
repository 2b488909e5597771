package repo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

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
		words, err := splitWords(command)
		if err != nil || len(words) == 0 {
			return "", term.Usagef("password command %q: %v", command, err)
		}
		cmd := exec.CommandContext(ctx, words[0], words[1:]...)
		cmd.Stdin, cmd.Stderr = o.console.In, o.console.Err
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("password command %q: %w", words[0], err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	return "", term.Usagef("no password: give --password-file FILE or --password-command COMMAND, or set RESTIC_PASSWORD")
}

// readPassword reads a password file: without a byte order mark and without white space around it, as stock restic does.
func readPassword(file string) (string, error) {
	p, err := readLine(file)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	if p == "" {
		return "", term.Usagef("password file %s is empty", file)
	}
	return p, nil
}

func readLine(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))), nil
}

// readMasterKey reads a master key as "cat masterkey" prints it.
func readMasterKey(file string) (repository.MasterKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return repository.MasterKey{}, fmt.Errorf("master key file: %w", err)
	}
	key, err := repository.ParseMasterKey(b)
	if err != nil {
		return repository.MasterKey{}, fmt.Errorf("master key file %s: %w", file, err)
	}
	return key, nil
}

// splitWords cuts a command line at blanks outside quotes. A backslash takes the next character as it is, but not within
// single quotes.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	in, escaped := false, false
	for _, c := range s {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			in, escaped = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			in, quote = true, c
		case c == ' ' || c == '\t' || c == '\n':
			if in {
				words = append(words, word.String())
				word.Reset()
				in = false
			}
		default:
			in = true
			word.WriteRune(c)
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("a quote or a backslash is left open")
	}
	if in {
		words = append(words, word.String())
	}
	return words, nil
}
