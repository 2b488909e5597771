package replication_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"dengbei/chunkstore/digest"
	"dengbei/replication"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
	"dengbei/replication/replicationtest"
)

// holder is a centre that replicates.
type holder struct {
	store *replicationtest.Memory
	docs  *replicationtest.Documents
	cache string
	log   *log
	net   *network
	r     *replication.Replicator
}

func newHolder(t testing.TB, net *network) *holder {
	return &holder{store: new(replicationtest.Memory), docs: new(replicationtest.Documents), cache: t.TempDir(), net: net}
}

// start runs a fresh replicator over what is on the holder's disk, and returns what stops it.
func (h *holder) start(t testing.TB, change func(*replication.Config)) (stop func()) {
	h.log = new(log)
	c := replication.Config{Ledger: h.net, Documents: h.docs, Peers: h.net, CacheDir: h.cache, Observer: h.log,
		OpenStore: func(context.Context, string) (replication.Store, error) { return h.store, nil },
		RetryMin:  5 * time.Millisecond, RetryMax: 50 * time.Millisecond, Stall: 5 * time.Second}
	if change != nil {
		change(&c)
	}
	var err error
	if h.r, err = replication.New(c); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	r := h.r
	wg.Go(func() {
		if err := r.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v; want %v", err, context.Canceled)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// confirms waits until the newest manifest is confirmed.
func (h *holder) confirms(t testing.TB, sequence uint64) {
	t.Helper()
	until(t, "a receipt for the newest manifest", func() bool {
		all := h.net.confirmed()
		return len(all) > 0 && all[len(all)-1].Sequence == sequence
	})
}

func (h *holder) status(t testing.TB) replication.Status {
	t.Helper()
	all := h.r.Status()
	if len(all) != 1 {
		return replication.Status{}
	}
	return all[0]
}

func TestRunKeepsWhatIsAssigned(t *testing.T) {
	owner := newCentre(t, "owner-1", nil)
	bk := newBackup()
	files := bk.add(t, owner, mixed())
	net := newNetwork(owner)
	h := newHolder(t, net)
	h.start(t, nil)
	net.mu.Lock()
	net.holdings = []replication.Holding{bk.holding()}
	net.mu.Unlock()
	net.changed <- struct{}{}
	h.confirms(t, 1)
	wantFiles(t, h.store, owner.store, files)
	got := net.confirmed()[0]
	want := replication.Receipt{Repository: repository, Manifest: bk.refs[0].Digest, Sequence: 1, SetRoot: bk.refs[0].SetRoot,
		Files: bk.refs[0].Files, SizeBytes: bk.refs[0].SizeBytes, VerifiedAt: got.VerifiedAt}
	if got != want || time.Since(got.VerifiedAt) > time.Minute || got.VerifiedAt.Location() != time.UTC {
		t.Errorf("receipt %+v; want %+v", got, want)
	}
	until(t, "status kept", func() bool { return h.status(t).State == replication.StateKept })
	s := h.status(t)
	if s.FilesDone != len(files) || s.Files != len(files) || s.BytesDone != bk.set.SizeBytes() || s.LastError != nil ||
		s.Sequence != 1 || s.Target != 1 || s.BytesPerSecond <= 0 {
		t.Errorf("status %+v", s)
	}

	// A second manifest costs its own files only.
	owner.served.Store(0)
	more := bk.add(t, owner, map[string]int{"data/9": 5000})
	net.mu.Lock()
	net.holdings = []replication.Holding{{Repository: repository, Manifests: bk.holding().Manifests, Receipted: 1}}
	net.mu.Unlock()
	net.changed <- struct{}{}
	h.confirms(t, 2)
	wantFiles(t, h.store, owner.store, more)
	if n := owner.served.Load(); n > 5000+int64(len(bk.docs[1])) {
		t.Errorf("%d bytes served for 5,000 new ones", n)
	}
	if n := len(net.confirmed()); n != 2 {
		t.Errorf("%d receipts; want 2", n)
	}
}

// TestRunChainWithReleases: files that a later manifest released are gone everywhere; the holder reaches the newest set
// and gives no receipt for a set it never had.
func TestRunChainWithReleases(t *testing.T) {
	owner := newCentre(t, "owner-1", nil)
	bk := newBackup()
	first := bk.add(t, owner, map[string]int{"config": 100, "data/1": 3000, "data/2": 4000})
	var gone []string
	for _, f := range first {
		if f.SizeBytes == 3000 {
			gone = append(gone, f.Name)
		}
	}
	second := bk.add(t, owner, sized(4, 2000))
	bk.add(t, owner, sized(2, 100), gone[0])
	bk.add(t, owner, nil, second[1].Name)
	gone = append(gone, second[1].Name)
	bk.add(t, owner, sized(1, 10))
	for _, name := range gone {
		owner.store.Drop(name)
	}
	net := newNetwork(owner)
	net.holdings = []replication.Holding{bk.holding()}
	h := newHolder(t, net)
	h.start(t, func(c *replication.Config) { c.SegmentBytes = 1 }) // a receipt wherever one is possible
	h.confirms(t, 5)
	for f := range bk.set.Files() {
		if _, ok := h.store.Content(f.Name); !ok {
			t.Errorf("%s is not held", f.Name)
		}
	}
	for _, r := range net.confirmed() {
		if r.Sequence < 4 {
			t.Errorf("a receipt for manifest %d, whose set was never held", r.Sequence)
		}
	}
	if len(h.log.missing) > 0 {
		t.Errorf("released files were asked for: %+v", h.log.missing)
	}
}

// TestRunResumes: both sides die in the middle; nothing that arrived is fetched again.
func TestRunResumes(t *testing.T) {
	a, b := newCentre(t, "owner-1", nil), newCentre(t, "owner-2", nil)
	bk := newBackup()
	files := bk.add(t, a, sized(6, 4<<20))
	bk.copyTo(t, a, b)
	net := newNetwork(a)
	net.holdings = []replication.Holding{bk.holding()}
	h := newHolder(t, net)
	stop := h.start(t, func(c *replication.Config) { c.Streams, c.BytesPerSecond = 2, 40<<20 })
	until(t, "half of the bytes and some of a file", func() bool {
		whole, parts := h.store.Held()
		return whole+parts > bk.set.SizeBytes()/2 && parts > 0
	})
	a.grpc.Stop()
	stop()
	if len(net.confirmed()) > 0 {
		t.Fatal("a receipt for half of the files")
	}
	whole, parts := h.store.Held()
	net.mu.Lock()
	net.sources = []*centre{b}
	net.mu.Unlock()
	h.start(t, func(c *replication.Config) { c.Streams = 1 })
	h.confirms(t, 1)
	wantFiles(t, h.store, a.store, files)
	if n, want := b.served.Load(), bk.set.SizeBytes()-whole-parts; n != want {
		t.Errorf("%d of %d bytes served again; want %d", n, bk.set.SizeBytes(), want)
	}
	// A part that was cut off between its last byte and its commit is not asked for.
	if n, limit := b.asked.Load(), int64(len(files))-whole/(4<<20); n > limit {
		t.Errorf("%d files asked for again; want at most %d", n, limit)
	}
}

func TestRunDamagedAtEverySource(t *testing.T) {
	a, b := newCentre(t, "owner-1", nil), newCentre(t, "holder-1", flipping)
	bk := newBackup()
	files := bk.add(t, a, sized(5, 70_000))
	bk.copyTo(t, a, b)
	// The document is honest at one of them, the last pieces of all files are wrong at both.
	a.spoil = func(name string, p []byte, off int64) {
		if name == files[2].Name && len(p) > 0 {
			p[0] ^= 1
		}
	}
	net := newNetwork(b, a)
	net.holdings = []replication.Holding{bk.holding()}
	h := newHolder(t, net)
	h.start(t, nil)
	until(t, "status failed", func() bool { return h.status(t).State == replication.StateFailed })
	if s := h.status(t); !errors.Is(s.LastError, replication.ErrIncomplete) || s.Retry.IsZero() {
		t.Errorf("status %+v; want %v", s, replication.ErrIncomplete)
	}
	h.log.mu.Lock()
	for _, want := range []replication.Blame{{Source: "owner-1", Name: files[2].Name}, {Source: "holder-1", Name: files[2].Name},
		{Source: "holder-1", Name: "documents/" + bk.refs[0].Digest.Hex()}} {
		if !slices.Contains(h.log.damaged, want) {
			t.Errorf("nobody names %+v among %+v", want, h.log.damaged)
		}
	}
	h.log.mu.Unlock()
	if len(net.confirmed()) > 0 {
		t.Error("a receipt without the file")
	}
	// Once a good copy turns up, the rest comes by itself.
	c := newCentre(t, "holder-2", nil)
	for _, f := range files {
		text, _ := a.store.Content(f.Name)
		c.store.Put(f.Name, f.SHA256, text)
	}
	net.mu.Lock()
	net.sources = append(net.sources, c)
	net.mu.Unlock()
	h.confirms(t, 1)
	wantFiles(t, h.store, a.store, files)
}

// TestRunOneLostFileKeepsTheRest: what cannot be had does not stop what can, and nothing is confirmed.
func TestRunOneLostFileKeepsTheRest(t *testing.T) {
	owner := newCentre(t, "owner-1", nil)
	bk := newBackup()
	lost := bk.add(t, owner, sized(1, 100))[0]
	late := bk.add(t, owner, sized(10, 2000))
	text, _ := owner.store.Content(lost.Name)
	owner.store.Drop(lost.Name)
	net := newNetwork(owner)
	net.holdings = []replication.Holding{bk.holding()}
	h := newHolder(t, net)
	h.start(t, func(c *replication.Config) { c.SegmentBytes = 1 })
	until(t, "the later files", func() bool { return len(h.store.Names()) == len(late) })
	until(t, "a failure", func() bool { return h.status(t).LastError != nil })
	if got := net.confirmed(); len(got) > 0 {
		t.Fatalf("receipts %+v", got)
	}
	owner.store.Put(lost.Name, lost.SHA256, text)
	h.confirms(t, 2)
}

func TestRunDiskFull(t *testing.T) {
	owner := newCentre(t, "owner-1", nil)
	bk := newBackup()
	files := bk.add(t, owner, sized(10, 50_000))
	net := newNetwork(owner)
	net.holdings = []replication.Holding{bk.holding()}
	h := newHolder(t, net)
	h.store.SetRoom(260_000)
	h.start(t, nil)
	until(t, "status full", func() bool { return h.status(t).State == replication.StateFull })
	if s := h.status(t); !errors.Is(s.LastError, replication.ErrFull) {
		t.Errorf("last error %v; want %v", s.LastError, replication.ErrFull)
	}
	if len(net.confirmed()) > 0 {
		t.Error("a receipt on a full disk")
	}
	h.store.SetRoom(1 << 30)
	h.confirms(t, 1)
	wantFiles(t, h.store, owner.store, files)
}

func TestTwoReplicatorsOnOneStore(t *testing.T) {
	owner := newCentre(t, "owner-1", nil)
	bk := newBackup()
	files := bk.add(t, owner, sized(40, 60_000))
	net := newNetwork(owner)
	net.holdings = []replication.Holding{bk.holding()}
	one := newHolder(t, net)
	two := &holder{store: one.store, docs: one.docs, cache: t.TempDir(), net: net}
	one.start(t, nil)
	two.start(t, nil)
	one.confirms(t, 1)
	until(t, "both at rest", func() bool {
		return one.status(t).State == replication.StateKept && two.status(t).State == replication.StateKept
	})
	wantFiles(t, one.store, owner.store, files)
}

// TestRunRereadsWhatItFound: files lie in the store before the first receipt, one of them rotten.
func TestRunRereadsWhatItFound(t *testing.T) {
	owner := newCentre(t, "owner-1", nil)
	bk := newBackup()
	files := bk.add(t, owner, sized(3, 90_000))
	net := newNetwork(owner)
	net.holdings = []replication.Holding{bk.holding()}
	h := newHolder(t, net)
	for _, f := range files {
		text, _ := owner.store.Content(f.Name)
		h.store.Put(f.Name, f.SHA256, text)
	}
	rotten, _ := h.store.Content(files[1].Name)
	rotten = bytes.Clone(rotten)
	rotten[80_000] ^= 4
	h.store.Put(files[1].Name, files[1].SHA256, rotten)
	h.start(t, nil)
	h.confirms(t, 1)
	wantFiles(t, h.store, owner.store, files)
	if got := h.store.Quarantined(); !slices.Equal(got, []string{files[1].Name}) {
		t.Errorf("quarantined %q; want %s", got, files[1].Name)
	}
	if n := owner.asked.Load(); n != 1 {
		t.Errorf("%d files asked for; want the rotten one", n)
	}
}

// TestRunRepairsBeforeTheNextReceipt: a file of the verified set was moved aside; the next receipt needs it back.
func TestRunRepairsBeforeTheNextReceipt(t *testing.T) {
	owner := newCentre(t, "owner-1", nil)
	bk := newBackup()
	files := bk.add(t, owner, sized(3, 1000))
	net := newNetwork(owner)
	net.holdings = []replication.Holding{bk.holding()}
	h := newHolder(t, net)
	stop := h.start(t, nil)
	h.confirms(t, 1)
	stop()
	h.store.Quarantine(context.Background(), files[0].Name)
	bk.add(t, owner, sized(1, 10))
	net.holdings = []replication.Holding{{Repository: repository, Manifests: bk.refs, Receipted: 1}}
	h.start(t, nil)
	h.confirms(t, 2)
	wantFiles(t, h.store, owner.store, files)
}

// TestRunCachedSet: power went after the set was cached and before the receipt; or the cache rotted; or it is another's.
func TestRunCachedSet(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, path string)
	}{
		{"whole", func(*testing.T, string) {}},
		{"torn", func(t *testing.T, path string) {
			if err := os.Truncate(path, 200); err != nil {
				t.Fatal(err)
			}
		}},
		{"of a chain that the registry does not know", func(t *testing.T, path string) {
			f := replicationtest.File("data", []byte("elsewhere"))
			_, set, err := manifest.Next(manifest.Set{}, repository, "", []manifest.File{f}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, set.Encode(), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		{"gone", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			owner := newCentre(t, "owner-1", nil)
			bk := newBackup()
			bk.add(t, owner, sized(3, 1000))
			net := newNetwork(owner)
			net.refuse = errors.New("no leader")
			net.holdings = []replication.Holding{bk.holding()}
			h := newHolder(t, net)
			stop := h.start(t, nil)
			until(t, "a refused receipt", func() bool { return h.status(t).LastError != nil })
			stop()
			tt.spoil(t, filepath.Join(h.cache, repository+".set"))
			net.refuse = nil
			owner.grpc.Stop() // everything is there already
			h.start(t, nil)
			h.confirms(t, 1)
		})
	}
}

func TestRunRefusesWhatContradicts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(h *replication.Holding)
	}{
		{"another set root", func(h *replication.Holding) { h.Manifests[1].SetRoot[0] ^= 1 }},
		{"another count", func(h *replication.Holding) { h.Manifests[1].Files++ }},
		{"a gap in the chain", func(h *replication.Holding) { h.Manifests = h.Manifests[1:] }},
		{"another parent", func(h *replication.Holding) { h.Manifests[1].Parent = digest.Of(nil) }},
		{"a repository that climbs", func(h *replication.Holding) { h.Repository = "../" + repository }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			owner := newCentre(t, "owner-1", nil)
			bk := newBackup()
			bk.add(t, owner, sized(1, 100))
			bk.add(t, owner, sized(1, 100))
			holding := bk.holding()
			tt.change(&holding)
			net := newNetwork(owner)
			net.holdings = []replication.Holding{holding}
			h := newHolder(t, net)
			h.start(t, nil)
			until(t, "a failure", func() bool { return h.status(t).LastError != nil })
			if err := h.status(t).LastError; !errors.Is(err, replication.ErrInconsistent) {
				t.Errorf("last error %v; want %v", err, replication.ErrInconsistent)
			}
			if got := net.confirmed(); len(got) > 0 {
				t.Errorf("receipts %+v", got)
			}
		})
	}
}

