package restserver

import (
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dengbei/chunkstore"
)

func TestParsePath(t *testing.T) {
	id := idOf(nil)
	for _, tt := range []struct {
		path       string
		repository string
		kind       chunkstore.Kind
		listing    bool
		ok         bool
	}{
		{"/", "", 0, false, true},
		{"/a", "a", 0, false, true},
		{"/a/", "a", 0, false, true},
		{"/a/b/c/", "a/b/c", 0, false, true},
		{"/馆藏/2024/", "馆藏/2024", 0, false, true},
		{"/config", "", chunkstore.Config, false, true},
		{"/a/config", "a", chunkstore.Config, false, true},
		{"/data/", "", chunkstore.Pack, true, true},
		{"/a/index", "a", chunkstore.Index, true, true},
		{"/a/keys/" + id, "a", chunkstore.Key, false, true},
		{"/locks/" + id, "", chunkstore.Lock, false, true},
		{"/snapshots/" + id, "", chunkstore.Snapshot, false, true},
		{"/a.b_c-d+e@f=g/", "a.b_c-d+e@f=g", 0, false, true},

		{path: ""}, {path: "a"}, {path: "//"}, {path: "/a//b/"}, {path: "/a//"},
		{path: "/../a/"}, {path: "/a/../config"}, {path: "/a/./config"}, {path: "/.htpasswd"}, {path: "/.a/config"},
		{path: "/config/"}, {path: "/config/config"}, {path: "/data/config"}, {path: "/a/data/00/" + id},
		{path: "/data/" + id + "/"}, {path: "/data/" + strings.ToUpper(id)}, {path: "/data/" + id[1:]}, {path: "/data/" + id + "0"},
		{path: "/data/sha256:" + id}, {path: "/a\x00b/"}, {path: "/a\\b/"}, {path: "/a b/"}, {path: "/a\n/"}, {path: "/\xff/"},
		{path: "/-a/"}, {path: "/tmp/"}, {path: "/damaged/x"}, {path: "/a/tmp/" + id}, {path: "/" + strings.Repeat("a", maxSegmentBytes+1)},
		{path: strings.Repeat("/a", maxDepth+1)}, {path: strings.Repeat("/a", 10000)}, {path: "/config/data/" + id},
	} {
		got, err := parsePath(tt.path)
		if (err == nil) != tt.ok || err == nil && (got.repository() != tt.repository || got.kind != tt.kind || got.listing() != tt.listing) {
			t.Errorf("parsePath(%.80q) = %+v, %v; want %+v", tt.path, got, err, tt)
		}
		if err != nil && !errors.Is(err, errPath) {
			t.Errorf("parsePath(%.80q) = %v; want errPath", tt.path, err)
		}
	}
	if got, err := parsePath(strings.Repeat("/a", maxDepth) + "/data/" + id); err != nil || len(got.segments) != maxDepth {
		t.Errorf("parsePath(deepest) = %+v, %v; want %d segments", got, err, maxDepth)
	}
}

