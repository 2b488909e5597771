package transcribe

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

// The environment variables that have the test program copy from one repository into another.
const (
	victimFrom = "DENGBEI_TEST_COPY_FROM"
	victimTo   = "DENGBEI_TEST_COPY_TO"
)

// victim copies all snapshots and says on standard output when it begins.
func victim() {
	if err := copyBetween(context.Background(), os.Getenv(victimFrom), os.Getenv(victimTo), chunktest.Begin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func copyBetween(ctx context.Context, fromDir, toDir string, begin func()) error {
	var repos [2]*repository.Repository
	for i, dir := range []string{fromDir, toDir} {
		files, err := chunkstore.Open(dir)
		if err != nil {
			return err
		}
		if repos[i], err = repository.Open(ctx, files, password, repository.Options{PackBytes: 4 << 20}); err != nil {
			return err
		}
	}
	list, _, err := repos[0].Snapshots(ctx)
	if err != nil {
		return err
	}
	begin()
	_, err = Copy(ctx, repos[0], repos[1], list, Options{})
	return err
}

// Processes that copy are killed at any moment; what the target has is whole after each, and the next goes on.
func TestKilledProcesses(t *testing.T) {
	repo, from := chunktest.NewRepository(t, repository.Options{})
	dir := t.TempDir()
	for i := range 4 {
		chunktest.WriteFiles(t, dir, map[string][]byte{fmt.Sprint("f", i): chunktest.Noise(fmt.Sprint(i), 3<<20)})
		backup(t, repo, dir)
	}
	total := len(snapshots(t, repo))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	fresh := func() *chunkstore.Files {
		_, files := chunktest.NewRepository(t, repository.Options{Polynomial: repo.Config().Polynomial})
		return files
	}
	const kills = 14
	most, to := 150*time.Millisecond, fresh()
	cut, done := 0, 0
	for tries := 0; cut < kills && tries < 5*kills; tries++ {
		ended := chunktest.Killed(t, time.Duration(rnd.Int64N(int64(most))), victimFrom+"="+from.Dir(), victimTo+"="+to.Dir())
		n := whole(t, to)
		if !ended {
			cut++
			most = min(most*5/4, time.Second)
			continue
		}
		done++
		if n != total {
			t.Fatalf("a copy that ended left %d snapshots; want %d", n, total)
		}
		most, to = max(most*3/4, time.Millisecond), fresh()
	}
	if cut < kills {
		t.Errorf("%d processes were killed, %d ended; want %d killed", cut, done, kills)
	}
	t.Logf("%d processes were killed, %d ended before", cut, done)
	must(t, copyBetween(t.Context(), from.Dir(), to.Dir(), func() {}))
	if n := whole(t, to); n != total {
		t.Errorf("in the end there are %d snapshots; want %d", n, total)
	}
	wantRestored(t, to, dir)
	restic(t, to.Dir(), "check", "--read-data")
}
