package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

func (a *app) escrowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "escrow", Short: "this centre's keys in its officers' hands"}
	cmd.AddCommand(a.escrowSplitCommand(), a.escrowOfficerKeyCommand())
	return cmd
}

// escrowSpec says who gets shares.
type escrowSpec struct {
	threshold uint32
	shares    uint32
	officers  []string // age recipients
	out       string
}

func (a *app) escrowSplitCommand() *cobra.Command {
	var s escrowSpec
	cmd := a.targeted(&cobra.Command{
		Use:   "split --threshold K --shares N --officer RECIPIENT… --out DIR",
		Short: "split the keys that a recovery needs into shares, one per officer",
		Long: `Put the passwords of this centre's repositories and its sealing key into a bundle in the registry, encrypted under a secret that
exists only as shares: K of N give it back. Each share is written to DIR as share-N.age, encrypted to one officer's age key.
Keep them outside this centre's machine and in different hands: with the machine and the shares in one fire, nothing helps.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.threshold < 2 || s.threshold > s.shares || s.shares > identity.MaxShares {
				return term.Usagef("--threshold %d, --shares %d: want 2 ≤ threshold ≤ shares ≤ %d", s.threshold, s.shares, identity.MaxShares)
			}
			if len(s.officers) != int(s.shares) || s.out == "" {
				return term.Usagef("give --out DIR, and --officer once per share (%d shares, %d officers)", s.shares, len(s.officers))
			}
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				files, err := splitEscrow(cmd.Context(), c, s)
				if err != nil {
					return err
				}
				v := struct {
					Threshold uint32   `json:"threshold"`
					Shares    []string `json:"shares"`
				}{s.threshold, files}
				return a.Print(v, func(w io.Writer) {
					for _, f := range files {
						fmt.Fprintln(w, f)
					}
					fmt.Fprintf(w, "any %d of these %d shares recover this centre\n", s.threshold, s.shares)
				})
			})
		},
	})
	f := cmd.Flags()
	f.Uint32Var(&s.threshold, "threshold", 2, "how many shares give the keys back")
	f.Uint32Var(&s.shares, "shares", 3, "how many shares there are")
	f.StringArrayVar(&s.officers, "officer", nil, "age `RECIPIENT` (age1…) of an officer; once per share")
	f.StringVar(&s.out, "out", "", "`DIR` to write the shares to (required)")
	return cmd
}

// splitEscrow has the node escrow its keys and writes the shares. Recipients and directory are checked before anything is split.
func splitEscrow(ctx context.Context, c *rpc.Client, s escrowSpec) ([]string, error) {
	var recipients []age.Recipient
	seen := map[string]bool{}
	for _, text := range s.officers {
		r, err := identity.ParseRecipient(text)
		if err != nil {
			return nil, term.Usagef("--officer %q: %v", text, err)
		}
		if seen[text] {
			return nil, term.Usagef("--officer %s is given twice: one officer with two shares is one officer less", text)
		}
		seen[text] = true
		recipients = append(recipients, r)
	}
	if err := os.MkdirAll(s.out, 0o700); err != nil {
		return nil, fmt.Errorf("escrow: %w", err)
	}
	var files []string
	for i := range recipients {
		path := filepath.Join(s.out, fmt.Sprintf("share-%d.age", i+1))
		if exists(path) {
			return nil, fmt.Errorf("escrow: %s exists: shares of two splits must not be mixed, name an empty directory", path)
		}
		files = append(files, path)
	}
	secret, shares, err := identity.Split(c.Subject.Network, c.Subject.Code, int(s.shares), int(s.threshold))
	if err != nil {
		return nil, fmt.Errorf("escrow: %w", err)
	}
	// Shares first: a bundle that nobody could open would be worse than shares of no bundle.
	for i, share := range shares {
		if err := identity.WriteShare(files[i], share, recipients[i]); err != nil {
			return nil, fmt.Errorf("escrow: %w", err)
		}
	}
	if _, err := c.Backups.Escrow(ctx, &nodepb.EscrowRequest{Secret: secret[:], Threshold: s.threshold, Shares: s.shares}); err != nil {
		if rpc.Reason(err) == "" { // no answer: the bundle may be registered
			return nil, fmt.Errorf("escrow: outcome unknown, so the shares in %s stay: split again into another directory: %w", s.out, err)
		}
		for _, f := range files {
			os.Remove(f) // shares of nothing, made a moment ago
		}
		return nil, fmt.Errorf("escrow: %w", err)
	}
	return files, nil
}

func (a *app) escrowOfficerKeyCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "officer-key -o FILE",
		Short: "make an officer's age key",
		Long: `Make an age identity (X25519) for an officer who will keep a share, and print its recipient, which "escrow split --officer" wants.
The file is the officer's own: whoever has it and the share has the share.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return term.Usagef("give -o FILE")
			}
			recipient, err := writeOfficerKey(out)
			if err != nil {
				return err
			}
			v := struct {
				File      string `json:"file"`
				Recipient string `json:"recipient"`
			}{out, recipient}
			return a.Print(v, func(w io.Writer) { fmt.Fprintln(w, recipient) })
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "`FILE` to make (required)")
	return cmd
}

func writeOfficerKey(path string) (recipient string, err error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return "", fmt.Errorf("officer's key: %w", err)
	}
	text := fmt.Sprintf("# public key: %s\n%s\n", id.Recipient(), id)
	if err := writeFileDurable(path, []byte(text), 0o600, false); err != nil {
		return "", fmt.Errorf("officer's key: %w", err)
	}
	return id.Recipient().String(), nil
}

// combineShares opens the share files with the officers' identities and returns the secret.
func combineShares(shares, identityFiles []string) (identity.Secret, error) {
	var ids []age.Identity
	for _, file := range identityFiles {
		f, err := os.Open(file)
		if err != nil {
			return identity.Secret{}, fmt.Errorf("officer's key: %w", err)
		}
		more, err := age.ParseIdentities(io.LimitReader(f, 1<<20))
		f.Close()
		if err != nil {
			return identity.Secret{}, fmt.Errorf("officer's key %s: %w", file, err)
		}
		ids = append(ids, more...)
	}
	if len(ids) == 0 {
		return identity.Secret{}, errors.New("no officer's key given")
	}
	var list []identity.Share
	for _, file := range shares {
		s, err := identity.ReadShare(file, ids...)
		if err != nil {
			return identity.Secret{}, err
		}
		list = append(list, s)
	}
	return identity.Combine(list)
}
