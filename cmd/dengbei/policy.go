package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "the keys by which certificates are verified"}
	cmd.AddCommand(a.policyGetCommand())
	return cmd
}

func (a *app) policyGetCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "get [-o FILE]",
		Short: "get the policy file for dengbei-verify",
		Long: `Get the policy file: the keys of the log, of the countersigning centres and of the authorities, and how many countersignatures a
certificate needs. Compare it with one from another centre before you rely on it: whoever gives you this file decides
which certificates you believe.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				r, err := c.Network.Policy(cmd.Context(), &nodepb.PolicyRequest{})
				if err != nil {
					return fmt.Errorf("get policy: %w", err)
				}
				if out != "" {
					if err := writeFileDurable(out, r.GetPolicy(), 0o644, true); err != nil {
						return err
					}
				}
				v := struct {
					File   string `json:"file,omitempty"`
					Policy string `json:"policy"`
				}{out, string(r.GetPolicy())}
				return a.print(v, func(w io.Writer) {
					if out != "" {
						fmt.Fprintf(w, "policy written to %s\n", out)
						return
					}
					_, _ = w.Write(r.GetPolicy())
				})
			})
		},
	}
	a.targetFlagsOf(cmd)
	cmd.Flags().StringVarP(&out, "output", "o", "", "`FILE` to write (default: standard output)")
	return cmd
}
