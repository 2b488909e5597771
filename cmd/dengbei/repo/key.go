package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

// keyView is a key as stock restic's JSON has it.
type keyView struct {
	Current  bool   `json:"current"`
	ID       string `json:"id"`
	Username string `json:"userName"`
	Hostname string `json:"hostName"`
	Created  string `json:"created"`
}

// newKey is the options of a key that is made.
type newKey struct {
	passwordFile, host, user string
}

func (k *newKey) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&k.passwordFile, "new-password-file", "", "`file` that holds the new password")
	f.StringVar(&k.host, "host", "", "host name that the new key shows (default: this host's)")
	f.StringVar(&k.user, "user", "", "user name that the new key shows (default: this user's)")
}

func (k *newKey) password() (string, error) {
	if k.passwordFile == "" {
		return "", term.Usagef("which new password? Give --new-password-file FILE")
	}
	return readPassword(k.passwordFile)
}

func (k *newKey) options() repository.KeyOptions {
	return repository.KeyOptions{Hostname: k.host, Username: k.user}
}

func (r *commands) keyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "list, add, remove and replace the keys (passwords) of the repository",
		Long: `Each key file holds the repository's master key under a password of its own. Removing a key makes its password useless for
whoever comes later; who has read the master key before keeps it: then copy what matters into a new repository.`,
	}
	cmd.AddCommand(r.keyListCommand(), r.keyAddCommand(), r.keyRemoveCommand(), r.keyPasswdCommand())
	return cmd
}

func (r *commands) keyListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list the keys; the one in use is marked",
		Args:  cobra.NoArgs,
		RunE: r.run(r.withKeys(reading, func(ctx context.Context, repo *opened, _ []string) error {
			keys, unreadable, err := repo.Keys(ctx)
			if err != nil {
				return err
			}
			for _, u := range unreadable {
				r.opener.note("passed over %s: %v", u.Name, u.Err)
			}
			views := []keyView{}
			for _, k := range keys {
				views = append(views, keyView{k.Current, k.Name.ID.Hex()[:8], k.Username, k.Hostname, k.Created.Local().Format(time.DateTime)})
			}
			return r.Print(views, func(w io.Writer) {
				fmt.Fprintln(w, " ID\tUSER\tHOST\tCREATED")
				for _, v := range views {
					mark := " "
					if v.Current {
						mark = "*"
					}
					fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\n", mark, v.ID, term.Safe(v.Username), term.Safe(v.Hostname), v.Created)
				}
			})
		})),
	}
}

func (r *commands) keyAddCommand() *cobra.Command {
	var key newKey
	cmd := &cobra.Command{
		Use:   "add",
		Short: "let another password open the repository too",
		Args:  cobra.NoArgs,
		RunE: r.run(r.withKeys(appending, func(ctx context.Context, repo *opened, _ []string) error {
			password, err := key.password()
			if err != nil {
				return err
			}
			e, err := repo.AddKey(ctx, password, key.options())
			if err != nil {
				return err
			}
			return r.printKey("saved", e.Name.ID)
		})),
	}
	key.flags(cmd)
	return cmd
}

func (r *commands) keyRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove ID",
		Short: "remove a key; the one in use cannot be removed",
		Args:  cobra.ExactArgs(1),
		RunE: r.run(r.withKeys(removing, func(ctx context.Context, repo *opened, args []string) error {
			id, err := findKey(ctx, repo, args[0])
			if err != nil {
				return err
			}
			if err := repo.RemoveKey(ctx, id); err != nil {
				return err
			}
			return r.printKey("removed", id)
		})),
	}
}

func (r *commands) keyPasswdCommand() *cobra.Command {
	var key newKey
	cmd := &cobra.Command{
		Use:   "passwd",
		Short: "replace the key in use by one with another password",
		Args:  cobra.NoArgs,
		RunE: r.run(r.withKeys(removing, func(ctx context.Context, repo *opened, _ []string) error {
			password, err := key.password()
			if err != nil {
				return err
			}
			e, err := repo.ChangePassword(ctx, password, key.options())
			if err != nil {
				return err
			}
			return r.printKey("saved", e.Name.ID)
		})),
	}
	key.flags(cmd)
	return cmd
}

// withKeys opens the repository for a command.
func (r *commands) withKeys(u use, do func(ctx context.Context, repo *opened, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		repo, err := r.opener.open(cmd.Context(), u, repository.Options{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, repo.close()) }()
		return do(cmd.Context(), repo, args)
	}
}

func (r *commands) printKey(done string, id digest.Digest) error {
	v := struct {
		MessageType string `json:"message_type"`
		ID          string `json:"id"`
	}{"key_" + done, id.Hex()}
	return r.Print(v, func(w io.Writer) { fmt.Fprintf(w, "%s key %s\n", done, v.ID) })
}

// findKey returns the key file whose ID begins with spec, which may also be one that is no key.
func findKey(ctx context.Context, repo *opened, spec string) (digest.Digest, error) {
	keys, unreadable, err := repo.Keys(ctx)
	if err != nil {
		return digest.Digest{}, err
	}
	var found []digest.Digest
	for _, k := range keys {
		found = append(found, k.Name.ID)
	}
	for _, u := range unreadable {
		found = append(found, u.Name.ID)
	}
	n := 0
	for _, id := range found {
		if strings.HasPrefix(id.Hex(), spec) {
			found[n] = id
			n++
		}
	}
	switch {
	case spec == "" || n == 0:
		return digest.Digest{}, fmt.Errorf("key %q: %w", spec, repository.ErrNoKey)
	case n > 1:
		return digest.Digest{}, fmt.Errorf("key %q: %d keys begin so: give more of the ID: %w", spec, n, repository.ErrNoKey)
	}
	return found[0], nil
}
