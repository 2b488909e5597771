package archive_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/pattern"
	"dengbei/chunkstore/repository"
)

// A backup that leaves out what an editor left behind, and goes on past what it cannot read.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "archive-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "fonds")
	if err := os.Mkdir(source, 0o700); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"record.txt", "record.txt~"} {
		if err := os.WriteFile(filepath.Join(source, name), []byte("a record\n"), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	files, err := chunkstore.Create(filepath.Join(dir, "repository"))
	if err != nil {
		log.Fatal(err)
	}
	repo, err := repository.Init(ctx, files, "correct horse", repository.Options{Scrypt: repository.Scrypt{N: 1024, R: 8, P: 1}})
	if err != nil {
		log.Fatal(err)
	}
	leftovers, err := pattern.Parse([]string{"*~"})
	if err != nil {
		log.Fatal(err)
	}
	result, err := archive.Backup(ctx, repo, archive.Options{
		Roots:  []archive.Root{{Path: "/fonds", Source: source}},
		Select: archive.Selection{Exclude: []*pattern.Set{leftovers}},
		Report: func(path string, err error) { fmt.Println("not stored:", path, err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d file, %d bytes, %d problems\n", result.Files, result.Bytes, result.Problems)
	// Output: 1 file, 9 bytes, 0 problems
}
