package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/digest"
	"dengbei/node/config"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/fournature"
	"dengbei/registry/intake"
	"dengbei/registry/registrypb"
)

// Limits of one snapshot: a batch is one snapshot, however many submissions it holds.
const (
	maxBatchSubmissions = 256
	maxBatchBytes       = 1 << 30
	inspectors          = 2
)

// defaultClass is the protection class of a submission that names none.
const defaultClass = "standard"

// desk takes the submissions of this centre from reception to registration: inspection, decision, snapshot, number. What
// a submission has reached is in the quarantine's durable state, so every step can be repeated after a crash.
type desk struct {
	cfg        config.Config
	quarantine *intake.Quarantine
	keeper     *keeper
	ledger     *ledger
	keys       *keys
	docs       *documents
	log        *slog.Logger

	formats  atomic.Pointer[fournature.Formats] // loaded with the first inspection, dropped when there are none for a while
	lastUsed atomic.Int64                       // when, in milliseconds

	wake chan struct{} // something may be ready for a next step

	mu      sync.Mutex // guards the rest, held for an instant
	busy    map[digest.Digest]bool
	errs    map[digest.Digest]string // last error of a submission that is retried
	left    map[digest.Digest]string // inspected submissions and the policy that left them to an officer
	changed chan struct{}            // closed and replaced when a submission's state changed

	// What failed stands back until then, so that it holds up nothing else; for registerLoop alone.
	back        map[digest.Digest]time.Time
	backClasses map[string]time.Time
}

// standBack is how long a submission or class that failed lets others go first.
const standBack = 5 * time.Second

func newDesk(cfg config.Config, q *intake.Quarantine, k *keeper, l *ledger, ks *keys, docs *documents, log *slog.Logger) *desk {
	return &desk{cfg: cfg, quarantine: q, keeper: k, ledger: l, keys: ks, docs: docs, log: log,
		wake: make(chan struct{}, 1), busy: map[digest.Digest]bool{}, errs: map[digest.Digest]string{}, left: map[digest.Digest]string{}, changed: make(chan struct{}),
		back: map[digest.Digest]time.Time{}, backClasses: map[string]time.Time{}}
}

// formatsIdle is after how long without an inspection the signatures of formats, some hundred megabytes, are dropped.
const formatsIdle = 2 * time.Minute

func (d *desk) useFormats() *fournature.Formats {
	d.lastUsed.Store(time.Now().UnixMilli())
	f := d.formats.Load()
	if f == nil {
		f = &fournature.Formats{}
		if !d.formats.CompareAndSwap(nil, f) {
			return d.useFormats()
		}
	}
	return f
}

func (d *desk) dropIdleFormats() {
	if d.formats.Load() != nil && time.Since(time.UnixMilli(d.lastUsed.Load())) > formatsIdle {
		d.formats.Store(nil)
		debug.FreeOSMemory()
	}
}

// poke makes the desk look again.
func (d *desk) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// announce wakes whoever waits for a submission's state.
func (d *desk) announce() {
	d.mu.Lock()
	close(d.changed)
	d.changed = make(chan struct{})
	d.mu.Unlock()
	d.poke()
}

// Changed returns a channel that is closed with the next change of any submission's state.
func (d *desk) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

func (d *desk) setState(id digest.Digest, change func(*intake.State) error) error {
	err := d.quarantine.SetState(id, func(s *intake.State) error {
		s.ChangedAt = time.Now().UTC()
		return change(s)
	})
	if err == nil {
		d.noteError(id, nil)
		d.mu.Lock()
		delete(d.left, id)
		d.mu.Unlock()
		d.announce()
	}
	return err
}

func (d *desk) noteError(id digest.Digest, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		delete(d.errs, id)
		return
	}
	d.errs[id] = err.Error()
	if errors.Is(err, chunkstore.ErrFull) || errors.Is(err, intake.ErrFull) {
		d.errs[id] += "; free space there, the submission then goes on by itself"
	}
}

// LastError returns why a submission is not getting on, empty if it is.
func (d *desk) LastError(id digest.Digest) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.errs[id]
}

