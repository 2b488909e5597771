package repair_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repair"
	"dengbei/chunkstore/repository"
)

// The index is lost; the packs say what is in them.
func ExampleIndex() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	files, err := chunkstore.Create(filepath.Join(dir, "repo"))
	if err != nil {
		log.Fatal(err)
	}
	repo, err := repository.Init(ctx, files, "secret", repository.Options{})
	if err != nil {
		log.Fatal(err)
	}
	session := repo.NewSession()
	id, _, err := session.SaveBlob(ctx, repository.DataBlob, []byte("to be kept"))
	if err != nil {
		log.Fatal(err)
	}
	if err := session.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	for e, err := range files.List(ctx, chunkstore.Index) {
		if err != nil {
			log.Fatal(err)
		}
		if err := files.Remove(ctx, e.Name); err != nil {
			log.Fatal(err)
		}
	}

	repo, err = repository.Open(ctx, files, "secret", repository.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("before:", repo.Has(repository.DataBlob, id))
	result, err := repair.Index(ctx, repo, repair.IndexOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("after:", repo.Has(repository.DataBlob, id), "from", len(result.FromHeader), "pack")
	// Output:
	// before: false
	// after: true from 1 pack
}
