package restserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noise is n bytes that differ everywhere.
func noise(seed string, n int) []byte {
	var b []byte
	for d := digest.Of([]byte(seed)); len(b) < n; d = digest.Of(d.Bytes()) {
		b = append(b, d.Bytes()...)
	}
	return b[:n]
}

// serve starts a server of an empty directory.
func serve(t *testing.T, change func(*Config)) (*httptest.Server, string) {
	t.Helper()
	dir := t.TempDir()
	c := Config{Path: dir}
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	must(t, err)
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	return ts, dir
}

// usersFile writes an htpasswd file of name, password, name, password…
func usersFile(t *testing.T, path string, pairs ...string) {
	t.Helper()
	var b bytes.Buffer
	for i := 0; i < len(pairs); i += 2 {
		hash, err := bcrypt.GenerateFromPassword([]byte(pairs[i+1]), bcrypt.MinCost)
		must(t, err)
		fmt.Fprintf(&b, "%s:%s\n", pairs[i], hash)
	}
	must(t, os.WriteFile(path+".new", b.Bytes(), 0o600))
	must(t, os.Rename(path+".new", path))
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	length int64
	body   []byte
}

// ask sends one request. header is key, value, key, value…
func ask(t *testing.T, method, url string, body io.Reader, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, body)
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "user" {
			req.SetBasicAuth(header[i+1], "password of "+header[i+1])
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	must(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	return answer{res.StatusCode, res.Header, res.ContentLength, b}
}

func idOf(b []byte) string { return digest.Of(b).Hex() }

// tidy fails the test if anything unfinished lies in a repository.
func tidy(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "tmp", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("%v, %v stay in tmp", left, err)
	}
}

func packName(b []byte) chunkstore.Name {
	return chunkstore.Name{Kind: chunkstore.Pack, ID: digest.Of(b)}
}
