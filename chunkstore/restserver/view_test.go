package restserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// entriesOf lists all files of a directory as a registry would have them.
func entriesOf(t *testing.T, files *chunkstore.Files) []chunkstore.Entry {
	t.Helper()
	var all []chunkstore.Entry
	for _, kind := range chunkstore.Kinds() {
		if kind == chunkstore.Lock {
			continue
		}
		for e, err := range files.List(t.Context(), kind) {
			must(t, err)
			all = append(all, e)
		}
	}
	return all
}

func TestViewShowsOnlyWhatIsRegistered(t *testing.T) {
	files, err := chunkstore.Create(filepath.Join(t.TempDir(), "r"))
	must(t, err)
	ctx := t.Context()
	put := func(kind chunkstore.Kind, b []byte) string {
		n := chunkstore.Name{Kind: kind, ID: digest.Of(b)}
		must(t, files.PutBytes(ctx, n, b))
		return "/" + n.String()
	}
	put(chunkstore.Config, []byte("sealed"))
	pack, index, key := put(chunkstore.Pack, noise("pack", 600_000)), put(chunkstore.Index, noise("index", 500)), put(chunkstore.Key, noise("key", 300))
	view := NewRegistered(slices.Values(entriesOf(t, files)))
	planted := []string{put(chunkstore.Pack, noise("p", 10)), put(chunkstore.Index, noise("p", 10)), put(chunkstore.Key, noise("p", 10)),
		put(chunkstore.Snapshot, noise("p", 10)), put(chunkstore.Lock, noise("p", 10))}

	ts := httptest.NewServer(Handler(RegisteredOnly(files, view, nil), nil))
	defer ts.Close()
	for _, at := range planted {
		for _, method := range []string{"GET", "HEAD"} {
			if got := ask(t, method, ts.URL+at, nil); got.status != 404 {
				t.Errorf("%s of planted %.20s = %d; want 404", method, at, got.status)
			}
		}
		if list := ask(t, "GET", ts.URL+filepath.Dir(at)+"/", nil); bytes.Contains(list.body, []byte(filepath.Base(at))) {
			t.Errorf("planted %.20s is listed", at)
		}
	}
	for at, want := range map[string][]byte{pack: noise("pack", 600_000), index: noise("index", 500), key: noise("key", 300), "/config": []byte("sealed")} {
		if got := ask(t, "GET", ts.URL+at, nil); got.status != 200 || !bytes.Equal(got.body, want) {
			t.Errorf("GET %.20s = %d, %d bytes; want %d", at, got.status, len(got.body), len(want))
		}
		if got := ask(t, "GET", ts.URL+at, nil, "Range", "bytes=2-4"); got.status != 206 || !bytes.Equal(got.body, want[2:5]) {
			t.Errorf("part of %.20s = %d, %d bytes; want 3", at, got.status, len(got.body))
		}
		b := noise("new", 10)
		for method, path := range map[string]string{"DELETE": at, "POST": "/" + strings.Split(at, "/")[1] + "/" + idOf(b)} {
			if at == "/config" {
				path = at
			}
			if got := ask(t, method, ts.URL+path, bytes.NewReader(b)); got.status != 403 {
				t.Errorf("%s %.20s = %d; want 403", method, path, got.status)
			}
		}
	}
	if got := ask(t, "POST", ts.URL+"/?create=true", nil); got.status != 200 {
		t.Errorf("POST /?create=true = %d", got.status)
	}
	if got := ask(t, "GET", ts.URL+"/sub/config", nil); got.status != 404 {
		t.Errorf("GET /sub/config = %d; want 404", got.status)
	}

	// A registered file with other bytes is no answer.
	for _, at := range []string{index, "/config"} {
		p := filepath.Join(files.Dir(), at)
		must(t, os.Chmod(p, 0o600))
		must(t, os.WriteFile(p, []byte("forged"), 0o600))
		if got := ask(t, "GET", ts.URL+at, nil); got.status != 500 || strings.Contains(string(got.body), "forged") {
			t.Errorf("GET forged %.20s = %d %q; want 500", at, got.status, got.body)
		}
	}
	p := filepath.Join(files.Dir(), "data", pack[6:8], pack[6:])
	must(t, os.Chmod(p, 0o600))
	must(t, os.Truncate(p, 400_000))
	if got := ask(t, "GET", ts.URL+pack, nil, "Range", "bytes=399999-400001"); got.status != 500 {
		t.Errorf("GET of what a pack has no more = %d; want 500", got.status)
	}
}

func TestLocksInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemoryLocks(func(b []byte) bool { return bytes.HasPrefix(b, []byte("exclusive")) })
		alice, bob := withUser(t.Context(), "alice"), withUser(t.Context(), "bob")
		lock := func(ctx context.Context, s string) (chunkstore.Name, int) {
			n := chunkstore.Name{Kind: chunkstore.Lock, ID: digest.Of([]byte(s))}
			err := m.put(ctx, n, strings.NewReader(s))
			if err == nil {
				return n, 200
			}
			status, _ := statusOf(err)
			return n, status
		}
		count := func(ctx context.Context) int {
			n := 0
			for range m.list(ctx) {
				n++
			}
			return n
		}
		first, status := lock(alice, "first")
		if status != 200 || count(alice) != 1 || count(bob) != 0 {
			t.Errorf("status %d, alice sees %d, bob %d; want one and none", status, count(alice), count(bob))
		}
		if _, err := m.open(bob, first); err == nil {
			t.Error("bob reads the lock of alice")
		}
		if _, err := m.open(alice, first); err != nil {
			t.Errorf("alice cannot read her lock: %v", err)
		}
		m.remove(bob, first)
		if _, status := lock(alice, "exclusive"); status != 403 || count(alice) != 1 {
			t.Errorf("exclusive lock = %d; want 403", status)
		}
		if err := m.put(alice, first, strings.NewReader("other")); err == nil {
			t.Error("a lock of another name was taken")
		}
		for i := range maxMemoryLocks {
			lock(alice, fmt.Sprint(i))
		}
		if _, status := lock(alice, "one more"); status != 507 || count(alice) != maxMemoryLocks {
			t.Errorf("lock %d = %d; want 507", maxMemoryLocks+1, status)
		}
		for i := range maxLockUsers {
			lock(withUser(t.Context(), fmt.Sprint("user", i)), "x")
		}
		if _, status := lock(bob, "x"); status != 507 {
			t.Errorf("a lock of one user more = %d; want 507", status)
		}
		time.Sleep(lockLifetime + time.Second)
		if _, status := lock(bob, "x"); status != 200 || count(alice) != 0 || len(m.users) != 1 {
			t.Errorf("after half an hour: %d, alice has %d, %d users; want only bob", status, count(alice), len(m.users))
		}
		m.remove(bob, first)
		if _, err := m.open(bob, first); err == nil || !isNotExist(err) {
			t.Errorf("open(removed) = %v", err)
		}
	})
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
