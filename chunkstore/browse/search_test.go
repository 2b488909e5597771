package browse

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/pattern"
	"dengbei/chunkstore/repository"
)

func TestList(t *testing.T) {
	repo, _ := newRepo(t)
	id := trees(t, repo, []string{"a/b/c=1", "a/b/d/e=2", "a/f=3", "ab=4", "g/h=5"})[0]
	for _, tt := range []struct {
		name      string
		dirs      []string
		recursive bool
		want      string
		wantErr   error
	}{
		{"everything", nil, false, "/a /a/b /a/b/c /a/b/d /a/b/d/e /a/f /ab /g /g/h", nil},
		{"a folder", []string{"/a"}, false, "/a /a/b /a/f", nil},
		{"a folder and all below", []string{"/a"}, true, "/a /a/b /a/b/c /a/b/d /a/b/d/e /a/f", nil},
		{"a folder deeper", []string{"/a/b/"}, false, "/a/b /a/b/c /a/b/d", nil},
		{"the top", []string{"/"}, false, "/a /ab /g", nil},
		{"the top and all below", []string{"/"}, true, "/a /a/b /a/b/c /a/b/d /a/b/d/e /a/f /ab /g /g/h", nil},
		{"two", []string{"/g", "/a/b/d"}, false, "/a/b/d /a/b/d/e /g /g/h", nil},
		{"one in the other", []string{"/a", "/a/b/d"}, false, "/a /a/b /a/b/d /a/b/d/e /a/f", nil},
		{"a file", []string{"/ab"}, false, "/ab", nil},
		{"one is not there", []string{"/g", "/x"}, false, "/g /g/h", ErrNoPath},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			err := List(t.Context(), repo, id, ListOptions{tt.dirs, tt.recursive}, func(e Entry) error { got = append(got, e.Path); return nil }, nil)
			if strings.Join(got, " ") != tt.want || !errors.Is(err, tt.wantErr) {
				t.Errorf("List(%q, %v) = %q, %v; want %q, %v", tt.dirs, tt.recursive, got, err, tt.want, tt.wantErr)
			}
		})
	}
}

// counting counts what is read.
type counting struct {
	*chunkstore.Files
	reads int
}

func (c *counting) ReadRange(ctx context.Context, name chunkstore.Name, off int64, buf []byte) error {
	c.reads++
	return c.Files.ReadRange(ctx, name, off, buf)
}

func TestSearch(t *testing.T) {
	first, files := newRepo(t)
	ids := trees(t, first, []string{"a/b/c.txt=1", "a/f.TXT=3", "g/h=5", "same/deep/x=1"}, []string{"g/h=5", "same/deep/x=1", "c.txt=1"})
	count := &counting{Files: files}
	repo, err := repository.Open(t.Context(), count, password, repository.Options{})
	must(t, err)
	for _, tt := range []struct {
		name           string
		patterns       []string
		fold           bool
		oldest, newest time.Time
		want           string
	}{
		{"by name", []string{"*.txt"}, false, time.Time{}, time.Time{}, "/a/b/c.txt; /c.txt"},
		{"by name in any case", []string{"*.txt"}, true, time.Time{}, time.Time{}, "/a/b/c.txt /a/f.TXT; /c.txt"},
		{"by several", []string{"h", "c.*"}, false, time.Time{}, time.Time{}, "/a/b/c.txt /g/h; /c.txt /g/h"},
		{"from the top", []string{"/c.txt"}, false, time.Time{}, time.Time{}, "; /c.txt"},
		{"nothing", []string{"none"}, false, time.Time{}, time.Time{}, "; "},
		{"too new", []string{"*.txt"}, false, time.Time{}, day(1).Add(-1), "; "},
		{"just in time", []string{"*.txt"}, false, day(1), day(1), "/a/b/c.txt; /c.txt"},
		{"too old", []string{"*.txt"}, false, day(1).Add(1), time.Time{}, "; "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parse := pattern.Parse
			if tt.fold {
				parse = pattern.ParseFold
			}
			set, err := parse(tt.patterns)
			must(t, err)
			s := Search{Repo: repo, Patterns: set, Oldest: tt.oldest, Newest: tt.newest}
			var got []string
			for _, id := range ids {
				var hits []string
				must(t, s.Run(t.Context(), &repository.Snapshot{Tree: id}, func(e Entry) error { hits = append(hits, e.Path); return nil }, nil))
				got = append(got, strings.Join(hits, " "))
			}
			if strings.Join(got, "; ") != tt.want {
				t.Errorf("Search(%q) = %q; want %q", tt.patterns, strings.Join(got, "; "), tt.want)
			}
		})
	}

	set, err := pattern.Parse([]string{"*.txt"})
	must(t, err)
	s := Search{Repo: repo, Patterns: set}
	nothing := func(Entry) error { return nil }
	must(t, s.Run(t.Context(), &repository.Snapshot{Tree: ids[0]}, nothing, nil))
	count.reads = 0
	must(t, s.Run(t.Context(), &repository.Snapshot{Tree: ids[1]}, nothing, nil))
	if count.reads != 1 {
		t.Errorf("the second snapshot costs %d trees; want its top only: what is below is known to hold nothing", count.reads)
	}
}

