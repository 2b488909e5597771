package restserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dengbei/chunkstore"
)

func newRecorder() *recorder { return &recorder{httptest.NewRecorder()} }

type recorder struct{ *httptest.ResponseRecorder }

func (r *recorder) status() int { return r.Code }

func readCloser(s string) io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }

func TestProtocol(t *testing.T) {
	ts, dir := serve(t, nil)
	pack, other := noise("pack", 700_000), noise("other", 100)
	at, conf := "/a/data/"+idOf(pack), "/a/config"
	chunked := func(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b)) } // of no known length
	for _, tt := range []struct {
		name, method, path string
		body               io.Reader
		header             []string
		status             int
		want               string // empty: whatever
	}{
		{"before it is made, nothing is there", "GET", conf, nil, nil, 404, ""},
		{"nor can anything be stored", "POST", at, bytes.NewReader(pack), nil, 404, ""},
		{"nor listed", "GET", "/a/data/", nil, nil, 404, ""},
		{"nor deleted", "DELETE", at, nil, nil, 404, ""},
		{"making needs its word", "POST", "/a/", nil, nil, 400, ""},
		{"and is a POST", "GET", "/a/?create=true", nil, nil, 405, ""},
		{"it is made", "POST", "/a/?create=true", nil, nil, 200, ""},
		{"and again, while it has no config", "POST", "/a/?create=true", nil, nil, 200, ""},
		{"not within another", "POST", "/a/b/?create=true", nil, nil, 403, ""},
		{"there is no config", "HEAD", conf, nil, nil, 404, ""},
		{"empty listing, version 1", "GET", "/a/data/", nil, nil, 200, "[]"},
		{"empty listing, version 2", "GET", "/a/keys/", nil, []string{"Accept", mediaV2}, 200, "[]"},
		{"a config too long", "POST", conf, bytes.NewReader(noise("c", maxSmallBytes+1)), nil, 413, ""},
		{"a config too long, in chunks", "POST", conf, chunked(noise("c", maxSmallBytes+1)), nil, 413, ""},
		{"the config", "POST", conf, strings.NewReader("sealed"), nil, 200, ""},
		{"the same config", "POST", conf, strings.NewReader("sealed"), nil, 200, ""},
		{"another config", "POST", conf, strings.NewReader("other"), nil, 403, ""},
		{"it stays", "GET", conf, nil, nil, 200, "sealed"},
		{"making what is there", "POST", "/a/?create=true", nil, nil, 200, ""},
		{"bytes that are not the name's", "POST", at, bytes.NewReader(other), nil, 400, ""},
		{"they leave nothing", "HEAD", at, nil, nil, 404, ""},
		{"a pack", "POST", at, bytes.NewReader(pack), nil, 200, ""},
		{"the same pack", "POST", at, bytes.NewReader(pack), nil, 200, ""},
		{"other bytes for it", "POST", at, bytes.NewReader(other), nil, 400, ""},
		{"a pack in chunks", "POST", "/a/data/" + idOf(other), chunked(other), nil, 200, ""},
		{"the pack", "GET", at, nil, nil, 200, string(pack)},
		{"from the start", "GET", at, nil, []string{"Range", "bytes=0-"}, 206, string(pack)},
		{"a part", "GET", at, nil, []string{"Range", "bytes=5-9"}, 206, string(pack[5:10])},
		{"over 256 KiB", "GET", at, nil, []string{"Range", "bytes=100-600000"}, 206, string(pack[100:600_001])},
		{"past the end", "GET", at, nil, []string{"Range", "bytes=699990-800000"}, 206, string(pack[699_990:])},
		{"behind the end", "GET", at, nil, []string{"Range", "bytes=700000-"}, 416, ""},
		{"two ranges", "GET", at, nil, []string{"Range", "bytes=1-2,4-5"}, 200, string(pack)},
		{"a listing takes no DELETE", "DELETE", "/a/data/", nil, nil, 405, ""},
		{"a file takes no PUT", "PUT", at, strings.NewReader("x"), nil, 405, ""},
		{"nor PATCH", "PATCH", conf, strings.NewReader("x"), nil, 405, ""},
		{"not a name", "GET", "/a/data/x", nil, nil, 404, ""},
		{"not a kind", "GET", "/a/other/" + idOf(pack), nil, nil, 405, ""}, // the place of a repository
		{"out of the directory", "GET", "/a/%2e%2e/%2e%2e/etc/passwd", nil, nil, 404, ""},
		{"out of the directory, with a name", "GET", "/..%2f..%2fetc/config", nil, nil, 404, ""},
		{"a lock too long", "POST", "/a/locks/" + idOf(noise("l", maxSmallBytes+1)), bytes.NewReader(noise("l", maxSmallBytes+1)), nil, 413, ""},
		{"delete", "DELETE", at, nil, nil, 200, ""},
		{"delete what is not there", "DELETE", at, nil, nil, 200, ""},
		{"it is gone", "HEAD", at, nil, nil, 404, ""},
		{"an empty file", "POST", "/a/locks/" + idOf(nil), http.NoBody, nil, 200, ""},
		{"all of an empty file", "GET", "/a/locks/" + idOf(nil), nil, []string{"Range", "bytes=0-"}, 200, ""},
	} {
		got := ask(t, tt.method, ts.URL+tt.path, tt.body, tt.header...)
		if got.status != tt.status {
			t.Errorf("%s: %s %.40s = %d %.80s; want %d", tt.name, tt.method, tt.path, got.status, got.body, tt.status)
		}
		if tt.want != "" && strings.TrimSpace(string(got.body)) != strings.TrimSpace(tt.want) {
			t.Errorf("%s: %d bytes; want %d", tt.name, len(got.body), len(tt.want))
		}
		if tt.want != "" && tt.method == "GET" && !strings.HasSuffix(tt.path, "/") && got.length != int64(len(tt.want)) {
			t.Errorf("%s: Content-Length %d; want %d", tt.name, got.length, len(tt.want))
		}
		tidy(t, filepath.Join(dir, "a"))
	}
	head := ask(t, "HEAD", ts.URL+"/a/data/"+idOf(other), nil)
	if head.status != 200 || head.length != int64(len(other)) {
		t.Errorf("HEAD = %d, length %d; want %d", head.status, head.length, len(other))
	}
	if got := ask(t, "GET", ts.URL+at[:2]+"/data/"+idOf(other), nil, "Range", "bytes=90-200"); got.header.Get("Content-Range") != "bytes 90-99/100" {
		t.Errorf("Content-Range = %q", got.header.Get("Content-Range"))
	}
	if got := ask(t, "GET", ts.URL+"/a/data/"+idOf(other), nil, "Range", "bytes=100-"); got.header.Get("Content-Range") != "bytes */100" {
		t.Errorf("Content-Range of 416 = %q", got.header.Get("Content-Range"))
	}
}

