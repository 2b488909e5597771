package browse

import (
	"errors"
	"testing"

	"dengbei/chunkstore/repository"
)

func TestMeasure(t *testing.T) {
	repo, _ := newRepo(t)
	ids := trees(t, repo,
		[]string{"a=12|345", "b=12|345", "d/c=x", "d/l->y"},
		[]string{"a=12|345", "d/c=x", "d/l->y", "e/c=x", "e/l->y"},
	)
	first, second := &repository.Snapshot{Tree: ids[0]}, &repository.Snapshot{Tree: ids[1]}
	linked := func(inode uint64, name string) repository.Node {
		return repository.Node{Name: name, Type: repository.TypeFile, SizeBytes: 100, Links: 2, Inode: inode, DeviceID: 7}
	}
	s := repo.NewSession()
	defer s.Close()
	inner := saveNodes(t, s, map[string]repository.Node{"x": linked(1, "x"), "y": linked(2, "y")})
	links := &repository.Snapshot{Tree: saveNodes(t, s, map[string]repository.Node{
		"again":   {Name: "again", Type: repository.TypeDir, Subtree: &inner},
		"inner":   {Name: "inner", Type: repository.TypeDir, Subtree: &inner},
		"outside": linked(1, "outside"),
	})}
	must(t, s.Flush(t.Context()))

	for _, tt := range []struct {
		name string
		mode Mode
		give []*repository.Snapshot
		want Stats
	}{
		{"every file of every snapshot", RestoreSize, []*repository.Snapshot{first, second}, Stats{Snapshots: 2, Files: 5 + 7, Bytes: 11 + 7}},
		{"hard links once in each snapshot", RestoreSize, []*repository.Snapshot{links, links}, Stats{Snapshots: 2, Files: 14, Bytes: 400}},
		{"each content once", FilesByContents, []*repository.Snapshot{first, second}, Stats{Snapshots: 2, Files: 3, Bytes: 6}},
		{"blobs of each content once", BlobsPerFile, []*repository.Snapshot{first, second}, Stats{Snapshots: 2, Files: 2, Blobs: 3, Bytes: 6}},
		{"nothing", RawData, nil, Stats{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Measure(t.Context(), repo, tt.give, tt.mode, nil)
			must(t, err)
			if *got != tt.want {
				t.Errorf("Measure(%s) = %+v; want %+v", tt.mode, *got, tt.want)
			}
		})
	}
	got, err := Measure(t.Context(), repo, []*repository.Snapshot{first, second, first}, RawData, nil)
	must(t, err)
	if got.Snapshots != 3 || got.Blobs != 3+3 || got.Bytes == 0 || got.PlainBytes == 0 {
		t.Errorf("Measure(raw-data) = %+v; want 6 blobs: 12, 345, x and the trees of two roots and of d", *got)
	}
	if _, err := Measure(t.Context(), repo, nil, "weight", nil); err == nil {
		t.Error("Measure(weight) succeeds")
	}
}

// A tree that names the same tree in two places, level by level, has more paths than anybody can walk.
func TestMeasureEndsInATreeOfManyPaths(t *testing.T) {
	repo, _ := newRepo(t)
	s := repo.NewSession()
	defer s.Close()
	id := tree(t, s, "file=1")
	for range 80 {
		below := id
		id = saveNodes(t, s, map[string]repository.Node{
			"a": {Name: "a", Type: repository.TypeDir, Subtree: &below},
			"b": {Name: "b", Type: repository.TypeDir, Subtree: &below},
		})
	}
	must(t, s.Flush(t.Context()))
	for _, mode := range Modes() {
		got, err := Measure(t.Context(), repo, []*repository.Snapshot{{Tree: id}}, mode, nil)
		must(t, err)
		if mode == RestoreSize && got.Files != 1<<64-1 {
			t.Errorf("Measure(%s) = %+v; want the largest number there is", mode, *got)
		}
	}
}

func TestMeasureBesideDamage(t *testing.T) {
	repo, _ := newRepo(t)
	s := repo.NewSession()
	defer s.Close()
	lost := repository.ID{1}
	sn := &repository.Snapshot{Tree: saveNodes(t, s, map[string]repository.Node{
		"a": {Name: "a", Type: repository.TypeDir, Subtree: &lost},
		"b": {Name: "b", Type: repository.TypeFile, SizeBytes: 5, Content: []repository.ID{{2}}},
	})}
	must(t, s.Flush(t.Context()))
	for mode, want := range map[Mode][]string{RestoreSize: {"/a"}, FilesByContents: {"/a"}, BlobsPerFile: {"/a", "/b"}, RawData: {"/a", "/b"}} {
		got := make(map[string]bool)
		_, err := Measure(t.Context(), repo, []*repository.Snapshot{sn}, mode, func(_ *repository.Snapshot, path string, err error) error {
			if !errors.Is(err, repository.ErrNoBlob) {
				t.Errorf("%s: damage in %q: %v", mode, path, err)
			}
			got[path] = true
			return nil
		})
		must(t, err)
		for _, p := range want {
			if !got[p] {
				t.Errorf("Measure(%s) passes over the damage in %s", mode, p)
			}
		}
		if len(got) != len(want) {
			t.Errorf("Measure(%s) finds damage in %v; want %v", mode, got, want)
		}
		if _, err := Measure(t.Context(), repo, []*repository.Snapshot{sn}, mode, nil); !errors.Is(err, repository.ErrNoBlob) {
			t.Errorf("Measure(%s) that ends at damage = %v", mode, err)
		}
	}
}
