package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	// MaxEntryBytes bounds one proposal: a large entry holds up the heartbeats behind it.
	MaxEntryBytes = 4 << 20

	// DefaultTrailingLogs is how many entries stay behind a snapshot, so that a member that was away for a day catches up from the
	// log: some 260 MB at 1 KiB an entry.
	DefaultTrailingLogs = 262_144

	// logCacheEntries are the newest entries kept in memory for replication; few, because an entry may be large.
	logCacheEntries = 64

	retainSnapshots = 2
	logFile         = "raft.db"

	// closeTimeout bounds each step of Close.
	closeTimeout = 10 * time.Second

	// handOverPause is between attempts to hand leadership over that fail at once.
	handOverPause = 50 * time.Millisecond
)

// Config is what a member needs. Listener is closed by the member.
type Config struct {
	// Dir holds the log (raft.db) and the snapshots (snapshots/). It is made with mode 0700.
	Dir string

	// ServerID is this member's name and address in Raft, as "330102-3".
	ServerID string

	// FSM is the state machine; [raft.BatchingFSM] is honoured, and [raft.ConfigurationStore] too unless it batches.
	FSM raft.FSM

	// Listener gives connections from members that may speak Raft, already authenticated.
	Listener net.Listener

	// Dial opens an authenticated connection to the member serverID and to nobody else.
	Dial func(ctx context.Context, serverID string) (net.Conn, error)

	// Applied returns the index of the last entry whose effect is in FSM, as FSM itself would find it after a restart. It counts
	// every entry that FSM was handed, configuration entries too if it batches, and is safe for concurrent use.
	Applied func() uint64

	// SnapshotApplied returns what Applied will be once the snapshot is restored. A snapshot's own index also counts entries that
	// FSM never sees. Nil means the snapshot's index, which is safe and restores a little too often.
	SnapshotApplied func(meta SnapshotMeta) (uint64, error)

	// Timing defaults to [WAN].
	Timing Timing

	// TrailingLogs defaults to [DefaultTrailingLogs]. It can be lowered while running: see [Raft.SetTrailingLogs].
	TrailingLogs uint64

	// MaxAppendEntries is how many entries travel, and are applied, at once: 1 to 1024, default 256.
	MaxAppendEntries int

	// SnapshotThreshold is after how many entries a snapshot is due, default 65,536; SnapshotInterval how often that is looked at,
	// default 10 min.
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration

	// Logger defaults to none.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Dir == "":
		return c, fmt.Errorf("%w: Dir is empty", ErrConfig)
	case c.ServerID == "":
		return c, fmt.Errorf("%w: ServerID is empty", ErrConfig)
	case c.FSM == nil || c.Listener == nil || c.Dial == nil || c.Applied == nil:
		return c, fmt.Errorf("%w: FSM, Listener, Dial and Applied are needed", ErrConfig)
	}
	if c.Timing == (Timing{}) {
		c.Timing = WAN()
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = DefaultTrailingLogs
	}
	if c.MaxAppendEntries == 0 {
		c.MaxAppendEntries = 256
	}
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = 65_536
	}
	if c.SnapshotInterval == 0 {
		c.SnapshotInterval = 10 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func (c Config) raftConfig(logger hclog.Logger, notify chan bool) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.ServerID)
	rc.HeartbeatTimeout = c.Timing.Heartbeat
	rc.ElectionTimeout = c.Timing.Election
	rc.LeaderLeaseTimeout = c.Timing.LeaderLease
	rc.CommitTimeout = c.Timing.Commit
	rc.MaxAppendEntries = c.MaxAppendEntries
	rc.SnapshotThreshold = c.SnapshotThreshold
	rc.SnapshotInterval = c.SnapshotInterval
	rc.TrailingLogs = c.TrailingLogs
	rc.ShutdownOnRemove = false // a removed centre keeps its replica for reading until it is enrolled anew
	rc.NotifyCh = notify
	rc.NoLegacyTelemetry = true
	rc.Logger = logger
	return rc
}

// SnapshotMeta describes a snapshot; its content is the file snapshots/<ID>/state.bin below [Config.Dir]. Callers name it so that they
// need not import Raft.
type SnapshotMeta = raft.SnapshotMeta

// Raft is a running member. It is safe for concurrent use.
type Raft struct {
	cfg     Config
	raft    *raft.Raft
	fsm     *countingFSM
	store   *raftboltdb.BoltStore
	trans   *raft.NetworkTransport
	streams *streams

	observer *raft.Observer
	changes  chan string
	stop     chan struct{} // ends the watchers
	wg       sync.WaitGroup
	closing  sync.Once
	closeErr error

	readyTerm atomic.Uint64 // newest term in which this node is known to have committed an entry as leader
	reads     readGroup
}

// Start opens the member's files, brings the state machine to where the snapshot is if it is behind, and runs. It does not wait for a
// leader: a member whose quorum is away starts and keeps trying. A member without any Raft state waits until it is bootstrapped, or
// added by a leader. On an error nothing is left running, and cfg.Listener is closed.
func Start(cfg Config) (*Raft, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		if cfg.Listener != nil {
			err = errors.Join(err, cfg.Listener.Close())
		}
		return nil, err
	}
	r := &Raft{cfg: cfg, changes: make(chan string, 1), stop: make(chan struct{})}
	r.streams = newStreams(cfg)
	if err := r.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("start consensus in %s: %w", cfg.Dir, err), r.release())
	}
	return r, nil
}

