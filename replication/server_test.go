package replication_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dengbei/chunkstore/digest"
	"dengbei/replication"
	"dengbei/replication/replicationpb"
	"dengbei/replication/replicationtest"
)

const (
	noError = replicationpb.FileError_FILE_ERROR_UNSPECIFIED
	missing = replicationpb.FileError_FILE_ERROR_MISSING
	damaged = replicationpb.FileError_FILE_ERROR_DAMAGED
	refused = replicationpb.FileError_FILE_ERROR_REFUSED
)

// answer is what came of one file.
type answer struct {
	bytes int
	last  bool
	error replicationpb.FileError
}

func ask(t *testing.T, c *centre, files ...*replicationpb.FileRange) ([]answer, error) {
	t.Helper()
	stream, err := c.client.Fetch(context.Background(), &replicationpb.FetchRequest{Repository: repository, Files: files})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]answer, len(files))
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		a := &got[r.File]
		if a.last || a.error != noError {
			t.Errorf("a piece of file %d after its end", r.File)
		}
		a.bytes += len(r.Data)
		a.last, a.error = r.Last, r.Error
	}
}

func TestFetchAnswersEachFile(t *testing.T) {
	c := newCentre(t, "a-1", nil)
	put := func(dir string, text []byte) string {
		f := replicationtest.File(dir, text)
		c.store.Put(f.Name, f.SHA256, text)
		return f.Name
	}
	big, small, empty := put("data", make([]byte, 3<<20+5)), put("index", []byte("x")), put("documents", nil)
	rotten := replicationtest.File("data", []byte("good bytes"))
	c.store.Put(rotten.Name, rotten.SHA256, []byte("evil bytes"))
	put("config", []byte("config"))
	nowhere := replicationtest.File("data", []byte("nowhere")).Name
	got, err := ask(t, c,
		&replicationpb.FileRange{Name: big}, &replicationpb.FileRange{Name: big, Offset: 3 << 20},
		&replicationpb.FileRange{Name: small, Offset: 1}, &replicationpb.FileRange{Name: small, Offset: 2},
		&replicationpb.FileRange{Name: small, Offset: 1<<64 - 1}, &replicationpb.FileRange{Name: empty},
		&replicationpb.FileRange{Name: nowhere}, &replicationpb.FileRange{Name: rotten.Name},
		&replicationpb.FileRange{Name: "config"}, &replicationpb.FileRange{Name: "../../etc/passwd"},
		&replicationpb.FileRange{Name: "locks/" + strings.Repeat("0", 64)}, nil, &replicationpb.FileRange{Name: small})
	if err != nil {
		t.Fatal(err)
	}
	want := []answer{{3<<20 + 5, true, noError}, {5, true, noError}, {0, true, noError}, {error: missing}, {error: missing},
		{0, true, noError}, {error: missing}, {10, false, damaged}, {6, true, noError}, {error: refused}, {error: refused},
		{error: refused}, {1, true, noError}}
	if !slices.Equal(got, want) {
		t.Errorf("answers\n%+v; want\n%+v", got, want)
	}
}

func TestFetchRefuses(t *testing.T) {
	c := newCentre(t, "a-1", nil)
	code := func(req *replicationpb.FetchRequest) codes.Code {
		stream, err := c.client.Fetch(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.Recv()
		return status.Code(err)
	}
	if got := code(&replicationpb.FetchRequest{Repository: "../x"}); got != codes.InvalidArgument {
		t.Errorf("repository that climbs: %v", got)
	}
	if got := code(&replicationpb.FetchRequest{Repository: repository, Files: make([]*replicationpb.FileRange, 1025)}); got != codes.InvalidArgument {
		t.Errorf("1,025 files: %v", got)
	}
	c.allow = func() error { return replication.ErrRefused }
	if got := code(&replicationpb.FetchRequest{Repository: repository}); got != codes.PermissionDenied {
		t.Errorf("a stranger: %v", got)
	}
	for _, sum := range [][]byte{nil, make([]byte, 31)} {
		stream, err := c.client.Document(context.Background(), &replicationpb.DocumentRequest{Repository: repository, Sha256: sum})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = stream.Recv(); status.Code(err) != codes.InvalidArgument {
			t.Errorf("document with a digest of %d bytes: %v", len(sum), err)
		}
	}
}

func TestServerBoundsStreams(t *testing.T) {
	opened, hang := make(chan struct{}), make(chan struct{})
	var names []string
	var mu sync.Mutex
	server, err := replication.NewServer(replication.ServerConfig{MaxStreams: 1,
		Allow: func(context.Context, string) error { return nil },
		Open: func(context.Context, string, string) (replication.Content, int64, error) {
			close(opened)
			<-hang
			return nil, 0, errors.New("the disk does not answer")
		},
		Document: func(context.Context, string, digest.Digest) (replication.Content, int64, error) {
			return nil, 0, errors.New("the disk does not answer")
		},
		Damaged: func(_, name string, _ error) { mu.Lock(); names = append(names, name); mu.Unlock() },
	})
	if err != nil {
		t.Fatal(err)
	}
	client, _ := serve(t, server)
	ctx := context.Background()
	name := replicationtest.File("data", nil).Name
	req := &replicationpb.FetchRequest{Repository: repository, Files: []*replicationpb.FileRange{{Name: name}}}
	first, err := client.Fetch(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	document := func() error {
		s, err := client.Document(ctx, &replicationpb.DocumentRequest{Repository: repository, Sha256: digest.Of(nil).Bytes()})
		if err != nil {
			return err
		}
		_, err = s.Recv()
		return err
	}
	<-opened
	if err := document(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("second stream: %v; want %v", err, codes.ResourceExhausted)
	}
	close(hang)
	r, err := first.Recv()
	if err != nil || r.Error != damaged {
		t.Errorf("unreadable file: %+v, %v; want %v", r, err, damaged)
	}
	until(t, "the stream is free again", func() bool { return document() == nil })
	mu.Lock()
	defer mu.Unlock()
	if !slices.Contains(names, name) {
		t.Errorf("nobody was told of %s: %q", name, names)
	}
}