// run works until ctx ends.
func (d *desk) run(ctx context.Context) {
	var wg sync.WaitGroup
	jobs := make(chan digest.Digest)
	for range inspectors {
		wg.Go(func() {
			for id := range jobs {
				if err := d.inspect(ctx, id); err != nil && ctx.Err() == nil {
					d.noteError(id, err)
					d.log.Error("submission not inspected", "submission", id.Hex(), "err", err)
				}
				d.release(id)
			}
		})
	}
	wg.Go(func() { d.registerLoop(ctx) })
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		policy := d.policyInForce()
		for _, s := range d.quarantine.List(intake.Filter{Phases: []intake.Phase{intake.Received, intake.Inspected}}) {
			if s.Phase == intake.Inspected && d.considered(s.ID, policy) || !d.claim(s.ID) {
				continue
			}
			select {
			case jobs <- s.ID:
			case <-ctx.Done():
				d.release(s.ID)
			}
		}
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-tick.C:
			d.dropIdleFormats()
		}
	}
	close(jobs)
	wg.Wait()
}

// policyInForce returns what tells one auto-approval policy from another, empty if none is in force.
func (d *desk) policyInForce() string {
	vkey, err := d.keys.AuthorityVKey()
	if err != nil {
		return ""
	}
	policy, err := loadApproval(d.cfg, vkey)
	if err != nil {
		d.log.Error("auto-approval policy decides nothing", "err", err)
	}
	if err != nil || policy == nil {
		return ""
	}
	return policy.Signature
}

// considered reports whether an inspected submission was already held against the policy in force, and notes that it is
// now: what a policy leaves to an officer is not looked at again and again.
func (d *desk) considered(id digest.Digest, policy string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if policy == "" || d.left[id] == policy {
		return true
	}
	d.left[id] = policy
	return false
}

func (d *desk) claim(id digest.Digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy[id] {
		return false
	}
	d.busy[id] = true
	return true
}

func (d *desk) release(id digest.Digest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.busy, id)
}

// inspect runs the inspection if there is no report yet, then decides if a policy covers the result.
func (d *desk) inspect(ctx context.Context, id digest.Digest) error {
	state, err := d.quarantine.Load(id)
	if err != nil {
		return err
	}
	sub, _, err := d.quarantine.Submission(id)
	if err != nil {
		return err
	}
	if state.Phase == intake.Received {
		report, err := fournature.Inspect(ctx, fournature.Package{
			ID:         id,
			Submission: sub,
			Open: func(record int, path string) (io.ReadCloser, error) {
				return d.quarantine.Open(id, record, path)
			},
			List: func(record int) ([]string, error) { return d.quarantine.Paths(id, record) },
		}, fournature.YJ(), fournature.Options{Now: time.Now().UTC(), Workers: 1, Formats: d.useFormats()})
		if err != nil {
			return fmt.Errorf("inspect: %w", err)
		}
		text, err := report.Encode()
		if err != nil {
			return fmt.Errorf("inspect: %w", err)
		}
		sum, err := d.quarantine.PutReport(id, text)
		if err != nil {
			return fmt.Errorf("keep report: %w", err)
		}
		err = d.setState(id, func(s *intake.State) error {
			s.Phase, s.Report, s.Inspection = intake.Inspected, sum, string(report.Overall)
			return nil
		})
		if err != nil {
			return fmt.Errorf("keep report: %w", err)
		}
		if state, err = d.quarantine.Load(id); err != nil {
			return err
		}
	}
	if state.Phase != intake.Inspected {
		return nil
	}
	return d.decideByPolicy(id, sub, state)
}

func (d *desk) decideByPolicy(id digest.Digest, sub *intake.Submission, state intake.State) error {
	vkey, err := d.keys.AuthorityVKey()
	if err != nil {
		return err
	}
	policy, err := loadApproval(d.cfg, vkey)
	if err != nil || policy == nil {
		return err
	}
	if !policy.covers(sub, state.Inspection, time.Now()) {
		return nil
	}
	return d.setState(id, func(s *intake.State) error {
		s.Phase, s.DecidedBy = intake.Accepted, "policy "+policy.Name
		return nil
	})
}

