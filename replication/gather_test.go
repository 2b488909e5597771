package replication_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"dengbei/replication"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
	"dengbei/replication/replicationtest"
)

// mixed is a backup of every kind and awkward size of file.
func mixed() map[string]int {
	return map[string]int{"config": 155, "keys/1": 441, "documents/1": 0, "documents/2": 20_000, "snapshots/1": 300,
		"index/1": 70_000, "index/2": 1, "data/1": manifest.LeafBytes, "data/2": 1 << 20, "data/3": 1<<20 + 1,
		"data/4": 3<<20 - 1, "data/5": manifest.LeafBytes - 1, "data/6": 5 << 20}
}

func sources(centres ...*centre) (all []replication.Source) {
	for _, c := range centres {
		all = append(all, replication.Source{ServerID: c.id, Client: c.client})
	}
	return all
}

// gather runs Gather into an empty store and returns it.
func gather(t *testing.T, c replication.GatherConfig) (*replicationtest.Memory, replication.GatherReport, error) {
	t.Helper()
	store, ok := c.Store.(*replicationtest.Memory)
	if !ok {
		store = new(replicationtest.Memory)
		c.Store = store
	}
	c.Repository = repository
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	report, err := replication.Gather(ctx, c)
	if ctx.Err() != nil {
		t.Fatal("Gather does not end")
	}
	return store, report, err
}

func wantFiles(t *testing.T, store, owner *replicationtest.Memory, files []manifest.File) {
	t.Helper()
	for _, f := range files {
		want, _ := owner.Content(f.Name)
		if got, ok := store.Content(f.Name); !ok || !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, stored %t; want %d", f.Name, len(got), ok, len(want))
		}
	}
}

func TestGatherStripes(t *testing.T) {
	a, b, c := newCentre(t, "a-1", nil), newCentre(t, "b-1", nil), newCentre(t, "c-1", nil)
	bk := newBackup()
	files := bk.add(t, a, mixed())
	files = append(files, bk.add(t, a, sized(300, 10_000))...)
	bk.copyTo(t, a, b)
	bk.copyTo(t, a, c)
	var mu sync.Mutex
	seen := make(map[string]int)
	store, report, err := gather(t, replication.GatherConfig{Files: files, Sources: sources(a, b, c), Streams: 6,
		OnFile: func(_ string, f manifest.File) { mu.Lock(); seen[f.Name]++; mu.Unlock() }})
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, store, a.store, files)
	n, size := 0, int64(0)
	for id, tally := range report.PerSource {
		if tally.Files == 0 {
			t.Errorf("source %s delivered nothing: %+v", id, report.PerSource)
		}
		n += tally.Files
		size += tally.Bytes
	}
	if n != len(files) || size < bk.set.SizeBytes() {
		t.Errorf("sources delivered %d files, %d bytes; want %d, %d", n, size, len(files), bk.set.SizeBytes())
	}
	for _, f := range files {
		if seen[f.Name] != 1 {
			t.Errorf("OnFile was called %d times for %s", seen[f.Name], f.Name)
		}
	}
	if _, report, err = gather(t, replication.GatherConfig{Files: files, Sources: sources(a), Store: store}); err != nil ||
		report.Present != len(files) || report.PerSource["a-1"].Bytes != 0 {
		t.Errorf("second Gather = %+v, %v; want everything present", report, err)
	}
}

// TestGatherFaults: one good source, one that fails in some way; everything arrives and the bad one is named.
func TestGatherFaults(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(bad *centre, files []manifest.File)
		lie   func(replicationpb.TransferServer) replicationpb.TransferServer
		blame bool // the report names bad
	}{
		{name: "wrong bytes without a word", lie: flipping, blame: true},
		{name: "a copy that rotted", blame: true, spoil: func(bad *centre, _ []manifest.File) {
			bad.spoil = func(_ string, b []byte, off int64) {
				if off == 0 && len(b) > 0 {
					b[0] ^= 1
				}
			}
		}},
		{name: "a copy of another length", blame: true, spoil: func(bad *centre, files []manifest.File) {
			for _, f := range files {
				b, _ := bad.store.Content(f.Name)
				bad.store.Put(f.Name, f.SHA256, append(slices.Clone(b), 0))
			}
		}},
		{name: "no file at all", spoil: func(bad *centre, files []manifest.File) {
			for _, f := range files {
				bad.store.Drop(f.Name)
			}
		}},
		{name: "refusal", spoil: func(bad *centre, _ []manifest.File) {
			bad.allow = func() error { return replication.ErrRefused }
		}},
		{name: "internal error", spoil: func(bad *centre, _ []manifest.File) {
			bad.allow = func() error { return errors.New("disk on fire") }
		}},
		{name: "server gone", spoil: func(bad *centre, _ []manifest.File) { bad.grpc.Stop() }},
		{name: "silence", spoil: func(bad *centre, _ []manifest.File) { bad.hang = make(chan struct{}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			good, bad := newCentre(t, "good-1", nil), newCentre(t, "bad-1", tt.lie)
			bk := newBackup()
			files := bk.add(t, good, mixed())
			bk.copyTo(t, good, bad)
			if tt.spoil != nil {
				tt.spoil(bad, files)
			}
			seen := new(log)
			store, report, err := gather(t, replication.GatherConfig{Files: files, Sources: sources(bad, good), Observer: seen,
				Stall: 200 * time.Millisecond})
			if bad.hang != nil {
				close(bad.hang)
			}
			if err != nil {
				t.Fatalf("Gather = %v", err)
			}
			wantFiles(t, store, good.store, files)
			if tt.blame != (len(report.Damaged) > 0) || len(seen.damaged) != len(report.Damaged) {
				t.Errorf("damaged: report %+v, observer %+v; want some: %t", report.Damaged, seen.damaged, tt.blame)
			}
			for _, d := range report.Damaged {
				if d.Source != "bad-1" {
					t.Errorf("blames %+v", d)
				}
			}
			if len(seen.twice) > 0 {
				t.Errorf("received twice: %q", seen.twice)
			}
		})
	}
}

