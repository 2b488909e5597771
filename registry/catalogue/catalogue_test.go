package catalogue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"dengbei/registry/registrypb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// records is a Source in memory.
type records struct {
	mu      sync.Mutex // guards the fields
	all     []*registrypb.Record
	changed chan struct{}
	err     error
}

func newRecords(titles ...string) *records {
	s := &records{changed: make(chan struct{})}
	s.add(titles...)
	return s
}

func (s *records) add(titles ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, title := range titles {
		n := len(s.all)
		id := sha256.Sum256([]byte(title))
		authority := []string{"330102", "330300"}[n%2]
		s.all = append(s.all, &registrypb.Record{Seq: uint64(n), Number: fmt.Sprintf("%s-2026-%06d-0", authority, n), Authority: authority,
			Registrant: authority + "/rsj", Class: "STANDARD", RegisteredAtMillis: int64(1000 + n), Submission: id[:],
			Content: &registrypb.NewRecord{Title: title}})
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *records) Size() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.all))
}

func (s *records) Records(seq uint64, limit int) ([]*registrypb.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[seq:min(uint64(len(s.all)), seq+uint64(limit))], s.err
}

func (s *records) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func openTest(t *testing.T, path string, opts Options) *Catalogue {
	t.Helper()
	c, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func catchUp(t *testing.T, c *Catalogue, src Source, want uint64) {
	t.Helper()
	if w, err := c.CatchUp(t.Context(), src); err != nil || w != want {
		t.Fatalf("CatchUp = %d, %v; want %d", w, err, want)
	}
}

func seqs(t *testing.T, c *Catalogue, f Filter) string {
	t.Helper()
	rows, _, err := c.List(t.Context(), f)
	if err != nil {
		t.Fatalf("List(%+v): %v", f, err)
	}
	var out []uint64
	for _, r := range rows {
		out = append(out, r.Seq)
	}
	return fmt.Sprint(out)
}

func TestList(t *testing.T) {
	src := newRecords("关于档案登记备份的通知", "浙委办〔2009〕140号 档案馆库建设", "J019-WS·2023·D30·003-0005", "备份登记 表", "", `it's "quoted" (x) AND NOT`)
	c := openTest(t, filepath.Join(t.TempDir(), "catalogue.db"), Options{})
	catchUp(t, c, src, 6)
	zero := uint64(0)
	for _, tt := range []struct {
		name string
		give Filter
		want string
	}{
		{"everything, newest first", Filter{}, "[5 4 3 2 1 0]"},
		{"oldest first", Filter{AfterSeq: &zero, Limit: 2}, "[1 2]"},
		{"continued", Filter{BeforeSeq: 3}, "[2 1 0]"},
		{"limited", Filter{Limit: 2}, "[5 4]"},
		{"by authority", Filter{Authority: "330300"}, "[5 3 1]"},
		{"by registrant", Filter{Registrant: "330102/rsj"}, "[4 2 0]"},
		{"by class", Filter{Class: "CRITICAL"}, "[]"},
		{"by time", Filter{Since: 1001, Until: 1003}, "[2 1]"},
		{"two characters", Filter{Text: "档案"}, "[1 0]"},
		{"one character", Filter{Text: "馆"}, "[1]"},
		{"characters in this order only", Filter{Text: "登记备份"}, "[0]"},
		{"two words in any order", Filter{Text: "备份 登记"}, "[3 0]"},
		{"part of a call number", Filter{Text: "D30·003"}, "[2]"},
		{"number of a document", Filter{Text: "〔2009〕140号"}, "[1]"},
		{"case of letters", Filter{Text: "j019"}, "[2]"},
		{"words of the query language", Filter{Text: `AND NOT "`}, "[5]"},
		{"an operator", Filter{Text: "title:x*"}, "[]"},
		{"nothing but signs", Filter{Text: `"*-(`}, "[]"},
		{"blanks", Filter{Text: "  "}, "[5 4 3 2 1 0]"},
		{"text and authority", Filter{Text: "档案", Authority: "330102"}, "[0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := seqs(t, c, tt.give); got != tt.want {
				t.Errorf("List(%+v) = %s; want %s", tt.give, got, tt.want)
			}
		})
	}
	rows, w, err := c.List(t.Context(), Filter{Limit: 1, BeforeSeq: 1})
	if err != nil || w != 6 || len(rows) != 1 {
		t.Fatalf("List = %v, %d, %v", rows, w, err)
	}
	if r := rows[0]; r.Number != "330102-2026-000000-0" || r.Title != "关于档案登记备份的通知" || r.RegisteredAt != 1000 || len(r.Submission) != 32 {
		t.Errorf("row = %+v", r)
	}
}