// Decide takes an officer's decision about an inspected submission. Accepting what failed an inspection is refused.
func (d *desk) Decide(id digest.Digest, verdict, officer string, reasons []string) error {
	state, err := d.quarantine.Load(id)
	if err != nil {
		return err
	}
	if state.Phase != intake.Inspected {
		return fmt.Errorf("submission %s is %s, a decision is taken once it is inspected: %w", id.Hex(), state.Phase, rpc.ErrState)
	}
	var phase intake.Phase
	switch verdict {
	case "accept":
		if state.Inspection == string(fournature.Fail) || state.Inspection == string(fournature.Pending) {
			return fmt.Errorf("submission %s: the inspection's result is %s: return it for correction or refuse it: %w", id.Hex(), state.Inspection, rpc.ErrState)
		}
		phase = intake.Accepted
	case "return":
		phase = intake.Returned
	case "refuse":
		phase = intake.Refused
	default:
		return fmt.Errorf("verdict %q: want accept, return or refuse: %w", verdict, rpc.ErrInvalid)
	}
	if phase != intake.Accepted && len(reasons) == 0 {
		return fmt.Errorf("a submission is not %sed without a reason: name what is wrong and what to do: %w", verdict, rpc.ErrInvalid)
	}
	return d.setState(id, func(s *intake.State) error {
		if s.Phase != intake.Inspected {
			return fmt.Errorf("submission %s became %s meanwhile: %w", id.Hex(), s.Phase, rpc.ErrState)
		}
		s.Phase, s.DecidedBy, s.Reasons = phase, officer, nil
		for _, r := range reasons {
			s.Reasons = append(s.Reasons, intake.Reason{Record: -1, Text: r})
		}
		return nil
	})
}

