package chunkstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

// A file gets its name, the hash of its bytes, at its end.
func ExampleFiles_Stage() {
	dir, err := os.MkdirTemp("", "stage")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	files, err := chunkstore.Create(filepath.Join(dir, "repository"))
	if err != nil {
		panic(err)
	}
	staged, err := files.Stage(chunkstore.Pack)
	if err != nil {
		panic(err)
	}
	defer staged.Abort() // nothing once it is committed
	for _, blob := range []string{"one blob, ", "another"} {
		if _, err := staged.Write([]byte(blob)); err != nil {
			panic(err)
		}
	}
	entry, err := staged.Commit() // durable when it returns
	fmt.Println(entry.Name.Kind, entry.SizeBytes, entry.Name.ID == digest.Of([]byte("one blob, another")), err)
	// Output:
	// data 17 true <nil>
}

// Many ranges of one file are read with the file open.
func ExampleFiles_OpenRanges() {
	dir, err := os.MkdirTemp("", "ranges")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	files, err := chunkstore.Create(filepath.Join(dir, "repository"))
	if err != nil {
		panic(err)
	}
	pack := []byte("first second third")
	name := chunkstore.Name{Kind: chunkstore.Pack, ID: digest.Of(pack)}
	if err := files.PutBytes(ctx, name, pack); err != nil {
		panic(err)
	}
	ranges, err := files.OpenRanges(ctx, name)
	if err != nil {
		panic(err)
	}
	defer ranges.Close()
	buf := make([]byte, 6)
	fmt.Println(ranges.ReadRange(ctx, 6, buf), string(buf))
	fmt.Println(ranges.ReadRange(ctx, 0, buf[:5]), string(buf[:5]))
	// Output:
	// <nil> second
	// <nil> first
}

// A file whose bytes have rotted is moved aside, so that a sound copy can take its place.
func ExampleFiles_Quarantine() {
	dir, err := os.MkdirTemp("", "quarantine")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	files, err := chunkstore.Create(filepath.Join(dir, "repository"))
	if err != nil {
		panic(err)
	}
	pack := []byte("a pack")
	name := chunkstore.Name{Kind: chunkstore.Pack, ID: digest.Of(pack)}
	path := filepath.Join(files.Dir(), "data", name.ID.Hex()[:2], name.ID.Hex())
	if err := os.WriteFile(path, []byte("a patk"), 0o400); err != nil {
		panic(err)
	}
	fmt.Println("rotten:", errors.Is(files.Verify(ctx, name), digest.ErrMismatch))
	if err := files.Quarantine(name); err != nil {
		panic(err)
	}
	if err := files.PutBytes(ctx, name, pack); err != nil {
		panic(err)
	}
	damaged, err := files.Damaged()
	fmt.Println("sound:", files.Verify(ctx, name), "aside:", len(damaged), err)
	// Output:
	// rotten: true
	// sound: <nil> aside: 1 <nil>
}