func TestListings(t *testing.T) {
	ts, dir := serve(t, nil)
	ask(t, "POST", ts.URL+"/?create=true", nil)
	want := map[string]int64{}
	for i := range 40 {
		b := noise(fmt.Sprint(i), i*10)
		want[idOf(b)] = int64(len(b))
		if got := ask(t, "POST", ts.URL+"/data/"+idOf(b), bytes.NewReader(b)); got.status != 200 {
			t.Fatal(got.status, string(got.body))
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "data", "00", "stray.tmp"), nil, 0o600))
	v1 := ask(t, "GET", ts.URL+"/data/", nil, "Accept", mediaV1)
	var names []string
	must(t, json.Unmarshal(v1.body, &names))
	if v1.header.Get("Content-Type") != mediaV1 || len(names) != len(want) {
		t.Errorf("version 1: %d names as %q; want %d", len(names), v1.header.Get("Content-Type"), len(want))
	}
	v2 := ask(t, "GET", ts.URL+"/data/", nil, "Accept", mediaV2)
	var files []listed
	must(t, json.Unmarshal(v2.body, &files))
	got := map[string]int64{}
	for _, f := range files {
		got[f.Name] = f.Size
	}
	if v2.header.Get("Content-Type") != mediaV2 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("version 2: %v as %q; want %v", got, v2.header.Get("Content-Type"), want)
	}
	if head := ask(t, "HEAD", ts.URL+"/data/", nil, "Accept", mediaV2); head.status != 200 || len(head.body) != 0 {
		t.Errorf("HEAD of a listing = %d, %d bytes", head.status, len(head.body))
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(want) {
		t.Error("names are listed twice")
	}
}

