package archive

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

// killedRepo and killedSource tell the test binary, run as a process to be killed, what to back up where.
const (
	killedRepo   = "ARCHIVE_TEST_KILLED_REPOSITORY"
	killedSource = "ARCHIVE_TEST_KILLED_SOURCE"
)

func killedOptions(src string) Options {
	return Options{Roots: []Root{{Path: "/src", Source: src}}, Host: "h", Checkpoint: 20 * time.Millisecond, Report: func(string, error) {}}
}

// TestProcessToBeKilled is that process.
func TestProcessToBeKilled(t *testing.T) {
	dir, src := os.Getenv(killedRepo), os.Getenv(killedSource)
	if dir == "" {
		t.Skip("run by TestKilledBackups only")
	}
	files, err := chunkstore.Open(dir)
	must(t, err)
	repo, err := repository.Open(t.Context(), files, password, repository.Options{PackBytes: 4 << 20})
	must(t, err)
	fmt.Println("begin")
	_, err = Backup(t.Context(), repo, killedOptions(src))
	must(t, err)
}

// TestKilledBackups kills a process at several moments of its backup. Each time stock restic accepts the repository, and
// the next backup stores less than all.
func TestKilledBackups(t *testing.T) {
	src := t.TempDir()
	content := make(map[string][]byte)
	for i := range 120 {
		content[fmt.Sprintf("%d/%d", i%10, i)] = noise(fmt.Sprint(i), 250_000)
	}
	write(t, src, content)
	self, err := os.Executable()
	must(t, err)
	resumed := false
	for _, packs := range []int{1, 4, 8} {
		_, files := newRepo(t, repository.Options{})
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestProcessToBeKilled$")
		cmd.Env = append(os.Environ(), killedRepo+"="+files.Dir(), killedSource+"="+src)
		must(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		waitForPacks(t, files.Dir(), packs, ended)
		_ = cmd.Process.Kill() // it may have ended
		<-ended
		stock(t, src, files.Dir(), "check", "--read-data")
		again := resume(t, files, src)
		if again == 120 && packs > 1 {
			t.Errorf("killed at %d packs: %d blobs of 120 were stored again", packs, again)
		}
		resumed = resumed || again > 0 && again < 120
		stock(t, src, files.Dir(), "check", "--read-data")
	}
	if !resumed {
		t.Error("no process was killed in the middle of its backup")
	}
}

// waitForPacks waits until dir holds as many packs, or the process has ended.
func waitForPacks(t *testing.T, dir string, packs int, ended chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			ended <- err
			return
		case <-ctx.Done():
			t.Fatal("the process stores nothing")
		case <-tick.C:
			names, err := filepath.Glob(filepath.Join(dir, "data", "*", "*"))
			must(t, err)
			if len(names) >= packs {
				return
			}
		}
	}
}

// resume backs up after the kill and returns how many blobs that stored.
func resume(t *testing.T, files *chunkstore.Files, src string) int {
	t.Helper()
	repo, err := repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	o := killedOptions(src)
	if o.Parent, o.Partial, _, err = FindParents(t.Context(), repo, "h", []string{"/src"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	r := backup(t, repo, o)
	if r.Files != 120 || r.Problems != 0 {
		t.Errorf("after the kill: %+v; want 120 files", r)
	}
	for e, err := range files.List(t.Context(), chunkstore.Snapshot) {
		must(t, err)
		if e.Name.ID != r.SnapshotID {
			t.Errorf("%v is left", e.Name)
		}
	}
	return r.Stats.DataBlobs
}
