package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
)

func (a *app) submissionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "submission", Short: "what was handed in at a centre"}
	cmd.AddCommand(a.submissionListCommand(), a.submissionShowCommand(), a.submissionReportCommand())
	return cmd
}

type submissionView struct {
	ID         string   `json:"id"`
	Registrant string   `json:"registrant"`
	Centre     string   `json:"centre"`
	State      string   `json:"state"`
	Title      string   `json:"title,omitempty"`
	Records    uint64   `json:"records"`
	Files      uint64   `json:"files"`
	Bytes      uint64   `json:"bytes"`
	Received   string   `json:"received_at"`
	Inspection string   `json:"inspection,omitempty"`
	DecidedBy  string   `json:"decided_by,omitempty"`
	Reasons    []string `json:"reasons,omitempty"`
	Numbers    []string `json:"numbers"`
	Corrects   string   `json:"corrects,omitempty"`
	Repository string   `json:"repository,omitempty"`
	Snapshot   string   `json:"snapshot,omitempty"`
	Paths      []string `json:"paths"`
	Published  bool     `json:"published"`
	Copies     uint32   `json:"offsite_copies"`
	LastError  string   `json:"last_error,omitempty"`
}

func submissionOf(s *nodepb.Submission) submissionView {
	return submissionView{
		ID: s.GetId(), Registrant: s.GetRegistrant(), Centre: s.GetCentre(), State: strings.ToLower(s.GetState()), Title: s.GetTitle(),
		Records: s.GetRecords(), Files: s.GetFiles(), Bytes: s.GetSizeBytes(), Received: term.Instant(s.GetReceivedAtMillis()),
		Inspection: s.GetInspection(), DecidedBy: s.GetDecidedBy(), Reasons: s.GetReasons(), Numbers: term.OrEmpty(s.GetNumbers()),
		Corrects: s.GetCorrects(), Repository: s.GetRepository(), Snapshot: s.GetSnapshot(), Paths: term.OrEmpty(s.GetPaths()),
		Published: s.GetPublished(), Copies: s.GetOffsiteCopies(), LastError: s.GetLastError(),
	}
}

func (v submissionView) text(w io.Writer) {
	fmt.Fprintf(w, "state\t%s\n", v.State)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, term.Safe(value))
		}
	}
	line("title", v.Title)
	line("inspection", v.Inspection)
	line("decided by", v.DecidedBy)
	line("reasons", strings.Join(v.Reasons, "; "))
	line("numbers (登记号)", strings.Join(v.Numbers, " "))
	line("corrects", v.Corrects)
	if v.Snapshot != "" {
		fmt.Fprintf(w, "backup\trepository %s, snapshot %s, %d off-site copies\n", v.Repository, v.Snapshot, v.Copies)
	}
	line("last error", v.LastError)
}

func (a *app) submissionListCommand() *cobra.Command {
	var q nodepb.ListSubmissionsRequest
	cmd := a.targeted(&cobra.Command{
		Use:   "list",
		Short: "list submissions",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withNode(cmd.Context(), asRegistrar, func(c *rpc.Client) error {
				r, err := c.Submissions.List(cmd.Context(), &q)
				if err != nil {
					return fmt.Errorf("list submissions: %w", err)
				}
				v := struct {
					Submissions []submissionView `json:"submissions"`
				}{[]submissionView{}}
				for _, s := range r.GetSubmissions() {
					v.Submissions = append(v.Submissions, submissionOf(s))
				}
				return a.Print(v, func(w io.Writer) {
					fmt.Fprintln(w, "SUBMISSION\tSTATE\tREGISTRANT\tFILES\tBYTES\tRECEIVED\tNUMBERS\tTITLE")
					for _, s := range v.Submissions {
						fmt.Fprintf(w, "%.16s…\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", s.ID, s.State, term.Safe(s.Registrant), s.Files, s.Bytes, s.Received, strings.Join(s.Numbers, " "), term.Safe(s.Title))
					}
				})
			})
		},
	})
	cmd.Flags().StringVar(&q.State, "state", "", "only `STATE`: received, inspected, accepted, returned, refused, snapshotted, registered")
	cmd.Flags().StringVar(&q.Registrant, "registrant", "", "only this registrant's")
	return cmd
}

func (a *app) submissionShowCommand() *cobra.Command {
	return a.targeted(&cobra.Command{
		Use:   "show ID",
		Short: "show one submission",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd.Context(), asRegistrar, func(c *rpc.Client) error {
				s, err := c.Submissions.Show(cmd.Context(), &nodepb.ShowSubmissionRequest{Id: args[0]})
				if err != nil {
					return fmt.Errorf("show submission %s: %w", args[0], err)
				}
				v := submissionOf(s)
				return a.Print(v, func(w io.Writer) {
					fmt.Fprintf(w, "submission\t%s\nregistrant\t%s\nreceived\t%s at %s: %d records, %d files, %s\n", v.ID, term.Safe(v.Registrant), v.Received, v.Centre, v.Records, v.Files, term.ByteCount(v.Bytes))
					v.text(w)
				})
			})
		},
	})
}

func (a *app) submissionReportCommand() *cobra.Command {
	return a.targeted(&cobra.Command{
		Use:   "report ID",
		Short: "show the inspection report (四性检测报告) of a submission",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withNode(cmd.Context(), asRegistrar, func(c *rpc.Client) error {
				r, err := c.Submissions.Report(cmd.Context(), &nodepb.ShowSubmissionRequest{Id: args[0]})
				if err != nil {
					return fmt.Errorf("inspection report of %s: %w", args[0], err)
				}
				if !json.Valid(r.GetReport()) {
					return fmt.Errorf("inspection report of %s: the node's answer is not JSON", args[0])
				}
				_, err = fmt.Fprintln(a.Out, strings.TrimRight(string(r.GetReport()), "\n"))
				return err
			})
		},
	})
}

// isTurnedDown reports whether a submission will not be registered as it is.
func isTurnedDown(s *nodepb.Submission) bool {
	state := strings.ToLower(s.GetState())
	return state == "returned" || state == "refused"
}
