package restore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"dengbei/chunkstore"
	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/pattern"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/restore"
)

// Part of a snapshot is restored, and what could not be is named.
func ExampleRestore() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "source")
	for name, text := range map[string]string{"deeds/1.txt": "a deed", "deeds/1.bak": "an old deed", "maps/2.txt": "a map"} {
		p := filepath.Join(source, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(text), 0o600)); err != nil {
			panic(err)
		}
	}
	files, err := chunkstore.Create(filepath.Join(dir, "repository"))
	if err != nil {
		panic(err)
	}
	repo, err := repository.Init(ctx, files, "password", repository.Options{})
	if err != nil {
		panic(err)
	}
	backup, err := archive.Backup(ctx, repo, archive.Options{Roots: []archive.Root{{Path: "/", Source: source}}})
	if err != nil {
		panic(err)
	}

	included, err := pattern.Parse([]string{"/deeds", "!*.bak"})
	if err != nil {
		panic(err)
	}
	target := filepath.Join(dir, "target")
	result, err := restore.Restore(ctx, repo, backup.SnapshotID, target, restore.Options{
		Select: restore.Include(included),
		Verify: true,
	})
	if errors.Is(err, restore.ErrIncomplete) {
		for _, m := range result.Missing {
			fmt.Println("missing:", m.Path, m.Err)
		}
	}
	fmt.Println(result.Files, "file,", result.FileBytes, "bytes,", result.Verified, "read again:", err)

	again, err := restore.Restore(ctx, repo, backup.SnapshotID, target, restore.Options{Select: restore.Include(included)})
	fmt.Println(again.Bytes, "bytes written the second time:", err)
	// Output:
	// 1 file, 6 bytes, 6 read again: <nil>
	// 0 bytes written the second time: <nil>
}
