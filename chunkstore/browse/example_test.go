package browse_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/browse"
	"dengbei/chunkstore/repository"
)

// Two backups of a directory are compared, and the later one is listed.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "browse")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	files, err := chunkstore.Create(filepath.Join(dir, "repository"))
	if err != nil {
		log.Fatal(err)
	}
	repo, err := repository.Init(ctx, files, "correct horse", repository.Options{Scrypt: repository.Scrypt{N: 1024, R: 8, P: 1}})
	if err != nil {
		log.Fatal(err)
	}
	source := filepath.Join(dir, "records")
	backup := func(name, content string) *archive.Result {
		if err := os.MkdirAll(source, 0o755); err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, name), []byte(content), 0o644); err != nil {
			log.Fatal(err)
		}
		r, err := archive.Backup(ctx, repo, archive.Options{Roots: []archive.Root{{Path: "/records", Source: source}}, Host: "centre"})
		if err != nil {
			log.Fatal(err)
		}
		return r
	}
	before := backup("1.txt", "first")
	backup("2.txt", "second")

	latest, err := browse.Find(ctx, repo, "latest", browse.Filter{Hosts: []string{"centre"}})
	if err != nil {
		log.Fatal(err)
	}
	d, err := browse.Diff(ctx, repo, before.Tree, latest.Tree, browse.DiffOptions{Change: func(c browse.Change) error {
		fmt.Println(c.Modifier, c.Path)
		return nil
	}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Added.Files, "file more")

	folder, err := browse.Find(ctx, repo, "latest:records", browse.Filter{})
	if err != nil {
		log.Fatal(err)
	}
	w := browse.Walk{Repo: repo, Visit: func(e browse.Entry) error {
		fmt.Println(e.Path, e.Node.SizeBytes)
		return nil
	}}
	if err := w.Run(ctx, folder.Tree); err != nil {
		log.Fatal(err)
	}
	// Output:
	// + /records/2.txt
	// 1 file more
	// /1.txt 5
	// /2.txt 6
}
