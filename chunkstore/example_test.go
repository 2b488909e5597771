package chunkstore_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
)

// A holder keeps files it cannot read, and verifies each of them by its name.
func ExampleFiles() {
	dir, err := os.MkdirTemp("", "holder")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	files, err := chunkstore.Create(filepath.Join(dir, "repository"))
	if err != nil {
		panic(err)
	}
	cipher := []byte("bytes of a pack")
	name := chunkstore.Name{Kind: chunkstore.Pack, ID: digest.Of(cipher)}
	in, err := files.Receive(name, int64(len(cipher)))
	if err != nil {
		panic(err)
	}
	defer in.Close()
	if _, err := in.Write(cipher[in.Offset():]); err != nil {
		panic(err)
	}
	fmt.Println(in.Commit(ctx), files.Verify(ctx, name))

	root, sizeBytes, err := chunkstore.LeafRoot(bytes.NewReader(cipher))
	fmt.Printf("%x %d %v\n", root[:4], sizeBytes, err)
	// Output:
	// <nil> <nil>
	// 160ab348 15 <nil>
}

// An owner backs directories up under names of its choice, and restores them.
func Example() {
	dir, err := os.MkdirTemp("", "owner")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	source := filepath.Join(dir, "delivered")
	if err := os.Mkdir(source, 0o700); err != nil {
		panic(err)
	}
	if err := os.WriteFile(filepath.Join(source, "deed.txt"), []byte("a deed"), 0o600); err != nil {
		panic(err)
	}
	files, err := chunkstore.Create(filepath.Join(dir, "repository"))
	if err != nil {
		panic(err)
	}
	repo, err := repository.Init(ctx, files, "password", repository.Options{})
	if err != nil {
		panic(err)
	}
	backup, err := archive.Backup(ctx, repo, archive.Options{
		Roots: []archive.Root{{Path: "/records/330102-1", Source: source}},
	})
	if err != nil {
		panic(err)
	}
	result, err := restore.Restore(ctx, repo, backup.SnapshotID, filepath.Join(dir, "target"), restore.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Files, "file,", result.Dirs, "directories,", result.FileBytes, "bytes")
	// Output:
	// 1 file, 2 directories, 6 bytes
}
