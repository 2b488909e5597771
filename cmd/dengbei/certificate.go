package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry/certificate"
	"dengbei/registry/tlog"
)

func (a *app) certificateCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "certificate", Short: "registration certificates (登记证书)"}
	cmd.AddCommand(a.certificateGetCommand(), a.certificateVerifyCommand())
	return cmd
}

func (a *app) certificateGetCommand() *cobra.Command {
	var out string
	cmd := a.targeted(&cobra.Command{
		Use:   "get NUMBER [-o FILE]",
		Short: "get the certificate of a record",
		Long: `Get the certificate of a record. There is one as soon as a countersigned checkpoint covers the record, which takes about a second;
until then the exit status is 1.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				r, err := c.Records.Certificate(cmd.Context(), &nodepb.ShowRecordRequest{Number: args[0]})
				if err != nil {
					return fmt.Errorf("certificate %s: %w", args[0], err)
				}
				if out != "" {
					if err := writeFileDurable(out, r.GetCertificate(), 0o644, true); err != nil {
						return err
					}
				}
				v := struct {
					Number      string `json:"number"`
					File        string `json:"file,omitempty"`
					Certificate string `json:"certificate"`
				}{r.GetNumber(), out, string(r.GetCertificate())}
				return a.Print(v, func(w io.Writer) {
					if out != "" {
						fmt.Fprintf(w, "certificate %s written to %s\n", v.Number, out)
						return
					}
					_, _ = io.WriteString(w, v.Certificate)
				})
			})
		},
	})
	cmd.Flags().StringVarP(&out, "output", "o", "", "`FILE` to write (default: standard output)")
	return cmd
}

// verification is what certificate verify prints.
type verification struct {
	OK         bool                    `json:"ok"`
	Number     string                  `json:"number"`
	Origin     string                  `json:"origin"`
	Authority  string                  `json:"authority"`
	Registered string                  `json:"registered_at"`
	Seq        uint64                  `json:"seq"`
	TreeSize   uint64                  `json:"tree_size"`
	Cosigned   []string                `json:"cosigned"`
	Fields     map[string]string       `json:"fields"`
	Files      *certificate.FileReport `json:"files,omitempty"`
}

func (a *app) certificateVerifyCommand() *cobra.Command {
	var policy, files string
	cmd := &cobra.Command{
		Use:   "verify CERTIFICATE --policy FILE [--files DIR]",
		Short: "check a certificate, and files against it; needs no node and no network",
		Long: `Check a certificate with the keys in the policy file: the checkpoint's signatures, that the record is in the log where the
certificate says, and the authority's signatures. With --files also that the bag in DIR is, file by file, what was
registered. Exit status 0: it holds; 1: it does not, with the reason; 3: something could not be read. The program
dengbei-verify does the same and contains no network code.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if policy == "" {
				return term.Usagef("give --policy FILE: without keys nothing can be checked")
			}
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read certificate: %w", err)
			}
			v, err := verifyCertificate(cmd.Context(), raw, policy, files)
			if err != nil && v == nil {
				return fmt.Errorf("certificate %s: %w", args[0], err)
			}
			return errors.Join(err, a.Print(v, v.text))
		},
	}
	cmd.Flags().StringVar(&policy, "policy", "", "policy `FILE` with the keys to trust (required)")
	cmd.Flags().StringVar(&files, "files", "", "bag `DIR` to compare with the certificate")
	return cmd
}

// verifyCertificate checks raw, and with dir also the bag there. What does not hold matches term.ErrFalse; files that differ come with a
// verification that lists them.
func verifyCertificate(ctx context.Context, raw []byte, policyFile, dir string) (*verification, error) {
	text, err := os.ReadFile(policyFile)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	policy, err := tlog.ParsePolicy(text)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", policyFile, err)
	}
	held, err := certificate.Verify(raw, policy)
	if errors.Is(err, certificate.ErrRefused) {
		return nil, term.Falsef("%w", err)
	}
	if err != nil {
		return nil, err
	}
	v := &verification{
		OK: true, Number: held.Number, Origin: held.Origin, Authority: held.Authority, Registered: held.RegisteredAt.Format(time.RFC3339Nano),
		Seq: held.Seq, TreeSize: held.TreeSize, Cosigned: []string{}, Fields: map[string]string{},
	}
	for _, c := range held.Cosigned {
		v.Cosigned = append(v.Cosigned, c.Name)
	}
	for _, f := range held.Fields {
		if f.Disclosed {
			v.Fields[f.ID.String()] = f.Value
		}
	}
	if dir == "" {
		return v, nil
	}
	report, err := certificate.VerifyFiles(ctx, held, dir)
	if err != nil {
		return nil, err
	}
	report.Problems = term.OrEmpty(report.Problems)
	v.Files, v.OK = &report, report.Holds()
	switch first := firstProblem(report); {
	case report.Holds():
		return v, nil
	case report.Undecided():
		return v, fmt.Errorf("certificate %s: %d files could not be read, the first: %s", v.Number, len(report.Problems), first)
	default:
		return v, term.Falsef("certificate %s: %d files are not as registered, the first: %s", v.Number, len(report.Problems), first)
	}
}

func firstProblem(r certificate.FileReport) string {
	if len(r.Problems) == 0 {
		return ""
	}
	p := r.Problems[0]
	return fmt.Sprintf("%s %s %s", term.Safe(p.Path), p.Problem, term.Safe(p.Detail))
}

func (v *verification) text(w io.Writer) {
	fmt.Fprintf(w, "certificate\t%s\nlog\t%s, position %d of %d\nregistered\t%s by authority %s\ncountersigned by\t%d centres\n",
		v.Number, v.Origin, v.Seq, v.TreeSize, v.Registered, v.Authority, len(v.Cosigned))
	if title, ok := v.Fields[tlog.FieldTitle.String()]; ok {
		fmt.Fprintf(w, "title\t%s\n", term.Safe(title))
	}
	if v.Files == nil {
		fmt.Fprintln(w, "the certificate holds; no files were compared")
		return
	}
	for _, p := range v.Files.Problems {
		fmt.Fprintf(w, "%s\t%s %s\n", p.Problem, term.Safe(p.Path), term.Safe(p.Detail))
	}
	fmt.Fprintf(w, "files\t%d as registered, %s\n", v.Files.Files, term.ByteCount(uint64(v.Files.Bytes)))
}
