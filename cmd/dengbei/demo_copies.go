package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/chunkstore/repository"
	"dengbei/node/nodepb"
)

// wantCopies is how many centres besides the owner must have re-hashed and synced every byte of a record.
const wantCopies = 2

// copies waits until every record registered so far has its off-site receipts and prints the copy table.
func (d *demo) copies(ctx context.Context) error {
	if err := d.safe(ctx, d.deliveries); err != nil {
		return err
	}
	d.say("every record has %d off-site copies, re-hashed and synced by the holders. The copy table:", wantCopies)
	type row struct {
		owner, holders string
	}
	rows := map[row]int{}
	for _, s := range d.deliveries {
		for _, number := range s.last.GetNumbers() {
			r, err := s.registrant.centre.operator.Records.Show(ctx, &nodepb.ShowRecordRequest{Number: number})
			if err != nil {
				return fmt.Errorf("copies of %s: %w", number, err)
			}
			var holders []string
			for _, c := range r.GetCopies() {
				if !c.GetOwner() {
					holders = append(holders, c.GetCentre())
				}
			}
			if len(holders) < wantCopies {
				return fmt.Errorf("record %s has %d off-site copies, want %d", number, len(holders), wantCopies)
			}
			d.report.Offsite += len(holders)
			slices.Sort(holders)
			rows[row{s.registrant.code, strings.Join(holders, " ")}]++
		}
	}
	var lines []string
	for r, n := range rows {
		lines = append(lines, fmt.Sprintf("%3d records of %s: at home and at %s", n, r.owner, r.holders))
	}
	slices.Sort(lines)
	for _, l := range lines {
		d.more("%s", l)
	}
	return nil
}

// safe waits until every one of list is published and has its copies.
func (d *demo) safe(ctx context.Context, list []*demoDelivery) error {
	ctx, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	p := d.progress("copying off-site", len(list))
	defer d.endProgress()
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range list {
		g.Go(func() error {
			id := s.parcel.id.Hex()
			last, err := watch(gctx, s.registrant.centre.operator, id, stage{name: stageOffsite, copies: wantCopies}, func(*nodepb.Submission) {})
			if err != nil {
				return err
			}
			if last.GetOffsiteCopies() < wantCopies {
				return fmt.Errorf("submission %s has %d off-site copies, want %d", id, last.GetOffsiteCopies(), wantCopies)
			}
			s.last = last
			p.Add(1)
			return nil
		})
	}
	return g.Wait()
}

// collect saves the policy file and every certificate.
func (d *demo) collect(ctx context.Context) error {
	dir := filepath.Join(d.dir, "certificates")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d.policy = filepath.Join(dir, "policy.txt")
	if err := d.cli(ctx, nil, "policy", "get", "--config", d.centre(founderCode).file, "-o", d.policy); err != nil {
		return err
	}
	d.report.PolicyFile = d.policy
	if err := d.collectOf(ctx, d.deliveries); err != nil {
		return err
	}
	d.say("%d certificates (登记证书) and the policy file are in %s", len(d.certs), dir)
	return nil
}

// collectOf saves the certificates of list.
func (d *demo) collectOf(ctx context.Context, list []*demoDelivery) error {
	var mu sync.Mutex // guards d.certs
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(demoStreams)
	for _, s := range list {
		for _, number := range s.last.GetNumbers() {
			g.Go(func() error {
				var text []byte
				err := until(gctx, time.Minute, "certificate "+number, func(ctx context.Context) (bool, error) {
					r, err := s.registrant.client.Records.Certificate(ctx, &nodepb.ShowRecordRequest{Number: number})
					text = r.GetCertificate()
					return err == nil, err
				})
				if err != nil {
					return err
				}
				file := filepath.Join(d.dir, "certificates", fileName(number)+".tlog-proof")
				if err := writeFileDurable(file, text, 0o644, false); err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				d.certs[number] = file
				return nil
			})
		}
	}
	return g.Wait()
}

// fileName makes a number usable as a file's name.
func fileName(number string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == 0 {
			return '_'
		}
		return r
	}, number)
}

// searchRefused proves that no repository on any disk holds a byte of the refused submission: a file below the smallest chunk is one blob whose
// ID is the file's SHA-256, so looking it up in the indexes of all repositories, own and held, is exact.
func (d *demo) searchRefused(ctx context.Context) error {
	all, err := d.repositories(ctx)
	if err != nil {
		return err
	}
	searched := 0
	for _, r := range all {
		password, err := os.ReadFile(r.PasswordFile)
		if err != nil {
			return fmt.Errorf("password of %s: %w", r.Path, err)
		}
		files, err := chunkstore.Open(r.Path)
		if err != nil {
			return err
		}
		repo, err := repository.Open(ctx, files, strings.TrimRight(string(password), "\n"), repository.Options{})
		if err != nil {
			return fmt.Errorf("repository %s: %w", r.Path, err)
		}
		if bad := repo.Unreadable(); len(bad) > 0 {
			return fmt.Errorf("repository %s: %d files cannot be read, so nothing can be said", r.Path, len(bad))
		}
		for _, sum := range d.cases.digests {
			if repo.Has(repository.DataBlob, repository.IDOf(sum)) {
				return fmt.Errorf("repository %s holds file %s of the refused submission", r.Path, sum.Hex())
			}
		}
		if err := d.knowsAccepted(repo, r); err != nil {
			return err
		}
		searched++
	}
	if searched < 3*len(d.input.registrants) {
		return fmt.Errorf("only %d repositories and copies were found, want at least %d", searched, 3*len(d.input.registrants))
	}
	d.say("the refused submission's %d files are in none of the %d repositories and copies", len(d.cases.digests), searched)
	return nil
}

// knowsAccepted shows that the search finds what is there: it looks for a small file that the repository's owner accepted.
func (d *demo) knowsAccepted(repo *repository.Repository, r demoRepositoryView) error {
	for _, s := range d.deliveries {
		if s.registrant.code != r.Owner {
			continue
		}
		for _, f := range s.parcel.submission.Records[0].Files {
			if f.SizeBytes > 0 && f.SizeBytes < smallestChunk && f.SHA256.Algorithm() == digest.SHA256 {
				if !repo.Has(repository.DataBlob, repository.IDOf(f.SHA256)) {
					return fmt.Errorf("repository %s does not hold the accepted file %s: the search proves nothing", r.Path, f.Path)
				}
				return nil
			}
		}
	}
	return nil
}

// smallestChunk is the standard profile's: a smaller file is never cut.
const smallestChunk = 512 << 10

// repositories lists every repository on every centre's disk. A held one has the owner's password file.
func (d *demo) repositories(ctx context.Context) ([]demoRepositoryView, error) {
	var all []demoRepositoryView
	for _, c := range d.centres {
		r, err := c.operator.Backups.List(ctx, &nodepb.ListBackupsRequest{})
		if err != nil {
			return nil, fmt.Errorf("repositories of %s: %w", c.code, err)
		}
		for _, x := range r.GetRepositories() {
			if _, err := os.Stat(x.GetPath()); errors.Is(err, fs.ErrNotExist) {
				continue // agreed on, nothing there yet
			}
			all = append(all, demoRepositoryView{x.GetId(), x.GetPath(), x.GetPasswordFile(), x.GetClass(), x.GetOwner(), x.GetHeld()})
		}
	}
	passwords := map[string]string{}
	for _, r := range all {
		if !r.Held {
			passwords[r.ID] = r.PasswordFile
		}
	}
	for i := range all {
		if all[i].Held {
			all[i].PasswordFile = passwords[all[i].ID]
		}
	}
	return all, nil
}
