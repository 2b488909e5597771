package intake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dengbei/chunkstore/digest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// at is when the tests' submissions are received.
func at() time.Time { return time.Date(2026, 3, 1, 1, 2, 3, 0, time.UTC) }

// file describes content under path.
func file(path, content string) File {
	return File{Path: path, SizeBytes: int64(len(content)), SHA256: digest.Of([]byte(content)), SM3: digest.OfSM3([]byte(content))}
}

// contents is what a test's record holds.
func contents() map[string]string {
	return map[string]string{"请示/正文.txt": "关于登记备份的请示", "请示/附件 1.txt": "附件", "空.txt": "", "a\nb%.txt": "newline", strings.Repeat("长", 85): "255 bytes"}
}

func submission(title string, files map[string]string) *Submission {
	r := Record{Title: title, Opening: OpeningOpen, Metadata: []Element{{"题名", title}, {"未知元素", "留"}}}
	for p, c := range files {
		r.Files = append(r.Files, file(p, c))
	}
	return &Submission{Registrant: "330102-office", Authority: "330102", Batch: "2026-1", Records: []Record{r}}
}

func openQuarantine(t *testing.T, dir string) *Quarantine {
	t.Helper()
	q, err := OpenQuarantine(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

func putAll(t *testing.T, in *Incoming, files map[string]string) {
	t.Helper()
	for p, c := range files {
		if err := in.Put(t.Context(), 0, p, strings.NewReader(c)); err != nil {
			t.Fatalf("Put(%q) = %v", p, err)
		}
	}
}

func receive(t *testing.T, q *Quarantine, sub *Submission, files map[string]string) digest.Digest {
	t.Helper()
	in, err := q.Receive(sub, []byte("signature"), at())
	if err != nil {
		t.Fatal(err)
	}
	putAll(t, in, files)
	if err := in.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	return in.ID()
}

// names lists what lies in the quarantine's folder besides the lock.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Name() != lockName {
			out = append(out, e.Name())
		}
	}
	return out
}

