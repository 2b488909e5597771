package main

import (
	"flag"
	"fmt"
	"io"

	"dengbei/registry/certificate"
)

// Exit statuses.
const (
	exitHolds       = 0
	exitDoesNotHold = 1
	exitUsage       = 2
	exitUnread      = 3
	exitInterrupted = 130
)

// options is one call of the program.
type options struct {
	certificates []string
	policies     []string
	files        string
	json         bool
	texts        *certificate.Texts
}

// parseOptions reads the command line; flags may stand before, between and after certificates. A nil result comes with
// the exit status.
func parseOptions(args []string, stdout, stderr io.Writer) (*options, int) {
	o := &options{}
	lang := certificate.DefaultLanguage
	fs := flag.NewFlagSet("dengbei-verify", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Func("policy", "", func(path string) error {
		o.policies = append(o.policies, path)
		return nil
	})
	fs.StringVar(&o.files, "files", "", "")
	fs.BoolVar(&o.json, "json", false, "")
	fs.StringVar(&lang, "lang", lang, "")
	help := fs.Bool("help", false, "") // defined, so that --lang after it still counts
	fs.BoolVar(help, "h", false, "")
	var parseErr error
	for rest := args; len(rest) > 0; {
		if parseErr = fs.Parse(rest); parseErr != nil {
			break
		}
		after := fs.Args()
		if used := len(rest) - len(after); used > 0 && rest[used-1] == "--" {
			o.certificates = append(o.certificates, after...)
			break
		}
		if len(after) == 0 {
			break
		}
		o.certificates = append(o.certificates, after[0])
		rest = after[1:]
	}
	texts, err := certificate.LoadTexts(lang)
	if err != nil {
		fmt.Fprintln(stderr, "dengbei-verify:", certificate.Printable(err.Error()))
		return nil, exitUsage
	}
	o.texts = texts
	if *help && parseErr == nil {
		if _, err := fmt.Fprint(stdout, texts.Text("verify.usage")); err != nil {
			return nil, exitUnread
		}
		return nil, exitHolds
	}
	wrong := ""
	switch {
	case parseErr != nil:
		wrong = certificate.Printable(parseErr.Error())
	case len(o.certificates) == 0:
		wrong = texts.Text("usage.no_certificate")
	case len(o.policies) == 0:
		wrong = texts.Text("usage.no_policy")
	case o.files != "" && len(o.certificates) > 1:
		wrong = texts.Text("usage.files_one")
	}
	if wrong != "" {
		fmt.Fprintf(stderr, "dengbei-verify: %s\n\n%s", wrong, texts.Text("verify.usage"))
		return nil, exitUsage
	}
	return o, exitHolds
}
