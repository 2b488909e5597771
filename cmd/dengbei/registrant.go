package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

// Files of a registrant's credential directory: clientName.crt and .key for the connection, signingFile for submissions, and the
// network's CA for whoever wants to look.
const (
	clientName  = "client"
	signingFile = "signing.key"
	caFile      = "ca.crt"
)

func (a *app) registrantCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "registrant", Short: "units that may hand records in (登记单位)"}
	cmd.AddCommand(a.registrantAddCommand())
	return cmd
}

// registrantSpec is a unit to be added.
type registrantSpec struct {
	id    string // "<code>/<short name>"
	name  string
	fonds string // 全宗号
	out   string // credential directory
}

func (a *app) registrantAddCommand() *cobra.Command {
	var s registrantSpec
	cmd := &cobra.Command{
		Use:   "add CODE/SHORT-NAME --name NAME --out DIR",
		Short: "register a unit and make its credential",
		Long: `Make a unit's keys here, have the authority register the public ones, and write the credential directory for the unit: its TLS
credential, the key that signs its submissions, and the CA. The private keys never leave this machine; hand the directory
over on a medium and delete it here. Run again after a crash, the command goes on with the keys that are there.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.id = args[0]
			if s.name == "" || s.out == "" {
				return term.Usagef("give --name NAME and --out DIR")
			}
			return a.withNode(cmd.Context(), asRegistrar, func(c *rpc.Client) error {
				if err := addRegistrant(cmd.Context(), c, s); err != nil {
					return err
				}
				v := struct {
					ID         string `json:"id"`
					Name       string `json:"name"`
					Credential string `json:"credential"`
				}{s.id, s.name, s.out}
				return a.Print(v, func(w io.Writer) {
					fmt.Fprintf(w, "%s (%s) may hand records in; its credential is in %s\n", v.ID, term.Safe(v.Name), v.Credential)
				})
			})
		},
	}
	a.targetFlagsOf(cmd)
	f := cmd.Flags()
	f.StringVar(&s.name, "name", "", "official `NAME` of the unit (required)")
	f.StringVar(&s.fonds, "fonds", "", "fonds number (全宗号)")
	f.StringVar(&s.out, "out", "", "credential `DIR` to write (required)")
	return cmd
}

// addRegistrant makes keys in s.out and has them registered and certified. Keys come first: a crash later loses nothing.
func addRegistrant(ctx context.Context, c *rpc.Client, s registrantSpec) error {
	if err := os.MkdirAll(s.out, 0o700); err != nil {
		return fmt.Errorf("credential directory: %w", err)
	}
	signing, err := identity.LoadOrCreateSigningKey(filepath.Join(s.out, signingFile))
	if err != nil {
		return fmt.Errorf("signing key: %w", err)
	}
	key, err := identity.LoadOrCreateKey(s.out, clientName)
	if err != nil {
		return fmt.Errorf("credential key: %w", err)
	}
	csr, err := identity.CSR(key)
	if err != nil {
		return err
	}
	r, err := c.Network.AddRegistrant(ctx, &nodepb.AddRegistrantRequest{
		Id: s.id, Name: s.name, Fonds: s.fonds, PublicKey: signing.Public().(ed25519.PublicKey), Csr: csr,
	})
	if err != nil {
		return fmt.Errorf("add registrant %s: %w", s.id, err)
	}
	ca, err := x509.ParseCertificate(r.GetCaCertificate())
	if err != nil {
		return fmt.Errorf("add registrant %s: CA in the answer: %w", s.id, err)
	}
	cred, err := identity.NewCredential(key, r.GetCertificate(), ca)
	if err != nil {
		return fmt.Errorf("add registrant %s: %w", s.id, err)
	}
	if err := cred.Save(s.out, clientName); err != nil {
		return err
	}
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})
	return writeFileDurable(filepath.Join(s.out, caFile), caPEM, 0o644, true)
}
