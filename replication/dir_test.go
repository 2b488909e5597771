package replication_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"dengbei/chunkstore/digest"
	"dengbei/replication"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
	"dengbei/replication/replicationtest"
)

// dirStore is a [replication.Store] over a directory: real files, real syncs.
type dirStore struct {
	dir string

	mu   *sync.Mutex // guards the rest
	busy map[string]bool
	sums map[string]digest.Digest
}

func newDirStore(dir string) *dirStore {
	return &dirStore{dir: dir, mu: new(sync.Mutex), busy: make(map[string]bool), sums: make(map[string]digest.Digest)}
}

func (s *dirStore) path(name string) string {
	return filepath.Join(s.dir, strings.ReplaceAll(name, "/", "-"))
}

func (s *dirStore) Has(_ context.Context, name string) (int64, bool, error) {
	st, err := os.Stat(s.path(name))
	if err != nil {
		return 0, false, nil
	}
	return st.Size(), true, nil
}

func (s *dirStore) Receive(_ context.Context, f manifest.File) (replication.Incoming, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[f.Name] {
		return nil, replication.ErrBusy
	}
	if _, err := os.Stat(s.path(f.Name)); err == nil {
		return nil, fs.ErrExist
	}
	file, err := os.OpenFile(s.path(f.Name)+".part", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	off, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	s.busy[f.Name], s.sums[f.Name] = true, f.SHA256
	return &dirIncoming{s: s, f: f, file: file, off: off}, nil
}

func (s *dirStore) Open(_ context.Context, name string) (io.ReadCloser, error) {
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if digest.Of(b) != s.sums[name] {
		return nil, digest.ErrMismatch
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (s *dirStore) Quarantine(_ context.Context, name string) error {
	return os.Rename(s.path(name), s.path(name)+".aside")
}

type dirIncoming struct {
	s    *dirStore
	f    manifest.File
	file *os.File
	off  int64
}

func (in *dirIncoming) Offset() int64 { return in.off }

func (in *dirIncoming) Write(b []byte) (int, error) {
	n, err := in.file.Write(b)
	in.off += int64(n)
	return n, err
}

func (in *dirIncoming) end() error {
	if in.file == nil {
		return nil
	}
	in.s.mu.Lock()
	delete(in.s.busy, in.f.Name)
	in.s.mu.Unlock()
	err := in.file.Close()
	in.file = nil
	return err
}

func (in *dirIncoming) Commit(context.Context) error {
	if in.off != in.f.SizeBytes {
		return io.ErrUnexpectedEOF
	}
	if err := in.file.Sync(); err != nil {
		return err
	}
	h := digest.SHA256.New()
	if _, err := io.CopyBuffer(h, io.NewSectionReader(in.file, 0, in.off), make([]byte, 256<<10)); err != nil {
		return err
	}
	if digest.FromHash(digest.SHA256, h) != in.f.SHA256 {
		in.Discard()
		return digest.ErrMismatch
	}
	if err := os.Rename(in.file.Name(), in.s.path(in.f.Name)); err != nil {
		return err
	}
	return in.end()
}

func (in *dirIncoming) Close() error { return in.end() }

func (in *dirIncoming) Discard() error {
	if in.file == nil {
		return nil
	}
	os.Remove(in.file.Name())
	return in.end()
}

func TestDirStore(t *testing.T) {
	replicationtest.RunStore(t, func(t *testing.T, before replication.Store) replication.Store {
		if s, ok := before.(*dirStore); ok {
			return newDirStoreAgain(s)
		}
		return newDirStore(t.TempDir())
	})
}

// newDirStoreAgain opens the directory as a new process would.
func newDirStoreAgain(s *dirStore) *dirStore { return newDirStore(s.dir) }

// null is a [replication.Store] that keeps nothing, to measure the transfer alone.
type null struct{}

type nullIncoming struct{ off int64 }

func (null) Has(context.Context, string) (int64, bool, error) { return 0, false, nil }
func (null) Receive(context.Context, manifest.File) (replication.Incoming, error) {
	return &nullIncoming{}, nil
}
func (null) Open(context.Context, string) (io.ReadCloser, error) { return nil, fs.ErrNotExist }
func (null) Quarantine(context.Context, string) error            { return nil }

func (n *nullIncoming) Offset() int64 { return n.off }
func (n *nullIncoming) Write(b []byte) (int, error) {
	n.off += int64(len(b))
	return len(b), nil
}
func (*nullIncoming) Commit(context.Context) error { return nil }
func (*nullIncoming) Close() error                 { return nil }
func (*nullIncoming) Discard() error               { return nil }

// selfSigned returns credentials of a loopback server and of its client.
func selfSigned(t testing.TB) (server, client *tls.Config) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: "127.0.0.1"}
}

// dirServer serves the files of a dirStore over TLS on the loopback.
func dirServer(t testing.TB, s *dirStore) replicationpb.TransferClient {
	server, err := replication.NewServer(replication.ServerConfig{
		Allow: func(context.Context, string) error { return nil },
		Open: func(_ context.Context, _, name string) (replication.Content, int64, error) {
			f, err := os.Open(s.path(name))
			if err != nil {
				return nil, 0, err
			}
			st, err := f.Stat()
			return f, st.Size(), err
		},
		Document: func(context.Context, string, digest.Digest) (replication.Content, int64, error) {
			return nil, 0, fs.ErrNotExist
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serverTLS, clientTLS := selfSigned(t)
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(serverTLS)))
	replicationpb.RegisterTransferServer(g, server)
	var wg sync.WaitGroup
	wg.Go(func() { g.Serve(listener) })
	conn, err := grpc.NewClient(listener.Addr().String(),
		grpc.WithTransportCredentials(credentials.NewTLS(clientTLS)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		g.Stop()
		wg.Wait()
	})
	return replicationpb.NewTransferClient(conn)
}

// BenchmarkFetch moves packs of 16 MiB over TLS: hashed while streaming only, and synced and re-read as well. The plain
// row is what TLS moves between the same two sockets, with nothing else done.
func BenchmarkFetch(b *testing.B) {
	const packs, packBytes = 16, 16 << 20
	source := newDirStore(b.TempDir())
	var files []manifest.File
	for i := range packs {
		text := bytes.Repeat(fmt.Appendf(nil, "%15d\n", i), packBytes/16)
		f := replicationtest.File("data", text)
		if err := os.WriteFile(source.path(f.Name), text, 0o600); err != nil {
			b.Fatal(err)
		}
		files = append(files, f)
	}
	client := dirServer(b, source)
	run := func(b *testing.B, streams int, store func() replication.Store) {
		b.SetBytes(packs * packBytes)
		for b.Loop() {
			b.StopTimer()
			s := store()
			b.StartTimer()
			if _, err := replication.Gather(context.Background(), replication.GatherConfig{Repository: repository, Files: files,
				Sources: []replication.Source{{ServerID: "a-1", Client: client}}, Store: s, Streams: streams}); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("plain", func(b *testing.B) { plainTLS(b, packs*packBytes) })
	for _, streams := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("hashed/streams=%d", streams), func(b *testing.B) {
			run(b, streams, func() replication.Store { return null{} })
		})
		b.Run(fmt.Sprintf("durable/streams=%d", streams), func(b *testing.B) {
			run(b, streams, func() replication.Store {
				dir, err := os.MkdirTemp(b.TempDir(), "store")
				if err != nil {
					b.Fatal(err)
				}
				return newDirStore(dir)
			})
		})
	}
}

func plainTLS(b *testing.B, size int64) {
	serverTLS, clientTLS := selfSigned(b)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", serverTLS)
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		piece := make([]byte, 1<<20)
		for {
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	})
	conn, err := tls.Dial("tcp", listener.Addr().String(), clientTLS)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	b.SetBytes(size)
	buf := make([]byte, 1<<20)
	for b.Loop() {
		if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{io.LimitReader(conn, size)}, buf); err != nil {
			b.Fatal(err)
		}
	}
}
