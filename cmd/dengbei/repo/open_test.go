package repo

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
	"dengbei/cmd/dengbei/term"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newOpener(t *testing.T) *opener {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "r")
	files, err := chunkstore.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repository.Init(t.Context(), files, "secret", repository.Options{Scrypt: repository.Scrypt{N: 2, R: 1, P: 1}}); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"RESTIC_REPOSITORY": dir, "RESTIC_PASSWORD": "secret", "RESTIC_CACHE_DIR": t.TempDir()}
	return &opener{console: &term.Console{Out: io.Discard, Err: io.Discard, Env: func(k string) string { return env[k] }}}
}

// Stock restic hangs up on the holder of a lock to see whether it lives; a command must survive that.
func TestAnOpenRepositorySurvivesHangup(t *testing.T) {
	o := newOpener(t)
	repo, err := o.open(t.Context(), appending, repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	select {
	case <-repo.hangs:
	case <-time.After(10 * time.Second):
		t.Error("the signal did not come")
	}
	if err := repo.Lock().Err(); err != nil {
		t.Error(err)
	}
	if err := repo.close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(repo.local.Dir(), "locks", "*")); len(left) != 0 {
		t.Errorf("locks stay: %v", left)
	}
}

func TestSplitWords(t *testing.T) {
	for _, tt := range []struct {
		give string
		want []string
		ok   bool
	}{
		{"", nil, true},
		{"  cat  file ", []string{"cat", "file"}, true},
		{`sh -c "echo 'a b'"`, []string{"sh", "-c", "echo 'a b'"}, true},
		{`a 'b\c"d' e\ f`, []string{"a", `b\c"d`, "e f"}, true},
		{`a "" ''`, []string{"a", "", ""}, true},
		{`a"b"c`, []string{"abc"}, true},
		{`a "b`, nil, false},
		{`a 'b`, nil, false},
		{`a \`, nil, false},
	} {
		got, err := splitWords(tt.give)
		if (err == nil) != tt.ok || !slices.Equal(got, tt.want) {
			t.Errorf("splitWords(%q) = %q, %v; want %q", tt.give, got, err, tt.want)
		}
	}
}
