package fournature

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"dengbei/chunkstore/digest"
)

// ErrSyntax is returned for bytes that are no report of a known schema.
var ErrSyntax = errors.New("malformed inspection report")

// Schema is the version of the report's format.
const Schema = 1

// MaxFindings is how many findings of one item a report lists; the rest is counted.
const MaxFindings = 1000

// Report is the result of one inspection.
type Report struct {
	Schema     int           `json:"schema"`
	Scheme     SchemeName    `json:"scheme"`
	Submission digest.Digest `json:"submission"`
	At         time.Time     `json:"at"`
	Tools      []Tool        `json:"tools"`
	Overall    Result        `json:"overall"`
	Items      []ItemResult  `json:"items"`
	NotRun     []NotRun      `json:"not_run"`
	Files      []FileFormat  `json:"files"` // every described file, by record and path
}

// SchemeName is which list of items was run.
type SchemeName struct {
	Link    string `json:"link"`
	Version string `json:"version"`
}

// Tool is a program or table that results depend on.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Data    string `json:"data,omitempty"` // signature files and their date
}

// Message is one text in both languages of the system.
type Message struct {
	Zh string `json:"zh-CN"`
	En string `json:"en"`
}

// ItemResult is what one item looked at and found.
type ItemResult struct {
	ID       string    `json:"id"`
	Nature   Nature    `json:"nature"`
	Name     Message   `json:"name"`
	Kind     Kind      `json:"kind"`
	Blocking bool      `json:"blocking"`
	Result   Result    `json:"result"`
	Records  int       `json:"records"`          // looked at
	Files    int       `json:"files"`            // looked at
	Bytes    int64     `json:"bytes"`            // read for it
	Code     string    `json:"code,omitempty"`   // why the result is MANUAL
	Reason   *Message  `json:"reason,omitempty"` // the same for people
	Findings []Finding `json:"findings,omitempty"`
	Omitted  int       `json:"findings_omitted,omitempty"` // beyond MaxFindings
}

// Finding is one thing an item found. Its code and parameters are stable, the message is for people.
type Finding struct {
	Code    string            `json:"code"`
	Result  Result            `json:"result"`
	Record  int               `json:"record"` // ordinal, -1 for the submission as a whole
	Path    string            `json:"path,omitempty"`
	Params  map[string]string `json:"params,omitempty"`
	Message Message           `json:"message"`
}

// NotRun is an item of the scheme that this inspection did not run, and why.
type NotRun struct {
	ID     string  `json:"id"`
	Name   Message `json:"name"`
	Kind   Kind    `json:"kind"`
	Code   string  `json:"code"`
	Reason Message `json:"reason"`
}

// FileFormat is what the content of a file was recognised as.
type FileFormat struct {
	Record   int    `json:"record"`
	Path     string `json:"path"`
	Size     int64  `json:"size"`
	Registry string `json:"registry,omitempty"` // "pronom", or "dengbei" for formats PRONOM does not know; "" if nothing was recognised
	ID       string `json:"id,omitempty"`       // PUID, such as fmt/276
	Name     string `json:"name,omitempty"`
	Version  string `json:"version,omitempty"`
	MIME     string `json:"mime,omitempty"`
	Basis    string `json:"basis,omitempty"` // what it was recognised by
}

// Encode returns the report as one line of JSON. Equal reports give equal bytes.
func (r *Report) Encode() ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	return buf.Bytes(), nil
}

// ParseReport reads what [Report.Encode] wrote, or returns [ErrSyntax].
func ParseReport(b []byte) (*Report, error) {
	var r Report
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes after the report", ErrSyntax)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("%w: schema %d, this program reads %d", ErrSyntax, r.Schema, Schema)
	}
	return &r, nil
}

// add notes a finding and lowers the item's result.
func (i *ItemResult) add(f Finding) {
	if i.Result == Pass || f.Result == Fail {
		i.Result = f.Result
	}
	if len(i.Findings) == MaxFindings {
		i.Omitted++
		return
	}
	f.Message = message("finding."+f.Code, f.Params)
	i.Findings = append(i.Findings, f)
}

// overall is FAIL if any item failed, PENDING if a blocking one is open, WARN, else PASS.
func overall(items []ItemResult) Result {
	out := Pass
	rank := func(r Result) int {
		switch r {
		case Fail:
			return 3
		case Pending:
			return 2
		case Warn:
			return 1
		default:
			return 0
		}
	}
	for i := range items {
		r := items[i].Result
		if r == Open && items[i].Blocking {
			r = Pending
		}
		if rank(r) > rank(out) {
			out = r
		}
	}
	return out
}