// liar wraps a server and changes what it sends.
type liar struct {
	replicationpb.TransferServer
	change func(*replicationpb.FetchReply)
}

type lyingStream struct {
	grpc.ServerStreamingServer[replicationpb.FetchReply]
	change func(*replicationpb.FetchReply)
}

func (s lyingStream) Send(r *replicationpb.FetchReply) error {
	c := &replicationpb.FetchReply{File: r.File, Offset: r.Offset, Data: bytes.Clone(r.Data), SizeBytes: r.SizeBytes,
		Last: r.Last, Error: r.Error}
	s.change(c)
	return s.ServerStreamingServer.Send(c)
}

func (l liar) Fetch(req *replicationpb.FetchRequest, s grpc.ServerStreamingServer[replicationpb.FetchReply]) error {
	return l.TransferServer.Fetch(req, lyingStream{s, l.change})
}

func (l liar) Document(req *replicationpb.DocumentRequest, s grpc.ServerStreamingServer[replicationpb.FetchReply]) error {
	return l.TransferServer.Document(req, lyingStream{s, l.change})
}

func lying(change func(*replicationpb.FetchReply)) func(replicationpb.TransferServer) replicationpb.TransferServer {
	return func(s replicationpb.TransferServer) replicationpb.TransferServer {
		return liar{TransferServer: s, change: change}
	}
}

// flipping sends one wrong bit in the last piece of every file.
func flipping(s replicationpb.TransferServer) replicationpb.TransferServer {
	return lying(func(r *replicationpb.FetchReply) {
		if r.Last && len(r.Data) > 0 {
			r.Data[len(r.Data)-1] ^= 1
		}
	})(s)
}

func TestGatherHostileSource(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*replicationpb.FetchReply)
	}{
		{"file out of turn", func(r *replicationpb.FetchReply) { r.File += 3 }},
		{"offset that jumps", func(r *replicationpb.FetchReply) { r.Offset++ }},
		{"more bytes than announced", func(r *replicationpb.FetchReply) { r.Data = append(r.Data, 1); r.Last = false }},
		{"piece too large", func(r *replicationpb.FetchReply) { r.Data = make([]byte, 1<<20+1) }},
		{"empty pieces for ever", func(r *replicationpb.FetchReply) { r.Data, r.Last = nil, false }},
		{"early end", func(r *replicationpb.FetchReply) { r.Data, r.Last = nil, true }},
		{"size of all bits", func(r *replicationpb.FetchReply) { r.SizeBytes = 1<<64 - 1 }},
		{"unknown error", func(r *replicationpb.FetchReply) { r.Error = 99 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := newCentre(t, "bad-1", lying(tt.change))
			bk := newBackup()
			files := bk.add(t, bad, sized(5, 2<<20))
			store, report, err := gather(t, replication.GatherConfig{Files: files, Sources: sources(bad)})
			if !errors.Is(err, replication.ErrIncomplete) || len(report.Missing) != len(files) || len(store.Names()) != 0 {
				t.Errorf("Gather = %+v, %v with %q stored; want %v", report, err, store.Names(), replication.ErrIncomplete)
			}
		})
	}
}

func TestGatherNamesWhatNobodyHas(t *testing.T) {
	a, b := newCentre(t, "a-1", nil), newCentre(t, "b-1", flipping)
	bk := newBackup()
	files := bk.add(t, a, sized(20, 5000))
	bk.copyTo(t, a, b)
	lost := files[7]
	a.store.Drop(lost.Name)
	store, report, err := gather(t, replication.GatherConfig{Files: files, Sources: sources(a, b)})
	if !errors.Is(err, replication.ErrIncomplete) || !slices.Equal(report.Missing, []string{lost.Name}) {
		t.Errorf("Gather = %+v, %v; want %s missing", report, err, lost.Name)
	}
	if !slices.Contains(report.Damaged, replication.Blame{Source: "b-1", Name: lost.Name}) {
		t.Errorf("damaged %+v lacks b-1, %s", report.Damaged, lost.Name)
	}
	if n := len(store.Names()); n != len(files)-1 {
		t.Errorf("%d files stored; want %d", n, len(files)-1)
	}
}

