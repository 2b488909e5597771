package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dengbei/deploy/e2e/network"
	"dengbei/node/nodepb"
)

// free is what a full disk has left; big is too big for it, and does not compress.
const free = 1 << 20

func big(seed string) map[string]string {
	return map[string]string{"扫描件.bin": string(content(seed, 8*free))}
}

// fullDisks refuse, or wait, and go on by themselves once there is room.
func fullDisks(t *testing.T, b *badNetwork) {
	if b.volumes != nil {
		t.Skip(b.volumes)
	}
	t.Run("submission", b.fullQuarantine)
	t.Run("submission, page by page", b.fullByPages)
	t.Run("snapshot", b.fullRepository)
	t.Run("new repository", b.noRoomForRepository)
	t.Run("holder", b.fullHolder)
}

// fullQuarantine is found before there is a receipt.
func (b *badNetwork) fullQuarantine(t *testing.T) {
	volume, dir := b.county.Config.Path("quarantine"), folder(t, big("quarantine"))
	b.settled(t)
	resize(t, volume, free)
	b.refused(t, func() {
		b.submit(t, dir).want(t, 3, "扫描件.bin", "quarantine is full", "free space on its disk, then send again", "QUARANTINE_FULL")
	})
	// What is small enough goes on being received.
	b.handIn(t, folder(t, map[string]string{"正文.txt": "small, beside a full quarantine"}), "registered")
	b.settled(t)
	resize(t, volume, volumeBytes)
	s := b.handIn(t, dir, "registered")
	if s.Existing || len(s.Submission.Numbers) != 1 {
		t.Errorf("with room again: existing %t, numbers %q; want a first answer with one number", s.Existing, s.Submission.Numbers)
	}
	b.restored(t, s.Submission.Numbers[0], dir)
}

// fullByPages has room for the payload and for a few pages more, so that the disk is full at each of the small files that
// stand beside the payload in turn: what has a receipt is registered once there is room, what has none has left nothing.
func (b *badNetwork) fullByPages(t *testing.T) {
	const page, pages = 4096, 8
	volume := b.county.Config.Path("quarantine")
	refused := 0
	for n := range int64(pages) {
		dir := folder(t, map[string]string{"扫描件.bin": string(content(fmt.Sprint("pages ", n), free))})
		b.settled(t)
		before := b.remains(t)
		resize(t, volume, free+n*page)
		r := b.submit(t, dir)
		if r.status != 0 {
			refused++
			r.want(t, 3, "quarantine is full", "free space on its disk, then send again", "QUARANTINE_FULL")
			if now := b.remains(t); !slices.Equal(now.entries, before.entries) || !slices.Equal(now.listed, before.listed) {
				t.Errorf("refused with %d pages left: the quarantine holds %q, listed are %q; before %q and %q", n, now.entries, now.listed, before.entries, before.listed)
			}
		}
		resize(t, volume, volumeBytes)
		s := b.handIn(t, dir, "registered")
		if s.Existing != (r.status == 0) || len(s.Submission.Numbers) != 1 || s.Receipt.Submission != s.ID {
			t.Errorf("with %d pages left the answer was %d; with room again: existing %t, numbers %q, receipt for %s", n, r.status, s.Existing, s.Submission.Numbers, s.Receipt.Submission)
		}
		if now := b.remains(t); now.numbers != before.numbers+1 {
			t.Errorf("with %d pages left: %d registrations; want %d", n, now.numbers, before.numbers+1)
		}
	}
	if refused == 0 || refused == pages {
		t.Errorf("%d of %d were refused; want the disk full at some of the small files and not at others", refused, pages)
	}
}

