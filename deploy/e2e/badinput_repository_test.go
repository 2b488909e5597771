package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dengbei/deploy/e2e/network"
)

const repositoryID = "330282-standard-1"

// tidy fails the test if a repository volume holds unfinished files.
func (b *badNetwork) tidy(t *testing.T, volume string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(volume, "*", "tmp", "put-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("unfinished files %q, %v; want none", left, err)
	}
}

// stored lists the files of the county's repository at a centre, by name in it.
func (b *badNetwork) stored(t *testing.T, c *network.Centre) map[string]string {
	t.Helper()
	place := "held"
	if c == b.county {
		place = "repositories"
	}
	dir := c.Config.Path(place, repositoryID)
	files := map[string]string{}
	for name := range tree(t, dir) {
		if top, _, _ := strings.Cut(name, "/"); name == "config" || slices.Contains([]string{"data", "index", "snapshots", "keys"}, top) {
			file := filepath.Join(dir, name)
			if top == "data" {
				name = "data/" + filepath.Base(name) // packs lie in folders of their first two digits
			}
			files[name] = file
		}
	}
	return files
}

// record hands a record in, waits for both copies, and returns it with the files that the repository gained by it.
func (b *badNetwork) record(t *testing.T, seed string) (number, dir string, gained []string) {
	t.Helper()
	var before map[string]string
	if _, err := os.Stat(b.county.Config.Path("repositories", repositoryID)); err == nil {
		before = b.stored(t, b.county)
	}
	dir = folder(t, map[string]string{"正文.txt": seed, "扫描件.bin": string(content(seed, free))})
	s := b.handIn(t, dir, "offsite=2")
	for name := range b.stored(t, b.county) {
		if _, ok := before[name]; !ok {
			gained = append(gained, name)
		}
	}
	slices.Sort(gained)
	return s.Submission.Numbers[0], dir, gained
}

// kind picks the names below one directory of the repository.
func kind(t *testing.T, names []string, dir string) []string {
	t.Helper()
	var out []string
	for _, n := range names {
		if strings.HasPrefix(n, dir) {
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		t.Fatalf("nothing of %s is among %q", dir, names)
	}
	return out
}

// spoil damages files at a centre.
func (b *badNetwork) spoil(t *testing.T, c *network.Centre, how func(string) error, names ...string) {
	t.Helper()
	files := b.stored(t, c)
	for _, n := range names {
		if err := how(files[n]); err != nil {
			t.Fatalf("spoil %s at %s: %v", n, c.Code, err)
		}
	}
}

// truncate keeps so little of a file that nothing in it can be read: of a pack with one small blob the first half holds
// the blob, and only the header, which a restore does not need, would be cut.
func truncate(file string) error { return os.Truncate(file, 20) }

// badRepositories have files that are cut short or gone. What is asked for comes whole from the holders; the check names
// the file; a holder fetches again what it lacks.
func badRepositories(t *testing.T, b *badNetwork) {
	for _, tt := range []struct {
		name    string
		dir     string // which files
		how     func(string) error
		restart bool // found when the repository is opened
	}{
		{"pack cut short at the owner", "data/", truncate, false},
		{"pack gone at the owner", "data/", os.Remove, false},
		{"pack gone at the owner before a restart", "data/", os.Remove, true},
		{"index cut short at the owner", "index/", truncate, true},
		{"index gone at the owner", "index/", os.Remove, true},
		{"snapshot cut short at the owner", "snapshots/", truncate, false},
		{"snapshot gone at the owner", "snapshots/", os.Remove, false},
		{"snapshot gone at the owner before a restart", "snapshots/", os.Remove, true},
		{"config cut short at the owner", "config", truncate, true},
		{"config gone at the owner", "config", os.Remove, true},
		{"key cut short at the owner", "keys/", truncate, true},
		{"key gone at the owner", "keys/", os.Remove, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			number, dir, gained := b.record(t, tt.name)
			if tt.dir == "config" || tt.dir == "keys/" {
				gained = nil
				for n := range b.stored(t, b.county) {
					gained = append(gained, n)
				}
			}
			spoiled := kind(t, gained, tt.dir)
			if tt.restart {
				b.county.Stop(t)
			}
			b.spoil(t, b.county, tt.how, spoiled...)
			if tt.restart {
				b.county.Start(t)
			}
			if !tt.restart {
				r := b.dengbei(t, "backup", "check", "--config", b.county.File)
				r.want(t, 1, spoiled...)
			}
			healed := strings.Join(b.restored(t, number, dir), "\n")
			for _, name := range spoiled {
				if !tt.restart && tt.dir == "data/" && !strings.Contains(healed, name) {
					t.Errorf("healed are %q; want %s among them", healed, name)
				}
			}
			b.healedAlarm(t, spoiled)
			b.dengbei(t, "backup", "check", "--config", b.county.File).want(t, 0, "nothing is damaged or missing")
		})
	}
	t.Run("pack cut short at one holder and gone at the owner", func(t *testing.T) {
		number, dir, gained := b.record(t, "one holder left")
		packs := kind(t, gained, "data/")
		b.spoil(t, b.city, truncate, packs...)
		b.spoil(t, b.county, os.Remove, packs...)
		for _, h := range b.restored(t, number, dir) {
			if !strings.HasSuffix(h, " from "+b.province.ServerID()) {
				t.Errorf("healed %s; want it from %s", h, b.province.ServerID())
			}
		}
		b.repairs(t, b.city, packs)
	})
	for name, how := range map[string]func(string) error{"cut short": truncate, "gone": os.Remove} {
		t.Run("files "+name+" at a holder", func(t *testing.T) {
			_, _, gained := b.record(t, "holder, files "+name)
			b.spoil(t, b.province, how, gained...)
			b.repairs(t, b.province, gained)
		})
	}
	t.Run("pack gone everywhere", func(t *testing.T) {
		number, _, gained := b.record(t, "lost")
		packs := kind(t, gained, "data/")
		for _, c := range b.Centres {
			b.spoil(t, c, os.Remove, packs...)
		}
		target := filepath.Join(t.TempDir(), "restored")
		b.dengbei(t, "restore", number, "--target", target, "--config", b.county.File).want(t, 1, number, repositoryID, "data/", "LOST")
		for _, p := range []string{target, filepath.Dir(target)} {
			if entries, err := os.ReadDir(p); err == nil && len(entries) > 0 {
				t.Errorf("%s holds %v; want nothing left of a restore that failed", p, entries)
			}
		}
	})
}

// healedAlarm fails the test unless the county's status names what was healed.
func (b *badNetwork) healedAlarm(t *testing.T, names []string) {
	t.Helper()
	s, err := b.county.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	alarms := strings.Join(s.GetAlarms(), "\n")
	for _, n := range names {
		if !strings.Contains(alarms, n) {
			t.Errorf("the county's status does not name %s as replaced:\n%s", n, alarms)
		}
	}
}

// repairs shows that a holder's check names the spoiled files, and that it fetches them again with the next backup.
func (b *badNetwork) repairs(t *testing.T, holder *network.Centre, names []string) {
	t.Helper()
	b.dengbei(t, "backup", "check", "--config", holder.File).want(t, 1, names...)
	b.record(t, "after "+t.Name())
	owner, held := b.stored(t, b.county), b.stored(t, holder)
	for _, n := range names {
		want, err := os.ReadFile(owner[n])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(held[n]); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s at %s: %d bytes, %v; want the %d bytes of the owner's", n, holder.Code, len(got), err, len(want))
		}
	}
	b.dengbei(t, "backup", "check", "--config", holder.File).want(t, 0, "nothing is damaged or missing")
}