func TestAppendOnly(t *testing.T) {
	ts, _ := serve(t, func(c *Config) { c.AppendOnly = true })
	ask(t, "POST", ts.URL+"/?create=true", nil)
	ask(t, "POST", ts.URL+"/config", strings.NewReader("sealed"))
	b := noise("b", 1000)
	for _, kind := range []string{"keys", "index", "snapshots", "data", "locks"} {
		at := ts.URL + "/" + kind + "/" + idOf(b)
		for range 2 { // a client whose answer was lost sends it again, and may not delete it before
			if got := ask(t, "POST", at, bytes.NewReader(b)); got.status != 200 {
				t.Errorf("POST %s = %d", kind, got.status)
			}
		}
		want := 403
		if kind == "locks" {
			want = 200
		}
		if got := ask(t, "DELETE", at, nil); got.status != want {
			t.Errorf("DELETE %s = %d; want %d", kind, got.status, want)
		}
	}
	if got := ask(t, "DELETE", ts.URL+"/config", nil); got.status != 403 {
		t.Errorf("DELETE config = %d; want 403", got.status)
	}
}

func TestUsersReachTheirOwn(t *testing.T) {
	var users string
	ts, dir := serve(t, func(c *Config) {
		users = filepath.Join(c.Path, ".htpasswd")
		usersFile(t, users, "alice", "password of alice", "bob", "password of bob")
		u, err := OpenUsers(users, nil)
		must(t, err)
		c.Users, c.PrivateRepos = u, true
	})
	for _, tt := range []struct {
		name, method, path, user string
		status                   int
	}{
		{"nobody", "GET", "/alice/config", "", 401},
		{"a stranger", "GET", "/alice/config", "mallory", 401},
		{"her own", "POST", "/alice/?create=true", "alice", 200},
		{"below her own", "POST", "/alice/second/?create=true", "alice", 403}, // within a repository
		{"his", "POST", "/bob/one/?create=true", "bob", 200},
		{"his second", "POST", "/bob/two/?create=true", "bob", 200},
		{"another's", "GET", "/alice/config", "bob", 403},
		{"another's, to write", "POST", "/alice/config", "bob", 403},
		{"another's, to make", "POST", "/alicia/?create=true", "alice", 403},
		{"the root", "POST", "/?create=true", "alice", 403},
		{"the root's config", "GET", "/config", "alice", 403},
		{"the users", "GET", "/.htpasswd", "alice", 404},
		{"the users, below", "GET", "/alice/../.htpasswd", "alice", 404},
		{"her listing", "GET", "/alice/keys/", "alice", 200},
	} {
		var header []string
		if tt.user != "" {
			header = []string{"user", tt.user}
		}
		got := ask(t, tt.method, ts.URL+tt.path, nil, header...)
		if got.status != tt.status {
			t.Errorf("%s: %s %s = %d; want %d", tt.name, tt.method, tt.path, got.status, tt.status)
		}
		if got.status == 401 && got.header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: 401 without WWW-Authenticate", tt.name)
		}
	}
	// A change of the file counts, a broken one does not.
	usersFile(t, users, "alice", "another", "bob", "password of bob")
	await(t, "the new password to count", func() bool {
		return ask(t, "GET", ts.URL+"/alice/keys/", nil, "user", "alice").status == 401
	})
	must(t, os.Remove(users))
	must(t, os.Mkdir(users, 0o700))
	if got := ask(t, "GET", ts.URL+"/bob/one/keys/", nil, "user", "bob"); got.status != 200 {
		t.Errorf("with a file that cannot be read: %d; want those of before", got.status)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "[^.]*")); len(found) != 2 {
		t.Errorf("%v lie in the directory; want alice and bob", found)
	}
}