func TestParseRange(t *testing.T) {
	for _, tt := range []struct {
		header string
		size   int64
		want   span
		part   bool
		err    error
	}{
		{"", 10, span{0, 10}, false, nil},
		{"bytes=0-", 10, span{0, 10}, true, nil},
		{"bytes=0-0", 10, span{0, 1}, true, nil},
		{"bytes=3-5", 10, span{3, 3}, true, nil},
		{"bytes=3-", 10, span{3, 7}, true, nil},
		{"bytes=9-", 10, span{9, 1}, true, nil},
		{"bytes=9-100", 10, span{9, 1}, true, nil},
		{"bytes=0-99999999999999999999999", 10, span{0, 10}, true, nil},
		{"bytes=-4", 10, span{6, 4}, true, nil},
		{"bytes=-40", 10, span{0, 10}, true, nil},
		{"bytes=10-", 10, span{}, false, errRange},
		{"bytes=10-20", 10, span{}, false, errRange},
		{"bytes=99999999999999999999999-", 10, span{}, false, errRange},
		{"bytes=-0", 10, span{}, false, errRange},
		{"bytes=0-", 0, span{0, 0}, false, nil},
		{"bytes=0-3", 0, span{0, 0}, false, nil},
		{"bytes=5-3", 10, span{0, 10}, false, nil},
		{"bytes=0-1,3-4", 10, span{0, 10}, false, nil},
		{"bytes=-", 10, span{0, 10}, false, nil},
		{"bytes=a-b", 10, span{0, 10}, false, nil},
		{"bytes=+1-2", 10, span{0, 10}, false, nil},
		{"bytes= 1-2", 10, span{0, 10}, false, nil},
		{"bytes=1--2", 10, span{0, 10}, false, nil},
		{"items=1-2", 10, span{0, 10}, false, nil},
	} {
		got, part, err := parseRange(tt.header, tt.size)
		if got != tt.want || part != tt.part || !errors.Is(err, tt.err) {
			t.Errorf("parseRange(%q, %d) = %v, %t, %v; want %v, %t, %v", tt.header, tt.size, got, part, err, tt.want, tt.part, tt.err)
		}
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/", "/a/config", "/data/" + idOf(nil), "/a/../b", "/a/%2e%2e/b", "/馆/index/", "//", "/.a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, err := parsePath(path)
		if err != nil {
			return
		}
		dir := filepath.Join(append([]string{"/srv/repositories"}, got.segments...)...)
		if want := strings.TrimSuffix("/srv/repositories/"+got.repository(), "/"); dir != want {
			t.Errorf("parsePath(%q) leads to %q; want %q", path, dir, want)
		}
		if slices.ContainsFunc(got.segments, func(s string) bool { return s[0] == '.' || strings.ContainsAny(s, "/\\\x00") }) {
			t.Errorf("parsePath(%q) = %q", path, got.segments)
		}
		// What was read is written the same way.
		back := "/" + got.repository()
		if got.name.Kind != 0 {
			back += "/" + got.name.String()
		} else if got.kind != 0 {
			back += "/" + got.kind.String()
		}
		back = strings.Replace(back, "//", "/", 1)
		if strings.TrimSuffix(path, "/") != strings.TrimSuffix(back, "/") {
			t.Errorf("parsePath(%q) means %q", path, back)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"", "bytes=0-", "bytes=1-2", "bytes=-5", "bytes=9223372036854775807-", "bytes=0-1,2-3"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		s, part, err := parseRange(header, size)
		if err != nil {
			return
		}
		if s.offset < 0 || s.length < 0 || s.offset > size || s.length > size-s.offset || part && s.length == 0 || !part && s.length != size {
			t.Errorf("parseRange(%q, %d) = %v, %t", header, size, s, part)
		}
	})
}

// FuzzServer sends any method and path, and looks that nothing appears outside the served directory.
func FuzzServer(f *testing.F) {
	f.Add("POST", "/a/?create=true", "", "")
	f.Add("GET", "/a/data/"+idOf(nil), "bytes=1-", "")
	f.Add("POST", "/a/data/"+idOf([]byte("x")), "", "x")
	f.Add("DELETE", "/../outside/config", "", "")
	outer := f.TempDir()
	dir := filepath.Join(outer, "served")
	_, err := chunkstore.Create(filepath.Join(dir, "a"))
	must(f, err)
	s, err := New(Config{Path: dir})
	must(f, err)
	f.Fuzz(func(t *testing.T, method, target, header, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		w := newRecorder()
		s.ServeHTTP(w, (&http.Request{Method: method, URL: u, Header: http.Header{"Range": {header}}, Body: readCloser(body),
			ContentLength: int64(len(body))}).WithContext(t.Context()))
		if w.status() >= 500 {
			t.Errorf("%s %q: status %d", method, target, w.status())
		}
		if all, err := filepath.Glob(filepath.Join(outer, "*")); err != nil || len(all) != 1 {
			t.Errorf("%s %q made %v", method, target, all)
		}
	})
}
