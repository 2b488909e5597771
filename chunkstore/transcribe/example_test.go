package transcribe_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/transcribe"
)

// All snapshots go into a repository that cuts files alike; the second time there is nothing to do.
func ExampleCopy() {
	ctx := context.Background()
	from, err := repository.Init(ctx, new(chunktest.Memory), "correct horse", repository.Options{Scrypt: chunktest.Cheap()})
	if err != nil {
		log.Fatal(err)
	}
	s := from.NewSession()
	defer s.Close()
	tree, err := s.SaveTree(ctx, &repository.Tree{Nodes: []repository.Node{{Name: "empty", Type: repository.TypeFile}}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := s.SaveSnapshot(ctx, &repository.Snapshot{Time: time.Now(), Tree: tree, Paths: []string{"/"}}); err != nil {
		log.Fatal(err)
	}

	to, err := repository.Init(ctx, new(chunktest.Memory), "battery staple", repository.Options{
		Scrypt: chunktest.Cheap(), Polynomial: from.Config().Polynomial, Chunks: from.Config().Chunks,
	})
	if err != nil {
		log.Fatal(err)
	}
	snapshots, _, err := from.Snapshots(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		r, err := transcribe.Copy(ctx, from, to, snapshots, transcribe.Options{})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("copied", len(r.Copied), "there already", len(r.Skipped))
	}
	// Output:
	// copied 1 there already 0
	// copied 0 there already 1
}