// await polls a condition.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestParseUsers(t *testing.T) {
	var pairs bytes.Buffer
	file := filepath.Join(t.TempDir(), "users")
	usersFile(t, file, "a", "x", "馆员", "y")
	good, err := os.ReadFile(file)
	must(t, err)
	pairs.Write(good)
	pairs.WriteString("# comment\n\nsha:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nmd5:$apr1$x$y\nplain:password\n:$2y$05$abc\n../up:" +
		strings.SplitN(string(good), ":", 2)[1] + "costly:$2a$31$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nnothing\n")
	u, err := OpenUsers(file, nil)
	must(t, err)
	got := parseUsers(pairs.Bytes(), u.log)
	if len(got) != 2 || got["a"] == nil || got["馆员"] == nil {
		t.Errorf("parseUsers() = %q; want a and 馆员", got)
	}
	for _, tt := range []struct {
		name, password string
		want           bool
	}{{"a", "x", true}, {"a", "x", true}, {"a", "y", false}, {"a", "", false}, {"b", "x", false}, {"", "", false}, {"a", strings.Repeat("x", 5000), false}, {"馆员", "y", true}} {
		if ok, err := u.Check(t.Context(), tt.name, tt.password); ok != tt.want || err != nil {
			t.Errorf("Check(%q, %.10q) = %t, %v; want %t", tt.name, tt.password, ok, err, tt.want)
		}
	}
	for range maxUnproven {
		u.wait <- struct{}{}
	}
	if _, err := u.Check(t.Context(), "a", "wrong"); !errors.Is(err, ErrBusy) {
		t.Errorf("Check() in a flood = %v; want ErrBusy", err)
	}
	if ok, err := u.Check(t.Context(), "a", "x"); !ok || err != nil {
		t.Errorf("Check() of a proven user in a flood = %t, %v; want true", ok, err)
	}
	if _, err := OpenUsers(filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("OpenUsers(missing) = nil")
	}
}

func TestQuota(t *testing.T) {
	const limit, size, files = 1_000_000, 90_000, 40
	ts, dir := serve(t, func(c *Config) { c.MaxBytes = limit })
	ask(t, "POST", ts.URL+"/?create=true", nil)
	ask(t, "POST", ts.URL+"/config", strings.NewReader("sealed"))
	store, err := chunkstore.Open(dir)
	must(t, err)
	used := func() int64 {
		n, err := usage(t.Context(), store)
		must(t, err)
		return n
	}
	var stored, full atomic.Int32
	var wg sync.WaitGroup
	for i := range files {
		wg.Go(func() {
			b := noise(fmt.Sprint(i), size)
			var body io.Reader = bytes.NewReader(b)
			if i%2 == 0 {
				body = io.MultiReader(body) // of no known length
			}
			for range 2 { // the second time replaces, if the first stored
				switch got := ask(t, "POST", ts.URL+"/data/"+idOf(b), body); got.status {
				case 200:
					stored.Add(1)
				case 507:
					full.Add(1)
				default:
					t.Errorf("status %d", got.status)
				}
				body = bytes.NewReader(b)
			}
		})
	}
	wg.Wait()
	if n := used(); n > limit || n < limit-3*size {
		t.Errorf("%d bytes are stored of %d (%d answers 200, %d answers 507)", n, limit, stored.Load(), full.Load())
	}
	tidy(t, dir)
	// What is refused or wrong gives back what it reserved: the space that is left can be used.
	for range 20 {
		b := noise("wrong", size)
		ask(t, "POST", ts.URL+"/data/"+idOf(nil), bytes.NewReader(b))
	}
	rest := noise("rest", int(limit-used()))
	if got := ask(t, "POST", ts.URL+"/data/"+idOf(rest), bytes.NewReader(rest)); got.status != 200 {
		t.Errorf("the last %d bytes: %d %s", len(rest), got.status, got.body)
	}
	one := []byte{1}
	if got := ask(t, "POST", ts.URL+"/data/"+idOf(one), bytes.NewReader(one)); got.status != 507 {
		t.Errorf("one byte more: %d; want 507", got.status)
	}
	// A full repository can be locked, and after something is deleted there is room.
	if got := ask(t, "POST", ts.URL+"/locks/"+idOf(one), bytes.NewReader(one)); got.status != 200 {
		t.Errorf("a lock when full: %d", got.status)
	}
	if got := ask(t, "DELETE", ts.URL+"/data/"+idOf(rest), nil); got.status != 200 {
		t.Errorf("DELETE when full: %d", got.status)
	}
	if got := ask(t, "POST", ts.URL+"/data/"+idOf(one), bytes.NewReader(one)); got.status != 200 {
		t.Errorf("one byte after a deletion: %d", got.status)
	}
}

