package browse

import (
	"errors"
	"slices"
	"testing"

	"dengbei/chunkstore/repository"
)

func TestDiff(t *testing.T) {
	repo, _ := newRepo(t)
	for _, tt := range []struct {
		name          string
		before, after []string
		metadata      bool
		want          []string
		added         Count
		removed       Count
		changed       int
	}{
		{name: "the same", before: []string{"a=1"}, after: []string{"a=1"}},
		{name: "a file more", before: []string{"a=1"}, after: []string{"a=1", "b=22"}, want: []string{"+ /b"},
			added: Count{Files: 1, DataBlobs: 1, TreeBlobs: 1}, removed: Count{TreeBlobs: 1}},
		{name: "a file less", before: []string{"a=1", "b=22"}, after: []string{"a=1"}, want: []string{"- /b"},
			added: Count{TreeBlobs: 1}, removed: Count{Files: 1, DataBlobs: 1, TreeBlobs: 1}},
		{name: "a file changed", before: []string{"a=1|2"}, after: []string{"a=1|3"}, want: []string{"M /a"}, changed: 1,
			added: Count{DataBlobs: 1, TreeBlobs: 1}, removed: Count{DataBlobs: 1, TreeBlobs: 1}},
		{name: "a folder more", before: []string{"a=1"}, after: []string{"a=1", "d/e/f=1", "d/l->x"}, want: []string{"+ /d/", "+ /d/e/", "+ /d/e/f", "+ /d/l"},
			added: Count{Files: 1, Dirs: 2, Others: 1, TreeBlobs: 3}, removed: Count{TreeBlobs: 1}},
		{name: "a change deep down", before: []string{"same/x=1", "d/e/f=1"}, after: []string{"same/x=1", "d/e/f=2"}, want: []string{"M /d/e/f"}, changed: 1,
			added: Count{DataBlobs: 1, TreeBlobs: 3}, removed: Count{TreeBlobs: 3}},
		{name: "what lies in a common folder is not added", before: []string{"same/x=1", "d/a=9"}, after: []string{"same/x=1", "d/a=9", "d/b=1"}, want: []string{"+ /d/b"},
			added: Count{Files: 1, TreeBlobs: 2}, removed: Count{TreeBlobs: 2}},
		{name: "a folder moved", before: []string{"x/f=1", "k=2"}, after: []string{"y/f=1", "k=2"}, want: []string{"- /x/", "- /x/f", "+ /y/", "+ /y/f"},
			added: Count{Files: 1, Dirs: 1, TreeBlobs: 1}, removed: Count{Files: 1, Dirs: 1, TreeBlobs: 1}},
		{name: "a file becomes a symlink", before: []string{"a=1"}, after: []string{"a->b"}, want: []string{"T /a"},
			added: Count{TreeBlobs: 1}, removed: Count{DataBlobs: 1, TreeBlobs: 1}},
		{name: "a file becomes a folder", before: []string{"a=1"}, after: []string{"a/b=2"}, want: []string{"T /a/", "+ /a/b"},
			added: Count{Files: 1, DataBlobs: 1, TreeBlobs: 2}, removed: Count{DataBlobs: 1, TreeBlobs: 1}},
		{name: "a folder becomes a file", before: []string{"a/b=2"}, after: []string{"a=1"}, want: []string{"T /a", "- /a/b"},
			added: Count{DataBlobs: 1, TreeBlobs: 1}, removed: Count{Files: 1, DataBlobs: 1, TreeBlobs: 2}},
		{name: "names between", before: []string{"a=1", "c=1"}, after: []string{"b=1", "d=1"}, want: []string{"- /a", "+ /b", "- /c", "+ /d"},
			added: Count{Files: 2, TreeBlobs: 1}, removed: Count{Files: 2, TreeBlobs: 1}},
		{name: "metadata of a symlink", before: []string{"a->b"}, after: []string{"a->c"}, metadata: true, want: []string{"U /a"},
			added: Count{TreeBlobs: 1}, removed: Count{TreeBlobs: 1}},
		{name: "metadata not asked for", before: []string{"a->b"}, after: []string{"a->c"},
			added: Count{TreeBlobs: 1}, removed: Count{TreeBlobs: 1}},
		{name: "a folder with a change is changed itself", before: []string{"d/a=1"}, after: []string{"d/a=2"}, metadata: true, want: []string{"U /d/", "M /d/a"}, changed: 1,
			added: Count{DataBlobs: 1, TreeBlobs: 2}, removed: Count{DataBlobs: 1, TreeBlobs: 2}},
		{name: "from nothing", before: nil, after: []string{"a=1"}, want: []string{"+ /a"},
			added: Count{Files: 1, DataBlobs: 1, TreeBlobs: 1}, removed: Count{TreeBlobs: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ids := trees(t, repo, tt.before, tt.after)
			var got []string
			d, err := Diff(t.Context(), repo, ids[0], ids[1], DiffOptions{Metadata: tt.metadata, Change: func(c Change) error {
				got = append(got, c.Modifier+" "+c.Path)
				return nil
			}})
			must(t, err)
			if !slices.Equal(got, tt.want) {
				t.Errorf("Diff reports %q; want %q", got, tt.want)
			}
			if (d.Added.Bytes > 0) != (d.Added.DataBlobs+d.Added.TreeBlobs > 0) || (d.Removed.Bytes > 0) != (d.Removed.DataBlobs+d.Removed.TreeBlobs > 0) {
				t.Errorf("Diff counts bytes of nothing, or none: %+v", d)
			}
			d.Added.Bytes, d.Removed.Bytes = 0, 0
			if want := (Difference{tt.changed, tt.added, tt.removed}); *d != want {
				t.Errorf("Diff = %+v; want %+v", *d, want)
			}
		})
	}
}

