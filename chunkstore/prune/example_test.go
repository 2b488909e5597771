package prune_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/prune"
	"dengbei/chunkstore/repository"
)

// A snapshot is forgotten; its packs are marked, and removed by a run after the grace.
func ExampleRun() {
	ctx := context.Background()
	files := new(chunktest.Memory) // or chunkstore.Create
	repo, err := repository.Init(ctx, files, "correct horse", repository.Options{Scrypt: chunktest.Cheap()})
	if err != nil {
		log.Fatal(err)
	}
	s := repo.NewSession()
	defer s.Close()
	tree, err := s.SaveTree(ctx, &repository.Tree{Nodes: []repository.Node{{Name: "empty", Type: repository.TypeFile}}})
	if err != nil {
		log.Fatal(err)
	}
	sn, err := s.SaveSnapshot(ctx, &repository.Snapshot{Time: time.Now(), Tree: tree, Paths: []string{"/"}})
	if err != nil {
		log.Fatal(err)
	}
	if err := files.Remove(ctx, chunkstore.Name{Kind: chunkstore.Snapshot, ID: sn.ID}); err != nil {
		log.Fatal(err)
	}

	today, err := prune.Run(ctx, repo, prune.Options{})
	if err != nil {
		log.Fatal(err)
	}
	tomorrow, err := prune.Run(ctx, repo, prune.Options{Now: func() time.Time { return time.Now().Add(25 * time.Hour) }})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("today marked", today.Marked.Packs, "removed", today.Removed.Packs)
	fmt.Println("tomorrow removed", tomorrow.Removed.Packs)
	// Output:
	// today marked 1 removed 0
	// tomorrow removed 1
}