func TestLocksAreBounded(t *testing.T) {
	ts, dir := serve(t, nil)
	ask(t, "POST", ts.URL+"/?create=true", nil)
	for i := range maxLocks {
		b := []byte(fmt.Sprint(i))
		must(t, os.WriteFile(filepath.Join(dir, "locks", idOf(b)), b, 0o600))
	}
	store, err := chunkstore.Open(dir)
	must(t, err)
	l := newLocal(store, 0, false)
	l.locks = maxLocks
	one := []byte("one")
	name := chunkstore.Name{Kind: chunkstore.Lock, ID: packName(one).ID}
	if err := l.Put(t.Context(), name, bytes.NewReader(one), 3); !errors.Is(err, ErrQuota) {
		t.Errorf("Put(lock %d) = %v; want ErrQuota", maxLocks+1, err)
	}
	must(t, os.Remove(filepath.Join(dir, "locks", idOf([]byte("0")))))
	must(t, l.Put(t.Context(), name, bytes.NewReader(one), 3))
}

func TestABodyThatEndsEarlyLeavesNothing(t *testing.T) {
	ts, dir := serve(t, nil)
	ask(t, "POST", ts.URL+"/?create=true", nil)
	b := noise("b", 500_000)
	r, w := io.Pipe()
	go func() {
		w.Write(b[:200_000])
		w.CloseWithError(errors.New("the line is cut"))
	}()
	req, err := http.NewRequestWithContext(t.Context(), "POST", ts.URL+"/data/"+idOf(b), r)
	must(t, err)
	req.ContentLength = int64(len(b))
	if res, err := http.DefaultTransport.RoundTrip(req); err == nil {
		res.Body.Close()
		t.Errorf("POST of half a body = %d", res.StatusCode)
	}
	await(t, "the part to be removed", func() bool {
		left, _ := filepath.Glob(filepath.Join(dir, "tmp", "*"))
		return len(left) == 0
	})
	if got := ask(t, "HEAD", ts.URL+"/data/"+idOf(b), nil); got.status != 404 {
		t.Errorf("HEAD = %d; want 404", got.status)
	}
}

func TestANodesRepositoryIsReadOnly(t *testing.T) {
	ts, dir := serve(t, nil)
	ask(t, "POST", ts.URL+"/a/?create=true", nil)
	b := noise("b", 10)
	ask(t, "POST", ts.URL+"/a/data/"+idOf(b), bytes.NewReader(b))
	must(t, chunkstore.MarkOwned(filepath.Join(dir, "a"), chunkstore.Owner{Repository: "r", Centre: "330102"}))
	s, err := New(Config{Path: dir})
	must(t, err)
	again := httptest.NewServer(s)
	defer again.Close()
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/a/data/" + idOf(b), 200},
		{"POST", "/a/data/" + idOf(b), 403},
		{"DELETE", "/a/data/" + idOf(b), 403},
		{"POST", "/a/config", 403},
		{"POST", "/a/keys/" + idOf(b), 403},
		{"POST", "/a/locks/" + idOf(b), 200},
		{"GET", "/a/locks/" + idOf(b), 200},
		{"DELETE", "/a/locks/" + idOf(b), 200},
		{"GET", "/a/locks/" + idOf(b), 404},
	} {
		if got := ask(t, tt.method, again.URL+tt.path, bytes.NewReader(b)); got.status != tt.status {
			t.Errorf("%s %.20s = %d; want %d", tt.method, tt.path, got.status, tt.status)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "a", "locks", "*")); len(found) != 0 {
		t.Errorf("%v: a lock on the disk", found)
	}
}

func TestNewRefusesWhatCannotBeMeant(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]Config{
		"no directory":          {Path: filepath.Join(dir, "none")},
		"private without users": {Path: dir, PrivateRepos: true},
		"a negative limit":      {Path: dir, MaxBytes: -1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("New with %s = nil", name)
		}
	}
}

func TestTheSameFileCountsOnce(t *testing.T) {
	files, err := chunkstore.Create(filepath.Join(t.TempDir(), "r"))
	must(t, err)
	l := newLocal(files, 10_000_000, false)
	b := noise("b", 100_000)
	var began, done sync.WaitGroup
	for range 8 {
		began.Add(1)
		done.Go(func() {
			began.Done()
			began.Wait()
			if err := l.Put(t.Context(), packName(b), bytes.NewReader(b), int64(len(b))); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if l.quota.used != int64(len(b)) || l.quota.reserved != 0 || len(l.names.held) != 0 {
		t.Errorf("%d bytes are used, %d reserved; want %d and none", l.quota.used, l.quota.reserved, len(b))
	}
}