// registerLoop turns accepted submissions into registered ones, one batch after the other.
func (d *desk) registerLoop(ctx context.Context) {
	const slowest = 5 * time.Second
	delay := time.Duration(0)
	for ctx.Err() == nil {
		wait := d.Changed()
		progress, err := d.registerOnce(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			d.log.Warn("registration waits", "err", err)
			delay = min(max(2*delay, 250*time.Millisecond), slowest)
			sleep(ctx, delay)
		case progress:
			delay = 0
		default:
			delay = 0
			select {
			case <-ctx.Done():
			case <-wait:
			case <-time.After(2 * time.Second):
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// registerOnce finishes what was snapshotted, else takes the next snapshot. It reports whether there was anything to do.
func (d *desk) registerOnce(ctx context.Context) (bool, error) {
	recovering, err := d.keeper.Recovering()
	if err != nil || recovering {
		return false, err
	}
	if err := d.freeRegistered(); err != nil {
		return false, err
	}
	snapshotted := d.quarantine.List(intake.Filter{Phases: []intake.Phase{intake.Snapshotted}})
	if len(snapshotted) > 0 {
		return true, d.proposeAgain(ctx, snapshotted)
	}
	class, batch := d.nextBatch()
	if len(batch) == 0 {
		return false, nil
	}
	return true, d.registerBatch(ctx, class, batch)
}

func (d *desk) freeRegistered() error {
	for _, s := range d.quarantine.List(intake.Filter{Phases: []intake.Phase{intake.Registered}, Unfreed: true}) {
		if err := d.quarantine.Free(s.ID, time.Now().UTC()); err != nil {
			return fmt.Errorf("free submission %s: %w", s.ID.Hex(), err)
		}
	}
	return nil
}

// nextBatch picks the oldest accepted submission and others of its class, within the limits of a batch. What cannot be
// read stands back: it holds up nobody else.
func (d *desk) nextBatch() (class string, batch []accepted) {
	now := time.Now()
	over := func(until time.Time) bool { return !now.Before(until) }
	maps.DeleteFunc(d.back, func(_ digest.Digest, until time.Time) bool { return over(until) })
	maps.DeleteFunc(d.backClasses, func(_ string, until time.Time) bool { return over(until) })
	var size int64
	for _, s := range d.quarantine.List(intake.Filter{Phases: []intake.Phase{intake.Accepted}}) {
		if !d.back[s.ID].IsZero() {
			continue
		}
		sub, signature, err := d.quarantine.Submission(s.ID)
		if err != nil {
			d.setBack(s.ID, err)
			continue
		}
		c := sub.Class
		if c == "" {
			c = defaultClass
		}
		if !d.backClasses[c].IsZero() {
			continue
		}
		if len(batch) == 0 {
			class = c
		}
		_, n := sub.Totals()
		if c != class || len(batch) > 0 && size+n > maxBatchBytes {
			continue
		}
		state, err := d.quarantine.Load(s.ID)
		if err != nil {
			d.setBack(s.ID, err)
			continue
		}
		batch = append(batch, accepted{id: s.ID, sub: sub, signature: signature, state: state})
		if size += n; len(batch) == maxBatchSubmissions {
			break
		}
	}
	return class, batch
}

// setBack lets a submission wait for another round, and says why where its registrant and the officers see it.
func (d *desk) setBack(id digest.Digest, err error) {
	d.back[id] = time.Now().Add(standBack)
	d.noteError(id, err)
	d.log.Error("submission cannot be registered now", "submission", id.Hex(), "err", err)
}

// accepted is a submission on its way into a snapshot.
type accepted struct {
	id        digest.Digest
	sub       *intake.Submission
	signature []byte
	state     intake.State
	command   *registrypb.RegisterSubmission
}

func (d *desk) registerBatch(ctx context.Context, class string, batch []accepted) error {
	// The manifest continues the newest registered one, so this replica must know it.
	err := d.ledger.Await(ctx, nodepb.ReadLevel_LINEARIZABLE)
	var own *ownRepository
	if err == nil {
		if own, err = d.keeper.Class(ctx, class); err != nil {
			d.backClasses[class] = time.Now().Add(standBack)
		}
	}
	if err != nil {
		for _, a := range batch {
			d.noteError(a.id, err)
		}
		return err
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	var roots []archive.Root
	var bodies []digest.Digest
	ready := batch[:0]
	for _, a := range batch {
		r, err := d.prepare(own, &a)
		if err != nil {
			if damaged := d.returnDamaged(a.id, err); damaged {
				continue
			}
			d.setBack(a.id, err)
			continue
		}
		roots = append(roots, r...)
		bodies = append(bodies, a.state.Report)
		ready = append(ready, a)
	}
	if len(ready) == 0 {
		return nil
	}
	t, err := d.keeper.Snapshot(ctx, own, roots, bodies, time.Now())
	if err != nil {
		d.backClasses[class] = time.Now().Add(standBack)
		for _, a := range ready {
			d.noteError(a.id, err)
		}
		return err
	}
	for _, a := range ready {
		a.command.Manifest = t.manifest
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(&registrypb.Command{Kind: &registrypb.Command_RegisterSubmission{RegisterSubmission: a.command}})
		if err != nil {
			return fmt.Errorf("submission %s: %w", a.id.Hex(), err)
		}
		err = d.setState(a.id, func(s *intake.State) error {
			s.Phase = intake.Snapshotted
			s.Snapshot = &intake.Snapshot{Repository: own.id, Snapshot: t.snapshot.Hex(), Path: bagRoot(a.id), Manifest: t.document, Command: b}
			return nil
		})
		if err != nil {
			return fmt.Errorf("submission %s: %w", a.id.Hex(), err)
		}
	}
	ids := make([]digest.Digest, len(ready))
	for i, a := range ready {
		ids[i] = a.id
	}
	if err := d.propose(ctx, ids); err != nil {
		return err
	}
	own.Registered(t)
	return nil
}

// returnDamaged returns a submission whose own bytes no longer fit its description: it must be handed in again.
func (d *desk) returnDamaged(id digest.Digest, cause error) bool {
	var rule *intake.RuleError
	if !errors.As(cause, &rule) {
		return false
	}
	err := d.setState(id, func(s *intake.State) error {
		s.Phase, s.DecidedBy = intake.Returned, "system"
		s.Reasons = []intake.Reason{{Item: string(rule.Rule), Record: -1, Path: rule.Item, Text: rule.What, Way: rule.Way}}
		return nil
	})
	if err != nil {
		d.log.Error("damaged submission not returned", "submission", id.Hex(), "err", err)
	}
	return err == nil
}

// proposeAgain registers what an earlier run snapshotted and could not see registered.
func (d *desk) proposeAgain(ctx context.Context, snapshotted []intake.Summary) error {
	ids := make([]digest.Digest, len(snapshotted))
	for i, s := range snapshotted {
		ids[i] = s.ID
	}
	return d.propose(ctx, ids)
}

// propose registers snapshotted submissions and stores the outcome of each.
func (d *desk) propose(ctx context.Context, ids []digest.Digest) error {
	const perCall = 64
	for chunk := range slices.Chunk(ids, perCall) {
		var commands []*registrypb.Command
		for _, id := range chunk {
			state, err := d.quarantine.Load(id)
			if err != nil {
				return fmt.Errorf("submission %s: %w", id.Hex(), err)
			}
			c := &registrypb.Command{}
			if err := proto.Unmarshal(state.Snapshot.Command, c); err != nil {
				return fmt.Errorf("submission %s: %w", id.Hex(), err)
			}
			commands = append(commands, c)
		}
		outcomes, err := d.ledger.Propose(ctx, commands...)
		if err != nil {
			for _, id := range chunk {
				d.noteError(id, err)
			}
			return fmt.Errorf("register %d submissions: %w", len(chunk), err)
		}
		for i, id := range chunk {
			if err := d.settle(id, outcomes[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *desk) settle(id digest.Digest, o *nodepb.Outcome) error {
	refusal := outcomeError(o)
	if refusal == nil {
		return d.setState(id, func(s *intake.State) error {
			s.Phase, s.Numbers = intake.Registered, nil
			for _, r := range o.GetRegistered() {
				s.Numbers = append(s.Numbers, r.Number)
			}
			return nil
		})
	}
	d.noteError(id, refusal)
	if errors.Is(refusal, registry.ErrStaleManifest) || errors.Is(refusal, registry.ErrUnknownManifest) {
		// The repository went on without this batch: it is taken into the next snapshot.
		return d.setState(id, func(s *intake.State) error {
			s.Phase, s.Snapshot = intake.Accepted, nil
			return nil
		})
	}
	if errors.Is(refusal, registry.ErrUnknownRegistrant) || errors.Is(refusal, registry.ErrSignature) || errors.Is(refusal, registry.ErrTooLarge) || errors.Is(refusal, registry.ErrMalformed) {
		way := "ask the centre, then hand in again"
		if errors.Is(refusal, registry.ErrTooLarge) {
			way = "hand the records in as several submissions"
		}
		return d.setState(id, func(s *intake.State) error {
			s.Phase, s.DecidedBy = intake.Returned, "registry"
			s.Reasons = []intake.Reason{{Item: o.GetReason(), Record: -1, Text: o.GetDetail(), Way: way}}
			return nil
		})
	}
	return fmt.Errorf("registration of submission %s refused: %w", id.Hex(), refusal)
}

// signStatements signs the authority's statement over registered records as they come, so that certificates can be
// rendered.
func (d *desk) signStatements(ctx context.Context) {
	for ctx.Err() == nil {
		wait := d.ledger.state().Changed()
		n, err := d.signSome(ctx)
		switch {
		case err != nil && ctx.Err() == nil && !errors.Is(err, registry.ErrClosed):
			d.log.Warn("statements not signed", "err", err)
			sleep(ctx, time.Second)
		case n == 0:
			select {
			case <-ctx.Done():
			case <-wait:
				sleep(ctx, 50*time.Millisecond) // one command for what comes together
			}
		}
	}
}

func (d *desk) signSome(ctx context.Context) (int, error) {
	state := d.ledger.state()
	if _, err := state.Network(); errors.Is(err, registry.ErrNotFound) {
		return 0, nil
	}
	records, err := state.Unsigned(d.cfg.Centre, 256)
	if err != nil || len(records) == 0 {
		return 0, err
	}
	network, err := state.Network()
	if err != nil {
		return 0, err
	}
	vkey, err := d.keys.AuthorityVKey()
	if err != nil {
		return 0, err
	}
	c := &registrypb.SignStatement{Authority: d.cfg.Centre, Vkey: vkey}
	for _, r := range records {
		commitment, err := registry.Commitment(network.GetOrigin(), r)
		if err != nil {
			return 0, err
		}
		sig, err := signCertificate(d.keys.Authority, network.GetOrigin(), r, commitment)
		if err != nil {
			return 0, err
		}
		c.Signatures = append(c.Signatures, &registrypb.StatementSignature{Seq: r.GetSeq(), Signature: sig})
	}
	if _, err := d.ledger.ProposeOne(ctx, &registrypb.Command{Kind: &registrypb.Command_SignStatement{SignStatement: c}}); err != nil {
		return 0, err
	}
	return len(records), nil
}

// waiting counts what was received and is neither registered nor closed.
func (d *desk) waiting() int {
	return len(d.quarantine.List(intake.Filter{Phases: []intake.Phase{intake.Received, intake.Inspected, intake.Accepted, intake.Snapshotted}}))
}

// isNotExist also matches what the quarantine says.
func isNotExist(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, intake.ErrNotFound)
}

// recordJSON is the content of dengbei/record.json in a bag: what the public log hides about the record, kept in the
// package itself so that a lost catalogue can be rebuilt from it.
type recordJSON struct {
	Format     string           `json:"format"` // dengbei/record/v1
	Submission string           `json:"submission"`
	Ordinal    int              `json:"ordinal"`
	Registrant string           `json:"registrant"`
	Title      string           `json:"title"`
	Opening    string           `json:"opening,omitempty"`
	Secrecy    string           `json:"secrecy,omitempty"`
	Metadata   []intake.Element `json:"metadata,omitempty"`
	Report     string           `json:"report"`
	OpenSeed   []byte           `json:"open_seed"`
	HiddenSeed []byte           `json:"hidden_seed"`
}

func (r recordJSON) encode() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("record.json: %w", err)
	}
	return append(b, '\n'), nil
}
