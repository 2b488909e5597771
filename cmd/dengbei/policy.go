package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "the keys by which certificates are verified, and what an authority accepts without an officer"}
	cmd.AddCommand(a.policyGetCommand(), a.policyAutoApproveCommand())
	return cmd
}

func (a *app) policyGetCommand() *cobra.Command {
	var out, number string
	cmd := &cobra.Command{
		Use:   "get [--number NUMBER] [-o FILE]",
		Short: "get the policy file for dengbei-verify",
		Long: `Get the policy file: the keys of the log, of the countersigning centres and of the authorities, and how many countersignatures a
certificate needs. Compare it with one from another centre before you rely on it: whoever gives you this file decides
which certificates you believe. With --number it is the policy of the time when that record's certificate was made: voters
may have been replaced since.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				r, err := c.Network.Policy(cmd.Context(), &nodepb.PolicyRequest{Number: number})
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
				return a.Print(v, func(w io.Writer) {
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
	cmd.Flags().StringVar(&number, "number", "", "policy of the certificate with this registration `NUMBER`")
	return cmd
}

func (a *app) policyAutoApproveCommand() *cobra.Command {
	var file string
	var p node.AutoApproval
	var valid time.Duration
	cmd := &cobra.Command{
		Use:   "auto-approve --config FILE --name NAME",
		Short: "sign what this authority accepts without an officer's look",
		Long: `Sign an auto-approval policy with the authority's key on this machine and put it in force. Submissions inside its scope whose
inspection ended with an accepted result are decided by it, under its name; everything else waits for an officer. The running
node takes it up with the next submission. A new policy replaces the one before; --valid 0s ends it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.Name == "" {
				return term.Usagef("give --name NAME: it stands in every decision that the policy makes")
			}
			if valid < 0 {
				return term.Usagef("--valid %v is negative", valid)
			}
			c, err := loadConfig(file)
			if err != nil {
				return err
			}
			p.ValidUntil = time.Now().Add(valid).UTC().Truncate(time.Second)
			if err := node.SignAutoApproval(c, p); err != nil {
				return fmt.Errorf("policy %s: %w", p.Name, err)
			}
			v := struct {
				Name       string   `json:"name"`
				Authority  string   `json:"authority"`
				Registrant string   `json:"registrant"`
				Accept     []string `json:"accept"`
				Except     string   `json:"except_batch,omitempty"`
				Until      string   `json:"valid_until"`
			}{p.Name, c.Centre, p.Registrant, p.Results, p.ExceptBatch, p.ValidUntil.In(term.ArchiveTime).Format(time.RFC3339)}
			return a.Print(v, func(w io.Writer) {
				fmt.Fprintf(w, "policy %s of authority %s is in force until %s\n", v.Name, v.Authority, v.Until)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "configuration `FILE` of the authority's node (required)")
	f.StringVar(&p.Name, "name", "", "`NAME` of the policy (required)")
	f.StringVar(&p.Registrant, "registrant", "*", "only this registrant's `ID`; * = all of this authority")
	f.StringSliceVar(&p.Results, "accept", []string{"PASS"}, "inspection results that are accepted: PASS, WARN")
	f.StringVar(&p.ExceptBatch, "except-batch", "", "batch `NAME` that is left to an officer")
	f.DurationVar(&valid, "valid", 365*24*time.Hour, "how long the policy is in force")
	return cmd
}
