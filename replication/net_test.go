package replication_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"dengbei/chunkstore/digest"
	"dengbei/replication"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
	"dengbei/replication/replicationtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const repository = "330102-permanent-1"

// centre is one server on the loopback with its own store.
type centre struct {
	id     string
	store  *replicationtest.Memory
	docs   *replicationtest.Documents
	client replicationpb.TransferClient
	grpc   *grpc.Server

	asked  atomic.Int64 // files asked for
	served atomic.Int64 // bytes read for serving
	allow  func() error
	// spoil changes a piece on its way out; nil for an honest centre.
	spoil func(name string, b []byte, off int64)
	// stop is closed to make reads hang; nil never hangs.
	hang chan struct{}
}

// content is an opened file of a centre.
type content struct {
	*bytes.Reader
	c    *centre
	name string
}

func (f content) ReadAt(b []byte, off int64) (int, error) {
	if f.c.hang != nil {
		<-f.c.hang
	}
	n, err := f.Reader.ReadAt(b, off)
	f.c.served.Add(int64(n))
	if f.c.spoil != nil {
		f.c.spoil(f.name, b[:n], off)
	}
	return n, err
}

func (content) Close() error { return nil }

// newCentre starts a centre that serves an empty store. lie, if not nil, wraps the server.
func newCentre(t testing.TB, id string, lie func(replicationpb.TransferServer) replicationpb.TransferServer) *centre {
	c := &centre{id: id, store: new(replicationtest.Memory), docs: new(replicationtest.Documents)}
	server, err := replication.NewServer(replication.ServerConfig{
		Allow: func(context.Context, string) error {
			if c.allow != nil {
				return c.allow()
			}
			return nil
		},
		Open: func(_ context.Context, _, name string) (replication.Content, int64, error) {
			c.asked.Add(1)
			b, ok := c.store.Content(name)
			if !ok {
				return nil, 0, fs.ErrNotExist
			}
			return content{bytes.NewReader(b), c, name}, int64(len(b)), nil
		},
		Document: func(ctx context.Context, _ string, d digest.Digest) (replication.Content, int64, error) {
			r, err := c.docs.Open(ctx, d)
			if err != nil {
				return nil, 0, err
			}
			var b bytes.Buffer
			b.ReadFrom(r)
			return content{bytes.NewReader(b.Bytes()), c, "documents/" + d.Hex()}, int64(b.Len()), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var handler replicationpb.TransferServer = server
	if lie != nil {
		handler = lie(server)
	}
	c.client, c.grpc = serve(t, handler)
	return c
}

// serve runs handler on the loopback until the test ends.
func serve(t testing.TB, handler replicationpb.TransferServer) (replicationpb.TransferClient, *grpc.Server) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	replicationpb.RegisterTransferServer(server, handler)
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(listener) })
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		wg.Wait()
	})
	return replicationpb.NewTransferClient(conn), server
}

// network is the registry and the peers as one replicator sees them.
type network struct {
	mu       sync.Mutex // guards all below
	holdings []replication.Holding
	sources  []*centre
	receipts []replication.Receipt
	refuse   error // what Confirm gives
	changed  chan struct{}
}

func newNetwork(sources ...*centre) *network {
	return &network{sources: sources, changed: make(chan struct{}, 1)}
}

func (n *network) Holdings(context.Context) ([]replication.Holding, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.holdings), nil
}

func (n *network) Sources(context.Context, string, uint64) (ids []string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sources {
		ids = append(ids, s.id)
	}
	return ids, nil
}

func (n *network) Confirm(_ context.Context, r replication.Receipt) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.refuse != nil {
		return n.refuse
	}
	n.receipts = append(n.receipts, r)
	for i := range n.holdings {
		if h := &n.holdings[i]; h.Repository == r.Repository {
			h.Receipted = max(h.Receipted, r.Sequence)
		}
	}
	return nil
}

func (n *network) Changed() <-chan struct{} { return n.changed }

func (n *network) Dial(_ context.Context, id string) (replicationpb.TransferClient, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range n.sources {
		if s.id == id {
			return s.client, nil
		}
	}
	return nil, fmt.Errorf("no route to %s", id)
}

func (n *network) confirmed() []replication.Receipt {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.receipts)
}

// backup is an owner's chain of manifests.
type backup struct {
	set  manifest.Set
	refs []replication.ManifestRef
	docs [][]byte
	rng  *rand.Rand
}

func newBackup() *backup { return &backup{rng: rand.New(rand.NewPCG(1, 2))} }

// bytes returns n random bytes.
func (b *backup) bytes(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(b.rng.Uint32())
	}
	return out
}

// add registers one manifest and stores its files at the owner.
func (b *backup) add(t testing.TB, owner *centre, files map[string]int, released ...string) (added []manifest.File) {
	for name, size := range files {
		dir, _, _ := bytes.Cut([]byte(name), []byte("/"))
		text := b.bytes(size)
		f := replicationtest.File(string(dir), text)
		owner.store.Put(f.Name, f.SHA256, text)
		added = append(added, f)
	}
	return b.register(t, owner, added, released...)
}

func (b *backup) register(t testing.TB, owner *centre, added []manifest.File, released ...string) []manifest.File {
	d, set, err := manifest.Next(b.set, repository, "", added, released)
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.docs.Put(context.Background(), digest.Of(text), bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	b.refs = append(b.refs, replication.ManifestRef{Digest: digest.Of(text), Parent: d.Parent,
		Sequence: uint64(len(b.refs) + 1), SetRoot: d.SetRoot, Files: d.SetFiles, SizeBytes: d.SetBytes})
	b.set, b.docs = set, append(b.docs, text)
	return added
}

func (b *backup) holding() replication.Holding {
	return replication.Holding{Repository: repository, Manifests: slices.Clone(b.refs)}
}

// copyTo gives another centre everything that the owner has.
func (b *backup) copyTo(t testing.TB, owner, to *centre) {
	for f := range b.set.Files() {
		text, ok := owner.store.Content(f.Name)
		if !ok {
			t.Fatalf("owner has no %s", f.Name)
		}
		to.store.Put(f.Name, f.SHA256, text)
	}
	for _, text := range b.docs {
		if err := to.docs.Put(context.Background(), digest.Of(text), bytes.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// sized returns n files of data, each of sizeBytes.
func sized(n, sizeBytes int) map[string]int {
	files := make(map[string]int)
	for i := range n {
		files[fmt.Sprintf("data/%d", i)] = sizeBytes
	}
	return files
}

// until polls ok for at most 10 s.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-tick.C
	}
}

// log collects what an Observer is told.
type log struct {
	mu       sync.Mutex
	received map[string]string // file → source
	twice    []string
	damaged  []replication.Blame
	missing  []replication.Blame
}

func (l *log) Received(_, source string, f manifest.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.received == nil {
		l.received = make(map[string]string)
	}
	if _, ok := l.received[f.Name]; ok {
		l.twice = append(l.twice, f.Name)
	}
	l.received[f.Name] = source
}

func (l *log) Damaged(_, source, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.damaged = append(l.damaged, replication.Blame{Source: source, Name: name})
}

func (l *log) Missing(_, source, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.missing = append(l.missing, replication.Blame{Source: source, Name: name})
}

func (l *log) Confirmed(replication.Receipt) {}
