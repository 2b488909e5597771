package check_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/check"
	"dengbei/chunkstore/repository"
)

func Example() {
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
	source := filepath.Join(dir, "letter.txt")
	if err := os.WriteFile(source, []byte("to be kept"), 0o600); err != nil {
		log.Fatal(err)
	}
	if _, err := archive.Backup(ctx, repo, archive.Options{Roots: []archive.Root{{Path: "/letter.txt", Source: source}}}); err != nil {
		log.Fatal(err)
	}

	// A pack vanishes.
	for blob := range repo.Blobs() {
		if blob.Blob.Type == repository.DataBlob {
			if err := files.Remove(ctx, blob.Pack); err != nil {
				log.Fatal(err)
			}
		}
	}
	report, err := check.Examine(ctx, repo, check.Options{ReadData: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range report.Findings {
		fmt.Printf("%s: %v: %s suffers\n", f.Name.Kind, f.Err, f.Affects[0].Path)
	}
	fmt.Println("damaged:", report.Damaged())
	// Output:
	// data: pack is missing: /letter.txt suffers
	// damaged: true
}
