package retention_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/chunkstore"
	"dengbei/chunkstore/chunktest"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/chunkstore/retention"
)

const password = "correct horse"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRepo(t testing.TB) (*repository.Repository, *chunkstore.Files) {
	t.Helper()
	files, err := chunkstore.Create(filepath.Join(t.TempDir(), "repo"))
	must(t, err)
	repo, err := repository.Init(context.Background(), files, password, repository.Options{Scrypt: repository.Scrypt{N: 1024, R: 8, P: 1}})
	must(t, err)
	return repo, files
}

// save stores snapshots of an empty tree.
func save(t testing.TB, repo *repository.Repository, list ...*repository.Snapshot) {
	t.Helper()
	s := repo.NewSession()
	defer s.Close()
	tree, err := s.SaveTree(context.Background(), &repository.Tree{})
	must(t, err)
	for _, sn := range list {
		sn.Tree = tree
		_, err := s.SaveSnapshot(context.Background(), sn)
		must(t, err)
	}
}

// restic runs stock restic in the time zone of the snapshots.
func restic(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := chunktest.Stock(t, dir, args...)
	cmd.Env = append(cmd.Env, "TZ=Asia/Shanghai")
	return []byte(chunktest.Run(t, cmd))
}

// stockGroup is one group in what restic forget --json prints.
type stockGroup struct {
	Host    string
	Keep    []struct{ ID string }
	Remove  []struct{ ID string }
	Reasons []struct {
		Matches  []string
		Counters retention.Counters
	}
}

// history is the snapshots of one host: bunches within minutes, hours, days, weeks and months, around the turns of years
// too, in several zones. No two are of the same instant: there stock restic's choice depends on the order of listing.
func history(rnd *rand.Rand, host string) []*repository.Snapshot {
	zones := []*time.Location{time.UTC, time.FixedZone("", 8*3600), time.FixedZone("", -5*3600), time.FixedZone("", 5*3600+1800)}
	steps := []time.Duration{time.Minute, time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour, 365 * 24 * time.Hour}
	when := time.Date(2026-rnd.IntN(9), time.Month(1+rnd.IntN(12)), 1+rnd.IntN(28), rnd.IntN(24), rnd.IntN(60), 0, 0, time.UTC)
	if rnd.IntN(3) == 0 {
		when = time.Date(2026-rnd.IntN(9), 1, 3, 12, 0, 0, 0, time.UTC)
	}
	zone, mixed := zones[rnd.IntN(len(zones))], rnd.IntN(3) == 0
	var list []*repository.Snapshot
	for range 2 + rnd.IntN(14) {
		if mixed {
			zone = zones[rnd.IntN(len(zones))]
		}
		sn := &repository.Snapshot{Time: when.In(zone), Hostname: host, Paths: []string{"/records"}}
		for _, tag := range []string{"a", "b", "c"} {
			if rnd.IntN(4) == 0 {
				sn.Tags = append(sn.Tags, tag)
			}
		}
		list = append(list, sn)
		step := steps[rnd.IntN(len(steps))]
		when = when.Add(-step/2 - time.Duration(rnd.Int64N(int64(step)))).Truncate(time.Second)
	}
	return list
}

// policy draws a policy and the options that say it to stock restic.
func policy(t *testing.T, rnd *rand.Rand) (retention.Policy, []string) {
	var p retention.Policy
	var args []string
	for _, c := range []struct {
		name string
		at   *int
	}{{"last", &p.Last}, {"hourly", &p.Hourly}, {"daily", &p.Daily}, {"weekly", &p.Weekly}, {"monthly", &p.Monthly}, {"yearly", &p.Yearly}} {
		if rnd.IntN(3) == 0 {
			*c.at = 1 + rnd.IntN(6)
			args = append(args, fmt.Sprintf("--keep-%s=%d", c.name, *c.at))
		}
	}
	durations := []string{"1h", "5h", "1d", "3d12h", "8d", "1m", "2m3d", "1y", "1y5m7d2h", "30d", "365d"}
	for _, d := range []struct {
		name string
		at   *retention.Duration
	}{{"", &p.Within}, {"-hourly", &p.WithinHourly}, {"-daily", &p.WithinDaily}, {"-weekly", &p.WithinWeekly}, {"-monthly", &p.WithinMonthly},
		{"-yearly", &p.WithinYearly}} {
		if rnd.IntN(4) == 0 {
			text := durations[rnd.IntN(len(durations))]
			parsed, err := retention.ParseDuration(text)
			must(t, err)
			*d.at = parsed
			args = append(args, "--keep-within"+d.name+"="+text)
		}
	}
	for _, l := range []string{"a", "a,b", "c"} {
		if rnd.IntN(5) == 0 {
			p.Tags = append(p.Tags, strings.Split(l, ","))
			args = append(args, "--keep-tag="+l)
		}
	}
	if p.Empty() {
		p.Daily, args = 2, append(args, "--keep-daily=2")
	}
	return p, args
}

