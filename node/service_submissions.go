package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"dengbei/chunkstore/digest"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/intake"
	"dengbei/registry/registrypb"
)

// submissionsService receives deliveries and answers about them.
type submissionsService struct {
	nodepb.UnimplementedSubmissionsServer
	n *Node
}

// maxDescriptionBytes bounds a description in memory: about a million files. Of those longer than longDescriptionBytes,
// maxLongDescriptions are in hand at a time; the others wait.
const (
	maxDescriptionBytes  = 256 << 20
	longDescriptionBytes = 4 << 20
	maxLongDescriptions  = 2
)

// registrantOf returns the registrant that an account's credential stands for.
func registrantOf(s identity.Subject) string { return s.Code + "/" + s.Account }

// Submit receives one delivery. Nothing needs the quorum: a centre that is cut off receives and hands out receipts.
func (s submissionsService) Submit(stream nodepb.Submissions_SubmitServer) error {
	n := s.n
	sub, signature, done, err := s.receiveAnnouncement(stream)
	defer done()
	if err != nil {
		return err
	}
	id, err := s.admit(stream.Context(), sub, signature)
	if err != nil {
		return err
	}
	if existing, err := s.existing(id); err != nil || existing != nil {
		if err != nil {
			return err
		}
		return stream.SendAndClose(existing)
	}
	in, err := n.quarantine.Receive(sub, signature, time.Now().UTC())
	var exists *intake.ExistsError
	if errors.As(err, &exists) {
		reply, err := s.existing(id)
		if err != nil {
			return err
		}
		return stream.SendAndClose(reply)
	}
	if err != nil {
		return err
	}
	defer in.Abort()
	for r := range sub.Records {
		for f := range sub.Records[r].Files {
			if err := receiveFile(stream, in, r, f, sub.Records[r].Files[f].Path); err != nil {
				return err
			}
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		if err != nil {
			return err
		}
		return fmt.Errorf("more files than announced: %w", rpc.ErrInvalid)
	}
	if err := in.Commit(stream.Context()); err != nil {
		return err
	}
	receipt, err := s.acknowledge(id)
	if err != nil {
		return err
	}
	n.desk.announce()
	view, err := s.view(id)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&nodepb.SubmitReply{Id: id.Hex(), Receipt: receipt, Submission: view})
}

// receiveAnnouncement reads the description, piece by piece. done gives back the place that a long one takes.
func (s submissionsService) receiveAnnouncement(stream nodepb.Submissions_SubmitServer) (sub *intake.Submission, signature []byte, done func(), err error) {
	var description []byte
	done = func() {}
	long := false
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the delivery ends before its description does: %w", rpc.ErrInvalid)
		}
		if err != nil {
			return nil, nil, done, err
		}
		a := m.GetAnnouncement()
		if a == nil {
			return nil, nil, done, fmt.Errorf("a delivery begins with its description: %w", rpc.ErrInvalid)
		}
		description = append(description, a.GetSubmission()...)
		if len(description) > maxDescriptionBytes {
			return nil, nil, done, fmt.Errorf("description of more than %d bytes: split the delivery: %w", maxDescriptionBytes, rpc.ErrInvalid)
		}
		if !long && len(description) > longDescriptionBytes {
			select {
			case s.n.longDescriptions <- struct{}{}:
			case <-stream.Context().Done():
				return nil, nil, done, stream.Context().Err()
			}
			long, done = true, func() { <-s.n.longDescriptions }
		}
		if !a.GetMore() {
			sub, err := intake.Parse(description)
			return sub, a.GetSignature(), done, err
		}
	}
}