// fullRepository is found after the receipt, which stands: the submission waits for room.
func (b *badNetwork) fullRepository(t *testing.T) {
	volume, dir := b.county.Config.Path("repositories"), folder(t, big("repository"))
	b.settled(t)
	before := b.remains(t)
	resize(t, volume, free)
	s := b.handIn(t, dir, "received")
	network.Until(t, time.Minute, "the submission waits for room", func(ctx context.Context) error {
		v, err := b.county.Operator.Submissions.Show(ctx, &nodepb.ShowSubmissionRequest{Id: s.ID})
		if err == nil && (v.GetState() != "accepted" || !strings.Contains(v.GetLastError(), "no space left in the repository's file system")) {
			err = fmt.Errorf("it is %s, %q", v.GetState(), v.GetLastError())
		}
		return err
	})
	if now := b.remains(t); now.numbers != before.numbers {
		t.Errorf("there are %d registrations; before there were %d", now.numbers, before.numbers)
	}
	b.dengbei(t, "submission", "show", s.ID, "--config", b.county.File).want(t, 0, s.ID, "accepted", "free space there")
	b.tidy(t, volume)
	b.dengbei(t, "backup", "check", "--config", b.county.File).want(t, 0, "nothing is damaged or missing")
	resize(t, volume, volumeBytes)
	b.offsite(t, s.ID, 2, 2*time.Minute)
	again := b.handIn(t, dir, "registered")
	if !again.Existing || len(again.Submission.Numbers) != 1 {
		t.Fatalf("existing %t, numbers %q; want the number that the submission got by itself", again.Existing, again.Submission.Numbers)
	}
	b.restored(t, again.Submission.Numbers[0], dir)
}

// noRoomForRepository is a disk on which not even an empty repository of another class can be made.
func (b *badNetwork) noRoomForRepository(t *testing.T) {
	volume, dir := b.county.Config.Path("repositories"), folder(t, map[string]string{"正文.txt": "of another class"})
	b.settled(t)
	resize(t, volume, 0)
	r := b.submit(t, dir, "--class", "permanent", "--json")
	var v struct {
		Submissions []handedIn `json:"submissions"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil || len(v.Submissions) != 1 {
		t.Fatalf("submit: %v\n%s", err, r)
	}
	id := v.Submissions[0].ID
	network.Until(t, time.Minute, "the submission waits for room", func(ctx context.Context) error {
		s, err := b.county.Operator.Submissions.Show(ctx, &nodepb.ShowSubmissionRequest{Id: id})
		if err == nil && (s.GetState() != "accepted" || !strings.Contains(s.GetLastError(), "no space left") || !strings.Contains(s.GetLastError(), "free space there")) {
			err = fmt.Errorf("it is %s, %q", s.GetState(), s.GetLastError())
		}
		return err
	})
	resize(t, volume, volumeBytes)
	b.settled(t) // nobody holds this class
	s, err := b.county.Operator.Submissions.Show(t.Context(), &nodepb.ShowSubmissionRequest{Id: id})
	if err != nil || s.GetState() != "registered" || s.GetLastError() != "" {
		t.Errorf("with room again it is %s, %q, %v; want registered", s.GetState(), s.GetLastError(), err)
	}
}

// fullHolder is found by the one who pulls; the other holder's copy comes, and this one's once there is room.
func (b *badNetwork) fullHolder(t *testing.T) {
	volume, dir := b.city.Config.Path("held"), folder(t, big("holder"))
	b.settled(t)
	resize(t, volume, free)
	s := b.handIn(t, dir, "registered")
	b.offsite(t, s.ID, 1, time.Minute)
	network.Until(t, time.Minute, "the holder says that its disk is full", func(ctx context.Context) error {
		r, err := b.city.Status(ctx)
		if err != nil {
			return err
		}
		for _, h := range r.GetHoldings() {
			if strings.Contains(h.GetLastError(), "no space left") && h.GetMissing() > 0 && h.GetReceiptedSequence() < h.GetRegisteredSequence() {
				return nil
			}
		}
		return fmt.Errorf("it holds %v", r.GetHoldings())
	})
	b.dengbei(t, "network", "status", "--config", b.city.File).want(t, 1, "no space left in the local store", "lacks")
	v, err := b.county.Operator.Submissions.Show(t.Context(), &nodepb.ShowSubmissionRequest{Id: s.ID})
	if err == nil && v.GetOffsiteCopies() != 1 {
		err = errors.New("the full holder's copy counts")
	}
	if err != nil {
		t.Error(err)
	}
	resize(t, volume, volumeBytes)
	b.offsite(t, s.ID, 2, 2*time.Minute)
	b.dengbei(t, "backup", "check", "--config", b.city.File).want(t, 0, "nothing is damaged or missing")
}
