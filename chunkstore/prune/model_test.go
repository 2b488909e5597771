package prune

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

// writer is a backup at work: it has read the index and not yet saved its snapshot.
type writer struct {
	repo   *repository.Repository
	opened time.Time
}

// TestAnyInterleaving lets backups, forgetting, prunes, prunes that are cut off and time pass in any order. Backups end
// within the grace. After each prune that ends, every snapshot can be read whole; and when nothing more happens, the packs
// that nothing needs are gone.
func TestAnyInterleaving(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		repo, files := inMemory(t)
		key := repo.KeyName().ID
		reopen := func(f repository.Files) *repository.Repository {
			r, err := repository.Open(t.Context(), f, password, repository.Options{KeyID: key})
			must(t, err)
			return r
		}
		now := noon
		var writers []writer
		snapshots := saveSmall(t, repo, []int{0, 1, 2, 3, 4}, now)
		writers = append(writers, writer{reopen(files), now})
		history := ""
		check := func() {
			if n, err := sound(files); n != snapshots || err != nil {
				rt.Fatalf("%d snapshots can be read, %v; want %d after%s", n, err, snapshots, history)
			}
		}
		steps := rapid.IntRange(1, 14).Draw(rt, "steps")
		for range steps {
			op := rapid.SampledFrom([]string{"open", "save", "save", "forget", "forget", "pass", "prune", "prune", "cut"}).Draw(rt, "op")
			history += " " + op
			switch op {
			case "open":
				writers = append(writers, writer{reopen(files), now})
			case "save":
				w := writer{reopen(files), now}
				if n := rapid.IntRange(0, len(writers)).Draw(rt, "writer"); n > 0 {
					w = writers[n-1]
					writers = append(writers[:n-1:n-1], writers[n:]...)
				}
				seeds := rapid.SliceOfNDistinct(rapid.IntRange(0, 4), 1, 3, rapid.ID[int]).Draw(rt, "content")
				history += fmt.Sprint(seeds)
				snapshots += saveSmall(t, w.repo, seeds, now.Add(time.Duration(snapshots)))
			case "forget":
				var all []chunkstore.Name
				for e, err := range files.List(t.Context(), chunkstore.Snapshot) {
					must(t, err)
					all = append(all, e.Name)
				}
				if len(all) > 0 {
					must(t, files.Remove(t.Context(), rapid.SampledFrom(all).Draw(rt, "snapshot")))
					snapshots--
				}
			case "pass":
				now = now.Add(time.Duration(rapid.IntRange(1, 30).Draw(rt, "hours")) * time.Hour)
				for len(writers) > 0 && now.Sub(writers[0].opened) >= DefaultGrace {
					writers = writers[1:] // it must have ended before; this one was given up
				}
			case "prune", "cut":
				o := Options{Now: at(now), Phase: rapid.SampledFrom([]Phase{MarkAndSweep, MarkAndSweep, MarkOnly, SweepOnly}).Draw(rt, "phase")}
				if o.Phase != SweepOnly && rapid.Bool().Draw(rt, "repack") {
					o.Repack = &Repack{}
				}
				if op == "prune" {
					_, err := Run(t.Context(), reopen(files), o)
					must(t, err)
					check()
					break
				}
				dying := mortal(files, rapid.IntRange(0, 16).Draw(rt, "changes"), rapid.Bool().Draw(rt, "last"))
				if _, err := Run(t.Context(), reopen(dying), o); err != nil && !errors.Is(err, errPower) {
					rt.Fatalf("cut off: %v after%s", err, history)
				}
			}
		}
		for range 3 {
			now = now.Add(DefaultGrace)
			_, err := Run(t.Context(), reopen(files), Options{Now: at(now)})
			must(t, err)
			check()
		}
		r, err := Run(t.Context(), reopen(files), Options{Now: at(now), DryRun: true})
		must(t, err)
		if r.Marked.Packs+r.Waiting.Packs+r.Removed.Packs != 0 || r.Before != r.Kept {
			rt.Fatalf("in the end: %+v; want nothing but packs in use, after%s", r, history)
		}
	})
}

// saveSmall stores a snapshot of small files, and looks at nothing but the index the repository has in memory.
func saveSmall(t *testing.T, repo *repository.Repository, seeds []int, when time.Time) int {
	t.Helper()
	s := repo.NewSession()
	defer s.Close()
	tree := &repository.Tree{}
	for i, seed := range seeds {
		id, _, err := s.SaveBlob(t.Context(), repository.DataBlob, chunktest.Noise(fmt.Sprint(seed), 100))
		must(t, err)
		tree.Nodes = append(tree.Nodes, repository.Node{Name: fmt.Sprint(i), Type: repository.TypeFile, SizeBytes: 100, Content: []repository.ID{id}})
	}
	root, err := s.SaveTree(t.Context(), tree)
	must(t, err)
	_, err = s.SaveSnapshot(t.Context(), &repository.Snapshot{Time: when, Tree: root, Paths: []string{"/"}})
	must(t, err)
	return 1
}
