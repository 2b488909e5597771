package browse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"dengbei/chunkstore/repository"
)

// tree stores directories: "a/b/c.txt=content" for files, "a/b/" for empty directories, "a->b" for symlinks.
func tree(t testing.TB, s *repository.Session, entries ...string) repository.ID {
	t.Helper()
	ctx := context.Background()
	below := make(map[string][]string)
	nodes := make(map[string]repository.Node)
	for _, e := range entries {
		if name, rest, ok := strings.Cut(e, "/"); ok && !strings.ContainsAny(name, "=>") {
			below[name] = append(below[name], rest)
			continue
		}
		if name, target, ok := strings.Cut(e, "->"); ok {
			nodes[name] = repository.Node{Name: name, Type: repository.TypeSymlink, Mode: fs.ModeSymlink | 0o777, LinkTarget: target, Links: 1}
			continue
		}
		name, content, ok := strings.Cut(e, "=")
		if !ok {
			continue // "dir/" alone
		}
		n := repository.Node{Name: name, Type: repository.TypeFile, Mode: 0o644, ModTime: day(1), SizeBytes: uint64(len(content)), Links: 1}
		for part := range strings.SplitSeq(content, "|") { // one blob each
			if part == "" {
				continue
			}
			id, _, err := s.SaveBlob(ctx, repository.DataBlob, []byte(part))
			must(t, err)
			n.Content = append(n.Content, id)
		}
		n.SizeBytes -= uint64(strings.Count(content, "|"))
		nodes[name] = n
	}
	for name, rest := range below {
		id := tree(t, s, rest...)
		nodes[name] = repository.Node{Name: name, Type: repository.TypeDir, Mode: fs.ModeDir | 0o755, ModTime: day(1), Subtree: &id}
	}
	return saveNodes(t, s, nodes)
}

func saveNodes(t testing.TB, s *repository.Session, nodes map[string]repository.Node) repository.ID {
	t.Helper()
	var tr repository.Tree
	for _, n := range nodes {
		tr.Nodes = append(tr.Nodes, n)
	}
	slices.SortFunc(tr.Nodes, func(a, b repository.Node) int { return strings.Compare(a.Name, b.Name) })
	id, err := s.SaveTree(context.Background(), &tr)
	must(t, err)
	return id
}

// trees stores one tree for each list of entries.
func trees(t testing.TB, repo *repository.Repository, lists ...[]string) []repository.ID {
	t.Helper()
	s := repo.NewSession()
	defer s.Close()
	var ids []repository.ID
	for _, l := range lists {
		ids = append(ids, tree(t, s, l...))
	}
	must(t, s.Flush(context.Background()))
	return ids
}

func TestWalk(t *testing.T) {
	repo, _ := newRepo(t)
	id := trees(t, repo, []string{"b/x=1", "b/c/y=2", "a=3", "c->a", "b.txt=4", "empty/"})[0]
	var got []string
	w := Walk{Repo: repo,
		Visit: func(e Entry) error { got = append(got, e.Path); return nil },
		Leave: func(e Entry) error { got = append(got, e.Path+"/."); return nil },
	}
	must(t, w.Run(t.Context(), id))
	want := []string{"/a", "/b", "/b/c", "/b/c/y", "/b/c/.", "/b/x", "/b/.", "/b.txt", "/c", "/empty", "/empty/."}
	if !slices.Equal(got, want) {
		t.Errorf("Walk visits %q; want %q", got, want)
	}

	got = nil
	stop := errors.New("stop")
	w.Leave = nil
	w.Visit = func(e Entry) error {
		got = append(got, e.Path)
		switch e.Path {
		case "/b":
			return ErrSkipDir
		case "/c":
			return stop
		}
		return nil
	}
	if err := w.Run(t.Context(), id); !errors.Is(err, stop) || !slices.Equal(got, []string{"/a", "/b", "/b.txt", "/c"}) {
		t.Errorf("Walk visits %q, %v; want to skip /b and to stop at /c", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("Walk with an ended context = %v", err)
	}
}

// raw stores a tree as it is written, whatever it says.
func raw(t testing.TB, repo *repository.Repository, json string) repository.ID {
	t.Helper()
	s := repo.NewSession()
	defer s.Close()
	id, _, err := s.SaveBlob(context.Background(), repository.TreeBlob, []byte(json))
	must(t, err)
	must(t, s.Flush(context.Background()))
	return id
}

func TestWalkGoesAroundDamage(t *testing.T) {
	repo, _ := newRepo(t)
	sound := trees(t, repo, []string{"file=1"})[0]
	dir := func(name string, id fmt.Stringer) string {
		return fmt.Sprintf(`{"name":%q,"type":"dir","mtime":"2026-01-01T00:00:00Z","atime":"2026-01-01T00:00:00Z","ctime":"2026-01-01T00:00:00Z","uid":0,"gid":0,"content":null,"subtree":%q}`, name, id)
	}
	noTree := strings.Replace(dir("c-no-tree", sound), `,"subtree":"`+sound.String()+`"`, "", 1)
	junk := raw(t, repo, "junk")
	top := raw(t, repo, `{"nodes":[`+strings.Join([]string{dir("..", sound), dir("a-lost", repository.ID{1}), dir("b-junk", junk), noTree, dir("d-sound", sound)}, ",")+"]}\n")
	var visited, damaged, left []string
	w := Walk{Repo: repo,
		Visit:  func(e Entry) error { visited = append(visited, e.Path); return nil },
		Leave:  func(e Entry) error { left = append(left, e.Path); return nil },
		Damage: func(path string, err error) error { damaged = append(damaged, path); return nil },
	}
	must(t, w.Run(t.Context(), top))
	if want := []string{"/a-lost", "/b-junk", "/c-no-tree", "/d-sound", "/d-sound/file"}; !slices.Equal(visited, want) {
		t.Errorf("Walk visits %q; want %q", visited, want)
	}
	if want := []string{"/", "/a-lost", "/b-junk", "/c-no-tree"}; !slices.Equal(damaged, want) {
		t.Errorf("Walk finds damage in %q; want %q", damaged, want)
	}
	if want := []string{"/d-sound"}; !slices.Equal(left, want) {
		t.Errorf("Walk leaves %q whole; want %q", left, want)
	}
	w.Damage = nil
	if err := w.Run(t.Context(), top); !errors.Is(err, repository.ErrName) {
		t.Errorf("Walk that stops at damage = %v; want ErrName", err)
	}
}

func TestWalkEndsInADeepTree(t *testing.T) {
	repo, _ := newRepo(t)
	s := repo.NewSession()
	defer s.Close()
	id := tree(t, s)
	for range maxDepth + 10 {
		below := id
		id = saveNodes(t, s, map[string]repository.Node{"d": {Name: "d", Type: repository.TypeDir, Subtree: &below}})
	}
	must(t, s.Flush(t.Context()))
	n := 0
	err := (&Walk{Repo: repo, Visit: func(Entry) error { n++; return nil }}).Run(t.Context(), id)
	if !errors.Is(err, repository.ErrTooLarge) || n != maxDepth {
		t.Errorf("Walk visits %d directories, %v; want %d and ErrTooLarge", n, err, maxDepth)
	}
}