func (r *Raft) open() error {
	cfg, logger := r.cfg, newHCLog(r.cfg.Logger)
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	store, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(cfg.Dir, logFile),
		// Another process holding the file is a mistake to report, not to wait for. The free list is rebuilt at opening instead of
		// being written with every commit.
		BoltOptions: &bbolt.Options{Timeout: 3 * time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", logFile, err)
	}
	r.store = store
	snaps, err := raft.NewFileSnapshotStoreWithLogger(cfg.Dir, retainSnapshots, logger)
	if err != nil {
		return err
	}
	keep, err := keepsState(cfg, store, snaps)
	if err != nil {
		return err
	}
	cached, err := raft.NewLogCache(logCacheEntries, store)
	if err != nil {
		return err
	}
	r.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: r.streams, MaxPool: 4, Timeout: cfg.Timing.Transport, Logger: logger,
	})
	r.fsm = newCountingFSM(cfg.FSM, cfg.Applied)
	notify := make(chan bool, 16)
	rc := cfg.raftConfig(logger, notify)
	rc.NoSnapshotRestoreOnStart = keep
	r.wg.Go(func() { r.watchLeadership(notify) })
	if r.raft, err = raft.NewRaft(rc, r.fsm, cached, store, snaps, r.trans); err != nil {
		return err
	}
	observed := make(chan raft.Observation, 16)
	r.observer = raft.NewObserver(observed, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.raft.RegisterObserver(r.observer)
	r.wg.Go(func() { r.watchLeader(observed) })
	return nil
}

// keepsState decides whether the state machine keeps its state instead of being restored from the newest snapshot.
func keepsState(cfg Config, logs raft.LogStore, snaps raft.SnapshotStore) (bool, error) {
	last, err := logs.LastIndex()
	if err != nil {
		return false, fmt.Errorf("read the log: %w", err)
	}
	metas, err := snaps.List()
	if err != nil {
		return false, fmt.Errorf("list snapshots: %w", err)
	}
	applied := cfg.Applied()
	var snapIndex, want uint64
	if len(metas) > 0 {
		snapIndex = metas[0].Index
		want = snapIndex
		if cfg.SnapshotApplied != nil {
			if want, err = cfg.SnapshotApplied(*metas[0]); err != nil {
				return false, fmt.Errorf("read snapshot %s: %w", metas[0].ID, err)
			}
		}
	}
	if reached := max(last, snapIndex); applied > reached {
		return false, fmt.Errorf("%w: the state has applied entry %d, log and snapshots end at %d: the log in %s was lost or put back "+
			"from a backup; move the node's data aside and enrol this centre again, its state comes from the others", ErrStateAhead,
			applied, reached, cfg.Dir)
	}
	return applied >= want, nil
}

// Close hands leadership over if this node leads and others vote, then stops. Both are bounded by 10 s. Later calls return the first's
// result.
func (r *Raft) Close() error {
	r.closing.Do(func() {
		r.handOver()
		r.closeErr = r.release()
	})
	return r.closeErr
}

// Abort stops without handing leadership over, as a crash would, but leaves nothing running.
func (r *Raft) Abort() error {
	r.closing.Do(func() { r.closeErr = r.release() })
	return r.closeErr
}

// handOver tries until it leads no more: one attempt gives up after an election's time, and the heir may just be busy.
func (r *Raft) handOver() {
	end := time.Now().Add(closeTimeout)
	for r.IsLeader() && r.otherVoters() {
		left := time.Until(end)
		if left <= 0 {
			r.cfg.Logger.Warn("leadership was not handed over before closing", "centre", r.cfg.ServerID)
			return
		}
		started := time.Now()
		if err := waitFuture(r.raft.LeadershipTransfer(), left); err != nil && time.Since(started) < handOverPause {
			time.Sleep(min(handOverPause, left)) // refused at once: the heir is not caught up, say
		}
	}
}

func (r *Raft) otherVoters() bool {
	servers, err := r.Servers()
	if err != nil {
		return false
	}
	for _, s := range servers {
		if s.Voter && s.ID != r.cfg.ServerID {
			return true
		}
	}
	return false
}

func (r *Raft) release() error {
	var errs []error
	r.reads.mu.Lock()
	r.reads.closed = true
	r.reads.mu.Unlock()
	// The network first: Raft's own routines may sit in a call to a silent peer and would keep Shutdown waiting for its deadline.
	if r.trans != nil {
		errs = append(errs, r.trans.Close())
	}
	errs = append(errs, r.streams.Close())
	stopped := true
	if r.raft != nil {
		if r.observer != nil {
			r.raft.DeregisterObserver(r.observer)
		}
		if err := waitFuture(r.raft.Shutdown(), closeTimeout); err != nil {
			stopped = !errors.Is(err, errTimeout)
			errs = append(errs, fmt.Errorf("stop raft: %w", err))
		}
	}
	close(r.stop)
	r.wg.Wait()
	if r.store != nil && stopped { // Raft that still runs must not find its log closed
		errs = append(errs, r.store.Close())
	}
	return errors.Join(errs...)
}

var errTimeout = errors.New("timed out")

func waitFuture(f raft.Future, limit time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return errTimeout
	}
}
