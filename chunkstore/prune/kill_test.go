package prune

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/repository"
)

// victimDir is the environment variable that has the test program prune the repository it names.
const victimDir = "DENGBEI_TEST_PRUNE"

// victim prunes a repository once and says on standard output when it begins.
func victim() {
	ctx := context.Background()
	files, err := chunkstore.Open(os.Getenv(victimDir))
	if err == nil {
		var repo *repository.Repository
		repo, err = repository.Open(ctx, files, password, repository.Options{PackBytes: 4 << 20})
		if err == nil {
			chunktest.Begin()
			_, err = Run(ctx, repo, Options{NoGrace: true, Repack: &Repack{Small: true}})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Processes that prune are killed at any moment; every snapshot can be read after each, and stock restic finds no fault.
func TestKilledProcesses(t *testing.T) {
	repo, files := chunktest.NewRepository(t, repository.Options{})
	for i := range 3 {
		save(t, repo, fmt.Sprint("base", i), fmt.Sprint("base", i+1))
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	const kills = 18
	most := 60 * time.Millisecond
	done, cut := 0, 0
	for tries := 0; cut < kills && tries < 5*kills; tries++ {
		// Something to remove, something to rewrite, and something that stays.
		r := open(t, files)
		save(t, r, fmt.Sprint("gone", tries), fmt.Sprint("half", tries))
		gone, _, err := r.Snapshots(t.Context())
		must(t, err)
		save(t, r, fmt.Sprint("half", tries))
		old := gone[rnd.IntN(len(gone))]
		forget(t, files, old.ID)
		snapshots := len(gone)
		if chunktest.Killed(t, time.Duration(rnd.Int64N(int64(most))), victimDir+"="+files.Dir()) {
			done++
			most = max(most*3/4, time.Millisecond)
		} else {
			cut++
			most = min(most*5/4, time.Second)
		}
		wantSound(t, files, snapshots)
	}
	if cut < kills {
		t.Errorf("%d processes were killed, %d ended; want %d killed", cut, done, kills)
	}
	t.Logf("%d processes were killed, %d ended before", cut, done)
	prune(t, files, Options{NoGrace: true, Repack: &Repack{}})
	if r := prune(t, files, Options{DryRun: true}); r.Before != r.Kept || r.UnusedBytes != 0 {
		t.Errorf("after all: %+v; want nothing but what is needed", r)
	}
	restic(t, files.Dir(), "check", "--read-data")
}
