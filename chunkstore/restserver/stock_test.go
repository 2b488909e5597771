package restserver

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// stock is a stock restic that talks to a server over TLS.
type stock struct {
	program, ca, home string
	server            *httptest.Server

	mu   sync.Mutex // guards seen
	seen map[int]bool
}

// newStock starts a server over TLS, and finds restic.
func newStock(t *testing.T, h http.Handler) *stock {
	t.Helper()
	program, err := exec.LookPath("restic")
	if err != nil {
		t.Skip("stock restic is not installed: what it does over this protocol is not shown")
	}
	s := &stock{program: program, home: t.TempDir(), seen: map[int]bool{}}
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&watched{w, s}, r)
	}))
	ts.EnableHTTP2 = true
	ts.StartTLS()
	t.Cleanup(ts.Close)
	s.server, s.ca = ts, filepath.Join(s.home, "ca.pem")
	must(t, os.WriteFile(s.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ts.Certificate().Raw}), 0o600))
	return s
}

// watched notes the answers.
type watched struct {
	http.ResponseWriter
	s *stock
}

func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watched) WriteHeader(status int) {
	w.s.mu.Lock()
	w.s.seen[status] = true
	w.s.mu.Unlock()
	w.ResponseWriter.WriteHeader(status)
}

// saw reports whether an answer was given since the last call.
func (s *stock) saw(status int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.seen[status]
	delete(s.seen, status)
	return seen
}

// run runs restic as a user on a repository and returns what it prints.
func (s *stock) run(ctx context.Context, user, place string, args ...string) (string, error) {
	url := "rest:" + s.server.URL + "/" + place
	if user != "" {
		url = strings.Replace(url, "://", "://"+user+":password%20of%20"+user+"@", 1)
	}
	cmd := exec.CommandContext(ctx, s.program, append([]string{"-r", url, "--cacert", s.ca, "--no-cache", "-q"}, args...)...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=secret", "HOME="+s.home)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *stock) must(t *testing.T, user, place string, args ...string) string {
	t.Helper()
	out, err := s.run(t.Context(), user, place, args...)
	if err != nil {
		t.Fatalf("restic %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// fails runs restic until it gets an answer; it must not succeed. Stock restic tries again for minutes: it is interrupted.
func (s *stock) fails(t *testing.T, status int, user, place string, args ...string) {
	t.Helper()
	s.saw(status)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := s.run(ctx, user, place, args...)
		done <- result{out, err}
	}()
	seen := false
	await(t, http.StatusText(status)+" for restic "+strings.Join(args, " "), func() bool {
		seen = seen || s.saw(status)
		return seen || len(done) > 0
	})
	cancel()
	if r := <-done; r.err == nil || !seen && !s.saw(status) {
		t.Errorf("restic %s: %v; want it refused with %d\n%s", strings.Join(args, " "), r.err, status, r.out)
	}
}

// source makes a tree to back up.
func source(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source")
	for name, b := range map[string][]byte{"档案/a.bin": noise("a", 3_000_000), "档案/b.txt": bytes.Repeat([]byte("registration "), 9000), "empty": nil} {
		p := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o700))
		must(t, os.WriteFile(p, b, 0o600))
	}
	return dir
}

// same compares a restored tree.
func same(t *testing.T, target, dir string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		want, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(target, p)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("restored %s: %d bytes, %v; want %d", p, len(got), err, len(want))
		}
		return nil
	}))
}

func TestStockRestic(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	usersFile(t, filepath.Join(dir, ".htpasswd"), "alice", "password of alice", "bob", "password of bob")
	users, err := OpenUsers(filepath.Join(dir, ".htpasswd"), nil)
	must(t, err)
	server, err := New(Config{Path: dir, Users: users, PrivateRepos: true})
	must(t, err)
	s, src := newStock(t, server), source(t)

	s.must(t, "alice", "alice/main", "init")
	s.must(t, "alice", "alice/main", "backup", src)
	must(t, os.WriteFile(filepath.Join(src, "later"), noise("later", 2_000_000), 0o600))
	s.must(t, "alice", "alice/main", "backup", src)
	s.must(t, "alice", "alice/main", "check", "--read-data")
	target := t.TempDir()
	s.must(t, "alice", "alice/main", "restore", "latest", "--target", target)
	same(t, target, src)
	s.must(t, "alice", "alice/main", "forget", "--keep-last", "1", "--prune")
	s.must(t, "alice", "alice/main", "check", "--read-data")
	tidy(t, filepath.Join(dir, "alice", "main"))
	if left, _ := filepath.Glob(filepath.Join(dir, "alice", "main", "locks", "*")); len(left) != 0 {
		t.Errorf("locks stay: %v", left)
	}
	for who, status := range map[string]int{"bob": 403, "mallory": 401, "": 401} {
		s.fails(t, status, who, "alice/main", "snapshots")
	}

	// What the server keeps is a repository like any other.
	files, err := chunkstore.Open(filepath.Join(dir, "alice", "main"))
	must(t, err)
	repo, err := repository.Open(t.Context(), files, "secret", repository.Options{})
	must(t, err)
	if list, unreadable, err := repo.Snapshots(t.Context()); len(list) != 1 || len(unreadable) != 0 || err != nil {
		t.Errorf("Snapshots() = %d, %v, %v; want one", len(list), unreadable, err)
	}
}

