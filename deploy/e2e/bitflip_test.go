package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/deploy/e2e/network"
	"dengbei/node/nodepb"
)

// TestBitFlips damages a pack at its owner and all packs at one of the two holders, one bit each. Restore, and recovery
// after the owner is lost, deliver the right bytes from the sound copies and name what was damaged where.
func TestBitFlips(t *testing.T) {
	const owner, rotten, sound = "330102", "330000", "330200"
	n := five(t, nil)
	c := n.Centre(owner)

	// One after the other: each gets a snapshot of its own, and with it packs of its own.
	var all []*delivery
	for i := range 8 {
		title := fmt.Sprintf("案卷 第%d卷", i+1)
		p, err := c.Registrant.Pack(title, map[string][]byte{
			"扫描/第一页.bin": content(title, 600<<10), "扫描/第二页.bin": content(title+"2", 90<<10), "目录.txt": []byte(title + "\n"),
		})
		if err != nil {
			t.Fatal(err)
		}
		d := &delivery{Parcel: p, centre: c}
		handIn(t.Context(), []*delivery{d}, 1).wait(t)
		registered(t, n, time.Minute)
		all = append(all, d)
	}
	escrow := splitEscrow(t, n, c)
	awaitOffsite(t, all, 2)
	policy := n.Path("policy.txt")
	if err := n.CLI(t.Context(), nil, "policy", "get", "--config", c.File, "-o", policy); err != nil {
		t.Fatal(err)
	}

	atOwner := packs(t, n, c, owner)
	largest := slices.MaxFunc(atOwner, func(a, b packFile) int { return int(a.size - b.size) })
	flip(t, largest.path)
	spoilt := map[string]bool{}
	for _, p := range packs(t, n, n.Centre(rotten), owner) {
		flip(t, p.path)
		spoilt[p.name()] = true
	}
	t.Logf("%d packs: one bit flipped in one of them at %s, in each at %s", len(atOwner), owner, rotten)

	// Restore, with the owner in place.
	var healed []healedFile
	for _, d := range all {
		healed = append(healed, restoreAndCompare(t, n, d, policy, "restored")...)
	}
	if len(healed) != 1 || !strings.HasSuffix(healed[0].File, largest.name()) || !strings.HasPrefix(healed[0].Source, sound+"-") {
		t.Errorf("restore healed %+v; want pack %s alone, from %s", healed, largest.name(), sound)
	}

	// Recovery, with the rotten holder in place.
	c.Destroy(t)
	began := time.Now()
	c.Replace(t, n.Centres[0])
	var report struct {
		OK         bool         `json:"ok"`
		Records    int          `json:"records"`
		Mismatches []string     `json:"mismatches"`
		Lost       []string     `json:"lost"`
		Damaged    []healedFile `json:"damaged"`
		Sources    []struct {
			ServerID string `json:"server_id"`
			Files    int    `json:"files"`
		} `json:"sources"`
	}
	args := []string{"recover", "--config", c.File}
	for _, i := range []int{0, 2} {
		args = append(args, "--share", escrow.shares[i], "--identity", escrow.officers[i])
	}
	if err := n.CLI(t.Context(), &report, args...); err != nil {
		t.Fatal(err)
	}
	t.Logf("recovered after %.1f s from %+v; damaged: %+v", time.Since(began).Seconds(), report.Sources, report.Damaged)
	if !report.OK || report.Records != len(all) || len(report.Lost)+len(report.Mismatches) > 0 {
		t.Errorf("recovery = %+v; want %d records, nothing lost", report, len(all))
	}
	if len(report.Damaged) == 0 {
		t.Errorf("recovery names no damaged file, every pack at %s is", rotten)
	}
	for _, x := range report.Damaged {
		if !strings.HasPrefix(x.Source, rotten+"-") || !spoilt[filepath.Base(x.File)] {
			t.Errorf("recovery says that %s is damaged at %s: that one is sound", x.File, x.Source)
		}
	}
	for _, d := range all {
		if healed := restoreAndCompare(t, n, d, policy, "recovered"); len(healed) > 0 {
			t.Errorf("restore after the recovery healed %+v: it should have been whole", healed)
		}
	}
	checkWithRestic(t, n, c)

	// The recovered centre works on.
	c.AutoApprove(t)
	after := deliver(t, c, "恢复之后")
	handIn(t.Context(), []*delivery{after}, 1).wait(t)
	registered(t, n, time.Minute)
	checkLog(t, n, append(all, after))
}

// packFile is one pack file on a centre's disk.
type packFile struct {
	path string
	size int64
}

func (p packFile) name() string { return filepath.Base(p.path) }

// repositoryFiles is one repository on a centre's disk.
type repositoryFiles struct {
	Path     string `json:"path"`
	Password string `json:"password_file"`
	Owner    string `json:"owner"`
}

func repositories(t *testing.T, n *network.Network, c *network.Centre, owner string) []repositoryFiles {
	t.Helper()
	var list struct {
		Repositories []repositoryFiles `json:"repositories"`
	}
	if err := n.CLI(t.Context(), &list, "backup", "list", "--config", c.File); err != nil {
		t.Fatal(err)
	}
	found := slices.DeleteFunc(list.Repositories, func(r repositoryFiles) bool { return r.Owner != owner })
	if len(found) == 0 {
		t.Fatalf("%s has no repository of %s", c.Code, owner)
	}
	return found
}

