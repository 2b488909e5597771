package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

func (a *app) recoverCommand() *cobra.Command {
	var shares, identities []string
	cmd := a.targeted(&cobra.Command{
		Use:   "recover --config FILE --share FILE --share FILE --identity FILE…",
		Short: "rebuild this centre after a disaster",
		Long: `Rebuild a centre that was enrolled again on an empty machine and is running: state from the registry, keys from the escrow bundle,
files from the holders. The shares are combined on this machine; only the secret goes to the node, over its own port. The
exit status is 0 only if every file equals its certificate and nothing is known to be lost; otherwise the report names what is
missing and it is 1. Running it again is safe and goes on where it stopped.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(shares) == 0 || len(identities) == 0 {
				return term.Usagef("give --share FILE for each share and --identity FILE for each officer's key")
			}
			secret, err := combineShares(shares, identities)
			if err != nil {
				return err
			}
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				p := a.NewProgress("recovering", 0, false)
				r, err := recoverCentre(cmd.Context(), c, secret[:], func(r *nodepb.RecoverReply) {
					p.Phase("recovering "+r.GetPhase(), int64(r.GetDone()), int64(r.GetTotal()))
				})
				p.End()
				if err != nil {
					return err
				}
				v := recoveryOf(r)
				if err := a.Print(v, v.text); err != nil {
					return err
				}
				return v.wrong()
			})
		},
	})
	f := cmd.Flags()
	f.StringArrayVar(&shares, "share", nil, "share `FILE` written by escrow split; once per share")
	f.StringArrayVar(&identities, "identity", nil, "`FILE` with an officer's age key; once per officer")
	return cmd
}

// recoverCentre runs the recovery and returns its report.
func recoverCentre(ctx context.Context, c *rpc.Client, secret []byte, seen func(*nodepb.RecoverReply)) (*nodepb.RecoveryReport, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Backups.Recover(ctx, &nodepb.RecoverRequest{Secret: secret})
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	var report *nodepb.RecoveryReport
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("recover: %w", err)
		}
		seen(r)
		if r.GetReport() != nil {
			report = r.GetReport()
		}
	}
	if report == nil {
		return nil, errors.New("recover: the node ended without a report: run it again, it goes on where it stopped")
	}
	return report, nil
}

type recoveryView struct {
	OK              bool         `json:"ok"`
	Records         uint64       `json:"records"`
	Files           uint64       `json:"files"`
	Bytes           uint64       `json:"bytes"`
	RepositoryFiles uint64       `json:"repository_files"`
	RepositoryBytes uint64       `json:"repository_bytes"`
	Mismatches      []string     `json:"mismatches"`
	Seconds         float64      `json:"seconds"`
	Sources         []sourceView `json:"sources"`
	Damaged         []healedView `json:"damaged"`
	Lost            []string     `json:"lost"`
}

type sourceView struct {
	ServerID string `json:"server_id"`
	Files    uint64 `json:"files"`
	Bytes    uint64 `json:"bytes"`
}

func recoveryOf(r *nodepb.RecoveryReport) recoveryView {
	v := recoveryView{
		Records: r.GetRecords(), Files: r.GetFiles(), Bytes: r.GetSizeBytes(), RepositoryFiles: r.GetRepositoryFiles(), RepositoryBytes: r.GetRepositoryBytes(),
		Mismatches: term.OrEmpty(r.GetMismatches()), Seconds: r.GetSeconds(), Sources: []sourceView{}, Damaged: healedOf(r.GetDamaged()), Lost: term.OrEmpty(r.GetLost()),
	}
	for _, s := range r.GetSources() {
		v.Sources = append(v.Sources, sourceView{s.GetServerId(), s.GetFiles(), s.GetSizeBytes()})
	}
	v.OK = v.wrong() == nil
	return v
}

func (v recoveryView) text(w io.Writer) {
	fmt.Fprintf(w, "recovered\t%d records, %d files, %s, in %.1f s\n", v.Records, v.Files, term.ByteCount(v.Bytes), v.Seconds)
	for _, s := range v.Sources {
		fmt.Fprintf(w, "from %s\t%d repository files, %s\n", s.ServerID, s.Files, term.ByteCount(s.Bytes))
	}
	for _, d := range v.Damaged {
		fmt.Fprintf(w, "damaged at %s\t%s (another copy was used)\n", d.Source, term.Safe(d.File))
	}
	for _, m := range v.Mismatches {
		fmt.Fprintf(w, "NOT EQUAL\t%s\n", term.Safe(m))
	}
	for _, l := range v.Lost {
		fmt.Fprintf(w, "LOST\t%s\n", term.Safe(l))
	}
	if len(v.Mismatches) == 0 {
		fmt.Fprintln(w, "every file compared equals its certificate")
	}
	if len(v.Lost) == 0 {
		fmt.Fprintln(w, "nothing is known to be lost")
	}
}

func (v recoveryView) wrong() error {
	switch {
	case len(v.Mismatches) > 0:
		return term.Falsef("%d files do not equal their certificates: %s", len(v.Mismatches), term.Safe(strings.Join(firstOf(v.Mismatches, 3), ", ")))
	case len(v.Lost) > 0:
		return term.Falsef("%d losses: %s", len(v.Lost), term.Safe(strings.Join(firstOf(v.Lost, 3), ", ")))
	}
	return nil
}

// firstOf is the beginning of a list for a message.
func firstOf(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	return append(list[:n:n], fmt.Sprintf("and %d more", len(list)-n))
}