// Stock restic and we select the same from generated histories, for the same reasons.
func TestSelectsAsStockRestic(t *testing.T) {
	const seed = 7
	rnd := rand.New(rand.NewChaCha8([32]byte{seed}))
	repo, files := newRepo(t)
	const hosts, policies = 30, 15
	var list []*repository.Snapshot
	for i := range hosts {
		list = append(list, history(rnd, fmt.Sprintf("host-%02d", i))...)
	}
	save(t, repo, list...)
	byHost := retention.GroupBy{Host: true}.Groups(list)
	for range policies {
		p, args := policy(t, rnd)
		var stock []stockGroup
		out := restic(t, files.Dir(), append([]string{"forget", "--dry-run", "--json", "--group-by", "host"}, args...)...)
		out, _, _ = bytes.Cut(out, []byte("\n")) // what would be removed follows as text
		must(t, json.Unmarshal(out, &stock))
		if len(stock) != hosts {
			t.Fatalf("restic forget %q decides about %d groups; want %d", args, len(stock), hosts)
		}
		for _, d := range retention.Decide(byHost, p, time.Now()) {
			i := slices.IndexFunc(stock, func(g stockGroup) bool { return g.Host == d.Key.Host })
			var got, want []string
			for _, k := range d.Keep {
				got = append(got, fmt.Sprint(k.Snapshot.ID.Hex(), k.Reasons, k.Counters))
			}
			for j, k := range stock[i].Keep {
				want = append(want, fmt.Sprint(k.ID, stock[i].Reasons[j].Matches, stock[i].Reasons[j].Counters))
			}
			if !slices.Equal(got, want) || len(d.Remove) != len(stock[i].Remove) {
				t.Errorf("seed %d, %s, %q: kept\n%s\nstock restic keeps\n%s", seed, d.Key, args, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	t.Logf("%d pairs of history and policy, %d snapshots", hosts*policies, len(list))
}

func TestForget(t *testing.T) {
	repo, files := newRepo(t)
	day := func(n int) *repository.Snapshot {
		return &repository.Snapshot{Time: time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC), Hostname: "h"}
	}
	a, b, c := day(1), day(2), day(3)
	save(t, repo, a, b, c)
	junk := digest.Of([]byte("junk"))
	must(t, files.PutBytes(t.Context(), chunkstore.Name{Kind: chunkstore.Snapshot, ID: junk}, []byte("junk")))

	rec := &removing{Files: files, failAt: 2}
	again, err := repository.Open(t.Context(), rec, password, repository.Options{})
	must(t, err)
	err = retention.Forget(t.Context(), again, []digest.Digest{c.ID, junk, a.ID})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "2 of 3") {
		t.Errorf("Forget on a failing disk = %v; want its error and how many are gone", err)
	}
	if want := []digest.Digest{junk, a.ID}; !slices.Equal(rec.removed, want) {
		t.Errorf("Forget removed %v; want %v: what cannot be read, then the oldest", rec.removed, want)
	}
	must(t, retention.Forget(t.Context(), repo, []digest.Digest{c.ID, junk, a.ID}))
	left, unreadable, err := repo.Snapshots(t.Context())
	must(t, err)
	if len(left) != 1 || left[0].ID != b.ID || len(unreadable) != 0 {
		t.Errorf("after Forget %v and %v are left; want %s", left, unreadable, b.ID)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := retention.Forget(ctx, repo, []digest.Digest{b.ID}); !errors.Is(err, context.Canceled) {
		t.Errorf("Forget with an ended context = %v", err)
	}
}

// removing fails from removal number failAt on and notes those before.
type removing struct {
	*chunkstore.Files
	failAt  int
	removed []digest.Digest
}

func (r *removing) Remove(ctx context.Context, name chunkstore.Name) error {
	if len(r.removed) == r.failAt {
		return fs.ErrPermission
	}
	r.removed = append(r.removed, name.ID)
	return r.Files.Remove(ctx, name)
}