func TestDiffBesideDamage(t *testing.T) {
	repo, _ := newRepo(t)
	lost, other := repository.ID{1}, repository.ID{2}
	s := repo.NewSession()
	defer s.Close()
	at := func(lost *repository.ID, file string) repository.ID {
		return saveNodes(t, s, map[string]repository.Node{
			"a": {Name: "a", Type: repository.TypeDir, Subtree: lost},
			"b": {Name: "b", Type: repository.TypeSymlink, LinkTarget: file},
		})
	}
	before, after := at(&lost, "x"), at(&other, "y")
	must(t, s.Flush(t.Context()))
	var got []string
	o := DiffOptions{Metadata: true,
		Change: func(c Change) error { got = append(got, c.Modifier+" "+c.Path); return nil },
		Damage: func(path string, err error) error {
			if !errors.Is(err, repository.ErrNoBlob) {
				t.Errorf("damage in %q: %v", path, err)
			}
			got = append(got, "? "+path)
			return nil
		}}
	_, err := Diff(t.Context(), repo, before, after, o)
	must(t, err)
	if want := []string{"U /a/", "? /a", "U /b"}; !slices.Equal(got, want) {
		t.Errorf("Diff reports %q; want %q", got, want)
	}
	o.Damage = nil
	if _, err := Diff(t.Context(), repo, before, after, o); !errors.Is(err, repository.ErrNoBlob) {
		t.Errorf("Diff that ends at damage = %v; want ErrNoBlob", err)
	}
}

// Trees that are the same on both sides are not read when nothing is left to be counted.
func TestDiffSkipsCommonTrees(t *testing.T) {
	repo, _ := newRepo(t)
	lost := repository.ID{1}
	s := repo.NewSession()
	defer s.Close()
	at := func(name string) repository.ID {
		return saveNodes(t, s, map[string]repository.Node{"lost": {Name: "lost", Type: repository.TypeDir, Subtree: &lost}, name: {Name: name, Type: repository.TypeFile}})
	}
	same := at("x")
	must(t, s.Flush(t.Context()))
	if _, err := Diff(t.Context(), repo, same, same, DiffOptions{}); err != nil {
		t.Errorf("Diff of a tree with itself = %v; want nothing read", err)
	}
}