// packs lists the packs that a centre has of an owner's repositories.
func packs(t *testing.T, n *network.Network, c *network.Centre, owner string) []packFile {
	t.Helper()
	var all []packFile
	for _, r := range repositories(t, n, c, owner) {
		err := filepath.WalkDir(filepath.Join(r.Path, "data"), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				all = append(all, packFile{path, info.Size()})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) < 2 {
		t.Fatalf("%s has %d packs of %s; the test wants several", c.Code, len(all), owner)
	}
	return all
}

// flip changes one bit in the middle of a file, as a bad disk does: size and times stay.
func flip(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], info.Size()/2)
	if err == nil {
		b[0] ^= 0x10
		_, err = f.WriteAt(b[:], info.Size()/2)
	}
	err = errors.Join(err, f.Close(), os.Chmod(path, info.Mode().Perm()), os.Chtimes(path, info.ModTime(), info.ModTime()))
	if err != nil {
		t.Fatal(err)
	}
}

type healedFile struct {
	File   string `json:"file"`
	Source string `json:"source"`
}

// restoreAndCompare gets a record back over the command line, compared with its certificate, and compares every file
// with what was handed in. It returns what had to be healed.
func restoreAndCompare(t *testing.T, n *network.Network, d *delivery, policy, dir string) []healedFile {
	t.Helper()
	if d.number == "" {
		r, err := d.centre.Operator.Records.Show(t.Context(), &nodepb.ShowRecordRequest{Number: d.ID})
		if err != nil {
			t.Fatal(err)
		}
		d.number = r.GetRecord().GetNumber()
	}
	target := n.Path(dir, d.number)
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		t.Fatal(err)
	}
	var r struct {
		Verified bool         `json:"verified"`
		Healed   []healedFile `json:"healed"`
	}
	if err := n.CLI(t.Context(), &r, "restore", d.number, "--config", d.centre.File, "--target", target, "--policy", policy); err != nil {
		t.Fatal(err)
	}
	if !r.Verified {
		t.Errorf("%s was not compared with its certificate", d.number)
	}
	for path, want := range d.Files {
		got, err := os.ReadFile(filepath.Join(target, "data", filepath.FromSlash(path)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %s came back with %d bytes, %v; %d other ones were handed in", d.number, path, len(got), err, len(want))
		}
	}
	return r.Healed
}

func awaitOffsite(t *testing.T, all []*delivery, copies uint32) {
	t.Helper()
	network.Until(t, 2*time.Minute, fmt.Sprintf("%d off-site copies of each record", copies), func(ctx context.Context) error {
		for _, d := range all {
			s, err := d.centre.Operator.Submissions.Show(ctx, &nodepb.ShowSubmissionRequest{Id: d.ID})
			if err != nil {
				return err
			}
			if s.GetOffsiteCopies() < copies || !s.GetPublished() {
				return fmt.Errorf("%s has %d, published %t", d.Title, s.GetOffsiteCopies(), s.GetPublished())
			}
		}
		return nil
	})
}

// escrowFiles are the officers' keys and shares, in the same order.
type escrowFiles struct{ officers, shares []string }

// splitEscrow puts a centre's keys into the hands of three officers, any two of whom suffice.
func splitEscrow(t *testing.T, n *network.Network, c *network.Centre) escrowFiles {
	t.Helper()
	const shares = 3
	if err := os.Mkdir(n.Path("officers"), 0o700); err != nil {
		t.Fatal(err)
	}
	e := escrowFiles{}
	args := []string{"escrow", "split", "--config", c.File, "--threshold", "2", "--shares", fmt.Sprint(shares), "--out", n.Path("escrow")}
	for i := range shares {
		file := n.Path("officers", fmt.Sprintf("officer-%d.key", i+1))
		var key struct {
			Recipient string `json:"recipient"`
		}
		if err := n.CLI(t.Context(), &key, "escrow", "officer-key", "-o", file); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--officer", key.Recipient)
		e.officers = append(e.officers, file)
	}
	var split struct {
		Shares []string `json:"shares"`
	}
	if err := n.CLI(t.Context(), &split, args...); err != nil {
		t.Fatal(err)
	}
	if e.shares = split.Shares; len(e.shares) != shares {
		t.Fatalf("escrow split wrote %q; want %d shares", e.shares, shares)
	}
	return e
}

// checkWithRestic has stock restic read every byte of a centre's own repositories.
func checkWithRestic(t *testing.T, n *network.Network, c *network.Centre) {
	t.Helper()
	restic, err := exec.LookPath("restic")
	if err != nil {
		t.Log("NOT CHECKED: stock restic is not installed, so it did not read the recovered repository")
		return
	}
	for _, r := range repositories(t, n, c, c.Code) {
		cmd := exec.CommandContext(t.Context(), restic, "-r", r.Path, "--password-file", r.Password, "--no-lock", "--no-cache", "check", "--read-data")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("restic check --read-data of %s: %v\n%s", r.Path, err, out)
		}
	}
}
