package main

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/nodepb"
)

// Escrow of the demonstration: any 2 of 3 shares.
const (
	escrowThreshold = 2
	escrowShares    = 3
)

func (d *demo) officerKey(i int) string {
	return filepath.Join(d.dir, "officers", fmt.Sprintf("officer-%d.key", i))
}

func (d *demo) share(i int) string {
	return filepath.Join(d.dir, "escrow", lostCentre, fmt.Sprintf("share-%d.age", i))
}

// escrow splits the county's keys before anything happens. Shares and officers' keys lie outside the county's directory.
func (d *demo) escrow(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(d.officerKey(1)), 0o700); err != nil {
		return err
	}
	args := []string{"escrow", "split", "--config", d.centre(lostCentre).file, "--threshold", fmt.Sprint(escrowThreshold), "--shares", fmt.Sprint(escrowShares), "--out", filepath.Dir(d.share(1))}
	for i := range escrowShares {
		var key struct {
			Recipient string `json:"recipient"`
		}
		if err := d.cli(ctx, &key, "escrow", "officer-key", "-o", d.officerKey(i+1)); err != nil {
			return err
		}
		args = append(args, "--officer", key.Recipient)
	}
	if err := d.cli(ctx, nil, args...); err != nil {
		return err
	}
	d.say("%s: its keys are in escrow, %d shares with three officers, any %d of them recover it", lostCentre, escrowShares, escrowThreshold)
	return nil
}

// destroy kills the county's process and removes its directory, while others go on working.
func (d *demo) destroy(ctx context.Context) error {
	c := d.centre(lostCentre)
	d.cases.during = d.arrive(ctx)
	d.report.LostCentre = lostCentre
	if err := c.proc.Kill(); err != nil {
		return err
	}
	if err := os.RemoveAll(c.config.DataDir); err != nil {
		return err
	}
	if _, err := os.Stat(c.config.DataDir); !os.IsNotExist(err) {
		return fmt.Errorf("%s is still there: %v", c.config.DataDir, err)
	}
	c.operator.Close()
	c.officer.Close()
	d.say("DISASTER: %s %s was killed and its whole directory removed; the other centres go on", c.code, c.name)
	return nil
}

// recover enrols the county on an empty directory, starts it, and rebuilds it with two officers' shares.
func (d *demo) recover(ctx context.Context) error {
	c := d.centre(lostCentre)
	began := time.Now()
	if err := d.enrol(ctx, d.centre(founderCode), c, true); err != nil {
		return err
	}
	if err := d.start(ctx, c); err != nil {
		return err
	}
	var r recoveryView
	err := d.cli(ctx, &r, "recover", "--config", c.file,
		"--share", d.share(1), "--identity", d.officerKey(1), "--share", d.share(3), "--identity", d.officerKey(3))
	if err != nil {
		return err
	}
	if err := d.checkRevoked(ctx); err != nil {
		return err
	}
	rec := &d.report.Recovery
	rec.Seconds = time.Since(began).Seconds()
	rec.Lost = r.Lost
	d.say("%s is back after %.1f s, with the shares of officers 1 and 3: %d records, %d files, %s", c.code, rec.Seconds, r.Records, r.Files, term.ByteCount(r.Bytes))
	for _, s := range r.Sources {
		code, _, _ := strings.Cut(s.ServerID, "-")
		rec.Sources[code] += s.Bytes
		d.more("from %s: %d repository files, %s", s.ServerID, s.Files, term.ByteCount(s.Bytes))
	}
	for _, x := range r.Damaged {
		d.more("damaged at %s: %s; another copy was used", x.Source, x.File)
	}
	if len(r.Lost) == 0 {
		d.more("lost: nothing is known to be lost")
	}
	for _, l := range r.Lost {
		d.more("LOST: %s", term.Safe(l))
	}
	// Signing keys are never escrowed: the authority has a new one, and what the old one signed as standing policy is signed anew.
	if err := d.signPolicy(ctx, c); err != nil {
		return err
	}
	if len(r.Sources) == 0 && r.Records > 0 {
		return fmt.Errorf("the report names no source")
	}
	return nil
}

// checkRevoked makes sure that the destroyed machine's identity is worth nothing any more.
func (d *demo) checkRevoked(ctx context.Context) error {
	var r *nodepb.MembersReply
	err := until(ctx, patience, "list of all members", func(ctx context.Context) (bool, error) {
		var err error
		r, err = d.centre(founderCode).operator.Network.Members(ctx, &nodepb.MembersRequest{All: true, Level: nodepb.ReadLevel_LEADER})
		return err == nil, err
	})
	if err != nil {
		return err
	}
	revoked, active := 0, 0
	for _, m := range r.GetMembers() {
		switch {
		case m.GetMember().GetCode() != lostCentre:
		case m.GetMember().GetRevokedAtMillis() != 0:
			revoked++
		default:
			active++
		}
	}
	if revoked != 1 || active != 1 {
		return fmt.Errorf("%s has %d revoked and %d active identities, want one of each", lostCentre, revoked, active)
	}
	return nil
}