// admit checks who hands in, for whom and with whose signature, before a byte is taken.
func (s submissionsService) admit(ctx context.Context, sub *intake.Submission, signature []byte) (digest.Digest, error) {
	n := s.n
	caller := rpc.CallerOf(ctx).Subject
	id, err := intake.ID(sub)
	if err != nil {
		return id, err
	}
	if sub.Registrant != registrantOf(caller) {
		return id, fmt.Errorf("the description is for registrant %q, the credential is of %q: %w", sub.Registrant, registrantOf(caller), rpc.ErrDenied)
	}
	if sub.Authority != n.cfg.Centre {
		return id, fmt.Errorf("records of authority %s are handed in at that centre's node, this is %s: %w", sub.Authority, n.cfg.Centre, rpc.ErrElsewhere)
	}
	if sub.Class != "" && !registry.ValidClass(sub.Class) {
		return id, &intake.RuleError{Rule: intake.RuleForm, Item: "class", What: fmt.Sprintf("%.80q names no protection class", sub.Class),
			Way: "give a class of the centre, such as " + defaultClass}
	}
	registrant, err := n.ledger.state().Registrant(sub.Registrant)
	if errors.Is(err, registry.ErrNotFound) {
		return id, fmt.Errorf("registrant %q: %w", sub.Registrant, registry.ErrUnknownRegistrant)
	}
	if err != nil {
		return id, err
	}
	if len(registrant.GetPublicKey()) != ed25519.PublicKeySize ||
		!ed25519.Verify(registrant.GetPublicKey(), registry.SubmissionStatement(id.Bytes()), signature) {
		return id, fmt.Errorf("submission %s by %s: %w", id.Hex(), sub.Registrant, registry.ErrSignature)
	}
	recipients, err := readers(n.ledger.state(), n.cfg.Centre)
	if err != nil {
		return id, err
	}
	if len(recipients) == 0 {
		return id, nil // a replica that does not know its own members yet; the registration will tell
	}
	fit, err := fitting(sub, registrant.GetName(), recipients)
	if err != nil {
		return id, err
	}
	if fit < len(sub.Records) {
		return id, &intake.RuleError{Rule: intake.RuleCount, Item: "records", What: fmt.Sprintf("%d records are more than one registration holds", len(sub.Records)),
			Way: fmt.Sprintf("hand in at most %d of them as one submission", fit)}
	}
	return id, nil
}

