package intake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"dengbei/chunkstore/digest"
)

// The description of a submission is one line of JSON (RFC 8259) in UTF-8, ended by LF: members in the order of the
// types below, none left out except "modified", no white space, files in byte order of their paths. Strings escape only
// `"`, `\`, U+0000-U+001F (\b \f \n \r \t, else \u00xx), U+2028 and U+2029. The canonical
// encoding is the same without any "modified".

type encodedSubmission struct {
	Format     string          `json:"format"`
	Registrant string          `json:"registrant"`
	Authority  string          `json:"authority"`
	Batch      string          `json:"batch"`
	Note       string          `json:"note"`
	Class      string          `json:"class"`
	Corrects   digest.Digest   `json:"corrects"`
	Records    []encodedRecord `json:"records"`
}

type encodedRecord struct {
	Title    string        `json:"title"`
	Opening  string        `json:"opening"`
	Secrecy  string        `json:"secrecy"`
	Metadata [][2]string   `json:"metadata"`
	Files    []encodedFile `json:"files"`
}

type encodedFile struct {
	Path      string        `json:"path"`
	SizeBytes int64         `json:"size"`
	SHA256    digest.Digest `json:"sha256"`
	SM3       digest.Digest `json:"sm3"`
	Modified  string        `json:"modified,omitempty"`
}

// formatName is the first member of every description.
const formatName = "dengbei-submission/1"

// Canonical returns the bytes that [ID] names. s must be valid; an invalid one gives the error of
// [Submission.Validate].
func Canonical(s *Submission) ([]byte, error) { return encode(s, false) }

// Encode returns the description as sent and stored: the canonical encoding plus times of modification.
func Encode(s *Submission) ([]byte, error) { return encode(s, true) }

// ID returns the SHA-256 of the canonical encoding. Times of modification do not change it.
func ID(s *Submission) (digest.Digest, error) {
	b, err := Canonical(s)
	if err != nil {
		return digest.Digest{}, err
	}
	return digest.Of(b), nil
}

func encode(s *Submission, times bool) ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	e := encodedSubmission{Format: formatName, Registrant: s.Registrant, Authority: s.Authority, Batch: s.Batch, Note: s.Note, Class: s.Class, Corrects: s.Corrects}
	e.Records = make([]encodedRecord, len(s.Records))
	for i := range s.Records {
		r := &s.Records[i]
		er := encodedRecord{Title: r.Title, Opening: r.Opening, Secrecy: r.Secrecy, Metadata: make([][2]string, len(r.Metadata)), Files: make([]encodedFile, len(r.Files))}
		if er.Secrecy == "" {
			er.Secrecy = SecrecyPublic
		}
		for j, m := range r.Metadata {
			er.Metadata[j] = [2]string{m.Name, m.Value}
		}
		for j, f := range sorted(r.Files) {
			er.Files[j] = encodedFile{Path: f.Path, SizeBytes: f.SizeBytes, SHA256: f.SHA256, SM3: f.SM3}
			if times && !f.ModTime.IsZero() && f.ModTime.UTC().Year() >= 1 && f.ModTime.UTC().Year() <= 9999 { // what RFC 3339 can write
				er.Files[j].Modified = f.ModTime.UTC().Format(time.RFC3339Nano)
			}
		}
		e.Records[i] = er
	}
	b, err := marshalLine(e)
	if err != nil {
		return nil, fmt.Errorf("encode submission: %w", err)
	}
	if len(b) > MaxEncodedBytes {
		return nil, &RuleError{Rule: RuleForm, Item: "description", What: fmt.Sprintf("%d bytes long, the limit is %d", len(b), MaxEncodedBytes), Way: "split the delivery"}
	}
	return b, nil
}

// marshalLine is JSON on one line without HTML escapes, ended by LF.
func marshalLine(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// Parse reads what [Encode] or [Canonical] wrote and nothing else: a description has one spelling. Bytes that are not
// canonical give [ErrSyntax], valid ones that break a rule a [*RuleError].
func Parse(b []byte) (*Submission, error) {
	if len(b) > MaxEncodedBytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrSyntax, len(b), MaxEncodedBytes)
	}
	if err := checkShape(b); err != nil {
		return nil, err
	}
	var e encodedSubmission
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: bytes after the description", ErrSyntax)
	}
	if e.Format != formatName {
		return nil, fmt.Errorf("%w: format %.64q, want %q", ErrSyntax, e.Format, formatName)
	}
	s, err := e.submission()
	if err != nil {
		return nil, err
	}
	again, err := Encode(s)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: not the canonical spelling", ErrSyntax)
	}
	return s, nil
}

// checkShape bounds how many values b holds before anything is allocated for them: "{}," is 3 bytes here and more than
// a hundred in memory.
func checkShape(b []byte) error {
	objects, arrays, inString, escaped := 0, 0, false, false
	for _, c := range b {
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			inString = !inString
		case inString:
		case c == '{':
			objects++
		case c == '[':
			arrays++
		}
	}
	if objects > 1+MaxRecords+MaxFiles || arrays > 1+2*MaxRecords+maxElementsInAll {
		return fmt.Errorf("%w: more values than a submission may hold", ErrSyntax)
	}
	return nil
}

func (e *encodedSubmission) submission() (*Submission, error) {
	s := &Submission{Registrant: e.Registrant, Authority: e.Authority, Batch: e.Batch, Note: e.Note, Class: e.Class, Corrects: e.Corrects}
	s.Records = make([]Record, len(e.Records))
	for i := range e.Records {
		er := &e.Records[i]
		r := Record{Title: er.Title, Opening: er.Opening, Secrecy: er.Secrecy}
		for _, m := range er.Metadata {
			r.Metadata = append(r.Metadata, Element{m[0], m[1]})
		}
		r.Files = make([]File, len(er.Files))
		for j, f := range er.Files {
			r.Files[j] = File{Path: f.Path, SizeBytes: f.SizeBytes, SHA256: f.SHA256, SM3: f.SM3}
			if f.Modified == "" {
				continue
			}
			at, err := time.Parse(time.RFC3339Nano, f.Modified)
			if err != nil {
				return nil, fmt.Errorf("%w: time of %.64q: %w", ErrSyntax, f.Path, err)
			}
			r.Files[j].ModTime = at.UTC()
		}
		s.Records[i] = r
	}
	return s, nil
}
