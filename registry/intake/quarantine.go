package intake

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dengbei/chunkstore/digest"
)

// Names inside a quarantine.
const (
	lockName       = "lock"
	partSuffix     = ".part" // being received, never acknowledged
	wipeSuffix     = ".wipe" // being wiped
	submissionName = "submission.json"
	signatureName  = "signature"
	stateName      = "state.json"
	reportName     = "report.json"
	recordsName    = "records"
	payloadName    = "data"
)

// MaxSignatureBytes and MaxReportBytes bound what is stored beside the payload.
const (
	MaxSignatureBytes = 64 << 10
	MaxReportBytes    = 1 << 30
)

// parallelIO is how many files are synced or read back at once in one quarantine. Each blocks a thread of the operating
// system, so thousands of submissions must share them.
const parallelIO = 32

// Quarantine is a centre's durable store of submissions before registration. Its methods may be called concurrently.
// Nothing it does touches a file outside its folder.
//
// Layout: <id>/{submission.json,signature,state.json,report.json} and <id>/records/<ordinal>/data/<path>, with id in hex.
type Quarantine struct {
	dir    string
	root   *os.Root
	lock   *os.File
	slots  chan struct{}  // one per file being synced or read back
	parent turnstile      // syncs of the quarantine's own folder
	rows   [64]sync.Mutex // rows[id[0]%64] is held while one submission's state changes

	mu        sync.Mutex // guards the maps, for an instant
	index     map[digest.Digest]Summary
	receiving map[digest.Digest]struct{}
	damaged   map[digest.Digest]error
}

// OpenQuarantine opens the quarantine in dir, making it if it is missing, and removes what was never acknowledged. A
// second process gets [ErrBusy]. Submissions whose own state cannot be read do not stop it; see [Quarantine.Damaged].
func OpenQuarantine(dir string) (*Quarantine, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open quarantine: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open quarantine: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open quarantine: %w", err)
	}
	q := &Quarantine{dir: dir, root: root, slots: make(chan struct{}, parallelIO),
		index: map[digest.Digest]Summary{}, receiving: map[digest.Digest]struct{}{}, damaged: map[digest.Digest]error{}}
	if q.lock, err = root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600); err == nil {
		if err = lockFile(q.lock); err == nil {
			err = q.scan()
		}
	}
	if err != nil {
		q.Close()
		return nil, fmt.Errorf("open quarantine %s: %w", dir, err)
	}
	return q, nil
}

// Close releases the quarantine. Nothing may be in use.
func (q *Quarantine) Close() error {
	err := q.root.Close()
	if q.lock != nil {
		err = errors.Join(err, q.lock.Close())
	}
	return err
}

// scan rebuilds the index and finishes what a crash interrupted.
func (q *Quarantine) scan() error {
	d, err := q.root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasSuffix(name, partSuffix) || strings.HasSuffix(name, wipeSuffix) {
			if err := q.root.RemoveAll(name); err != nil {
				return fmt.Errorf("remove unacknowledged %s: %w", name, err)
			}
			continue
		}
		sum, err := hex.DecodeString(name)
		if err != nil || !e.IsDir() || name != strings.ToLower(name) {
			continue // lock, lost+found
		}
		id, err := digest.FromBytes(digest.SHA256, sum)
		if err != nil {
			continue
		}
		s, err := q.readState(id)
		if err != nil {
			q.damaged[id] = err
			continue
		}
		if s.Freed { // the crash came between the state and the removal
			if err := q.root.RemoveAll(filepath.Join(name, recordsName)); err != nil {
				return fmt.Errorf("remove registered payload of %s: %w", name, err)
			}
		}
		q.index[id] = s.Summary
	}
	return nil
}

// Damaged lists submissions whose state cannot be read. They are kept untouched, and cannot be sent again until an
// operator has looked.
func (q *Quarantine) Damaged() map[digest.Digest]error {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := make(map[digest.Digest]error, len(q.damaged))
	for id, err := range q.damaged {
		m[id] = err
	}
	return m
}

// Filter selects submissions. The zero Filter selects all.
type Filter struct {
	Phases     []Phase // any of these; nil for every phase
	Registrant string  // "" for every registrant
	Authority  string  // "" for every authority
	Unfreed    bool    // only those whose payload is still here
}

func (f *Filter) match(s *Summary) bool {
	return (f.Phases == nil || slices.Contains(f.Phases, s.Phase)) && (f.Registrant == "" || f.Registrant == s.Registrant) &&
		(f.Authority == "" || f.Authority == s.Authority) && !(f.Unfreed && s.Freed)
}

// List returns what f selects, oldest reception first, equal times by ID.
func (q *Quarantine) List(f Filter) []Summary {
	var out []Summary
	q.mu.Lock()
	for _, s := range q.index {
		if f.match(&s) {
			out = append(out, s)
		}
	}
	q.mu.Unlock()
	slices.SortFunc(out, func(a, b Summary) int {
		return cmp.Or(a.ReceivedAt.Compare(b.ReceivedAt), a.ID.Compare(b.ID))
	})
	return out
}

