package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/launch"
	"dengbei/node/nodepb"
)

// demoOptions are the flags of demo.
type demoOptions struct {
	input string
	dir   string
	keep  bool
	serve bool
}

func (a *app) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "show a network of five centres on this machine, with a disaster in it",
		Long: `Start five archive centres as five processes on this machine, hand real files in, have them inspected, decided on, registered,
certified, backed up and copied off-site; then destroy a county centre and bring it back, and prove every byte. Every part is
the one that runs in production. Nothing leaves this machine. The exit status is 0 only if all of it held.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.input == "" && cmd.Flags().Changed("input") {
				return term.Usagef("--input is empty: name a folder, or leave it out")
			}
			if o.dir == "" && cmd.Flags().Changed("dir") {
				return term.Usagef("--dir is empty: name a directory, or leave it out")
			}
			return a.demo(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.input, "input", "", "register the files of `DIR` (default: this project's documents and sources)")
	f.StringVar(&o.dir, "dir", "", "work in the empty directory `DIR` (default: a temporary one)")
	f.BoolVar(&o.keep, "keep", false, "leave data, certificates and restored files in place")
	f.BoolVar(&o.serve, "serve", false, "leave the five nodes running until Ctrl-C, and print how to talk to them")
	return cmd
}

// demo is one run. Its parts are in the files demo_*.go.
type demo struct {
	app      *app
	opt      demoOptions
	dir      string // absolute
	exe      string // this program
	verifier string // dengbei-verify
	started  time.Time

	launcher *launch.Launcher
	centres  []*demoCentre

	input      demoInput
	deliveries []*demoDelivery // in the order of the input; later ones are appended
	cases      demoCases
	policy     string // file
	certs      map[string]string
	report     demoReport

	logs bool // of the nodes stay after a failure

	mu  sync.Mutex     // guards what is printed, bar and report.Verifier; held for one line
	bar *term.Progress // under way, or nil
}

// demoReport is what --json prints.
type demoReport struct {
	OK            bool                 `json:"ok"`
	Failure       string               `json:"failure,omitempty"`
	Dir           string               `json:"dir"`
	Input         string               `json:"input"`
	Skipped       []string             `json:"skipped"`
	Centres       []demoCentreView     `json:"centres"`
	Submissions   []demoSubmissionView `json:"submissions"`
	Refused       []string             `json:"refused"`
	Registrations int                  `json:"registrations"`
	Certificates  []string             `json:"certificates"`
	PolicyFile    string               `json:"policy_file"`
	Files         int                  `json:"files"`
	Bytes         int64                `json:"bytes"`
	Offsite       int                  `json:"offsite_receipts"`
	LostCentre    string               `json:"lost_centre"`
	Recovery      demoRecovery         `json:"recovery"`
	Verifier      demoVerifier         `json:"verifier"`
	Seconds       float64              `json:"seconds"`
}

type demoCentreView struct {
	Code         string               `json:"code"`
	Level        string               `json:"level"`
	Voter        bool                 `json:"voter"`
	Peer         string               `json:"peer_address"`
	Web          string               `json:"web_address"`
	DataDir      string               `json:"data_dir"`
	Config       string               `json:"config"`
	Repositories []demoRepositoryView `json:"repositories"`
}

type demoRepositoryView struct {
	ID           string `json:"id"`
	Path         string `json:"path"`
	PasswordFile string `json:"password_file"`
	Class        string `json:"class"`
	Owner        string `json:"owner"`
	Held         bool   `json:"held"`
}

// demoSubmissionView says where the files of an accepted submission are: the files below Input are those below data/ in each of Paths of the
// snapshot.
type demoSubmissionView struct {
	ID           string   `json:"id"`
	Centre       string   `json:"centre"`
	Repository   string   `json:"repository"` // path of the owner's repository
	RepositoryID string   `json:"repository_id"`
	Snapshot     string   `json:"snapshot"`
	Paths        []string `json:"paths"`
	Numbers      []string `json:"numbers"`
	Input        string   `json:"input"`
}

type demoRecovery struct {
	Files      int               `json:"files"`
	Bytes      int64             `json:"bytes"`
	Mismatches int               `json:"mismatches"`
	Seconds    float64           `json:"seconds"`
	Sources    map[string]uint64 `json:"sources"` // bytes of repository files by centre
	Lost       []string          `json:"lost"`
}

type demoVerifier struct {
	Path           string `json:"path"`
	NetworkRemoved bool   `json:"network_removed"`
	Note           string `json:"note,omitempty"`
}

// demo runs everything and cleans up, whatever happened.
func (a *app) demo(ctx context.Context, o demoOptions) error {
	// Whoever reads the timeline may go away, `| head` does: the demo cleans up all the same.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
	defer signal.Stop(pipe)
	d := &demo{app: a, opt: o, started: time.Now(), certs: map[string]string{}}
	d.report.Recovery.Sources, d.report.Recovery.Lost = map[string]uint64{}, []string{}
	if err := d.prepare(); err != nil {
		return err
	}
	err := d.run(ctx)
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	d.report.OK, d.report.Seconds = err == nil, time.Since(d.started).Seconds()
	if err != nil {
		d.report.Failure = err.Error()
	}
	if d.app.JSON {
		err = errors.Join(err, a.Print(d.report, nil))
	}
	if err == nil && o.serve {
		err = d.serve(ctx)
	}
	d.stop()
	if !o.keep {
		failed := err != nil && ctx.Err() == nil
		err = errors.Join(err, d.remove(failed))
	}
	d.tell(ctx, err)
	if err != nil && ctx.Err() == nil && !isUsage(err) {
		err = term.Falsef("demo failed: %w", err)
	}
	return err
}

func isUsage(err error) bool {
	var u *term.UsageError
	return errors.As(err, &u)
}

// prepare finds a place and the programs; nothing was started yet when it fails.
func (d *demo) prepare() error {
	var err error
	if d.exe, err = os.Executable(); err != nil {
		return fmt.Errorf("demo: find this program: %w", err)
	}
	if d.opt.dir == "" {
		if d.dir, err = os.MkdirTemp("", "dengbei-demo-"); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	} else {
		if d.dir, err = filepath.Abs(d.opt.dir); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		if entries, err := os.ReadDir(d.dir); err == nil && len(entries) > 0 {
			return term.Usagef("--dir %s is not empty: name a directory that is, or does not exist", d.opt.dir)
		}
		if err := os.MkdirAll(d.dir, 0o700); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	d.report.Dir = d.dir
	return nil
}

// A step of the demonstration, in people's words.
type demoStep struct {
	name string
	do   func(context.Context) error
}

func (d *demo) run(ctx context.Context) error {
	d.launcher = launch.New()
	for _, s := range []demoStep{
		{"find the input", d.gather},
		{"found the network and start five centres", d.found},
		{"make agreements and registrants", d.agree},
		{"put the county's keys into its officers' hands", d.escrow},
		{"hand everything in", d.handIn},
		{"wait for the off-site copies", d.copies},
		{"collect certificates", d.collect},
		{"look for the refused bytes", d.searchRefused},
		{"destroy " + lostCentre, d.destroy},
		{"bring " + lostCentre + " back", d.recover},
		{"restore and compare", d.compare},
		{"finish what came in during the disaster", d.finishArrivals},
		{"verify every certificate without a network", d.verifyAll},
		{"describe what is there", d.describe},
	} {
		if err := s.do(ctx); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// say prints one line of the timeline.
func (d *demo) say(format string, args ...any) {
	d.line(fmt.Sprintf("%6.1f s  %s\n", time.Since(d.started).Seconds(), fmt.Sprintf(format, args...)))
}

// more prints a line that belongs to the one before.
func (d *demo) more(format string, args ...any) {
	d.line(fmt.Sprintf("          %s\n", fmt.Sprintf(format, args...)))
}

func (d *demo) line(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.app.Out
	if d.app.JSON {
		w = d.app.Err
	}
	if d.bar != nil && term.IsTerminal(w) {
		w = d.bar.Above(w)
	}
	_, _ = io.WriteString(w, text)
}

// progress starts a bar; lines of the timeline go above it until its end.
func (d *demo) progress(title string, total int) *term.Progress {
	p := d.app.NewProgress(title, int64(total), false)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bar = p
	return p
}

func (d *demo) endProgress() {
	d.mu.Lock()
	p := d.bar
	d.bar = nil
	d.mu.Unlock()
	p.End()
}

// tell ends the timeline with what came of it.
func (d *demo) tell(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil && err != nil:
		d.say("interrupted; all five processes are gone")
	case err != nil:
		d.say("FAILED: %v", err)
		if d.logs {
			d.more("the nodes' logs are in %s; run again with --keep to have everything stay", d.dir)
		}
	default:
		r := d.report
		d.say("all of it held: %d registrations, %d files, %s, %d off-site receipts; %s lost and recovered with %d mismatches", r.Registrations, r.Files, term.ByteCount(uint64(r.Bytes)), r.Offsite, r.LostCentre, r.Recovery.Mismatches)
	}
	if d.opt.keep {
		d.more("everything is in %s", d.dir)
	}
}

// serve leaves the nodes running until the person has seen enough. That one ends by itself is an error.
func (d *demo) serve(ctx context.Context) error {
	d.say("five centres are running; Ctrl-C ends them. Try:")
	for _, c := range d.centres {
		d.more("%s %s network status --config %s", c.code, d.exe, c.file)
	}
	if len(d.input.registrants) > 0 {
		r := d.input.registrants[0]
		d.more("%s submit FOLDER --node %s --credential %s --wait offsite", d.exe, r.centre.config.Peer.Listen, r.dir)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.launcher.Died():
	}
	for _, c := range d.centres {
		if c.proc.Died() {
			return fmt.Errorf("the node of %s ended by itself", c.code)
		}
	}
	return errors.New("a node ended by itself")
}

// remove deletes what the demo made; a directory that the person named stays, emptied. After a failure the nodes' logs stay too.
func (d *demo) remove(failed bool) error {
	entries, err := os.ReadDir(d.dir)
	d.logs = false
	for _, e := range entries {
		if failed && filepath.Ext(e.Name()) == ".log" {
			d.logs = true
			continue
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.dir, e.Name())))
	}
	if d.opt.dir == "" && !d.logs {
		err = errors.Join(err, os.RemoveAll(d.dir))
	}
	return err
}

// Patience with what could not be found out: on a busy machine a leader may lose its lease for a moment, and every command of this program may be
// repeated.
const (
	patience   = 30 * time.Second
	tryAgainIn = 500 * time.Millisecond
)

// cli runs one command line of this very program, as a person would, and decodes what it prints. What could not be found out is tried again.
func (d *demo) cli(ctx context.Context, into any, args ...string) error {
	for deadline := time.Now().Add(patience); ; {
		code, err := d.once(ctx, into, args)
		if code != exitUnknown || time.Now().After(deadline) {
			return err
		}
		d.say("trying again: %v", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tryAgainIn):
		}
	}
}

// once runs a command line once and returns its exit code; an error says what it printed.
func (d *demo) once(ctx context.Context, into any, args []string) (int, error) {
	var out, errs bytes.Buffer
	noEnv := func(string) string { return "" }
	code := run(ctx, append(args[:len(args):len(args)], "--json"), &term.Console{In: strings.NewReader(""), Out: &out, Err: &errs, Env: noEnv})
	if code != exitDone {
		text := strings.TrimSpace(strings.ReplaceAll(errs.String(), "dengbei: ", ""))
		return code, fmt.Errorf("dengbei %s: exit status %d: %s", strings.Join(args[:min(4, len(args))], " "), code, text)
	}
	if into == nil {
		return code, nil
	}
	if err := json.NewDecoder(io.LimitReader(&out, 64<<20)).Decode(into); err != nil {
		return code, fmt.Errorf("dengbei %s: %w", strings.Join(args[:min(4, len(args))], " "), err)
	}
	return code, nil
}

// until asks again and again until done says yes, for at most limit.
func until(ctx context.Context, limit time.Duration, what string, done func(context.Context) (bool, error)) error {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		ok, err := done(ctx)
		if ok {
			return nil
		}
		if err != nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			if last != nil {
				return fmt.Errorf("%s: not after %v: %w", what, limit, last)
			}
			return fmt.Errorf("%s: not after %v", what, limit)
		case <-tick.C:
		}
	}
}

// show asks a centre for a submission.
func (c *demoCentre) show(ctx context.Context, id string) (*nodepb.Submission, error) {
	return c.officer.Submissions.Show(ctx, &nodepb.ShowSubmissionRequest{Id: id})
}
