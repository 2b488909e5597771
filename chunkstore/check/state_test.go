package check

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

func examine(t *testing.T, files *chunkstore.Files, o Options) *Report {
	t.Helper()
	repo, err := repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	r, err := Examine(t.Context(), repo, o)
	must(t, err)
	return r
}

// An interrupted check goes on where it was, and one that is done begins anew.
func TestStateLetsACheckGoOn(t *testing.T) {
	_, files, _ := sample(t)
	path := filepath.Join(t.TempDir(), "state")
	at := time.Unix(1_800_000_000, 0)
	clock := func() time.Time { return at }
	o := Options{ReadData: true, State: path, Now: clock}

	all := examine(t, files, o)
	if all.PacksRead < 3 || all.PacksSkipped != 0 || all.StateErr != nil {
		t.Fatalf("first check: %+v", all)
	}
	at = at.Add(time.Hour)
	if r := examine(t, files, o); r.PacksRead != all.PacksRead {
		t.Errorf("a finished round is followed by %d packs; want all %d", r.PacksRead, all.PacksRead)
	}

	// A round that began an hour ago and in which some packs were verified.
	repo, err := repository.Open(t.Context(), files, password, repository.Options{})
	must(t, err)
	c := &checker{repo: repo, options: o, round: at.Unix()}
	for e, err := range files.List(t.Context(), chunkstore.Pack) {
		must(t, err)
		p := packInfo{id: repository.IDOf(e.Name.ID), verified: at.Unix() - 1}
		if len(c.disk) < 2 {
			p.verified = at.Unix() + 60
		}
		c.disk = append(c.disk, p)
	}
	must(t, c.saveState())
	at = at.Add(time.Hour)
	if r := examine(t, files, o); r.PacksSkipped != 2 || r.PacksRead != all.PacksRead-2 {
		t.Errorf("after an interruption: %+v; want 2 packs skipped", r)
	}
}

// Parts are taken from what was verified longest ago, and a damaged pack is never remembered as sound.
func TestStateChoosesTheOldest(t *testing.T) {
	repo, files, _ := sample(t)
	path := filepath.Join(t.TempDir(), "state")
	at := time.Unix(1_800_000_000, 0)
	o := Options{Subset: Subset{Percent: 1}, State: path, Now: func() time.Time { return at }}
	packs := examine(t, files, Options{}).Packs
	for i := range packs {
		at = at.Add(time.Minute)
		if r := examine(t, files, o); r.PacksRead != 1 || len(r.Findings) != 0 {
			t.Fatalf("part %d: %+v", i, r)
		}
	}
	// Every pack was read once: one that is damaged now is found by the next round of parts.
	edit(t, files, dataPack(noise("7", 1007))(repo, nil), flip(40))
	for round := range 2 {
		found := 0
		for range packs {
			at = at.Add(time.Minute)
			found += len(examine(t, files, o).Findings)
		}
		if found != 1 {
			t.Errorf("%d findings in round %d of parts; want 1", found, round)
		}
	}
	// A check of everything does not skip it.
	o = Options{ReadData: true, State: path, Now: o.Now}
	if r := examine(t, files, o); len(r.Findings) != 1 {
		t.Errorf("check of everything: %+v; want the damaged pack", r)
	}
}

func TestDamagedStateIsIgnored(t *testing.T) {
	_, files, _ := sample(t)
	path := filepath.Join(t.TempDir(), "state")
	o := Options{ReadData: true, State: path}
	want := examine(t, files, o).PacksRead
	good, err := os.ReadFile(path)
	must(t, err)
	_, strangers, _ := sample(t)
	examine(t, strangers, Options{ReadData: true, State: path})
	foreign, err := os.ReadFile(path)
	must(t, err)
	for name, b := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "flipped": flip(70)(bytes.Clone(good)),
		"flipped sum": flip(-1)(bytes.Clone(good)), "of another repository": foreign, "junk": bytes.Repeat([]byte("junk"), 30),
	} {
		must(t, os.WriteFile(path, b, 0o600))
		r := examine(t, files, o)
		if !errors.Is(r.StateErr, ErrState) || r.PacksRead != want {
			t.Errorf("%s state file: %v and %d packs read; want ErrState and %d", name, r.StateErr, r.PacksRead, want)
		}
		if again := examine(t, files, Options{ReadData: true, State: path}); again.StateErr != nil {
			t.Errorf("%s state file was not replaced: %v", name, again.StateErr)
		}
	}
}

func TestParseSubset(t *testing.T) {
	for text, want := range map[string]Subset{
		"1/5": {Group: 1, Groups: 5}, "256/256": {Group: 256, Groups: 256}, "2.5%": {Percent: 2.5}, "100%": {Percent: 100},
		"10G": {Bytes: 10 << 30}, "7": {Bytes: 7}, "3k": {Bytes: 3 << 10}, "1T": {Bytes: 1 << 40}, "5MB": {Bytes: 5 << 20},
	} {
		if got, err := ParseSubset(text); err != nil || got != want {
			t.Errorf("ParseSubset(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0/5", "6/5", "1/257", "1/", "/", "0%", "101%", "NaN%", "-1%", "%", "0", "-5", "9999999T", "x", "G", "1/2/3"} {
		if got, err := ParseSubset(text); !errors.Is(err, ErrSubset) {
			t.Errorf("ParseSubset(%q) = %+v, %v; want ErrSubset", text, got, err)
		}
	}
}

// The parts n/t together are all packs, each in one.
func TestGroupsCoverEverything(t *testing.T) {
	_, files, _ := sample(t)
	packs := examine(t, files, Options{}).Packs
	sum := 0
	for n := 1; n <= 3; n++ {
		sum += examine(t, files, Options{Subset: Subset{Group: n, Groups: 3}}).PacksRead
	}
	if sum != packs {
		t.Errorf("three thirds read %d packs of %d", sum, packs)
	}
}

func FuzzState(f *testing.F) {
	s := state{round: 5}
	f.Add(s.encode())
	f.Add(append(state{entries: 1}.encode(), make([]byte, stateEntryBytes+32)...))
	f.Add(state{entries: 1 << 63}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		entries := 0
		s, err := readState(bytes.NewReader(b), int64(len(b)), repository.ID{}, func(repository.ID, int64) { entries++ })
		if entries > len(b)/stateEntryBytes || err == nil && uint64(entries) != s.entries {
			t.Errorf("%d entries of %d bytes, %v", entries, len(b), err)
		}
	})
}

func FuzzSubset(f *testing.F) {
	for _, s := range []string{"1/5", "2.5%", "10G", "9223372036854775807T", "1e400%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		x, err := ParseSubset(s)
		if err != nil {
			return
		}
		order := []int{0, 1, 2}
		if got := x.pick(order, []int64{5, 6, 7}, func(i int) byte { return byte(i) }); len(got) > len(order) || x.IsZero() {
			t.Errorf("%q picks %v", s, got)
		}
	})
}
