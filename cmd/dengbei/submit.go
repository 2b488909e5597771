package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry/intake"
)

// submitOptions are the flags of submit.
type submitOptions struct {
	delivery delivery
	metadata []string
	corrects string
	each     bool
	wait     string
	receipt  string
}

func (a *app) submitCommand() *cobra.Command {
	var o submitOptions
	cmd := &cobra.Command{
		Use:   "submit PATH… --node HOST:PORT --credential DIR",
		Short: "hand records in (移交, 登记申请)",
		Long: `Hand in one submission: each PATH is a folder and becomes one record. With --each, each PATH is a submission of its own.

The folders are read and hashed with SHA-256 and SM3, the description is signed with the registrant's key, and the bytes go to the
centre. Exit status 0 means that the centre has read every byte back from its disk and has signed a receipt (接收回执), or
with --wait that the stage asked for is reached. The same content handed in twice is one submission: the first answer
comes back, with its numbers.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.delivery.folders = args
			return a.submit(cmd.Context(), o)
		},
	}
	a.targetFlagsOf(cmd)
	f := cmd.Flags()
	f.StringVar(&a.target.credential, "registrant-credential", "", "the same as --credential")
	f.StringArrayVar(&o.delivery.titles, "title", nil, "`TITLE` (题名) of a record, once per PATH (default: the folder's name)")
	f.StringVar(&o.delivery.secrecy, "secrecy", "", "secrecy code of GB/T 7156: GK (public, default) or XZ (restricted); classified records are refused")
	f.StringVar(&o.delivery.opening, "opening", "", "opening opinion: OPEN or CONTROLLED")
	f.StringVar(&o.delivery.class, "class", classStandard, "protection class")
	f.StringVar(&o.delivery.batch, "batch", "", "the registrant's own name for the delivery")
	f.StringVar(&o.delivery.note, "note", "", "a note to the officer")
	f.StringArrayVar(&o.metadata, "metadata", nil, "metadata element `NAME=VALUE` of every record; may be repeated")
	f.StringVar(&o.corrects, "corrects", "", "`ID` of the returned submission (补正) that this one replaces")
	f.BoolVar(&o.each, "each", false, "one submission per PATH")
	f.StringVar(&o.wait, "wait", "received", "stage to wait for: received, registered, published or offsite[=COPIES]")
	f.StringVar(&o.receipt, "receipt", "", "`FILE` to write the receipt to")
	return cmd
}

// submitted is what submit prints of one submission.
type submitted struct {
	ID         string         `json:"id"`
	Existing   bool           `json:"existing"`
	Receipt    receiptView    `json:"receipt"`
	Submission submissionView `json:"submission"`
}

type receiptView struct {
	Submission string `json:"submission"`
	Centre     string `json:"centre"`
	Serial     uint64 `json:"centre_serial"`
	Registrant string `json:"registrant"`
	Files      uint64 `json:"files"`
	Bytes      uint64 `json:"bytes"`
	Received   int64  `json:"received_at_millis"`
	Signature  string `json:"signature"`
}

func receiptOf(r *nodepb.Receipt) receiptView {
	return receiptView{r.GetSubmission(), r.GetCentre(), r.GetCentreSerial(), r.GetRegistrant(), r.GetFiles(), r.GetSizeBytes(), r.GetReceivedAtMillis(), base64.StdEncoding.EncodeToString(r.GetSignature())}
}

func (a *app) submit(ctx context.Context, o submitOptions) error {
	until, err := parseWait(o.wait)
	if err != nil {
		return err
	}
	deliveries, err := o.deliveries()
	if err != nil {
		return err
	}
	if o.receipt != "" && len(deliveries) > 1 {
		return term.Usagef("--receipt needs a single submission; there are %d", len(deliveries))
	}
	target, err := a.target.resolve(a.Env, asOperator)
	if err != nil {
		return err
	}
	signing, err := openSigningKey(target.CredentialDir)
	if err != nil {
		return err
	}
	c, err := rpc.Dial(ctx, target)
	if err != nil {
		return err
	}
	defer c.Close()
	var done []submitted
	var failed error
	for _, d := range deliveries {
		s, err := a.submitOne(ctx, c, d, packing{registrant: c.Subject, signing: signing}, until)
		if s != nil {
			done = append(done, *s)
		}
		if failed = err; failed != nil {
			break
		}
	}
	if o.receipt != "" && len(done) == 1 {
		if err := writeReceipt(o.receipt, done[0].Receipt); err != nil {
			return errors.Join(failed, err)
		}
	}
	v := struct {
		Submissions []submitted `json:"submissions"`
	}{term.OrEmpty(done)}
	err = a.Print(v, func(w io.Writer) {
		for _, s := range done {
			s.text(w)
		}
	})
	return errors.Join(failed, err)
}

func (o submitOptions) deliveries() ([]delivery, error) {
	d := o.delivery
	var err error
	if d.metadata, err = parseMetadata(o.metadata); err != nil {
		return nil, err
	}
	if o.corrects != "" {
		if d.corrects, err = parseID(o.corrects); err != nil {
			return nil, term.Usagef("--corrects %q: want the 64 hex digits of a submission", o.corrects)
		}
	}
	if n := len(d.titles); n > 0 && n != len(d.folders) {
		return nil, term.Usagef("%d titles for %d folders: give --title once per PATH or not at all", n, len(d.folders))
	}
	if !o.each {
		return []delivery{d}, nil
	}
	if o.corrects != "" && len(d.folders) > 1 {
		return nil, term.Usagef("--corrects names one submission; with --each give one PATH")
	}
	var out []delivery
	for i, folder := range d.folders {
		one := d
		one.folders = []string{folder}
		if len(d.titles) > 0 {
			one.titles = d.titles[i : i+1]
		}
		out = append(out, one)
	}
	return out, nil
}

// submitOne reads, sends and waits. What it returns is valid once there is a receipt, also with an error from waiting.
func (a *app) submitOne(ctx context.Context, c *rpc.Client, d delivery, k packing, until stage) (*submitted, error) {
	reading := a.NewProgress("reading", 0, true)
	k.progress = func(p intake.FolderProgress) { reading.Set(p.Bytes, p.BytesTotal) }
	k.warn = func(item string, w intake.PathWarning) { a.Note("warning: %s: %s", term.Safe(item), w) }
	p, err := pack(ctx, d, k)
	reading.End()
	if err != nil {
		return nil, err
	}
	sending := a.NewProgress("sending", p.sizeBytes, true)
	r, err := p.send(ctx, c, func(n int) { sending.Add(int64(n)) })
	sending.End()
	if err != nil {
		return nil, err
	}
	s := &submitted{ID: r.GetId(), Existing: r.GetExisting(), Receipt: receiptOf(r.GetReceipt()), Submission: submissionOf(r.GetSubmission())}
	if until.name == stageReceived {
		return s, nil
	}
	before := ""
	last, err := watch(ctx, c, s.ID, until, func(now *nodepb.Submission) {
		if state := now.GetState(); state != before && !a.JSON {
			before = state
			a.Note("submission %.16s… is %s%s", s.ID, state, nextStep(now))
		}
	})
	if last != nil {
		s.Submission = submissionOf(last)
	}
	return s, err
}

// stage is how far to wait.
type stage struct {
	name   string // received, registered, published, offsite
	copies uint32 // with offsite
}

const (
	stageReceived   = "received"
	stageRegistered = "registered"
	stagePublished  = "published"
	stageOffsite    = "offsite"
)

func parseWait(s string) (stage, error) {
	name, n, counted := strings.Cut(s, "=")
	switch name {
	case stageReceived, stageRegistered, stagePublished:
		if !counted {
			return stage{name: name}, nil
		}
	case stageOffsite:
		if !counted {
			return stage{name: name, copies: 1}, nil
		}
		if k, err := strconv.ParseUint(n, 10, 8); err == nil && k > 0 {
			return stage{name: name, copies: uint32(k)}, nil
		}
	}
	return stage{}, term.Usagef("--wait %q: want received, registered, published, offsite or offsite=COPIES", s)
}

// watch follows a submission until it has reached the stage. A submission that was returned or refused is an error that matches term.ErrFalse.
func watch(ctx context.Context, c *rpc.Client, id string, until stage, seen func(*nodepb.Submission)) (*nodepb.Submission, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Submissions.Watch(ctx, &nodepb.WatchSubmissionRequest{Id: id, Until: until.name, OffsiteCopies: until.copies})
	if err != nil {
		return nil, fmt.Errorf("watch submission %s: %w", id, err)
	}
	var last *nodepb.Submission
	for {
		s, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return last, fmt.Errorf("watch submission %s%s: %w", id, howFar(last), err)
		}
		last = s
		seen(s)
	}
	switch {
	case last == nil:
		return nil, fmt.Errorf("watch submission %s: the node said nothing", id)
	case isTurnedDown(last):
		return last, term.Falsef("submission %s was %s by %s: %s", id, last.GetState(), term.Safe(last.GetDecidedBy()), term.Safe(strings.Join(last.GetReasons(), "; ")))
	}
	return last, nil
}

// nextStep says whom a submission waits for.
func nextStep(s *nodepb.Submission) string {
	switch strings.ToLower(s.GetState()) {
	case "received":
		return "; the inspection is next"
	case "inspected":
		return " (" + term.Safe(s.GetInspection()) + "); a decision of the authority is next, by its auto-approval policy or by an officer"
	case "accepted":
		return " by " + term.Safe(s.GetDecidedBy()) + "; the backup is next"
	case "snapshotted":
		return "; the number is next"
	}
	return ""
}

// howFar says in a message where a submission stopped.
func howFar(s *nodepb.Submission) string {
	switch {
	case s == nil:
		return ""
	case s.GetLastError() != "":
		return fmt.Sprintf(" (%s; %s)", s.GetState(), term.Safe(s.GetLastError()))
	default:
		return fmt.Sprintf(" (%s, %d off-site copies)", s.GetState(), s.GetOffsiteCopies())
	}
}

func (s submitted) text(w io.Writer) {
	fmt.Fprintf(w, "submission\t%s\n", s.ID)
	if s.Existing {
		fmt.Fprintf(w, "\thanded in before; this is the first answer\n")
	}
	if s.Receipt.Submission == "" {
		fmt.Fprintf(w, "receipt (接收回执)\tthe centre was recovered since and has it no longer; the number stands\n")
		s.Submission.text(w)
		return
	}
	fmt.Fprintf(w, "receipt (接收回执)\t%d files, %s, received %s by centre %s\n", s.Receipt.Files, term.ByteCount(s.Receipt.Bytes), term.Instant(s.Receipt.Received), s.Receipt.Centre)
	s.Submission.text(w)
}

func writeReceipt(path string, r receiptView) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	return writeFileDurable(path, append(b, '\n'), 0o644, true)
}
