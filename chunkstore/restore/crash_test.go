package restore

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
)

// restoreChild, set in the environment, makes TestRestoreChild restore a snapshot: repository, snapshot and target, apart
// by newlines.
const restoreChild = "RESTORE_TEST_CHILD"

// TestRestoreChild is the process that TestKilledRestoreIsRepeated kills. By itself it does nothing.
func TestRestoreChild(t *testing.T) {
	args := strings.Split(os.Getenv(restoreChild), "\n")
	if len(args) != 3 {
		return
	}
	files, err := chunkstore.Open(args[0])
	must(t, err)
	repo, err := repository.Open(context.Background(), files, password, repository.Options{})
	must(t, err)
	id, err := digest.Parse(args[1])
	must(t, err)
	_, err = Restore(context.Background(), repo, id, args[2], Options{})
	must(t, err)
}

// A restore is killed at many moments. At each of them what has its own name is the old or the new, whole; and a restore
// that gets to the end leaves the snapshot and nothing else.
func TestKilledRestoreIsRepeated(t *testing.T) {
	repo, files := newRepo(t, repository.Options{PackBytes: 4 << 20, Compression: repository.CompressOff, Chunks: repository.DatabaseChunks()})
	src := t.TempDir()
	content, old := make(map[string][]byte), make(map[string][]byte)
	for i := range 400 {
		name := fmt.Sprintf("new%d/sub%d/f%d", i%3, i%7, i)
		content[name] = noise(name, 3000+i*20)
	}
	for i := range 60 {
		name := fmt.Sprintf("there/f%d", i)
		content[name], old[name] = noise(name, 5000), noise("old "+name, 5000)
	}
	for i := range 3 {
		name := fmt.Sprintf("there/big%d", i)
		content[name] = noise(name, 6<<20)
		old[name] = append(noise(name, 3<<20), noise("old "+name, 4<<20)...)
	}
	write(t, src, content)
	r := backup(t, repo, src)

	whole := func(target string) {
		t.Helper()
		must(t, filepath.WalkDir(target, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if strings.HasPrefix(d.Name(), unfinishedPrefix) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if d.IsDir() {
				return nil
			}
			name, _ := filepath.Rel(target, p)
			b, err := os.ReadFile(p)
			if err == nil && string(b) != string(content[name]) && string(b) != string(old[name]) {
				t.Errorf("%s has %d bytes that are neither the old nor the new", name, len(b))
			}
			return err
		}))
	}
	killed, target := 0, ""
	for round := range 8 {
		if round%4 == 0 { // then three times on top of what the last kill left
			target = t.TempDir()
			write(t, target, old)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestRestoreChild$")
		cmd.Env = append(os.Environ(), restoreChild+"="+files.Dir()+"\n"+r.SnapshotID.String()+"\n"+target)
		must(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			must(t, err)
		case <-begun(t, target, round):
			if cmd.Process.Kill() == nil {
				killed++
			}
			<-ended
		}
		whole(target)
		if round%4 == 3 {
			got, err := Restore(t.Context(), repo, r.SnapshotID, target, Options{})
			must(t, err)
			if got.Failed > 0 {
				t.Errorf("missing %v", got.Missing)
			}
			sameTree(t, target, src)
		}
	}
	if killed < 3 {
		t.Errorf("the restore was killed %d times; want it killed in its middle", killed)
	}
}

// begun tells when the restore has made something, and a moment that differs from round to round after that.
func begun(t *testing.T, target string, round int) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		deadline := time.Now().Add(20 * time.Second)
		for time.Now().Before(deadline) {
			left, _ := filepath.Glob(filepath.Join(target, unfinishedPrefix+"*"))
			if len(left) > 0 {
				break
			}
			<-time.After(time.Millisecond)
		}
		<-time.After(time.Duration(round*13) * time.Millisecond)
	}()
	return c
}
