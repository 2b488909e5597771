package repository

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"dengbei/chunkstore"
)

// stockRestic runs restic on the directory of files.
func stockRestic(t *testing.T, files *chunkstore.Files, args ...string) *exec.Cmd {
	t.Helper()
	program, err := exec.LookPath("restic")
	if err != nil {
		t.Skip("stock restic is not installed: that it and we respect each other's locks is not shown")
	}
	cmd := exec.CommandContext(t.Context(), program, append([]string{"-r", files.Dir(), "--no-cache", "-q"}, args...)...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+password, "HOME="+t.TempDir())
	return cmd
}

func TestStockResticHoldsALock(t *testing.T) {
	t.Parallel()
	_, files := newRepo(t, Options{})
	backup := stockRestic(t, files, "backup", "--stdin")
	in, err := backup.StdinPipe()
	must(t, err)
	must(t, backup.Start())
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); count(t, files, chunkstore.Lock) == 0; <-tick.C {
		if time.Now().After(end) {
			t.Fatal("stock restic takes no lock")
		}
	}
	r, err := Open(t.Context(), files, password, shared())
	must(t, err)
	locks, unreadable, err := r.Locks(t.Context())
	if len(locks) != 2 || len(unreadable) != 0 || err != nil || locks[0].PID != backup.Process.Pid || locks[0].Exclusive || locks[0].Stale() {
		t.Errorf("Locks() = %v, %v, %v; want that of process %d and ours", locks, unreadable, err, backup.Process.Pid)
	}
	must(t, r.Lock().Close())
	if _, err := Open(t.Context(), files, password, exclusive()); !errors.Is(err, ErrLocked) {
		t.Errorf("Open() to remove beside a backup of stock restic = %v; want ErrLocked", err)
	}
	if n, err := r.Unlock(t.Context(), false); n != 0 || err != nil {
		t.Errorf("Unlock() removes %d locks, %v; want none of a process that runs", n, err)
	}
	_, err = io.WriteString(in, "content")
	must(t, err)
	must(t, in.Close())
	o := exclusive()
	o.Lock.Wait = time.Minute
	r, err = Open(t.Context(), files, password, o) // once the backup has ended
	must(t, err)
	must(t, r.Lock().Close())
	must(t, backup.Wait())
}

func TestStockResticGivesWay(t *testing.T) {
	t.Parallel()
	r, files := newRepo(t, Options{})
	run := func(args ...string) (string, error) {
		out, err := stockRestic(t, files, args...).CombinedOutput()
		return string(out), err
	}
	for _, tt := range []struct {
		name    string
		options Options
		args    []string
		locked  bool
	}{
		{"our reading and its reading", shared(), []string{"snapshots"}, false},
		{"our reading and its pruning", shared(), []string{"prune"}, true},
		{"our pruning and its reading", exclusive(), []string{"snapshots"}, true},
		{"our pruning and its reading without a lock", exclusive(), []string{"snapshots", "--no-lock"}, false},
	} {
		own, err := Open(t.Context(), files, password, tt.options)
		must(t, err)
		out, err := run(tt.args...)
		if (err != nil) != tt.locked || tt.locked != strings.Contains(out, "already locked") {
			t.Errorf("%s: %v, locked = %t\n%s", tt.name, err, tt.locked, out)
		}
		must(t, own.Lock().Close())
	}

	hangs := make(chan os.Signal, 1)
	signal.Notify(hangs, syscall.SIGHUP) // this process is asked whether it lives
	defer signal.Stop(hangs)
	// It removes our locks when their holder is gone, and not before.
	own, err := Open(t.Context(), files, password, shared())
	must(t, err)
	gone := exec.Command("true")
	must(t, gone.Run())
	host, _ := whoAndWhere()
	plantLock(t, r, lockFile{Time: time.Now(), Hostname: host, PID: gone.Process.Pid, Process: "some boot 1 1"})
	if out, err := run("unlock"); err != nil {
		t.Errorf("unlock: %v\n%s", err, out)
	}
	if n := count(t, files, chunkstore.Lock); n != 1 {
		t.Errorf("%d locks are left; want that of the process that runs", n)
	}
	must(t, own.Lock().Err())
	must(t, own.Lock().Close())
}
