package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/nodepb"
	"dengbei/registry/intake"
)

// demoDelivery is one submission of the demonstration.
type demoDelivery struct {
	registrant *demoRegistrant
	delivery   delivery
	manual     bool

	parcel *parcel
	last   *nodepb.Submission // newest state known
}

// Handing in happens this many at a time; one after the other would leave the machine idle while disks sync.
const demoStreams = 4

// stageTimeout bounds each wait, so that the demo ends with a sentence and not with a silence.
const stageTimeout = 10 * time.Minute

// handIn submits everything and follows it until it is registered, or turned down where that is the plan.
func (d *demo) handIn(ctx context.Context) error {
	all := append(append([]*demoDelivery{}, d.deliveries...), d.cases.held, d.cases.returned, d.cases.refused)
	p := d.progress("registering", len(all)-1)
	defer d.endProgress()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var received atomic.Int64
	var sending, following errgroup.Group
	sending.SetLimit(demoStreams)
	var once sync.Once
	for _, s := range all {
		sending.Go(func() error {
			if err := s.send(ctx); err != nil {
				cancel()
				return err
			}
			once.Do(func() {
				d.say("the first receipt (接收回执): %d files, %s, signed by %s", s.parcel.files, term.ByteCount(uint64(s.parcel.sizeBytes)), s.registrant.code)
			})
			if received.Add(1) == int64(len(all)) {
				d.say("%d submissions received; every one has its receipt", len(all))
			}
			following.Go(func() error {
				err := d.follow(ctx, s, p)
				if err != nil {
					cancel()
				}
				return err
			})
			return nil
		})
	}
	sent := sending.Wait()
	if err := cmp.Or(sent, following.Wait()); err != nil {
		return err
	}
	d.deliveries = append(d.deliveries, d.cases.held, d.cases.corrected)
	byPolicy := 0
	for _, s := range d.deliveries {
		if strings.HasPrefix(s.last.GetDecidedBy(), "policy ") {
			byPolicy++
		} else if !s.manual {
			return fmt.Errorf("%q was decided by %q, want the auto-approval policy", s.delivery.titles[0], s.last.GetDecidedBy())
		}
	}
	if want := len(d.deliveries) - 2; byPolicy != want {
		return fmt.Errorf("%d submissions were decided by policy, want %d: the others were an officer's", byPolicy, want)
	}
	d.say("%d submissions were accepted (受理) under the signed auto-approval policies, 2 by an officer", byPolicy)
	first := d.deliveries[0].last
	d.say("registered: %d submissions; the first number (登记号) is %s", len(d.deliveries), strings.Join(first.GetNumbers(), " "))
	return d.again(ctx)
}

// send reads, signs and hands in one delivery.
func (s *demoDelivery) send(ctx context.Context) error {
	var err error
	if s.parcel, err = pack(ctx, s.delivery, packing{registrant: s.registrant.client.Subject, signing: s.registrant.signing, workers: 1}); err != nil {
		return err
	}
	r, err := s.parcel.send(ctx, s.registrant.client, func(int) {})
	if err != nil {
		return fmt.Errorf("%s at %s: %w", s.delivery.titles[0], s.registrant.code, err)
	}
	s.last = r.GetSubmission()
	return nil
}

// follow takes one delivery to its end: the policy's decision or an officer's.
func (d *demo) follow(ctx context.Context, s *demoDelivery, p *term.Progress) error {
	ctx, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	var err error
	switch {
	case !s.manual:
		err = s.registered(ctx)
	case s == d.cases.held:
		err = d.decide(ctx, s, "accept", "")
		if err == nil {
			err = s.registered(ctx)
		}
		if err == nil {
			d.say("an officer of %s accepted (受理) %q; number %s", s.registrant.code, s.delivery.titles[0], strings.Join(s.last.GetNumbers(), " "))
		}
	case s == d.cases.returned:
		err = d.correct(ctx, s)
	case s == d.cases.refused:
		return d.refuse(ctx, s)
	}
	if err == nil {
		p.Add(1)
	}
	return err
}

// registered waits for the number.
func (s *demoDelivery) registered(ctx context.Context) error {
	last, err := watch(ctx, s.registrant.client, s.parcel.id.Hex(), stage{name: stageRegistered}, func(*nodepb.Submission) {})
	if last != nil {
		s.last = last
	}
	if err != nil {
		return fmt.Errorf("%s at %s: %w", s.delivery.titles[0], s.registrant.code, err)
	}
	if len(last.GetNumbers()) != len(s.delivery.folders) {
		return fmt.Errorf("%s at %s: %d numbers for %d records", s.delivery.titles[0], s.registrant.code, len(last.GetNumbers()), len(s.delivery.folders))
	}
	return nil
}