func TestReceiveAndReopen(t *testing.T) {
	dir := t.TempDir()
	q := openQuarantine(t, dir)
	sub := submission("请示", contents())
	id := receive(t, q, sub, contents())

	var exists *ExistsError
	if _, err := q.Receive(sub, nil, at()); !errors.As(err, &exists) || !errors.Is(err, ErrExists) || exists.State.Phase != Received {
		t.Fatalf("Receive again = %v; want ExistsError with RECEIVED", err)
	}
	if _, err := OpenQuarantine(dir); !errors.Is(err, ErrBusy) && runtime.GOOS == "linux" {
		t.Fatalf("OpenQuarantine twice = %v; want ErrBusy", err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	q = openQuarantine(t, dir)
	s, err := q.Load(id)
	if err != nil || s.Phase != Received || s.Files != len(contents()) || !s.ReceivedAt.Equal(at()) || s.Registrant != sub.Registrant {
		t.Fatalf("Load after reopen = %+v, %v", s, err)
	}
	got, sig, err := q.Submission(id)
	if err != nil || string(sig) != "signature" {
		t.Fatalf("Submission = %v, %q", err, sig)
	}
	if again, err := ID(got); err != nil || again != id {
		t.Fatalf("ID of what was stored = %v, %v; want %v", again, err, id)
	}
	for p, c := range contents() {
		b, err := os.ReadFile(filepath.Join(q.RecordDir(id, 0), "data", p))
		if err != nil || string(b) != c {
			t.Fatalf("stored %q = %q, %v; want %q", p, b, err, c)
		}
		f, err := q.Open(id, 0, p)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if _, err := q.Open(id, 0, "../../state.json"); !errors.Is(err, ErrRule) {
		t.Fatalf("Open outside = %v; want ErrRule", err)
	}
	if _, err := q.Open(id, 1, "空.txt"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("Open of record 1 = %v; want ErrNotFound", err)
	}
}

func TestCrashBeforeCommitLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	q := openQuarantine(t, dir)
	in, err := q.Receive(submission("x", contents()), nil, at())
	if err != nil {
		t.Fatal(err)
	}
	putAll(t, in, contents())
	in.syncs.Wait()
	if err := os.MkdirAll(filepath.Join(dir, strings.Repeat("ab", 32)+wipeSuffix, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	// A kill: no Abort, no Commit; only the kernel closes what was open.
	in.part.Close()
	q.Close()
	q = openQuarantine(t, dir)
	if left := names(t, dir); len(left) != 0 {
		t.Fatalf("after the crash lie %v; want nothing", left)
	}
	if len(q.List(Filter{})) != 0 {
		t.Fatal("an unacknowledged submission is listed")
	}
	receive(t, q, submission("x", contents()), contents())
}

func TestPutRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		record        int
		path, content string
		rule          Rule
	}{
		"one byte short":             {0, "a.txt", "conten", RuleBytes},
		"one byte more":              {0, "a.txt", "content!", RuleBytes},
		"other bytes":                {0, "a.txt", "CONTENT", RuleDigest},
		"not announced":              {0, "b.txt", "content", RuleCount},
		"record not announced":       {1, "a.txt", "content", RuleCount},
		"negative record":            {-1, "a.txt", "content", RuleCount},
		"path out of the folder":     {0, "../a.txt", "content", RulePathSafety},
		"absolute path":              {0, "/etc/passwd", "content", RulePathSafety},
		"backslash":                  {0, `..\a.txt`, "content", RulePathSafety},
		"a folder of the quarantine": {0, "", "content", RulePathSafety},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			q := openQuarantine(t, dir)
			in, err := q.Receive(submission("x", map[string]string{"a.txt": "content"}), nil, at())
			if err != nil {
				t.Fatal(err)
			}
			var refusal *RuleError
			if err := in.Put(t.Context(), row.record, row.path, strings.NewReader(row.content)); !errors.As(err, &refusal) || refusal.Rule != row.rule {
				t.Fatalf("Put = %v; want rule %s", err, row.rule)
			}
			if err := in.Commit(t.Context()); !errors.Is(err, ErrRule) {
				t.Fatalf("Commit without the file = %v; want ErrRule", err)
			}
			putAll(t, in, map[string]string{"a.txt": "content"})
			if err := in.Put(t.Context(), 0, "a.txt", strings.NewReader("content")); !errors.Is(err, ErrRule) {
				t.Fatalf("Put twice = %v; want ErrRule", err)
			}
			if err := in.Commit(t.Context()); err != nil {
				t.Fatalf("Commit after the right file = %v", err)
			}
		})
	}
}

