package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
	"dengbei/deploy/bench/process"
)

const (
	blobsPerFile = 50_000 // stock restic's
	blobsPerPack = 16     // of 1 MiB in packs of 16 MiB
)

// setup is what a measurement needs to know.
type setup struct {
	Measure     string // "build", "open" or "memory"
	Repo, Cache string
	Blobs       int
	Lookups     int // of each kind
}

// result is what a measuring process prints. Times of look-ups are in microseconds, memory in bytes.
type result struct {
	OpenSeconds            float64
	UntilFirst             float64 // from the start to the answer of the first look-up
	Seconds                float64 // of the whole measurement
	ProcessSeconds         float64 // UntilFirst with the start of the process; filled in by the parent
	ResidentOpen, PeakOpen int64
	Resident, Peak         int64
	Present, Absent, Place latency
}

type latency struct{ Median, P99 float64 }

func (s *setup) indexFiles() int { return (s.Blobs + blobsPerFile - 1) / blobsPerFile }

// blobID returns the ID of blob i; beyond the number of blobs there is none.
func blobID(i int) repository.ID {
	return sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("blob"), uint64(i)))
}

// write makes the repository: index files as a backup of such a size leaves them, and no packs.
func (s *setup) write(ctx context.Context) error {
	files, err := chunkstore.Create(s.Repo)
	if err != nil {
		return err
	}
	r, err := repository.Init(ctx, files, password, repository.Options{})
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for n := range s.indexFiles() {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			_, err := r.SaveIndexFile(ctx, s.indexFile(n))
			return err
		})
	}
	return g.Wait()
}

// indexFile returns index file n of the repository.
func (s *setup) indexFile(n int) *repository.IndexFile {
	f := new(repository.IndexFile)
	at := n * blobsPerFile
	for end := min(at+blobsPerFile, s.Blobs); at < end; {
		p := repository.IndexedPack{ID: sha256.Sum256(binary.LittleEndian.AppendUint64([]byte("pack"), uint64(at)))}
		offset := uint32(0)
		for last := min(at+blobsPerPack, end); at < last; at++ {
			id := blobID(at)
			n := 1<<19 + uint32(binary.LittleEndian.Uint16(id[:]))
			p.Blobs = append(p.Blobs, repository.PackedBlob{ID: id, Offset: offset, Length: n, UncompressedBytes: 2 * n})
			offset += n
		}
		f.Packs = append(f.Packs, p)
	}
	return f
}

var children = process.Child[setup, *result](measure)

// measure measures what s asks for, in a process of its own.
func measure(ctx context.Context, s setup) (*result, error) {
	began := time.Now()
	out := new(result)
	files, err := chunkstore.Open(s.Repo)
	if err != nil {
		return nil, err
	}
	o := repository.Options{CacheDir: s.Cache}
	if s.Measure == "memory" {
		o.CacheDir = ""
	}
	start := time.Now()
	r, err := repository.Open(ctx, files, password, o)
	if err != nil {
		return nil, err
	}
	out.OpenSeconds = time.Since(start).Seconds()
	if err := r.TableErr(); err != nil {
		return nil, err
	}
	if r.Has(repository.DataBlob, blobID(s.Blobs)) || len(r.Unreadable()) != 0 {
		return nil, fmt.Errorf("a blob is found that was never written, or index files are not read: %v", r.Unreadable())
	}
	out.UntilFirst = time.Since(began).Seconds()
	if out.ResidentOpen, out.PeakOpen, err = process.Memory(); err != nil {
		return nil, err
	}
	if s.Measure != "build" {
		if err := out.lookUp(r, s.Blobs, s.Lookups); err != nil {
			return nil, err
		}
	}
	if out.Resident, out.Peak, err = process.Memory(); err != nil {
		return nil, err
	}
	out.Seconds = time.Since(began).Seconds()
	return out, nil
}

// lookUp times so many look-ups of each kind.
func (out *result) lookUp(r *repository.Repository, blobs, lookups int) error {
	step := 1_000_003 // goes all over the blobs; a prime
	times := make([]uint32, 0, lookups)
	measure := func(first, step, n int, look func(repository.ID) bool) (latency, error) {
		for i := range lookups / 10 { // warm
			look(blobID(first + i*step%n))
		}
		times = times[:0]
		for i := range lookups {
			id := blobID(first + i*step%n)
			start := time.Now()
			ok := look(id)
			times = append(times, uint32(time.Since(start)))
			if !ok {
				return latency{}, fmt.Errorf("the look-up of %s is wrong", id)
			}
		}
		slices.Sort(times)
		return latency{float64(times[len(times)/2]) / 1000, float64(times[len(times)*99/100]) / 1000}, nil
	}
	var err error
	if out.Present, err = measure(0, step, blobs, func(id repository.ID) bool { return r.Has(repository.DataBlob, id) }); err != nil {
		return err
	}
	if out.Absent, err = measure(blobs, 1, lookups, func(id repository.ID) bool { return !r.Has(repository.DataBlob, id) }); err != nil {
		return err
	}
	out.Place, err = measure(0, step, blobs, func(id repository.ID) bool {
		l := r.Locate(repository.DataBlob, id)
		return len(l) == 1 && l[0].Blob.ID == id
	})
	return err
}