// decide waits until the submission lies on the officer's desk and gives the verdict with the registrar's credential.
func (d *demo) decide(ctx context.Context, s *demoDelivery, verdict, reason string) error {
	id := s.parcel.id.Hex()
	err := until(ctx, stageTimeout, "inspection of "+id, func(ctx context.Context) (bool, error) {
		r, err := s.registrant.centre.show(ctx, id)
		if err != nil {
			return false, err
		}
		s.last = r
		return strings.EqualFold(r.GetState(), "inspected"), nil
	})
	if err != nil {
		return err
	}
	args := []string{"record", verdict, id, "--config", s.registrant.centre.file}
	if reason != "" {
		args = append(args, "--reason", reason)
	}
	if err := d.cli(ctx, nil, args...); err != nil {
		return err
	}
	s.last, err = s.registrant.centre.show(ctx, id)
	return err
}

// correct is the way of a delivery that lacks something: returned, completed, handed in again, accepted.
func (d *demo) correct(ctx context.Context, s *demoDelivery) error {
	if err := d.decide(ctx, s, "return", "电子证照缺失，请补正后重新提交"); err != nil {
		return err
	}
	if !strings.EqualFold(s.last.GetState(), "returned") {
		return fmt.Errorf("returned submission %s is %s", s.parcel.id.Hex(), s.last.GetState())
	}
	d.say("%s returned %q for correction (补正): its licence is missing", s.registrant.code, s.delivery.titles[0])
	again := d.cases.corrected
	again.delivery.corrects = s.parcel.id
	if err := again.send(ctx); err != nil {
		return err
	}
	if err := d.decide(ctx, again, "accept", ""); err != nil {
		return err
	}
	if err := again.registered(ctx); err != nil {
		return err
	}
	d.say("it was handed in again, complete, and accepted; number %s", strings.Join(again.last.GetNumbers(), " "))
	return nil
}

func (d *demo) refuse(ctx context.Context, s *demoDelivery) error {
	if err := d.decide(ctx, s, "refuse", "不属于本机关管辖，请向省级机关提交"); err != nil {
		return err
	}
	if !strings.EqualFold(s.last.GetState(), "refused") || len(s.last.GetNumbers()) > 0 {
		return fmt.Errorf("refused submission %s is %s with %d numbers", s.parcel.id.Hex(), s.last.GetState(), len(s.last.GetNumbers()))
	}
	d.report.Refused = []string{s.parcel.id.Hex()}
	d.say("%s refused (不予受理) %q: not within its jurisdiction", s.registrant.code, s.delivery.titles[0])
	return nil
}

// again hands the first delivery in a second time: the same number must come back, and nothing new.
func (d *demo) again(ctx context.Context) error {
	s := d.deliveries[0]
	r, err := s.parcel.send(ctx, s.registrant.client, func(int) {})
	if err != nil {
		return fmt.Errorf("hand in a second time: %w", err)
	}
	before, now := strings.Join(s.last.GetNumbers(), " "), strings.Join(r.GetSubmission().GetNumbers(), " ")
	if !r.GetExisting() || before != now {
		return fmt.Errorf("the same submission handed in twice: got numbers %q after %q, existing %v", now, before, r.GetExisting())
	}
	d.say("the first one was handed in a second time by mistake: the same number came back, nothing was stored twice")
	return nil
}

// Arrivals during the disaster.
const (
	arrivalEvery = time.Second
	maxArrivals  = 20
)

// arrivals is what goes on elsewhere while a centre is down.
type arrivals struct {
	cancel context.CancelFunc
	done   chan struct{}
	list   []*demoDelivery
	err    error
}

// arrive keeps submissions coming in at the other centres until stopped.
func (d *demo) arrive(ctx context.Context) *arrivals {
	ctx, cancel := context.WithCancel(ctx)
	a := &arrivals{cancel: cancel, done: make(chan struct{})}
	others := d.input.registrants[1:]
	go func() {
		defer close(a.done)
		tick := time.NewTicker(arrivalEvery)
		defer tick.Stop()
		for i := range maxArrivals {
			s, err := d.generateArrival(others[i%len(others)], i)
			if err == nil {
				err = s.send(context.WithoutCancel(ctx)) // what was begun is finished
			}
			if err != nil {
				a.err = err
				return
			}
			a.list = append(a.list, s)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return a
}

// stop ends the arrivals and waits for the one under way.
func (a *arrivals) stop() error {
	a.cancel()
	<-a.done
	return a.err
}

func (d *demo) generateArrival(r *demoRegistrant, i int) (*demoDelivery, error) {
	dir := filepath.Join(d.dir, "arrivals", fmt.Sprintf("%03d-%s", i+1, r.code))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	title := fmt.Sprintf("灾中收件 第%d号", i+1)
	text := fmt.Sprintf("%s\n收件单位：%s\n时间：%s\n", title, r.name, time.Now().In(term.ArchiveTime).Format(time.RFC3339Nano))
	if err := os.WriteFile(filepath.Join(dir, "收件登记.txt"), []byte(text), 0o644); err != nil {
		return nil, err
	}
	return &demoDelivery{registrant: r, delivery: delivery{folders: []string{dir}, titles: []string{title}, class: classStandard, opening: intake.OpeningOpen}}, nil
}
