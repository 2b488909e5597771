package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry/registrypb"
)

func (a *app) agreementCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "agreement", Short: "backup agreements between centres (登记备份协议)"}
	cmd.AddCommand(a.agreementPutCommand())
	return cmd
}

func (a *app) agreementPutCommand() *cobra.Command {
	var g registrypb.Agreement
	var from, until string
	cmd := &cobra.Command{
		Use:   "put --id ID --owner CODE --holder CODE --class CLASS",
		Short: "register that a centre holds another's backups",
		Long: `Register an agreement: the holder keeps the owner's backups of one class from a day on. The same agreement again changes nothing;
--ended ends it.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if g.Id == "" || g.Owner == "" || g.Holder == "" {
				return term.Usagef("give --id, --owner and --holder")
			}
			var err error
			if g.FromMillis, err = dayMillis("--from", from); err != nil {
				return err
			}
			if g.UntilMillis, err = dayMillis("--until", until); err != nil {
				return err
			}
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				if _, err := c.Network.PutAgreement(cmd.Context(), &nodepb.PutAgreementRequest{Agreement: &g}); err != nil {
					return fmt.Errorf("agreement %s: %w", g.Id, err)
				}
				v := struct {
					ID     string `json:"id"`
					Owner  string `json:"owner"`
					Holder string `json:"holder"`
					Class  string `json:"class"`
					Ended  bool   `json:"ended"`
				}{g.Id, g.Owner, g.Holder, g.Class, g.Ended}
				return a.Print(v, func(w io.Writer) {
					fmt.Fprintf(w, "agreement %s: %s holds %s for %s\n", v.ID, v.Holder, v.Class, v.Owner)
				})
			})
		},
	}
	a.targetFlagsOf(cmd)
	f := cmd.Flags()
	f.StringVar(&g.Id, "id", "", "`ID` of the agreement (required)")
	f.StringVar(&g.Owner, "owner", "", "`CODE` of the centre whose backups are held (required)")
	f.StringVar(&g.Holder, "holder", "", "`CODE` of the centre that holds them (required)")
	f.StringVar(&g.Class, "class", classStandard, "protection class")
	f.StringVar(&from, "from", "", "first `DAY`, as 2026-01-31 (default: at once)")
	f.StringVar(&until, "until", "", "last `DAY` (default: open end)")
	f.BoolVar(&g.Ended, "ended", false, "the agreement has ended")
	return cmd
}

// classStandard is the protection class of what names none.
const classStandard = "standard"

// dayMillis reads a day in UTC+8 as milliseconds since 1970; empty is 0.
func dayMillis(flag, day string) (int64, error) {
	if day == "" {
		return 0, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, day, term.ArchiveTime)
	if err != nil {
		return 0, term.Usagef("%s %q: want a day as 2026-01-31", flag, day)
	}
	return t.UnixMilli(), nil
}