func TestUnsealedTitles(t *testing.T) {
	src := newRecords("open title", "")
	c := openTest(t, filepath.Join(t.TempDir(), "catalogue.db"), Options{Unseal: func(r *registrypb.Record) (Details, bool) {
		return Details{Title: "密封的题名", Files: 3, Bytes: 4096}, r.GetSeq() == 1
	}})
	catchUp(t, c, src, 2)
	rows, _, err := c.List(t.Context(), Filter{Text: "题名"})
	if err != nil || len(rows) != 1 || rows[0].Seq != 1 || rows[0].Files != 3 || rows[0].Bytes != 4096 {
		t.Errorf("List(题名) = %+v, %v; want the unsealed record with 3 files", rows, err)
	}
	if got := seqs(t, c, Filter{Text: "open"}); got != "[0]" {
		t.Errorf("List(open) = %s; want [0]", got)
	}
}

func TestCatalogueIsRebuilt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "目录 #1?.db")
	src := newRecords("一", "二", "三")
	fill := func() {
		t.Helper()
		c, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		catchUp(t, c, src, src.Size())
		if got := seqs(t, c, Filter{Text: "三"}); got != "[2]" {
			t.Errorf("List(三) = %s; want [2]", got)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	fill() // nothing to do
	for _, damage := range []struct {
		name string
		do   func() error
	}{
		{"deleted", func() error { return os.Remove(path) }},
		{"emptied", func() error { return os.Truncate(path, 0) }},
		{"not a database", func() error { return os.WriteFile(path, []byte("this is no database, not at all"), 0o600) }},
		{"another form", func() error {
			c, err := Open(path, Options{})
			if err != nil {
				return err
			}
			_, err = c.write.Exec("PRAGMA user_version = 99")
			return errors.Join(err, c.Close())
		}},
	} {
		t.Run(damage.name, func(t *testing.T) {
			if err := damage.do(); err != nil {
				t.Fatal(err)
			}
			fill()
		})
	}
}

func TestCatchUpBeginsAnewForAnotherState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "catalogue.db")
	c := openTest(t, path, Options{})
	catchUp(t, c, newRecords("甲", "乙", "丙"), 3)
	for _, tt := range []struct {
		name string
		src  *records
		want string
	}{
		{"shorter", newRecords("甲"), "[0]"},
		{"longer with another past", newRecords("子", "丑"), "[1 0]"},
	} {
		catchUp(t, c, tt.src, tt.src.Size())
		if got := seqs(t, c, Filter{}); got != tt.want {
			t.Errorf("%s state: List = %s; want %s", tt.name, got, tt.want)
		}
	}
	if got := seqs(t, c, Filter{Text: "甲"}); got != "[]" {
		t.Errorf("List(甲) = %s; want nothing of the former state", got)
	}
}

func TestCatchUpInBatches(t *testing.T) {
	src := newRecords()
	for i := range 2*batchSize + 7 {
		src.add(fmt.Sprint("第", i, "件"))
	}
	c := openTest(t, filepath.Join(t.TempDir(), "catalogue.db"), Options{})
	catchUp(t, c, src, src.Size())
	if got := seqs(t, c, Filter{Text: fmt.Sprint("第", batchSize, "件")}); got != fmt.Sprint([]int{batchSize}) {
		t.Errorf("List = %s; want [%d]", got, batchSize)
	}
	src.err = errors.New("disk")
	src.add("一")
	if w, err := c.CatchUp(t.Context(), src); err == nil || w != src.Size()-1 {
		t.Errorf("CatchUp with a broken source = %d, %v; want an error", w, err)
	}
}

func TestFollow(t *testing.T) {
	src := newRecords("一")
	c := openTest(t, filepath.Join(t.TempDir(), "catalogue.db"), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan struct{}, 10)
	c.opts.Unseal = func(*registrypb.Record) (Details, bool) { seen <- struct{}{}; return Details{}, false }
	done := make(chan error)
	go func() { done <- c.Follow(ctx, src) }()
	<-seen
	src.add("二")
	<-seen
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v; want context.Canceled", err)
	}
}

func TestRefillReadsWhatCanBeUnsealedNow(t *testing.T) {
	src := newRecords("", "")
	var keys atomic.Bool
	c := openTest(t, filepath.Join(t.TempDir(), "catalogue.db"), Options{Unseal: func(*registrypb.Record) (Details, bool) {
		return Details{Title: "密封的题名"}, keys.Load()
	}})
	catchUp(t, c, src, 2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Follow(ctx, src) }()
	keys.Store(true)
	c.Refill()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(10 * time.Second); ; {
		if got := seqs(t, c, Filter{Text: "密封"}); got == "[1 0]" {
			break
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the titles that can be unsealed now are not found")
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v; want context.Canceled", err)
	}
}