func TestObjectSearch(t *testing.T) {
	repo, _ := newRepo(t)
	id := trees(t, repo, []string{"a/b=one|two|one", "c=two", "d/b=one|two|one"})[0]
	sn := &repository.Snapshot{Tree: id}
	one, two := repository.IDOf(digest.Of([]byte("one"))), repository.IDOf(digest.Of([]byte("two")))
	f, err := At(t.Context(), repo, sn, "/a")
	must(t, err)
	run := func(o *ObjectSearch) (places []string) {
		must(t, o.Run(t.Context(), sn, func(p Place) error {
			places = append(places, p.Type.String()+" "+p.Path)
			if p.Path != "/" && p.Parent.IsZero() {
				t.Errorf("%+v has no parent", p)
			}
			return nil
		}, nil))
		return places
	}
	for _, tt := range []struct {
		typ  repository.BlobType
		id   string
		want []string
	}{
		{repository.DataBlob, one.String(), []string{"data /a/b", "data /d/b"}},
		{repository.DataBlob, two.String()[:9], []string{"data /a/b", "data /c", "data /d/b"}},
		{repository.DataBlob, strings.ToUpper(two.String()), []string{"data /a/b", "data /c", "data /d/b"}},
		{repository.TreeBlob, f.Tree.String(), []string{"tree /a", "tree /d"}},
		{repository.TreeBlob, id.String()[:12], []string{"tree /"}},
		{repository.TreeBlob, one.String(), nil},
		{repository.DataBlob, strings.Repeat("0", 64), nil},
	} {
		o := &ObjectSearch{Repo: repo}
		must(t, o.Add(tt.typ, tt.id))
		if got := run(o); !slices.Equal(got, tt.want) {
			t.Errorf("ObjectSearch(%s %s) = %q; want %q", tt.typ, tt.id, got, tt.want)
		}
		if got := run(o); !slices.Equal(got, tt.want) {
			t.Errorf("ObjectSearch(%s %s) the second time = %q; want %q", tt.typ, tt.id, got, tt.want)
		}
	}
	for _, bad := range []string{"", "xyz", strings.Repeat("0", 65)} {
		o := &ObjectSearch{Repo: repo}
		if err := o.Add(repository.DataBlob, bad); !errors.Is(err, ErrObject) {
			t.Errorf("Add(%q) = %v; want ErrObject", bad, err)
		}
		if _, err := o.AddPacks([]string{bad}); !errors.Is(err, ErrObject) {
			t.Errorf("AddPacks(%q) = %v; want ErrObject", bad, err)
		}
	}
	pack := repo.Locate(repository.TreeBlob, id)[0].Pack.ID.Hex()
	o := &ObjectSearch{Repo: repo}
	n, err := o.AddPacks([]string{pack[:20], "00000000000000"})
	must(t, err)
	if got := run(o); n != 2 || !slices.Equal(got, []string{"tree /", "tree /a", "tree /d"}) {
		t.Errorf("ObjectSearch(the pack of trees) = %q of %d blobs; want both trees everywhere", got, n)
	}
}
