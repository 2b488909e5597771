package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"time"

	"dengbei/registry/certificate"
)

// result is the line of JSON for one certificate. Names are public: add, never rename.
type result struct {
	File       string                  `json:"file"`
	Holds      bool                    `json:"holds"`
	Rule       string                  `json:"rule,omitempty"`  // rule that is broken
	Error      string                  `json:"error,omitempty"` // why it is refused or could not be read
	Proven     *proven                 `json:"proven,omitempty"`
	Files      *certificate.FileReport `json:"files,omitempty"`
	FilesHold  *bool                   `json:"files_hold,omitempty"` // absent = not asked for, or not known
	FilesError string                  `json:"files_error,omitempty"`
}

type proven struct {
	Origin          string            `json:"origin"`
	Number          string            `json:"number"`
	RegisteredAt    string            `json:"registered_at"`
	Authority       string            `json:"authority"`
	AuthorityKey    string            `json:"authority_key"`
	Seq             uint64            `json:"seq"`
	TreeSize        uint64            `json:"tree_size"`
	Root            string            `json:"root"`
	Commitment      string            `json:"commitment"`
	Cosigned        []cosigned        `json:"cosigned"`
	Fields          map[string]string `json:"fields"`
	Hidden          []string          `json:"hidden"`
	PayloadBytes    *int64            `json:"payload_bytes,omitempty"`
	PayloadFiles    *int64            `json:"payload_files,omitempty"`
	DecisionChecked bool              `json:"decision_checked"`
	DecisionMissing []string          `json:"decision_missing,omitempty"`
}

type cosigned struct {
	Witness string `json:"witness"`
	Name    string `json:"name"`
	At      string `json:"at"`
}

func printJSON(w io.Writer, out outcome) error {
	r := result{File: out.file, Holds: out.err == nil, Files: out.files}
	var refused *certificate.RefusedError
	if errors.As(out.err, &refused) {
		r.Rule, r.Error = string(refused.Rule), refused.Err.Error()
	} else if out.err != nil {
		r.Error = out.err.Error()
	}
	if out.verified != nil {
		r.Proven = newProven(out.verified)
	}
	if out.files != nil && !out.files.Undecided() {
		hold := out.files.Holds()
		r.FilesHold = &hold
	}
	if out.filesErr != nil {
		r.FilesError = out.filesErr.Error()
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func newProven(v *certificate.Verified) *proven {
	p := &proven{Origin: v.Origin, Number: v.Number, RegisteredAt: v.RegisteredAt.Format("2006-01-02T15:04:05.000-07:00"),
		Authority: v.Authority, AuthorityKey: v.AuthorityKey, Seq: v.Seq, TreeSize: v.TreeSize,
		Root: hex.EncodeToString(v.Root[:]), Commitment: hex.EncodeToString(v.Commitment[:]),
		Cosigned: []cosigned{}, Fields: map[string]string{}, Hidden: []string{}, DecisionChecked: v.Decision.Checked}
	for _, c := range v.Cosigned {
		p.Cosigned = append(p.Cosigned, cosigned{Witness: c.Witness, Name: c.Name, At: c.At.Format(time.RFC3339)})
	}
	for _, f := range v.Fields {
		if f.Disclosed {
			p.Fields[f.ID.String()] = f.Value
		} else {
			p.Hidden = append(p.Hidden, f.ID.String())
		}
	}
	if v.PayloadFiles >= 0 {
		p.PayloadBytes, p.PayloadFiles = &v.PayloadBytes, &v.PayloadFiles
	}
	for _, id := range v.Decision.Missing {
		p.DecisionMissing = append(p.DecisionMissing, id.String())
	}
	return p
}