func TestGatherDiskFull(t *testing.T) {
	a := newCentre(t, "a-1", nil)
	bk := newBackup()
	files := bk.add(t, a, sized(20, 100_000))
	store := new(replicationtest.Memory)
	store.SetRoom(950_000)
	_, _, err := gather(t, replication.GatherConfig{Files: files, Sources: sources(a), Store: store})
	if !errors.Is(err, replication.ErrFull) {
		t.Fatalf("Gather = %v; want %v", err, replication.ErrFull)
	}
	store.SetRoom(1 << 30)
	_, report, err := gather(t, replication.GatherConfig{Files: files, Sources: sources(a), Store: store})
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, store, a.store, files)
	if got := report.PerSource["a-1"].Bytes; got > 20*100_000-900_000+100_000 {
		t.Errorf("second Gather fetched %d bytes; want the rest only", got)
	}
}

// TestGatherMendsForeignPart: bytes left by an earlier transfer are wrong; nobody is blamed and the file arrives.
func TestGatherMendsForeignPart(t *testing.T) {
	a := newCentre(t, "a-1", nil)
	bk := newBackup()
	files := bk.add(t, a, sized(1, 300_000))
	store := new(replicationtest.Memory)
	in, err := store.Receive(context.Background(), files[0])
	if err != nil {
		t.Fatal(err)
	}
	in.Write(make([]byte, 100_000))
	in.Close()
	_, report, err := gather(t, replication.GatherConfig{Files: files, Sources: sources(a), Store: store})
	if err != nil || len(report.Damaged) > 0 {
		t.Fatalf("Gather = %+v, %v; want no blame", report, err)
	}
	wantFiles(t, store, a.store, files)
	if got := report.PerSource["a-1"].Bytes; got != 200_000+300_000 {
		t.Errorf("%d bytes fetched; want the rest, then the whole", got)
	}
}

func TestGatherReplacesWrongSize(t *testing.T) {
	a := newCentre(t, "a-1", nil)
	bk := newBackup()
	files := bk.add(t, a, sized(1, 1000))
	store := new(replicationtest.Memory)
	store.Put(files[0].Name, files[0].SHA256, []byte("short"))
	if _, _, err := gather(t, replication.GatherConfig{Files: files, Sources: sources(a), Store: store}); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, store, a.store, files)
	if got := store.Quarantined(); !slices.Equal(got, []string{files[0].Name}) {
		t.Errorf("quarantined %q", got)
	}
}

func TestGatherLeafRootThatLies(t *testing.T) {
	a := newCentre(t, "a-1", nil)
	bk := newBackup()
	files := bk.add(t, a, sized(2, 1000))
	files[1].LeafRoot[0] ^= 1
	_, _, err := gather(t, replication.GatherConfig{Files: files, Sources: sources(a)})
	if !errors.Is(err, replication.ErrInconsistent) {
		t.Errorf("Gather = %v; want %v", err, replication.ErrInconsistent)
	}
}

func TestGatherRefusesConfig(t *testing.T) {
	store := new(replicationtest.Memory)
	a := sources(newCentre(t, "a-1", nil))
	for _, tt := range []struct {
		name string
		give replication.GatherConfig
		want error
	}{
		{"no store", replication.GatherConfig{Repository: repository, Sources: a}, replication.ErrConfig},
		{"bad repository", replication.GatherConfig{Repository: "../x", Sources: a, Store: store}, replication.ErrConfig},
		{"no source", replication.GatherConfig{Repository: repository, Store: store}, replication.ErrNoSource},
		{"bad file", replication.GatherConfig{Repository: repository, Sources: a, Store: store,
			Files: []manifest.File{{Name: "../../etc/passwd"}}}, manifest.ErrSyntax},
	} {
		if _, err := replication.Gather(context.Background(), tt.give); !errors.Is(err, tt.want) {
			t.Errorf("%s: Gather = %v; want %v", tt.name, err, tt.want)
		}
	}
}

func TestGatherEndsWithContext(t *testing.T) {
	a := newCentre(t, "a-1", nil)
	a.hang = make(chan struct{})
	defer close(a.hang)
	bk := newBackup()
	files := bk.add(t, a, sized(3, 1000))
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := replication.Gather(ctx, replication.GatherConfig{Repository: repository, Files: files, Sources: sources(a),
		Store: new(replicationtest.Memory)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Gather = %v; want %v", err, context.Canceled)
	}
}
