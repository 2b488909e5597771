package chunktest_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dengbei/chunkstore/chunktest"
)

// states lists what a power cut may leave after the last step, one line each.
func states(r *chunktest.Recorder) []string {
	var all []string
	for c := range r.Crashes() {
		if c.Steps != r.Len() {
			continue
		}
		var line []string
		for _, p := range slices.Sorted(maps.Keys(c.Files)) {
			line = append(line, fmt.Sprintf("%s=%q", p, c.Files[p]))
		}
		all = append(all, strings.Join(line, " "))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestCrashesOfOneFile(t *testing.T) {
	dir := t.TempDir()
	chunktest.Must(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	chunktest.Must(t, os.Mkdir(filepath.Join(dir, "b"), 0o700))
	r := chunktest.NewRecorder(t, dir)
	expect := func(what string, want ...string) {
		t.Helper()
		slices.Sort(want)
		if got := states(r); !slices.Equal(got, want) {
			t.Errorf("%s: a power cut leaves %q; want %q", what, got, want)
		}
	}
	from, to := filepath.Join(dir, "a/x"), filepath.Join(dir, "b/y")
	f, err := r.OpenFile(from, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	chunktest.Must(t, err)
	defer f.Close()
	_, err = f.Write([]byte("1234"))
	chunktest.Must(t, err)
	expect("written", "", `a/x=""`, `a/x="12"`, `a/x="12\x00\x00"`, `a/x="1234"`)
	chunktest.Must(t, f.Sync())
	expect("synced", "", `a/x="1234"`)
	chunktest.Must(t, r.Rename(from, to))
	expect("renamed", "", `a/x="1234"`, `b/y="1234"`, `a/x="1234" b/y="1234"`)
	chunktest.Must(t, r.SyncDir(filepath.Join(dir, "b")))
	expect("new directory synced", `b/y="1234"`, `a/x="1234" b/y="1234"`)
	chunktest.Must(t, r.SyncDir(filepath.Join(dir, "a")))
	expect("both synced", `b/y="1234"`)
	chunktest.Must(t, r.Remove(to))
	expect("removed", "", `b/y="1234"`)
	chunktest.Must(t, r.SyncDir(filepath.Join(dir, "b")))
	expect("removal synced", "")
}

func TestCrashesOfNames(t *testing.T) {
	dir := t.TempDir()
	chunktest.WriteFiles(t, dir, map[string][]byte{"old/a": []byte("a"), "new/z": nil})
	r := chunktest.NewRecorder(t, dir)
	// Synced at the old place only: the file has its new name all the same, for it must have one.
	chunktest.Must(t, r.Rename(filepath.Join(dir, "old/a"), filepath.Join(dir, "new/b")))
	chunktest.Must(t, r.SyncDir(filepath.Join(dir, "old")))
	if got, want := states(r), []string{`new/b="a" new/z=""`}; !slices.Equal(got, want) {
		t.Errorf("old directory synced: a power cut leaves %q; want %q", got, want)
	}
	// A file in a directory that is not durable goes with it, synced or not.
	chunktest.Must(t, r.Mkdir(filepath.Join(dir, "sub"), 0o700))
	f, err := r.OpenFile(filepath.Join(dir, "sub/c"), os.O_RDWR|os.O_CREATE, 0o600)
	chunktest.Must(t, err)
	chunktest.Must(t, f.Sync())
	chunktest.Must(t, f.Close())
	chunktest.Must(t, r.SyncDir(filepath.Join(dir, "sub")))
	if got, want := states(r), []string{`new/b="a" new/z=""`, `new/b="a" new/z="" sub/c=""`}; !slices.Equal(got, want) {
		t.Errorf("in a directory that is not synced: a power cut leaves %q; want %q", got, want)
	}
	// What was written down is what was done.
	for c := range r.Crashes() {
		if c.Steps == r.Len() && strings.HasSuffix(c.What, "everything kept") {
			for p, b := range c.Files {
				got, err := os.ReadFile(filepath.Join(dir, p))
				if err != nil || string(got) != string(b) {
					t.Errorf("%s is %q, %v on disk; want %q", p, got, err, b)
				}
			}
		}
	}
}
