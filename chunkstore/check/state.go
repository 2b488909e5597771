package check

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"time"

	"dengbei/chunkstore/repository"
)

// The state file: stateMagic, the repository's ID, when the round began, the number of entries; entries of a pack's ID and
// when it was verified, negative if it was damaged then, ascending by ID; the SHA-256 of all that. Integers are 64 bits, big-endian, instants Unix seconds.
const (
	stateMagic       = "dbcheck\x01"
	stateHeaderBytes = len(stateMagic) + 32 + 8 + 8
	stateEntryBytes  = 32 + 8

	// saveEvery is how much reading an interruption may cost.
	saveEvery = 30 * time.Second
)

// state is a state file without its entries.
type state struct {
	repository repository.ID
	round      int64 // a round is one check of all packs, over as many runs as it takes
	entries    uint64
}

func decodeState(h []byte) (state, error) {
	if len(h) != stateHeaderBytes || string(h[:len(stateMagic)]) != stateMagic {
		return state{}, fmt.Errorf("not a state file of this version: %w", ErrState)
	}
	h = h[len(stateMagic):]
	return state{repository.ID(h[:32]), int64(binary.BigEndian.Uint64(h[32:])), binary.BigEndian.Uint64(h[40:])}, nil
}

func (s state) encode() []byte {
	b := append([]byte(stateMagic), s.repository[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.round))
	return binary.BigEndian.AppendUint64(b, s.entries)
}

// readState reads a state file of size bytes and calls entry for each of its entries, and again with nothing kept if the
// sum is wrong: the caller forgets what it was told after an error.
func readState(r io.Reader, size int64, repo repository.ID, entry func(pack repository.ID, verified int64)) (state, error) {
	sum := sha256.New()
	in := io.TeeReader(bufio.NewReaderSize(r, 1<<16), sum)
	header := make([]byte, stateHeaderBytes)
	if _, err := io.ReadFull(in, header); err != nil {
		return state{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	s, err := decodeState(header)
	if err != nil {
		return state{}, err
	}
	if s.repository != repo {
		return state{}, fmt.Errorf("it is of repository %s: %w", s.repository, ErrState)
	}
	body := size - int64(stateHeaderBytes) - sha256.Size
	if body < 0 || body%int64(stateEntryBytes) != 0 || uint64(body/int64(stateEntryBytes)) != s.entries {
		return state{}, fmt.Errorf("%d bytes for %d packs: %w", size, s.entries, ErrState)
	}
	var b [stateEntryBytes]byte
	var last repository.ID
	for n := range s.entries {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return state{}, fmt.Errorf("%w: %w", ErrState, err)
		}
		id := repository.ID(b[:32])
		if n > 0 && bytes.Compare(last[:], id[:]) >= 0 {
			return state{}, fmt.Errorf("packs are not in order: %w", ErrState)
		}
		last = id
		entry(id, int64(binary.BigEndian.Uint64(b[32:])))
	}
	want := sum.Sum(nil)
	if _, err := io.ReadFull(in, b[:sha256.Size]); err != nil || !bytes.Equal(b[:sha256.Size], want) {
		return state{}, fmt.Errorf("its sum is wrong: %w", ErrState)
	}
	return s, nil
}

// loadState enters the state file into the packs. A file that cannot be used is noted, and everything counts as never
// verified.
func (c *checker) loadState() error {
	if c.options.State == "" {
		return nil
	}
	f, err := os.Open(c.options.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	now := c.options.Now().Unix()
	s, err := readState(f, st.Size(), c.repo.Config().ID, func(pack repository.ID, verified int64) {
		if p := c.pack(pack); p != nil && verified <= now && verified > -now-1 { // a clock that was wrong proves nothing
			p.verified = verified
		}
	})
	if err != nil {
		for i := range c.disk {
			c.disk[i].verified = 0
		}
		c.report.StateErr = fmt.Errorf("%s: %w", c.options.State, err)
		return nil
	}
	c.round = min(s.round, now)
	return nil
}

// saveState replaces the state file, durably. A crash leaves the old one or the new one.
func (c *checker) saveState() error {
	if c.options.State == "" {
		return nil
	}
	dir := filepath.Dir(c.options.State)
	tmp, err := os.CreateTemp(dir, filepath.Base(c.options.State)+".*.tmp")
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	defer os.Remove(tmp.Name()) // not there any more after the rename
	defer tmp.Close()
	if err := c.writeState(tmp); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	if err := os.Rename(tmp.Name(), c.options.State); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	return nil
}

func (c *checker) writeState(w io.Writer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := state{repository: c.repo.Config().ID, round: c.round}
	for i := range c.disk {
		if c.disk[i].verified != 0 {
			s.entries++
		}
	}
	sum := sha256.New()
	out := bufio.NewWriterSize(w, 1<<16)
	both := io.MultiWriter(out, sum)
	both.Write(s.encode()) // errors of a bufio.Writer stay until Flush
	var b [stateEntryBytes]byte
	for i := range c.disk {
		if p := &c.disk[i]; p.verified != 0 {
			copy(b[:], p.id[:])
			binary.BigEndian.PutUint64(b[32:], uint64(p.verified))
			both.Write(b[:])
		}
	}
	out.Write(sum.Sum(nil))
	return out.Flush()
}

// choose marks the packs to be read.
func (c *checker) choose() {
	if !c.options.reads() {
		return
	}
	o := c.options
	if o.Subset.IsZero() {
		c.continueRound()
		return
	}
	order := make([]int, len(c.disk))
	for i := range order {
		order[i] = i
	}
	shuffle(order)
	if o.State != "" {
		sort.SliceStable(order, func(a, b int) bool { return c.disk[order[a]].looked() < c.disk[order[b]].looked() })
	}
	sizes := make([]int64, len(c.disk))
	for i := range c.disk {
		sizes[i] = c.disk[i].size
	}
	for _, i := range o.Subset.pick(order, sizes, func(i int) byte { return c.disk[i].id[0] }) {
		c.disk[i].chosen = true
	}
}

// continueRound chooses all packs but those that were verified since the round began. When all were, a new one begins.
func (c *checker) continueRound() {
	done := func(p packInfo) bool { return c.round != 0 && p.verified >= c.round }
	if !slices.ContainsFunc(c.disk, func(p packInfo) bool { return !done(p) }) {
		c.round = 0
	}
	for i := range c.disk {
		c.disk[i].chosen = !done(c.disk[i])
		if !c.disk[i].chosen {
			c.report.PacksSkipped++
		}
	}
	if c.round == 0 {
		c.round = c.options.Now().Unix()
	}
}