func TestCommitReadsBack(t *testing.T) {
	dir := t.TempDir()
	q := openQuarantine(t, dir)
	in, err := q.Receive(submission("x", map[string]string{"a.txt": "content"}), nil, at())
	if err != nil {
		t.Fatal(err)
	}
	putAll(t, in, map[string]string{"a.txt": "content"})
	in.syncs.Wait()
	if err := os.WriteFile(filepath.Join(dir, in.partName(), "records/0/data/a.txt"), []byte("c0ntent"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := in.Commit(t.Context()); !errors.Is(err, digest.ErrMismatch) {
		t.Fatalf("Commit of rotten bytes = %v; want ErrMismatch", err)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Fatalf("after the refusal lie %v; want nothing", left)
	}
	if err := in.Commit(t.Context()); err == nil {
		t.Fatal("Commit twice succeeded")
	}
}

func TestAbort(t *testing.T) {
	dir := t.TempDir()
	q := openQuarantine(t, dir)
	sub := submission("x", contents())
	in, err := q.Receive(sub, nil, at())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Receive(sub, nil, at()); !errors.Is(err, ErrBusy) {
		t.Fatalf("Receive while receiving = %v; want ErrBusy", err)
	}
	putAll(t, in, contents())
	for range 2 {
		if err := in.Abort(); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Put(t.Context(), 0, "空.txt", strings.NewReader("")); !errors.Is(err, ErrAborted) {
		t.Fatalf("Put after Abort = %v; want ErrAborted", err)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Fatalf("after Abort lie %v; want nothing", left)
	}
	receive(t, q, sub, contents())
}

func TestSecrecyIsRefusedBeforeAnythingIsStored(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"code MM":             func(r *Record) { r.Secrecy = "MM" },
		"code JM":             func(r *Record) { r.Secrecy = "JM" },
		"code UM":             func(r *Record) { r.Secrecy = "UM" },
		"element 密级 秘密":       func(r *Record) { r.Metadata = []Element{{"密级", "秘密"}} },
		"element with period": func(r *Record) { r.Metadata = []Element{{" 密级 ", "机密★10年"}} },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			q := openQuarantine(t, dir)
			sub := submission("x", contents())
			change(&sub.Records[0])
			var refusal *RuleError
			if _, err := q.Receive(sub, nil, at()); !errors.As(err, &refusal) || refusal.Rule != RuleSecrecy {
				t.Fatalf("Receive = %v; want rule X-1", err)
			}
			if left := names(t, dir); len(left) != 0 {
				t.Fatalf("stored %v; want nothing", left)
			}
		})
	}
	for _, allowed := range []string{"", "GK", "XZ"} {
		sub := submission("x", contents())
		sub.Records[0].Secrecy = allowed
		if err := CheckSecrecy(sub); err != nil {
			t.Errorf("CheckSecrecy(%q) = %v", allowed, err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	q := openQuarantine(t, dir)
	t.Cleanup(func() { q.Close() })
	kept := receive(t, q, submission("kept", contents()), contents())
	big := map[string]string{"small": "fits", "big": strings.Repeat("x", 1<<20)}
	in, err := q.Receive(submission("big", big), nil, at())
	if err != nil {
		t.Fatal(err)
	}
	putAll(t, in, map[string]string{"small": "fits"})
	if err := in.Put(t.Context(), 0, "big", strings.NewReader(big["big"])); !errors.Is(err, ErrFull) {
		t.Fatalf("Put on a full disk = %v; want ErrFull", err)
	}
	if err := in.Commit(t.Context()); !errors.Is(err, ErrFull) {
		t.Fatalf("Commit after it = %v; want ErrFull", err)
	}
	if err := in.Abort(); err != nil {
		t.Fatal(err)
	}
	if left := names(t, dir); len(left) != 1 || left[0] != kept.Hex() {
		t.Fatalf("after a full disk lie %v; want only %s", left, kept.Hex())
	}
	receive(t, q, submission("next", contents()), contents())
}

func TestManySubmissionsAtOnce(t *testing.T) {
	dir := t.TempDir()
	q := openQuarantine(t, dir)
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for i := range 100 {
		wg.Go(func() {
			files := map[string]string{"a.txt": fmt.Sprint("content ", i), "d/b.txt": "same"}
			in, err := q.Receive(submission(fmt.Sprint("record ", i), files), nil, at())
			if err != nil {
				errs <- err
				return
			}
			for p, c := range files {
				if err := in.Put(context.Background(), 0, p, strings.NewReader(c)); err != nil {
					errs <- err
				}
			}
			if i%10 == 9 {
				errs <- in.Abort()
				return
			}
			errs <- in.Commit(context.Background())
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	q.Close()
	q = openQuarantine(t, dir)
	if got := len(q.List(Filter{Phases: []Phase{Received}})); got != 90 {
		t.Fatalf("List = %d submissions; want 90", got)
	}
	if left := names(t, dir); len(left) != 90 {
		t.Fatalf("%d folders; want 90", len(left))
	}
}
