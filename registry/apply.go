package registry

import (
	"errors"
	"fmt"

	"dengbei/registry/registrypb"
)

// LogEntry is one committed entry of the Raft log.
type LogEntry struct {
	Index uint64
	Data  []byte // see EncodeEntry

	// Configuration marks an entry that only changes Raft's membership; it moves the applied index.
	Configuration bool
}

// Apply advances the state by committed entries, in order, and returns the results of each entry's commands. It is a
// function of state and entries alone, and gives the same state however entries are grouped into calls. Entries up to
// the applied index are skipped and have nil results. An entry that is no entry has one result with RejectMalformed.
//
// What is written survives a kill of the process only in part, but always as the state after some entry.
//
// Apply panics when going on would fork the registry: the database cannot be read or written, or a command is newer
// than this build.
func (s *State) Apply(entries []LogEntry) [][]Result {
	if err := s.gate.enter(); err != nil {
		halt("apply entries", err)
	}
	defer s.gate.leave()
	t := s.begin()
	out := make([][]Result, len(entries))
	for i, e := range entries {
		if e.Index <= t.meta.applied {
			continue
		}
		if !e.Configuration {
			out[i] = t.entry(e)
		}
		t.meta.applied = e.Index
	}
	t.commit()
	return out
}

func (t *tx) entry(e LogEntry) []Result {
	commands, err := DecodeEntry(e.Data)
	if errors.Is(err, ErrUnknownKind) {
		// Admit never proposes a kind above the lowest build of the cluster. Skipping it would fork the state.
		panic(fmt.Sprintf("registry: entry %d: %v: install the release that the other nodes run, then restart", e.Index, err))
	}
	if err != nil {
		r := Result{Reject: RejectMalformed, Detail: fmt.Sprintf("entry %d", e.Index), AtMillis: t.meta.now}
		t.link(e.Index, 0, r)
		return []Result{r}
	}
	results := make([]Result, len(commands))
	for i, c := range commands {
		r := t.command(c)
		r.AtMillis = t.meta.now
		t.link(e.Index, i, r)
		results[i] = r
	}
	return results
}

// command applies one command. A refused command has written nothing.
func (t *tx) command(c *registrypb.Command) Result {
	if !validMillis(c.GetAtMillis()) {
		return refuse(RejectMalformed, "time %d", c.GetAtMillis())
	}
	t.meta.now = max(t.meta.now, c.GetAtMillis()) // leaders' clocks differ; the registry's time never runs back
	if found, ok := c.GetKind().(*registrypb.Command_FoundNetwork); ok {
		return t.foundNetwork(found.FoundNetwork)
	}
	if t.net == nil {
		return Result{Reject: RejectNotFounded}
	}
	switch k := c.GetKind().(type) {
	case *registrypb.Command_InviteMember:
		return t.inviteMember(k.InviteMember)
	case *registrypb.Command_EnrolMember:
		return t.enrolMember(k.EnrolMember)
	case *registrypb.Command_RevokeMember:
		return t.revokeMember(k.RevokeMember)
	case *registrypb.Command_PutRegistrant:
		return t.putRegistrant(k.PutRegistrant)
	case *registrypb.Command_PutAgreement:
		return t.putAgreement(k.PutAgreement)
	case *registrypb.Command_PutRepository:
		return t.putRepository(k.PutRepository)
	case *registrypb.Command_RegisterSubmission:
		return t.registerSubmission(k.RegisterSubmission)
	case *registrypb.Command_PutReceipt:
		return t.putReceipt(k.PutReceipt)
	case *registrypb.Command_PublishCheckpoint:
		return t.publishCheckpoint(k.PublishCheckpoint)
	case *registrypb.Command_SignStatement:
		return t.signStatement(k.SignStatement)
	case *registrypb.Command_PutEscrow:
		return t.putEscrow(k.PutEscrow)
	default:
		panic(fmt.Sprintf("registry: command of kind %T has no rule in this build: install a complete release, then restart", k))
	}
}

func refuse(code Reject, format string, args ...any) Result {
	return Result{Reject: code, Detail: fmt.Sprintf(format, args...)}
}
