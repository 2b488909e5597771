package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

func (a *app) recordCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "record", Short: "registered records, and the officer's decisions"}
	cmd.AddCommand(a.recordListCommand(), a.recordShowCommand(),
		a.decideCommand("accept", "accept a submission (受理): it is registered and backed up"),
		a.decideCommand("return", "return a submission for correction (补正)"),
		a.decideCommand("refuse", "refuse a submission (不予受理): its bytes enter no repository"))
	return cmd
}

type recordView struct {
	Number     string     `json:"number"`
	Seq        uint64     `json:"seq"`
	Authority  string     `json:"authority"`
	Registrant string     `json:"registrant"`
	Submission string     `json:"submission"`
	Ordinal    uint32     `json:"ordinal"`
	Title      string     `json:"title,omitempty"`
	Registered string     `json:"registered_at"`
	Received   string     `json:"received_at"`
	Class      string     `json:"class"`
	Files      uint64     `json:"files"`
	Bytes      uint64     `json:"bytes"`
	Repository string     `json:"repository"`
	Snapshot   string     `json:"snapshot"`
	Path       string     `json:"path"`
	Published  bool       `json:"published"`
	Copies     []copyView `json:"copies"`
}

type copyView struct {
	Centre   string `json:"centre"`
	ServerID string `json:"server_id"`
	Owner    bool   `json:"owner"`
	Verified string `json:"verified_at,omitempty"`
	Site     string `json:"site,omitempty"`
}

func recordOf(r *nodepb.Record) recordView {
	x := r.GetRecord()
	v := recordView{
		Number: x.GetNumber(), Seq: x.GetSeq(), Authority: x.GetAuthority(), Registrant: x.GetRegistrant(), Submission: hex.EncodeToString(x.GetSubmission()),
		Ordinal: x.GetOrdinal(), Title: r.GetTitle(), Registered: term.Instant(x.GetRegisteredAtMillis()), Received: term.Instant(x.GetReceivedAtMillis()),
		Class: x.GetClass(), Files: r.GetFiles(), Bytes: r.GetSizeBytes(), Repository: x.GetRepository(), Snapshot: x.GetSnapshot(),
		Path: x.GetContent().GetPath(), Published: r.GetPublished(), Copies: []copyView{},
	}
	for _, c := range r.GetCopies() {
		v.Copies = append(v.Copies, copyView{c.GetCentre(), c.GetServerId(), c.GetOwner(), term.Instant(c.GetVerifiedAtMillis()), c.GetDomain().GetSite()})
	}
	return v
}

// offsite counts the copies that are not the owner's.
func (v recordView) offsite() int {
	n := 0
	for _, c := range v.Copies {
		if !c.Owner {
			n++
		}
	}
	return n
}

func (a *app) recordListCommand() *cobra.Command {
	var q nodepb.ListRecordsRequest
	var level string
	cmd := a.targeted(&cobra.Command{
		Use:   "list",
		Short: "list registered records",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if q.Level, err = readLevel(level); err != nil {
				return err
			}
			return a.withNode(cmd.Context(), asRegistrar, func(c *rpc.Client) error {
				r, err := c.Records.List(cmd.Context(), &q)
				if err != nil {
					return fmt.Errorf("list records: %w", err)
				}
				v := struct {
					Watermark uint64       `json:"watermark"`
					Records   []recordView `json:"records"`
				}{r.GetWatermark(), []recordView{}}
				for _, x := range r.GetRecords() {
					v.Records = append(v.Records, recordOf(x))
				}
				return a.Print(v, func(w io.Writer) {
					fmt.Fprintln(w, "NUMBER\tREGISTERED\tREGISTRANT\tFILES\tBYTES\tOFF-SITE\tTITLE")
					for _, x := range v.Records {
						fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\n", x.Number, x.Registered, term.Safe(x.Registrant), x.Files, x.Bytes, x.offsite(), term.Safe(x.Title))
					}
				})
			})
		},
	})
	f := cmd.Flags()
	f.StringVar(&q.Authority, "authority", "", "only records of this authority's `CODE`")
	f.StringVar(&q.Registrant, "registrant", "", "only this registrant's")
	f.StringVar(&q.Text, "text", "", "only titles with this `TEXT`")
	f.Uint32Var(&q.Limit, "limit", 0, "at most so many (0 = the node's limit)")
	f.Uint64Var(&q.BeforeSeq, "before", 0, "only positions in the log before this one: continues a list, which is newest first")
	levelFlag(cmd, &level)
	return cmd
}

func (a *app) recordShowCommand() *cobra.Command {
	var level string
	cmd := a.targeted(&cobra.Command{
		Use:   "show NUMBER",
		Short: "show a record and where its copies are",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := readLevel(level)
			if err != nil {
				return err
			}
			return a.withNode(cmd.Context(), asRegistrar, func(c *rpc.Client) error {
				r, err := c.Records.Show(cmd.Context(), &nodepb.ShowRecordRequest{Number: args[0], Level: l})
				if err != nil {
					return fmt.Errorf("show record %s: %w", args[0], err)
				}
				v := recordOf(r)
				return a.Print(v, v.text)
			})
		},
	})
	levelFlag(cmd, &level)
	return cmd
}

func (v recordView) text(w io.Writer) {
	fmt.Fprintf(w, "number (登记号)\t%s\n", v.Number)
	if v.Title != "" {
		fmt.Fprintf(w, "title\t%s\n", term.Safe(v.Title))
	}
	fmt.Fprintf(w, "registrant\t%s\nregistered\t%s by authority %s, position %d of the log, published: %v\n", term.Safe(v.Registrant), v.Registered, v.Authority, v.Seq, v.Published)
	fmt.Fprintf(w, "payload\t%d files, %s\nbackup\trepository %s, snapshot %s, %s\n", v.Files, term.ByteCount(v.Bytes), v.Repository, v.Snapshot, term.Safe(v.Path))
	for _, c := range v.Copies {
		what := "off-site copy"
		if c.Owner {
			what = "owner"
		}
		fmt.Fprintf(w, "%s\t%s %s verified %s\n", what, c.ServerID, term.Safe(c.Site), c.Verified)
	}
}

// decideCommand is an officer's verdict on a submission.
func (a *app) decideCommand(verdict, short string) *cobra.Command {
	var reasons []string
	cmd := a.targeted(&cobra.Command{
		Use:   verdict + " ID",
		Short: short,
		Long:  short + `. ID is the submission's, 64 hex digits. Only the registrar of the deciding authority may.`,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if verdict != "accept" && len(reasons) == 0 {
				return term.Usagef("record %s needs --reason: the registrant is told why", verdict)
			}
			if _, err := parseID(args[0]); err != nil {
				return term.Usagef("%q: want the 64 hex digits of a submission", args[0])
			}
			return a.withNode(cmd.Context(), asRegistrar, func(c *rpc.Client) error {
				s, err := c.Submissions.Decide(cmd.Context(), &nodepb.DecideRequest{Id: args[0], Verdict: verdict, Reasons: reasons})
				if err != nil {
					return fmt.Errorf("%s submission %s: %w", verdict, args[0], err)
				}
				v := submissionOf(s)
				return a.Print(v, func(w io.Writer) {
					fmt.Fprintf(w, "submission %s is %s %s\n", v.ID, v.State, term.Safe(strings.Join(v.Reasons, "; ")))
				})
			})
		},
	})
	cmd.Flags().StringArrayVar(&reasons, "reason", nil, "`REASON` as the registrant reads it; may be repeated")
	return cmd
}
