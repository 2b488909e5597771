package intake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"dengbei/chunkstore/digest"
)

// Phase is how far a submission got in this centre.
type Phase string

// The phases. A submission that was never acknowledged has none.
const (
	Received    Phase = "RECEIVED"    // durable, read back and hashed: stage S0
	Inspected   Phase = "INSPECTED"   // the four-nature report exists
	Accepted    Phase = "ACCEPTED"    // decided: to be registered
	Returned    Phase = "RETURNED"    // decided: to be corrected; the corrected delivery is a new submission
	Refused     Phase = "REFUSED"     // decided: will not be registered; bytes and report are kept
	Snapshotted Phase = "SNAPSHOTTED" // in the repository, read back; the registry has not confirmed yet
	Registered  Phase = "REGISTERED"  // numbers are issued
)

// next lists the phases that may follow. A phase may always follow itself: a step is repeated after a crash.
func (p Phase) next() []Phase {
	switch p {
	case Received:
		return []Phase{Inspected, Returned, Refused}
	case Inspected:
		return []Phase{Accepted, Returned, Refused}
	case Accepted: // bytes may rot between decision and snapshot
		return []Phase{Snapshotted, Returned, Refused}
	case Snapshotted: // the registry may refuse, for example a revoked registrant
		return []Phase{Registered, Accepted, Returned, Refused}
	case Returned, Refused: // the same content was sent again: a refusal never blocks it, and its bytes are here
		return []Phase{Received}
	default:
		return nil
	}
}

func (p Phase) valid() bool {
	return slices.Contains([]Phase{Received, Inspected, Accepted, Returned, Refused, Snapshotted, Registered}, p)
}

// Summary is the part of a [State] that the quarantine keeps in memory.
type Summary struct {
	ID         digest.Digest `json:"id"`
	Phase      Phase         `json:"phase"`
	Registrant string        `json:"registrant"`
	Authority  string        `json:"authority"`
	Batch      string        `json:"batch,omitempty"`
	Corrects   digest.Digest `json:"corrects"`
	Records    int           `json:"records"`
	Files      int           `json:"files"`
	SizeBytes  int64         `json:"size"`
	ReceivedAt time.Time     `json:"received"`
	ChangedAt  time.Time     `json:"changed"`         // set by the caller of SetState; the package has no clock
	Freed      bool          `json:"freed,omitempty"` // the payload is gone from the quarantine; set by Free only
}

// State is what the quarantine knows about one submission. Values handed out share no memory with the quarantine.
type State struct {
	Summary

	Inspection string `json:"inspection,omitempty"` // overall result of the inspection, from INSPECTED on
	DecidedBy  string `json:"decided_by,omitempty"` // policy or account that accepted, returned or refused it

	Receipt  []byte        `json:"receipt,omitempty"`  // the signed receipt once issued, so that a repeated delivery gets the same
	Report   digest.Digest `json:"report"`             // SHA-256 of the inspection report; zero before it exists
	Reasons  []Reason      `json:"reasons,omitempty"`  // why returned or refused
	Snapshot *Snapshot     `json:"snapshot,omitempty"` // set from SNAPSHOTTED on
	Numbers  []string      `json:"numbers,omitempty"`  // registration numbers by ordinal, from REGISTERED on
}

// Reason is one ground of a decision.
type Reason struct {
	Item   string `json:"item"`              // check item, such as 2-7
	Record int    `json:"record"`            // ordinal, -1 for the submission as a whole
	Path   string `json:"path,omitempty"`    // file, if one
	Text   string `json:"text"`              // what was found
	Way    string `json:"way_out,omitempty"` // what the registrant can do
}

// Snapshot says where the payload lies in the repository, and how to propose its registration again.
type Snapshot struct {
	Repository string        `json:"repository"`
	Snapshot   string        `json:"snapshot"`
	Path       string        `json:"path"`
	Manifest   digest.Digest `json:"manifest"`
	Command    []byte        `json:"command"` // the proposed command as encoded; the same bytes are proposed again
}

// maxStateBytes bounds state.json: MaxRecords numbers, reasons and a command of 256 KiB fit.
const maxStateBytes = 32 << 20

// check reports what s lacks for its phase.
func (s *State) check() error {
	switch {
	case !s.Phase.valid():
		return fmt.Errorf("%w: unknown phase %q", ErrState, s.Phase)
	case s.ID.Algorithm() != digest.SHA256:
		return fmt.Errorf("%w: no submission ID", ErrState)
	case s.Phase == Inspected && s.Report.IsZero():
		return fmt.Errorf("%w: %s without a report", ErrState, s.Phase)
	case (s.Phase == Returned || s.Phase == Refused) && len(s.Reasons) == 0:
		return fmt.Errorf("%w: %s without a reason", ErrState, s.Phase)
	case (s.Phase == Snapshotted || s.Phase == Registered) && s.Snapshot == nil:
		return fmt.Errorf("%w: %s without a snapshot", ErrState, s.Phase)
	case s.Phase == Registered && len(s.Numbers) != s.Records:
		return fmt.Errorf("%w: %d numbers for %d records", ErrState, len(s.Numbers), s.Records)
	case s.Freed && s.Phase != Registered:
		return fmt.Errorf("%w: payload freed in phase %s", ErrState, s.Phase)
	}
	return nil
}

func (s *State) encode() ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	b, err := marshalLine(s)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	if len(b) > maxStateBytes {
		return nil, fmt.Errorf("%w: state of %d bytes", ErrState, len(b))
	}
	return b, nil
}

func parseState(b []byte) (State, error) {
	var s State
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return State{}, fmt.Errorf("%w: state: %w", ErrDamaged, err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return State{}, fmt.Errorf("%w: bytes after the state", ErrDamaged)
	}
	if err := s.check(); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return s, nil
}