// TestRunWrongSetRootInTheDocument: owner and registry agree on a root that the files do not have.
func TestRunWrongSetRootInTheDocument(t *testing.T) {
	owner := newCentre(t, "owner-1", nil)
	bk := newBackup()
	bk.add(t, owner, sized(1, 100))
	text := bytes.Replace(bk.docs[0], []byte("set-root "), []byte("set-root x"), 1)
	text = append(text[:bytes.IndexByte(text, 'x')], bytes.Replace(text[bytes.IndexByte(text, 'x')+1:],
		bk.docs[0][bytes.Index(bk.docs[0], []byte("set-root "))+9:][:64], bytes.Repeat([]byte("0"), 64), 1)...)
	if err := owner.docs.Put(context.Background(), digest.Of(text), bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	holding := bk.holding()
	holding.Manifests[0].Digest, holding.Manifests[0].SetRoot = digest.Of(text), [32]byte{}
	net := newNetwork(owner)
	net.holdings = []replication.Holding{holding}
	h := newHolder(t, net)
	h.start(t, nil)
	until(t, "a failure", func() bool { return h.status(t).LastError != nil })
	if err := h.status(t).LastError; !errors.Is(err, replication.ErrInconsistent) || len(net.confirmed()) > 0 {
		t.Errorf("last error %v, receipts %+v; want %v", err, net.confirmed(), replication.ErrInconsistent)
	}
}

func TestRunWithoutSource(t *testing.T) {
	owner := newCentre(t, "owner-1", nil)
	bk := newBackup()
	bk.add(t, owner, sized(1, 100))
	net := newNetwork()
	net.holdings = []replication.Holding{bk.holding()}
	h := newHolder(t, net)
	h.start(t, nil)
	until(t, "a failure", func() bool { return h.status(t).LastError != nil })
	if err := h.status(t).LastError; !errors.Is(err, replication.ErrNoSource) {
		t.Errorf("last error %v; want %v", err, replication.ErrNoSource)
	}
	net.mu.Lock()
	net.sources = []*centre{owner}
	net.mu.Unlock()
	h.confirms(t, 1)
}

func TestNewRefusesConfig(t *testing.T) {
	if _, err := replication.New(replication.Config{}); !errors.Is(err, replication.ErrConfig) {
		t.Errorf("New = %v; want %v", err, replication.ErrConfig)
	}
	if _, err := replication.NewServer(replication.ServerConfig{}); !errors.Is(err, replication.ErrConfig) {
		t.Errorf("NewServer = %v; want %v", err, replication.ErrConfig)
	}
}

var _ replicationpb.TransferServer = (*replication.Server)(nil)