// Load returns the state of id as it is on disk, [ErrNotFound] or [ErrDamaged].
func (q *Quarantine) Load(id digest.Digest) (State, error) {
	if err := q.known(id); err != nil {
		return State{}, err
	}
	return q.readState(id)
}

// known reports whether id was received, from memory.
func (q *Quarantine) known(id digest.Digest) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err, ok := q.damaged[id]; ok {
		return fmt.Errorf("submission %s: %w", id.Hex(), err)
	}
	if _, ok := q.index[id]; !ok {
		return fmt.Errorf("submission %s: %w", id.Hex(), ErrNotFound)
	}
	return nil
}

func (q *Quarantine) readState(id digest.Digest) (State, error) {
	b, err := readBounded(q.root, filepath.Join(id.Hex(), stateName), maxStateBytes)
	if err != nil {
		return State{}, fmt.Errorf("%w: state of submission %s: %w", ErrDamaged, id.Hex(), err)
	}
	s, err := parseState(b)
	if err != nil {
		return State{}, fmt.Errorf("submission %s: %w", id.Hex(), err)
	}
	if s.ID != id {
		return State{}, fmt.Errorf("submission %s: %w: its state is that of %s", id.Hex(), ErrDamaged, s.ID.Hex())
	}
	return s, nil
}

// SetState lets change alter the state of id and makes the result durable before it returns nil. An error of change, a
// step that its phase does not allow ([ErrState]) and a full disk ([ErrFull]) leave the old state. What describes the
// submission itself cannot be changed, nor can Freed; see [Quarantine.Free]. change must not call the quarantine.
func (q *Quarantine) SetState(id digest.Digest, change func(*State) error) error {
	defer q.row(id)()
	return q.setState(id, func(s *State) error {
		freed := s.Freed
		if err := change(s); err != nil {
			return err
		}
		if s.Freed != freed {
			return fmt.Errorf("%w: only Free frees", ErrState)
		}
		return nil
	})
}

// row locks the state of id and returns the unlock.
func (q *Quarantine) row(id digest.Digest) func() {
	mu := &q.rows[int(id.Bytes()[0])%len(q.rows)]
	mu.Lock()
	return mu.Unlock
}

// setState is SetState under the lock of id's row.
func (q *Quarantine) setState(id digest.Digest, change func(*State) error) error {
	old, err := q.Load(id)
	if err != nil {
		return err
	}
	s, err := q.readState(id) // a second copy, so that change cannot reach into old
	if err != nil {
		return err
	}
	if err := change(&s); err != nil {
		return fmt.Errorf("submission %s: %w", id.Hex(), err)
	}
	fixed := s.Summary
	fixed.Phase, fixed.ChangedAt, fixed.Freed = old.Phase, old.ChangedAt, old.Freed
	if fixed != old.Summary {
		return fmt.Errorf("submission %s: %w: what was received cannot be changed", id.Hex(), ErrState)
	}
	if s.Phase != old.Phase && !slices.Contains(old.Phase.next(), s.Phase) {
		return fmt.Errorf("submission %s: %w: %s cannot follow %s", id.Hex(), ErrState, s.Phase, old.Phase)
	}
	b, err := s.encode()
	if err != nil {
		return fmt.Errorf("submission %s: %w", id.Hex(), err)
	}
	if err := writeDurable(q.root, filepath.Join(id.Hex(), stateName), b); err != nil {
		if now, rerr := q.readState(id); rerr == nil { // the rename may have happened
			s = now
			q.remember(&s)
		}
		return fmt.Errorf("submission %s: %w", id.Hex(), err)
	}
	q.remember(&s)
	return nil
}

func (q *Quarantine) remember(s *State) {
	q.mu.Lock()
	q.index[s.ID] = s.Summary
	q.mu.Unlock()
}

// Submission returns the description of id as it was sent, with the signature that came with it.
func (q *Quarantine) Submission(id digest.Digest) (*Submission, []byte, error) {
	if err := q.known(id); err != nil {
		return nil, nil, err
	}
	b, err := readBounded(q.root, filepath.Join(id.Hex(), submissionName), MaxEncodedBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: description of %s: %w", ErrDamaged, id.Hex(), err)
	}
	sub, err := Parse(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: description of %s: %w", ErrDamaged, id.Hex(), err)
	}
	if got, err := ID(sub); err != nil || got != id {
		return nil, nil, fmt.Errorf("%w: description of %s is that of %s", ErrDamaged, id.Hex(), got.Hex())
	}
	sig, err := readBounded(q.root, filepath.Join(id.Hex(), signatureName), MaxSignatureBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: signature of %s: %w", ErrDamaged, id.Hex(), err)
	}
	return sub, sig, nil
}

// RecordDir returns the absolute folder of one record, which holds data/ and, after [WriteBag], is a bag. It does not
// check that it exists.
func (q *Quarantine) RecordDir(id digest.Digest, record int) string {
	return filepath.Join(q.dir, id.Hex(), recordsName, strconv.Itoa(record))
}