// existing returns the answer for a submission that was handed in before, here or before this centre was lost; nil if
// it is new.
func (s submissionsService) existing(id digest.Digest) (*nodepb.SubmitReply, error) {
	view, err := s.view(id)
	if errors.Is(err, rpc.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if view.GetState() == "returned" || view.GetState() == "refused" {
		return s.again(id)
	}
	reply := &nodepb.SubmitReply{Id: id.Hex(), Existing: true, Submission: view}
	state, err := s.n.quarantine.Load(id)
	if isNotExist(err) {
		return reply, nil
	}
	if err != nil {
		return nil, err
	}
	if len(state.Receipt) == 0 {
		reply.Receipt, err = s.acknowledge(id)
		return reply, err
	}
	reply.Receipt = &nodepb.Receipt{}
	return reply, proto.Unmarshal(state.Receipt, reply.Receipt)
}

// again puts a submission that was returned or refused before the desk once more: a refusal never blocks a re-send, and
// the very bytes are still here.
func (s submissionsService) again(id digest.Digest) (*nodepb.SubmitReply, error) {
	err := s.n.desk.setState(id, func(st *intake.State) error {
		if st.Phase != intake.Returned && st.Phase != intake.Refused {
			return nil
		}
		st.Phase, st.Reasons, st.Inspection, st.DecidedBy = intake.Received, nil, "", ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.existing(id)
}

func receiveFile(stream nodepb.Submissions_SubmitServer, in *intake.Incoming, record, file int, path string) error {
	r := &fileReader{stream: stream, record: uint32(record), file: uint32(file)}
	if err := in.Put(stream.Context(), record, path, r); err != nil {
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return fmt.Errorf("file %q: %w", path, r.err)
		}
		return err
	}
	return r.drain()
}

// fileReader reads one file out of the stream of messages.
type fileReader struct {
	stream       nodepb.Submissions_SubmitServer
	record, file uint32
	rest         []byte
	last         bool
	err          error
}

func (r *fileReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.last {
			r.err = io.EOF
		}
		if r.err != nil {
			return 0, r.err
		}
		m, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("the delivery ends in the middle, send it again: %w: %w", rpc.ErrInvalid, io.ErrUnexpectedEOF)
		}
		if err != nil {
			r.err = err
			return 0, err
		}
		d := m.GetFile()
		if d == nil || d.GetRecord() != r.record || d.GetFile() != r.file {
			r.err = fmt.Errorf("files come in the order of the description, want file %d of record %d: %w", r.file, r.record, rpc.ErrInvalid)
			return 0, r.err
		}
		r.rest, r.last = d.GetData(), d.GetLast()
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// drain takes the empty end message that may follow the last byte.
func (r *fileReader) drain() error {
	var b [1]byte
	n, err := r.Read(b[:])
	if n > 0 {
		return fmt.Errorf("file %d of record %d is longer than announced: %w", r.file, r.record, rpc.ErrInvalid)
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// receiptText is what the centre signs when it has received a delivery (接收回执).
func receiptText(r *nodepb.Receipt) []byte {
	return fmt.Appendf(nil, "dengbei/acknowledgement/v1\nsubmission %s\ncentre %s-%d\nregistrant %s\nfiles %d\nbytes %d\nreceived %s\n",
		r.GetSubmission(), r.GetCentre(), r.GetCentreSerial(), r.GetRegistrant(), r.GetFiles(), r.GetSizeBytes(),
		registry.FormatTime(r.GetReceivedAtMillis()))
}

// acknowledge signs the receipt of a committed submission and keeps it, so that a repeated delivery gets the same.
func (s submissionsService) acknowledge(id digest.Digest) (*nodepb.Receipt, error) {
	n := s.n
	state, err := n.quarantine.Load(id)
	if err != nil {
		return nil, err
	}
	_, serial, err := registry.ParseServerID(n.serverID)
	if err != nil {
		return nil, err
	}
	r := &nodepb.Receipt{
		Submission: id.Hex(), Centre: n.cfg.Centre, CentreSerial: serial, Registrant: state.Registrant,
		Files: uint64(state.Files), SizeBytes: uint64(state.SizeBytes), ReceivedAtMillis: state.ReceivedAt.UnixMilli(),
	}
	r.Signature = ed25519.Sign(n.keys.Receipt, receiptText(r))
	b, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("receipt of %s: %w", id.Hex(), err)
	}
	err = n.quarantine.SetState(id, func(st *intake.State) error {
		st.Receipt = b
		return nil
	})
	// The bytes are safe, so the receipt is due on a full disk too; it follows from the state, and is made again, the same,
	// when it is asked for.
	if err != nil && !errors.Is(err, intake.ErrFull) {
		return nil, fmt.Errorf("receipt of %s: %w", id.Hex(), err)
	}
	return r, nil
}

// view describes a submission from the quarantine, or from the registry if this node has it no longer.
func (s submissionsService) view(id digest.Digest) (*nodepb.Submission, error) {
	n := s.n
	st, err := n.quarantine.Load(id)
	if isNotExist(err) {
		return s.registeredView(id)
	}
	if err != nil {
		return nil, err
	}
	v := &nodepb.Submission{
		Id: id.Hex(), Registrant: st.Registrant, Centre: n.cfg.Centre, State: phaseName(st.Phase), Records: uint64(st.Records),
		Files: uint64(st.Files), SizeBytes: uint64(st.SizeBytes), ReceivedAtMillis: st.ReceivedAt.UnixMilli(),
		Inspection: st.Inspection, DecidedBy: st.DecidedBy, Numbers: st.Numbers, LastError: n.desk.LastError(id),
	}
	if !st.Corrects.IsZero() {
		v.Corrects = st.Corrects.Hex()
	}
	for _, r := range st.Reasons {
		v.Reasons = append(v.Reasons, reasonText(r))
	}
	if st.Snapshot != nil {
		v.Repository, v.Snapshot = st.Snapshot.Repository, st.Snapshot.Snapshot
		for i := range st.Records {
			v.Paths = append(v.Paths, bagPath(id, i)[1:])
		}
	}
	v.Title = n.titles.of(id, func() string {
		sub, _, err := n.quarantine.Submission(id)
		if err != nil || len(sub.Records) == 0 {
			return ""
		}
		return sub.Records[0].Title
	})
	if st.Phase == intake.Registered {
		if err := s.promises(v, id); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// titles remembers the titles of submissions, which are asked for with every change and stand in long descriptions.
type titles struct {
	mu   sync.Mutex // guards byID, held for an instant
	byID map[digest.Digest]string
}

const maxTitles = 4096

func (t *titles) of(id digest.Digest, read func() string) string {
	t.mu.Lock()
	title, ok := t.byID[id]
	t.mu.Unlock()
	if ok {
		return title
	}
	title = read()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID == nil || len(t.byID) >= maxTitles {
		t.byID = map[digest.Digest]string{}
	}
	t.byID[id] = title
	return title
}

func reasonText(r intake.Reason) string {
	out := r.Text
	if r.Item != "" {
		out = r.Item + ": " + out
	}
	if r.Path != "" {
		out += fmt.Sprintf(" (%q)", r.Path)
	}
	if r.Way != "" {
		out += "; " + r.Way
	}
	return out
}

func phaseName(p intake.Phase) string {
	switch p {
	case intake.Received:
		return "received"
	case intake.Inspected:
		return "inspected"
	case intake.Accepted:
		return "accepted"
	case intake.Returned:
		return "returned"
	case intake.Refused:
		return "refused"
	case intake.Snapshotted:
		return "snapshotted"
	case intake.Registered:
		return "registered"
	default:
		return string(p)
	}
}

// promises fills in how far the promises S2 and S3 hold for a registered submission.
func (s submissionsService) promises(v *nodepb.Submission, id digest.Digest) error {
	state := s.n.ledger.state()
	records, err := state.RecordsBySubmission(id.Bytes())
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	v.Published = true
	for i, rec := range records {
		copies, err := state.OffsiteCopies(rec)
		if err != nil {
			return err
		}
		if n := uint32(len(copies)); i == 0 || n < v.GetOffsiteCopies() {
			v.OffsiteCopies = n
		}
		if rec.GetStatementSignature() == "" {
			v.Published = false
		}
		if _, err := state.CheckpointCovering(rec.GetSeq()); errors.Is(err, registry.ErrNotFound) {
			v.Published = false
		} else if err != nil {
			return err
		}
	}
	return nil
}

// registeredView describes a submission that only the registry knows: after this centre was lost and came back.
func (s submissionsService) registeredView(id digest.Digest) (*nodepb.Submission, error) {
	records, err := s.n.ledger.state().RecordsBySubmission(id.Bytes())
	if errors.Is(err, registry.ErrNotFound) {
		return nil, fmt.Errorf("submission %s: %w", id.Hex(), rpc.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	v := &nodepb.Submission{Id: id.Hex(), State: phaseName(intake.Registered), Records: uint64(len(records))}
	for _, rec := range records {
		v.Registrant, v.Centre, v.ReceivedAtMillis = rec.GetRegistrant(), rec.GetAuthority(), rec.GetReceivedAtMillis()
		v.Repository, v.Snapshot = rec.GetRepository(), rec.GetSnapshot()
		v.Numbers = append(v.Numbers, rec.GetNumber())
		v.Paths = append(v.Paths, rec.GetContent().GetPath())
		title, files, size := titleOf(s.n.keys, rec)
		if v.GetTitle() == "" {
			v.Title = title
		}
		v.Files, v.SizeBytes = v.GetFiles()+files, v.GetSizeBytes()+size
	}
	return v, s.promises(v, id)
}

// mayRead keeps officers to their centre and those below it, and a registrant to its own submissions.
func (s submissionsService) mayRead(ctx context.Context, v *nodepb.Submission) error {
	caller := rpc.CallerOf(ctx).Subject
	if caller.Code != s.n.cfg.Centre && !registry.Supervises(caller.Code, s.n.cfg.Centre) {
		return fmt.Errorf("%s has no right at centre %s: %w", caller, s.n.cfg.Centre, rpc.ErrDenied)
	}
	if caller.Has(identity.Registrant) && v.GetRegistrant() != registrantOf(caller) {
		return fmt.Errorf("submission %s: %w", v.GetId(), rpc.ErrNotFound)
	}
	return nil
}

func parseID(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	if err != nil {
		return d, fmt.Errorf("submission ID %q: %w: %w", s, rpc.ErrInvalid, err)
	}
	return d, nil
}

// List returns this centre's submissions, oldest first.
func (s submissionsService) List(ctx context.Context, req *nodepb.ListSubmissionsRequest) (*nodepb.ListSubmissionsReply, error) {
	if err := s.mayRead(ctx, &nodepb.Submission{Registrant: registrantOf(rpc.CallerOf(ctx).Subject)}); err != nil {
		return nil, err
	}
	filter := intake.Filter{Registrant: req.GetRegistrant()}
	if caller := rpc.CallerOf(ctx).Subject; caller.Has(identity.Registrant) {
		filter.Registrant = registrantOf(caller)
	}
	reply := &nodepb.ListSubmissionsReply{}
	for _, sum := range s.n.quarantine.List(filter) {
		v, err := s.view(sum.ID)
		if err != nil {
			return nil, err
		}
		if req.GetState() == "" || req.GetState() == v.GetState() {
			reply.Submissions = append(reply.Submissions, v)
		}
	}
	return reply, nil
}

// Show returns one submission.
func (s submissionsService) Show(ctx context.Context, req *nodepb.ShowSubmissionRequest) (*nodepb.Submission, error) {
	id, err := parseID(req.GetId())
	if err != nil {
		return nil, err
	}
	v, err := s.view(id)
	if err != nil {
		return nil, err
	}
	return v, s.mayRead(ctx, v)
}

// Report returns the inspection report as it was made.
func (s submissionsService) Report(ctx context.Context, req *nodepb.ShowSubmissionRequest) (*nodepb.ReportReply, error) {
	v, err := s.Show(ctx, req)
	if err != nil {
		return nil, err
	}
	id, err := parseID(v.GetId())
	if err != nil {
		return nil, err
	}
	b, err := s.n.quarantine.Report(id)
	if isNotExist(err) {
		b, err = s.registeredReport(id)
	}
	if err != nil {
		return nil, err
	}
	return &nodepb.ReportReply{Report: b}, nil
}

func (s submissionsService) registeredReport(id digest.Digest) ([]byte, error) {
	records, err := s.n.ledger.state().RecordsBySubmission(id.Bytes())
	if err != nil {
		return nil, fmt.Errorf("report of submission %s: %w", id.Hex(), rpc.ErrNotFound)
	}
	sum, err := digest.FromBytes(digest.SHA256, records[0].GetContent().GetReport())
	if err != nil {
		return nil, err
	}
	return s.n.docs.Get(sum)
}

// Decide takes the decision of an officer of this centre's authority.
func (s submissionsService) Decide(ctx context.Context, req *nodepb.DecideRequest) (*nodepb.Submission, error) {
	caller := rpc.CallerOf(ctx).Subject
	if caller.Code != s.n.cfg.Centre {
		return nil, fmt.Errorf("officer %s decides at centre %s, not at %s: %w", caller, caller.Code, s.n.cfg.Centre, rpc.ErrDenied)
	}
	id, err := parseID(req.GetId())
	if err != nil {
		return nil, err
	}
	if err := s.n.desk.Decide(id, req.GetVerdict(), caller.String(), req.GetReasons()); err != nil {
		return nil, err
	}
	return s.view(id)
}

// Watch streams the submission whenever it got on, until it has reached what the caller waits for.
func (s submissionsService) Watch(req *nodepb.WatchSubmissionRequest, stream nodepb.Submissions_WatchServer) error {
	id, err := parseID(req.GetId())
	if err != nil {
		return err
	}
	until, err := reached(req)
	if err != nil {
		return err
	}
	var last *nodepb.Submission
	for {
		moved, applied := s.n.desk.Changed(), s.n.ledger.state().Changed()
		v, err := s.view(id)
		if err != nil {
			return err
		}
		if err := s.mayRead(stream.Context(), v); err != nil {
			return err
		}
		if last == nil || !proto.Equal(last, v) {
			if err := stream.Send(v); err != nil {
				return err
			}
			last = v
		}
		if until(v) {
			return nil
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-moved:
		case <-applied:
		}
		sleep(stream.Context(), 100*time.Millisecond) // many changes, one look
	}
}

// reached returns when a watcher is served; a returned or refused submission gets no further.
func reached(req *nodepb.WatchSubmissionRequest) (func(*nodepb.Submission) bool, error) {
	closed := func(v *nodepb.Submission) bool { return v.GetState() == "returned" || v.GetState() == "refused" }
	registered := func(v *nodepb.Submission) bool { return v.GetState() == "registered" }
	switch req.GetUntil() {
	case "registered", "":
		return func(v *nodepb.Submission) bool { return closed(v) || registered(v) }, nil
	case "decided":
		return func(v *nodepb.Submission) bool { return v.GetState() != "received" && v.GetState() != "inspected" }, nil
	case "inspected":
		return func(v *nodepb.Submission) bool { return v.GetState() != "received" }, nil
	case "published":
		return func(v *nodepb.Submission) bool { return closed(v) || registered(v) && v.GetPublished() }, nil
	case "offsite":
		want := max(req.GetOffsiteCopies(), 1)
		return func(v *nodepb.Submission) bool {
			return closed(v) || registered(v) && v.GetPublished() && v.GetOffsiteCopies() >= want
		}, nil
	default:
		return nil, fmt.Errorf("wait until %q: want inspected, decided, registered, published or offsite: %w", req.GetUntil(), rpc.ErrInvalid)
	}
}

// recordsService answers about registered records.
type recordsService struct {
	nodepb.UnimplementedRecordsServer
	n *Node
}

// find returns the record of a number, or the first of a submission ID.
func (s recordsService) find(ctx context.Context, req *nodepb.ShowRecordRequest) (*registrypb.Record, error) {
	if err := s.n.ledger.Await(ctx, req.GetLevel()); err != nil {
		return nil, err
	}
	state := s.n.ledger.state()
	var rec *registrypb.Record
	var err error
	if id, parseErr := digest.Parse(req.GetNumber()); parseErr == nil {
		var records []*registrypb.Record
		if records, err = state.RecordsBySubmission(id.Bytes()); err == nil {
			rec = records[0]
		}
	} else {
		rec, err = state.RecordByNumber(req.GetNumber())
	}
	if err != nil {
		return nil, err
	}
	if caller := rpc.CallerOf(ctx).Subject; caller.Has(identity.Registrant) && rec.GetRegistrant() != registrantOf(caller) {
		return nil, fmt.Errorf("record %s: %w", req.GetNumber(), rpc.ErrNotFound)
	}
	return rec, nil
}

// opener returns what opens the hidden fields of a record for a caller: this node's keys for its own people, for those of
// the centres above the record's, and for the registrant itself; nothing for others, who learn what their own centre
// could tell them.
func (n *Node) opener(caller identity.Subject, rec *registrypb.Record) *keys {
	own := caller.Has(identity.Registrant) && rec.GetRegistrant() == registrantOf(caller)
	officer := !caller.Has(identity.Registrant) && (caller.Code == n.cfg.Centre || caller.Code == rec.GetAuthority() || registry.Supervises(caller.Code, rec.GetAuthority()))
	if own || officer {
		return n.keys
	}
	return nil
}

// Show returns a record with its copies.
func (s recordsService) Show(ctx context.Context, req *nodepb.ShowRecordRequest) (*nodepb.Record, error) {
	rec, err := s.find(ctx, req)
	if err != nil {
		return nil, err
	}
	return s.view(ctx, rec)
}

func (s recordsService) view(ctx context.Context, rec *registrypb.Record) (*nodepb.Record, error) {
	state := s.n.ledger.state()
	v := &nodepb.Record{Record: rec, AppliedIndex: state.Applied()}
	v.Title, v.Files, v.SizeBytes = titleOf(s.n.opener(rpc.CallerOf(ctx).Subject, rec), rec)
	if owner, err := state.Member(rec.GetAuthority()); err == nil {
		v.Copies = append(v.Copies, &nodepb.Copy{
			Centre: owner.GetCode(), ServerId: registry.MemberID(owner), Owner: true, VerifiedAtMillis: rec.GetRegisteredAtMillis(), Domain: owner.GetDomain(),
		})
	}
	copies, err := state.OffsiteCopies(rec)
	if err != nil {
		return nil, err
	}
	for _, c := range copies {
		x := &nodepb.Copy{Centre: c.GetHolder(), ServerId: registry.ServerID(c.GetHolder(), c.GetHolderSerial()), VerifiedAtMillis: c.GetVerifiedAtMillis()}
		if m, err := state.Member(c.GetHolder()); err == nil {
			x.Domain = m.GetDomain()
		}
		v.Copies = append(v.Copies, x)
	}
	_, err = state.CheckpointCovering(rec.GetSeq())
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return nil, err
	}
	v.Published = err == nil
	return v, nil
}

// Certificate renders a record's certificate.
func (s recordsService) Certificate(ctx context.Context, req *nodepb.ShowRecordRequest) (*nodepb.CertificateReply, error) {
	rec, err := s.find(ctx, req)
	if err != nil {
		return nil, err
	}
	b, _, err := certificateOf(s.n.ledger.state(), s.n.opener(rpc.CallerOf(ctx).Subject, rec), rec)
	if err != nil {
		return nil, err
	}
	return &nodepb.CertificateReply{Certificate: b, Number: rec.GetNumber()}, nil
}