func TestStockResticAppendOnlyAndQuota(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server, err := New(Config{Path: dir, AppendOnly: true, MaxBytes: 8_000_000})
	must(t, err)
	s, src := newStock(t, server), source(t)
	s.must(t, "", "r", "init")
	s.must(t, "", "r", "backup", src)
	s.fails(t, 403, "", "r", "forget", "latest")
	if out := s.must(t, "", "r", "snapshots", "--json"); strings.Count(out, `"short_id"`) != 1 {
		t.Errorf("after a refused forget: %s", out)
	}
	must(t, os.WriteFile(filepath.Join(src, "big"), noise("big", 9_000_000), 0o600))
	s.fails(t, 507, "", "r", "backup", src)
	files, err := chunkstore.Open(filepath.Join(dir, "r"))
	must(t, err)
	if n, err := usage(t.Context(), files); err != nil || n > 8_000_000 {
		t.Errorf("%d bytes are stored, %v; want 8,000,000 at most", n, err)
	}
	s.must(t, "", "r", "unlock", "--remove-all")
	s.must(t, "", "r", "check", "--read-data")
}

func TestStockResticThroughAViewOfAPoisonedDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "r")
	files, err := chunkstore.Create(dir)
	must(t, err)
	server, err := New(Config{Path: filepath.Dir(dir)})
	must(t, err)
	s, src := newStock(t, server), source(t)
	s.must(t, "", "r", "init")
	s.must(t, "", "r", "backup", src)
	view := NewRegistered(slices.Values(entriesOf(t, files)))
	repo, err := repository.Open(t.Context(), files, "secret", repository.Options{})
	must(t, err)

	other := filepath.Join(t.TempDir(), "other")
	strange, err := chunkstore.Create(other)
	must(t, err)
	stranger, err := repository.Init(t.Context(), strange, "strange", repository.Options{Scrypt: repository.Scrypt{N: 2, R: 1, P: 1}})
	must(t, err)
	for i := range 40 {
		_, err := stranger.AddKey(t.Context(), "strange", repository.KeyOptions{Cost: repository.Scrypt{N: 2, R: 1, P: 1}, Hostname: string(rune('a' + i))})
		must(t, err)
	}
	must(t, os.CopyFS(filepath.Join(dir, "planted"), os.DirFS(filepath.Join(other, "keys"))))
	planted, err := os.ReadDir(filepath.Join(dir, "planted"))
	must(t, err)
	for _, e := range planted {
		must(t, os.Rename(filepath.Join(dir, "planted", e.Name()), filepath.Join(dir, "keys", e.Name())))
	}
	for _, kind := range []chunkstore.Kind{chunkstore.Index, chunkstore.Snapshot, chunkstore.Key, chunkstore.Lock, chunkstore.Pack} {
		for _, junk := range [][]byte{noise("junk", 500), []byte("{}"), nil} {
			must(t, files.PutBytes(t.Context(), chunkstore.Name{Kind: kind, ID: digest.Of(junk)}, junk))
		}
	}
	poisoned := exec.CommandContext(t.Context(), s.program, "-r", dir, "--no-cache", "-q", "snapshots")
	poisoned.Env = append(os.Environ(), "RESTIC_PASSWORD=secret", "HOME="+s.home)
	if out, err := poisoned.CombinedOutput(); err == nil {
		t.Errorf("stock restic reads the poisoned directory: %s", out)
	}

	exclusive := func(b []byte) bool {
		info, err := repo.DecodeLock(b)
		return err == nil && info.Exclusive
	}
	v := newStock(t, Handler(RegisteredOnly(files, view, exclusive), nil))
	target := t.TempDir()
	v.must(t, "", "", "restore", "latest", "--target", target)
	same(t, target, src)
	v.must(t, "", "", "check", "--read-data", "--no-lock") // stock restic checks with an exclusive lock
	v.must(t, "", "", "snapshots")
	for _, args := range [][]string{{"backup", src}, {"forget", "latest"}, {"prune"}} {
		v.fails(t, 403, "", "", args...)
	}
	free := newStock(t, Handler(RegisteredOnly(files, view, nil), nil)) // whose keys are not here
	free.must(t, "", "", "check", "--read-data")
	free.fails(t, 403, "", "", "forget", "latest")
}

// TestASlowClientIsCutOff has clients that send and take nothing, with the deadlines brought forward.
func TestASlowClientIsCutOff(t *testing.T) {
	p := &pace{control: http.NewResponseController(httptest.NewRecorder())}
	p.allow(slowestBytes * 100)
	if d := time.Until(p.end); d < paceGrace+99*time.Second || d > paceGrace+101*time.Second {
		t.Errorf("a body of 100 seconds may take %s", d)
	}
	if d := time.Until(p.deadline()); d > stallAfter || d < stallAfter-time.Second {
		t.Errorf("the next bytes may take %s; want %s", d, stallAfter)
	}
	p.end = time.Now().Add(time.Second)
	if time.Until(p.deadline()) > time.Second {
		t.Error("the end is put off by bytes that trickle")
	}

	ended := make(chan error, 1)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := newPace(w)
		b := newBody(r, p, 1000)
		p.end = time.Now().Add(200 * time.Millisecond)
		_, err := b.Read(make([]byte, 10))
		for err == nil {
			_, err = b.Read(make([]byte, 10))
		}
		ended <- err
	}))
	defer ts.Close()
	r, w, err := os.Pipe()
	must(t, err)
	defer w.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", ts.URL, r)
	must(t, err)
	req.ContentLength = 500
	go func() {
		if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
			res.Body.Close()
		}
	}()
	w.Write([]byte("a few bytes"))
	select {
	case err := <-ended:
		if !errors.Is(err, errBody) || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read() = %v; want a deadline", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a client that sends nothing holds its connection")
	}
}