// Open opens one payload file for reading, or returns [ErrNotFound]. The caller closes it.
func (q *Quarantine) Open(id digest.Digest, record int, path string) (*os.File, error) {
	if err := q.known(id); err != nil {
		return nil, err
	}
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	f, err := q.root.Open(filepath.Join(id.Hex(), payloadPath(record, path)))
	if err != nil {
		return nil, missing(fmt.Sprintf("submission %s record %d file %q", id.Hex(), record, path), err)
	}
	return f, nil
}

// Paths lists what is stored as payload of one record, slash separated and sorted, whether it was described or not.
func (q *Quarantine) Paths(id digest.Digest, record int) ([]string, error) {
	if err := q.known(id); err != nil {
		return nil, err
	}
	top := filepath.ToSlash(filepath.Join(id.Hex(), recordsName, strconv.Itoa(record), payloadName))
	var paths []string
	err := fs.WalkDir(q.root.FS(), top, func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			paths = append(paths, strings.TrimPrefix(p, top+"/"))
		}
		return err
	})
	if err != nil {
		return nil, missing(fmt.Sprintf("submission %s record %d", id.Hex(), record), err)
	}
	slices.Sort(paths)
	return paths, nil
}

// payloadPath is where a file lies inside its submission.
func payloadPath(record int, path string) string {
	return filepath.Join(recordsName, strconv.Itoa(record), payloadName, filepath.FromSlash(path))
}

// PutReport stores the inspection report of id, replacing an earlier one, and returns its SHA-256 for the state. Set the
// state after it: a report that no state names is harmless, the reverse is not.
func (q *Quarantine) PutReport(id digest.Digest, report []byte) (digest.Digest, error) {
	if len(report) > MaxReportBytes {
		return digest.Digest{}, fmt.Errorf("report of %d bytes, the limit is %d", len(report), MaxReportBytes)
	}
	defer q.row(id)()
	if err := q.known(id); err != nil {
		return digest.Digest{}, err
	}
	if err := writeDurable(q.root, filepath.Join(id.Hex(), reportName), report); err != nil {
		return digest.Digest{}, fmt.Errorf("submission %s: %w", id.Hex(), err)
	}
	return digest.Of(report), nil
}

// Report returns the stored inspection report of id, or [ErrNotFound]. The caller compares it with the state's digest.
func (q *Quarantine) Report(id digest.Digest) ([]byte, error) {
	if err := q.known(id); err != nil {
		return nil, err
	}
	b, err := readBounded(q.root, filepath.Join(id.Hex(), reportName), MaxReportBytes)
	if err != nil {
		return nil, missing("report of submission "+id.Hex(), err)
	}
	return b, nil
}

// Free removes the payload of a registered submission and keeps description, signature, state and report. Freeing twice
// is not an error; any other phase gives [ErrState].
func (q *Quarantine) Free(id digest.Digest, at time.Time) error {
	defer q.row(id)()
	err := q.setState(id, func(s *State) error {
		if s.Phase != Registered {
			return fmt.Errorf("%w: payload in phase %s is the only copy", ErrState, s.Phase)
		}
		if !s.Freed {
			s.Freed, s.ChangedAt = true, at.UTC()
			s.Snapshot.Command = nil // only needed to propose again
		}
		return nil
	})
	if err != nil {
		return err
	}
	// The state came first: a crash here is finished by the next OpenQuarantine.
	if err := q.root.RemoveAll(filepath.Join(id.Hex(), recordsName)); err != nil {
		return fmt.Errorf("free submission %s: %w", id.Hex(), err)
	}
	return nil
}

// Wipe overwrites and removes everything about id. It is for what may not be here at all, found before the receipt was
// issued; with a receipt it gives [ErrState], because bytes and report must then be kept. A disk may keep copies of what
// was overwritten: the secrecy office decides about the medium.
func (q *Quarantine) Wipe(id digest.Digest) error {
	defer q.row(id)()
	s, err := q.Load(id)
	if err != nil {
		return err
	}
	if len(s.Receipt) > 0 {
		return fmt.Errorf("wipe submission %s: %w: its receipt was issued", id.Hex(), ErrState)
	}
	doomed := id.Hex() + wipeSuffix
	if err := q.root.Rename(id.Hex(), doomed); err != nil {
		return fmt.Errorf("wipe submission %s: %w", id.Hex(), err)
	}
	q.mu.Lock()
	delete(q.index, id)
	q.mu.Unlock()
	err = errors.Join(q.syncParent(), q.overwrite(doomed), q.root.RemoveAll(doomed), q.syncParent())
	if err != nil {
		return fmt.Errorf("wipe submission %s: %w", id.Hex(), err)
	}
	return nil
}

// overwrite fills every file below dir with zeros.
func (q *Quarantine) overwrite(dir string) error {
	zeros := make([]byte, 64<<10)
	return fs.WalkDir(q.root.FS(), dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := q.root.OpenFile(p, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		for left := info.Size(); left > 0; {
			n, err := f.Write(zeros[:min(left, int64(len(zeros)))])
			if err != nil {
				return err
			}
			left -= int64(n)
		}
		return f.Sync()
	})
}

func (q *Quarantine) syncParent() error {
	return q.parent.do(func() error { return syncDir(q.root, ".") })
}
