package transcribe

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

const (
	// Ranges of a pack are read as one if no more than gapBytes lie between them and they are no longer than runBytes.
	gapBytes = 128 << 10
	runBytes = 8 << 20
)

// references is what a tree names; the rest of it is copied unseen.
type references struct {
	Nodes []struct {
		Content []repository.ID `json:"content"`
		Subtree *repository.ID  `json:"subtree"`
	} `json:"nodes"`
}

// walk plans the copying of what tree needs and the target has not.
func (c *copier) walk(ctx context.Context, tree repository.ID) error {
	stack := []repository.ID{tree}
	for len(stack) > 0 {
		id := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if _, ok := c.visited[id]; ok {
			continue
		}
		c.visited[id] = struct{}{}
		b, err := c.from.LoadBlob(ctx, repository.TreeBlob, id, nil)
		if err != nil {
			return err
		}
		var r references
		if err := json.Unmarshal(b, &r); err != nil {
			return fmt.Errorf("tree blob %s: %w: %w", id, repository.ErrUnreadable, err)
		}
		if !c.to.Has(repository.TreeBlob, id) {
			c.trees = append(c.trees, id)
		}
		for i := range r.Nodes {
			n := &r.Nodes[i]
			if n.Subtree != nil {
				stack = append(stack, *n.Subtree)
			}
			for _, id := range n.Content {
				if _, ok := c.planned[id]; ok || c.to.Has(repository.DataBlob, id) {
					continue
				}
				c.planned[id] = struct{}{}
				c.data = append(c.data, id)
				if l := c.from.Locate(repository.DataBlob, id); len(l) > 0 {
					c.bytes += int64(l[0].Blob.Length)
				}
			}
		}
		if len(c.data) >= roundBlobs {
			if err := c.copyData(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *copier) copyData(ctx context.Context) error {
	if err := c.copyAll(ctx, repository.DataBlob, c.data); err != nil {
		return err
	}
	c.data = c.data[:0]
	clear(c.planned)
	return nil
}

// copyAll copies blobs in the order in which they lie in the source's packs, several packs at once.
func (c *copier) copyAll(ctx context.Context, typ repository.BlobType, ids []repository.ID) error {
	places := make([]repository.Location, 0, len(ids))
	for _, id := range ids {
		l := c.from.Locate(typ, id)
		if len(l) == 0 {
			return fmt.Errorf("%s blob %s: %w", typ, id, repository.ErrNoBlob)
		}
		places = append(places, l[0])
	}
	slices.SortFunc(places, func(a, b repository.Location) int {
		return cmp.Or(a.Pack.ID.Compare(b.Pack.ID), cmp.Compare(a.Blob.Offset, b.Blob.Offset))
	})
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0) + 1) // one waits for the disk
	var mu sync.Mutex                     // guards the progress
	buffers := sync.Pool{New: func() any { return new([]byte) }}
	for len(places) > 0 && ctx.Err() == nil {
		n := 1
		for n < len(places) && places[n].Pack == places[0].Pack {
			n++
		}
		pack := places[:n]
		places = places[n:]
		g.Go(func() error {
			buf := buffers.Get().(*[]byte)
			defer buffers.Put(buf)
			return c.copyPack(ctx, pack, buf, func(blobs int, bytes int64) {
				mu.Lock()
				defer mu.Unlock()
				c.progress.Blobs += blobs
				c.progress.Bytes += bytes
				c.options.Progress(c.progress)
			})
		})
	}
	return g.Wait()
}

// copyPack copies blobs of one pack, ascending by offset.
func (c *copier) copyPack(ctx context.Context, places []repository.Location, buf *[]byte, copied func(blobs int, bytes int64)) error {
	r, err := repository.OpenRanges(ctx, c.from.Files(), places[0].Pack)
	if err != nil {
		r = nil // each blob is then looked for elsewhere
	} else {
		defer r.Close()
	}
	for len(places) > 0 {
		n, start, end := run(places)
		*buf = slices.Grow((*buf)[:0], int(end-start))[:end-start]
		sound := r != nil && r.ReadRange(ctx, start, *buf) == nil
		for _, l := range places[:n] {
			var env []byte
			if sound {
				env = (*buf)[int64(l.Blob.Offset)-start:][:l.Blob.Length]
			}
			if err := c.copyBlob(ctx, l.Pack, l.Blob, env); err != nil {
				return err
			}
		}
		copied(n, end-start)
		places = places[n:]
	}
	return nil
}

// run returns how many of the places are read together, and from where to where.
func run(places []repository.Location) (n int, start, end int64) {
	start = int64(places[0].Blob.Offset)
	for n = 0; n < len(places); n++ {
		b := places[n].Blob
		stop := int64(b.Offset) + int64(b.Length)
		if n > 0 && (int64(b.Offset) > end+gapBytes || stop > start+runBytes) {
			break
		}
		end = max(end, stop)
	}
	return n, start, end
}

// copyBlob stores one blob whose envelope was read, nil if it could not be. One that is damaged is looked for in other
// packs, and healed if the source's files can do that.
func (c *copier) copyBlob(ctx context.Context, pack chunkstore.Name, b repository.PackedBlob, env []byte) error {
	var cause error
	if env != nil {
		cause = c.copySound(ctx, b, env)
		if cause == nil || !errors.Is(cause, repository.ErrDamaged) {
			return cause
		}
	}
	content, err := c.from.LoadBlob(ctx, b.Type, b.ID, nil)
	if err != nil {
		return fmt.Errorf("read source: %w", err)
	}
	_, _, err = c.session.SaveBlob(ctx, b.Type, content)
	return err
}

func (c *copier) copySound(ctx context.Context, b repository.PackedBlob, env []byte) error {
	if c.options.Recompress {
		content, err := c.from.DecodeBlob(nil, env, b)
		if err != nil {
			return err
		}
		_, _, err = c.session.SaveBlob(ctx, b.Type, content)
		return err
	}
	payload, err := c.from.OpenEnvelope(env, b)
	if err != nil {
		return err
	}
	_, err = c.session.SavePayload(ctx, b, payload)
	return err
}