// compare restores every record of the county from the rebuilt centre and compares every file with its certificate, and with what was handed
// in.
func (d *demo) compare(ctx context.Context) error {
	c := d.centre(lostCentre)
	dir := filepath.Join(d.dir, "restored")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var mu sync.Mutex // guards the report and bad
	var bad []string
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, s := range d.deliveries {
		if s.registrant.code != lostCentre {
			continue
		}
		for i, number := range s.last.GetNumbers() {
			g.Go(func() error {
				target := filepath.Join(dir, fileName(number))
				if err := d.cli(gctx, nil, "restore", number, "--config", c.file, "--target", target); err != nil {
					return err
				}
				found, err := d.verifyFiles(gctx, number, target)
				if err != nil {
					return err
				}
				want := s.parcel.submission.Records[i].Files
				var size int64
				for _, f := range want {
					size += f.SizeBytes
				}
				mu.Lock()
				defer mu.Unlock()
				d.report.Recovery.Files += found.files
				d.report.Recovery.Bytes += found.bytes
				bad = append(bad, found.problems...)
				if found.files != len(want) || found.bytes != size {
					bad = append(bad, fmt.Sprintf("%s: %d files of %d bytes came back, %d of %d were handed in", number, found.files, found.bytes, len(want), size))
				}
				for _, f := range want {
					name := filepath.Join(target, "data", filepath.FromSlash(f.Path))
					if info, err := os.Lstat(name); err != nil || !info.Mode().IsRegular() || info.Size() != f.SizeBytes {
						bad = append(bad, fmt.Sprintf("%s: %s did not come back as it was", number, f.Path))
					}
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	d.report.Recovery.Mismatches = len(bad)
	if len(bad) > 0 {
		return fmt.Errorf("%d mismatches: %s", len(bad), strings.Join(firstOf(bad, 3), "; "))
	}
	if d.report.Recovery.Files == 0 {
		return fmt.Errorf("%s had no files: nothing was shown", lostCentre)
	}
	d.say("restored from %s: %d files, %s; every one equals its certificate, in SHA-256 and SM3", lostCentre, d.report.Recovery.Files, term.ByteCount(uint64(d.report.Recovery.Bytes)))
	return nil
}

// finishArrivals waits until what came in elsewhere during the disaster is as safe as the rest.
func (d *demo) finishArrivals(ctx context.Context) error {
	during := d.cases.during
	if err := during.stop(); err != nil {
		return err
	}
	if len(during.list) == 0 {
		return fmt.Errorf("nothing came in during the disaster: the other centres did not go on")
	}
	if err := d.safe(ctx, during.list); err != nil {
		return err
	}
	for _, s := range during.list {
		d.report.Offsite += wantCopies * len(s.last.GetNumbers())
	}
	if err := d.collectOf(ctx, during.list); err != nil {
		return err
	}
	d.deliveries = append(d.deliveries, during.list...)
	d.say("%d submissions came in at the other centres during the disaster: all registered, all with %d off-site copies", len(during.list), wantCopies)
	return nil
}

// describe fills in the report while the nodes still run.
func (d *demo) describe(ctx context.Context) error {
	all, err := d.repositories(ctx)
	if err != nil {
		return err
	}
	own := map[string]string{}
	d.report.Centres = nil
	for _, c := range d.centres {
		v := demoCentreView{Code: c.code, Level: c.level, Voter: c.voter, Peer: c.config.Peer.Listen, Web: c.config.Web.Listen, DataDir: c.config.DataDir, Config: c.file, Repositories: []demoRepositoryView{}}
		for _, r := range all {
			if rel, err := filepath.Rel(c.config.DataDir, r.Path); err == nil && fs.ValidPath(filepath.ToSlash(rel)) {
				v.Repositories = append(v.Repositories, r)
				if !r.Held {
					own[r.ID] = r.Path
				}
			}
		}
		d.report.Centres = append(d.report.Centres, v)
	}
	numbers := map[string]bool{}
	for _, s := range d.deliveries {
		d.report.Submissions = append(d.report.Submissions, demoSubmissionView{
			ID: s.parcel.id.Hex(), Centre: s.registrant.code, Repository: own[s.last.GetRepository()], RepositoryID: s.last.GetRepository(), Snapshot: s.last.GetSnapshot(),
			Paths: term.OrEmpty(s.last.GetPaths()), Numbers: term.OrEmpty(s.last.GetNumbers()), Input: s.delivery.folders[0],
		})
		if own[s.last.GetRepository()] == "" || s.last.GetSnapshot() == "" || len(s.last.GetPaths()) == 0 {
			return fmt.Errorf("submission %s does not say where its backup is", s.parcel.id.Hex())
		}
		for _, n := range s.last.GetNumbers() {
			if numbers[n] {
				return fmt.Errorf("number %s was given twice", n)
			}
			numbers[n] = true
		}
		d.report.Files += s.parcel.files
		d.report.Bytes += s.parcel.sizeBytes
	}
	d.report.Registrations = len(numbers)
	d.report.Certificates = slices.Sorted(maps.Values(d.certs))
	if len(d.certs) != len(numbers) {
		return fmt.Errorf("%d certificates for %d numbers", len(d.certs), len(numbers))
	}
	return nil
}
