package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"dengbei/registry/certificate"
	"dengbei/registry/tlog"
)

// outcome is what became of one certificate.
type outcome struct {
	file     string
	verified *certificate.Verified
	err      error // refusal or reading error of the certificate
	dir      string
	files    *certificate.FileReport
	filesErr error
}

func (o *options) verify(ctx context.Context, stdout, stderr io.Writer) int {
	var policies []*tlog.Policy
	for _, path := range o.policies {
		p, err := readPolicy(path)
		if err != nil {
			fmt.Fprintln(stderr, "dengbei-verify:", o.texts.Text("verify.policy_unread", "file", path, "error", err.Error()))
			return exitUnread
		}
		policies = append(policies, p)
	}
	holds, refused := true, false
	for _, path := range o.certificates {
		out := o.one(ctx, path, policies)
		if ctx.Err() != nil {
			return exitInterrupted
		}
		var err error
		if o.json {
			err = printJSON(stdout, out)
		} else {
			err = o.print(stdout, out)
		}
		if err != nil { // a result that nobody could read is no result
			fmt.Fprintln(stderr, "dengbei-verify:", err)
			return exitUnread
		}
		code := out.exit()
		holds = holds && code == exitHolds
		refused = refused || code == exitDoesNotHold
	}
	switch {
	case refused:
		return exitDoesNotHold
	case !holds:
		return exitUnread
	}
	return exitHolds
}

// one verifies a certificate under the first policy that it satisfies, and the files that belong to it.
func (o *options) one(ctx context.Context, path string, policies []*tlog.Policy) outcome {
	out := outcome{file: path, dir: o.files}
	raw, err := readBounded(path, tlog.MaxProofSize)
	if err != nil {
		out.err = err
		return out
	}
	for _, p := range policies {
		v, err := certificate.Verify(raw, p)
		if err == nil {
			out.verified, out.err = v, nil
			break
		}
		if out.err == nil {
			out.err = err
		}
	}
	if out.verified != nil && o.files != "" {
		report, err := certificate.VerifyFiles(ctx, out.verified, o.files)
		if err != nil {
			out.filesErr = err
		} else {
			out.files = &report
		}
	}
	return out
}

func (out outcome) exit() int {
	switch {
	case errors.Is(out.err, certificate.ErrRefused):
		return exitDoesNotHold
	case out.err != nil || out.filesErr != nil:
		return exitUnread
	case out.files != nil && out.files.Undecided():
		return exitUnread
	case out.files != nil && !out.files.Holds():
		return exitDoesNotHold
	}
	return exitHolds
}

// print writes one line for the certificate, and for files one line and one for each problem.
func (o *options) print(w io.Writer, out outcome) error {
	t := o.texts
	var refused *certificate.RefusedError
	text := ""
	switch {
	case errors.As(out.err, &refused):
		text = t.Text("verify.refused", "file", out.file, "rule", string(refused.Rule), "explain", t.Text("rule."+string(refused.Rule)), "error", refused.Err.Error())
	case out.err != nil:
		text = t.Text("verify.unread", "file", out.file, "error", out.err.Error())
	default:
		text = o.holdsLine(out)
	}
	if _, err := fmt.Fprintln(w, text); err != nil {
		return err
	}
	if out.verified == nil || out.dir == "" {
		return nil
	}
	switch {
	case out.filesErr != nil:
		text = t.Text("verify.files_unread", "dir", out.dir, "error", out.filesErr.Error())
	case out.files.Holds():
		text = t.Text("verify.files_hold", "dir", out.dir, "files", strconv.FormatInt(out.files.Files, 10), "bytes", strconv.FormatInt(out.files.Bytes, 10))
	default:
		text = t.Text("verify.files_refused", "dir", out.dir, "problems", strconv.Itoa(len(out.files.Problems)), "files", strconv.FormatInt(out.files.Files, 10))
	}
	if _, err := fmt.Fprintln(w, text); err != nil || out.files == nil {
		return err
	}
	for _, p := range out.files.Problems {
		detail := ""
		if p.Detail != "" {
			detail = t.Text("verify.detail", "detail", p.Detail)
		}
		if _, err := fmt.Fprintln(w, t.Text("verify.problem", "path", p.Path, "problem", t.Text("problem."+string(p.Problem)), "detail", detail)); err != nil {
			return err
		}
	}
	return nil
}

func (o *options) holdsLine(out outcome) string {
	v, t := out.verified, o.texts
	title := ""
	if s, ok := v.Value(tlog.FieldTitle); ok {
		title = t.Text("verify.title", "title", s)
	}
	return t.Text("verify.holds", "file", out.file, "number", v.Number, "title", title, "authority", v.Authority,
		"time", v.RegisteredAt.Format("2006-01-02 15:04:05.000 -07:00"), "origin", v.Origin, "seq", strconv.FormatUint(v.Seq, 10),
		"cosigners", strconv.Itoa(len(v.Cosigned)), "decision", t.DecisionText(v.Decision))
}

func readPolicy(path string) (*tlog.Policy, error) {
	b, err := readBounded(path, tlog.MaxPolicySize)
	if err != nil {
		return nil, err
	}
	return tlog.ParsePolicy(b)
}

// readBounded reads a file of at most limit bytes, or one byte more, for the parser to refuse.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}
