package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"dengbei/deploy/e2e/network"
	"dengbei/node/nodepb"
	"dengbei/registry"
	"dengbei/registry/certificate"
	"dengbei/registry/tlog"
)

// programs are built once for all tests, by TestMain.
var programs network.Programs

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(network.EnvRun) != "1" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "dengbei-e2e-bin-")
	if err == nil {
		defer os.RemoveAll(dir)
		programs, err = network.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// five starts a network, or skips the test. adapt, if not nil, changes what the centres are.
func five(t *testing.T, adapt func(*network.Spec)) *network.Network {
	t.Helper()
	if os.Getenv(network.EnvRun) != "1" {
		t.Skipf("starts five processes and loads them: set %s=1 to run it", network.EnvRun)
	}
	specs := network.Five()
	for i := range specs {
		if adapt != nil {
			adapt(&specs[i])
		}
	}
	began := time.Now()
	n := network.Start(t, programs, specs)
	t.Logf("five centres serve after %.1f s", time.Since(began).Seconds())
	return n
}

// content is n bytes that follow from seed alone.
func content(seed string, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(b) // gives always all
	return b
}

// delivery is a parcel of one centre's unit, and what became of it.
type delivery struct {
	*network.Parcel
	centre       *network.Centre
	acknowledged atomic.Bool
	receipt      *nodepb.Receipt // valid once acknowledged
	took         time.Duration   // until the receipt
	number       string
}

// deliver packs a small delivery.
func deliver(t *testing.T, c *network.Centre, title string) *delivery {
	t.Helper()
	p, err := c.Registrant.Pack(title, map[string][]byte{"收文/正文.txt": fmt.Appendf(nil, "%s\n%s\n", title, c.Name)})
	if err != nil {
		t.Fatal(err)
	}
	return &delivery{Parcel: p, centre: c}
}

// pack makes count small deliveries, for the centres in turn.
func pack(t *testing.T, centres []*network.Centre, series string, count int) []*delivery {
	t.Helper()
	all := make([]*delivery, count)
	for i := range all {
		all[i] = deliver(t, centres[i%len(centres)], fmt.Sprintf("%s 第%d件", series, i+1))
	}
	return all
}

// load is a crowd of units handing in at the same time.
type load struct {
	acknowledged atomic.Int64
	retries      atomic.Int64
	done         chan struct{} // closed when every delivery is acknowledged, or the crowd has given up
	err          error         // valid after done
}

// retryEvery is how long a unit waits before it tries again, as a real client does.
const retryEvery = 200 * time.Millisecond

// handIn starts to hand all in, at most streams at once, each until it has its receipt. Each centre has a queue of its
// own: one that is down holds up its own units only.
func handIn(ctx context.Context, all []*delivery, streams int) *load {
	l := &load{done: make(chan struct{})}
	queues := map[*network.Centre][]*delivery{}
	for _, d := range all {
		queues[d.centre] = append(queues[d.centre], d)
	}
	each := max(streams/len(queues), 1)
	g, gctx := errgroup.WithContext(ctx)
	for _, queue := range queues {
		ch := make(chan *delivery, len(queue))
		for _, d := range queue {
			ch <- d
		}
		close(ch)
		for range each {
			g.Go(func() error {
				for d := range ch {
					if err := l.handInOne(gctx, d); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	go func() {
		l.err = g.Wait()
		close(l.done)
	}()
	return l
}

func (l *load) handInOne(ctx context.Context, d *delivery) error {
	began := time.Now()
	for {
		reply, err := d.centre.Registrant.Submit(ctx, d.Parcel)
		if err == nil {
			d.receipt, d.took = reply.GetReceipt(), time.Since(began)
			d.acknowledged.Store(true)
			l.acknowledged.Add(1)
			return nil
		}
		l.retries.Add(1)
		t := time.NewTimer(retryEvery)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("no receipt for %s at %s: %w", d.ID, d.centre.Code, err)
		case <-t.C:
		}
	}
}

// wait waits for every receipt.
func (l *load) wait(t *testing.T) {
	t.Helper()
	<-l.done
	if l.err != nil {
		t.Fatal(l.err)
	}
}

// reached waits until so many are acknowledged.
func (l *load) reached(t *testing.T, count int64, limit time.Duration) {
	t.Helper()
	network.Until(t, limit, fmt.Sprintf("%d receipts", count), func(context.Context) error {
		if got := l.acknowledged.Load(); got < count {
			return fmt.Errorf("%d so far", got)
		}
		return nil
	})
}

// registered waits until every centre has registered what it has acknowledged.
func registered(t *testing.T, n *network.Network, limit time.Duration) {
	t.Helper()
	network.Until(t, limit, "everything acknowledged is registered", func(ctx context.Context) error {
		var waiting []error
		for _, c := range n.Centres {
			s, err := c.Status(ctx)
			if err == nil && s.GetWaitingSubmissions() > 0 {
				err = fmt.Errorf("%d submissions wait at %s", s.GetWaitingSubmissions(), c.Code)
			}
			waiting = append(waiting, err)
		}
		return errors.Join(waiting...)
	})
}

// agreed waits until all centres have applied the same log and compares what they made of it.
func agreed(t *testing.T, n *network.Network) *nodepb.StatusReply {
	t.Helper()
	var first *nodepb.StatusReply
	network.Until(t, time.Minute, "all centres are at the same place of the log", func(ctx context.Context) error {
		var all, again []*nodepb.StatusReply
		for _, round := range []*[]*nodepb.StatusReply{&all, &again} {
			for _, c := range n.Centres {
				s, err := c.Status(ctx)
				if err != nil {
					return err
				}
				*round = append(*round, s)
			}
		}
		first = all[0]
		for i, s := range all { // a status that did not change between two looks was not taken in the middle of an entry
			if s.GetAppliedIndex() != first.GetAppliedIndex() || again[i].GetAppliedIndex() != first.GetAppliedIndex() {
				return fmt.Errorf("%s has applied %d, %s %d", s.GetCode(), s.GetAppliedIndex(), first.GetCode(), first.GetAppliedIndex())
			}
		}
		for _, s := range again {
			if s.GetLogSize() != first.GetLogSize() || string(s.GetLogRoot()) != string(first.GetLogRoot()) || string(s.GetStateChain()) != string(first.GetStateChain()) {
				t.Errorf("at index %d %s has size %d, root %x, chain %x; %s has size %d, root %x, chain %x", s.GetAppliedIndex(),
					s.GetCode(), s.GetLogSize(), s.GetLogRoot(), s.GetStateChain(), first.GetCode(), first.GetLogSize(), first.GetLogRoot(), first.GetStateChain())
			}
		}
		return nil
	})
	return first
}

// checkLog compares the log with what was acknowledged: every delivery is in it exactly once, nothing else is, and each
// authority's numbers run from 1 without a gap. It fills in the numbers.
func checkLog(t *testing.T, n *network.Network, all []*delivery) {
	t.Helper()
	status := agreed(t, n)
	if got, want := status.GetLogSize(), uint64(len(all)); got != want {
		t.Errorf("the log has %d records, %d were acknowledged", got, want)
	}
	var mu sync.Mutex // guards the maps
	at := map[uint64]string{}
	serials := map[string][]uint64{}
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(8)
	for _, d := range all {
		g.Go(func() error {
			r, err := d.centre.Operator.Records.Show(ctx, &nodepb.ShowRecordRequest{Number: d.ID})
			if err != nil {
				return fmt.Errorf("acknowledged submission %s of %s: %w", d.ID, d.centre.Code, err)
			}
			rec := r.GetRecord()
			number, err := registry.ParseNumber(rec.GetNumber())
			if err != nil {
				return err
			}
			if rec.GetAuthority() != d.centre.Code || number.Authority != d.centre.Code || rec.GetRegistrant() != d.centre.Registrant.ID {
				return fmt.Errorf("%s of %s is registered as %s by %s", d.ID, d.centre.Code, rec.GetNumber(), rec.GetRegistrant())
			}
			mu.Lock()
			defer mu.Unlock()
			if before, ok := at[rec.GetSeq()]; ok {
				return fmt.Errorf("position %d of the log is of %s and of %s", rec.GetSeq(), before, d.ID)
			}
			at[rec.GetSeq()] = d.ID
			series := fmt.Sprintf("%s-%d", number.Authority, number.Year)
			serials[series] = append(serials[series], number.Serial)
			d.number = rec.GetNumber()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for series, list := range serials {
		slices.Sort(list)
		for i, serial := range list {
			if serial != uint64(i+1) {
				t.Errorf("numbers of %s: %d comes where %d is due, of %d", series, serial, i+1, len(list))
				break
			}
		}
	}
}

// checkCertificates fetches the certificate of every delivery and has it verified, here and by dengbei-verify.
func checkCertificates(t *testing.T, n *network.Network, all []*delivery) {
	t.Helper()
	network.Until(t, 2*time.Minute, "a checkpoint covers the whole log", func(ctx context.Context) error {
		for _, c := range n.Centres {
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if s.GetPublishedSize() < uint64(len(all)) {
				return fmt.Errorf("%s knows one over %d of %d records", c.Code, s.GetPublishedSize(), len(all))
			}
		}
		return nil
	})
	dir := n.Path("certificates")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	policyFile := filepath.Join(dir, "policy.txt")
	if err := n.CLI(t.Context(), nil, "policy", "get", "--config", n.Centres[0].File, "-o", policyFile); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(policyFile)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := tlog.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	files := make([]string, len(all))
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(8)
	for i, d := range all {
		g.Go(func() error {
			raw, err := awaitCertificate(ctx, d)
			if err != nil {
				return err
			}
			v, err := certificate.Verify(raw, policy)
			if err != nil {
				return fmt.Errorf("certificate %s: %w", d.number, err)
			}
			if v.Number != d.number || v.Authority != d.centre.Code {
				return fmt.Errorf("the certificate of %s is one of %s by %s", d.number, v.Number, v.Authority)
			}
			files[i] = filepath.Join(dir, d.number)
			return os.WriteFile(files[i], raw, 0o600)
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	verdicts, err := n.Verify(t.Context(), policyFile, files)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range all {
		if v := verdicts[files[i]]; !v.Holds || v.Proven.Number != d.number {
			t.Errorf("dengbei-verify of the certificate of %s: holds %t, number %q, %s", d.number, v.Holds, v.Proven.Number, v.Error)
		}
	}
}

// awaitCertificate fetches a certificate; the authority's signature comes a moment after the registration.
func awaitCertificate(ctx context.Context, d *delivery) ([]byte, error) {
	deadline := time.Now().Add(time.Minute)
	for {
		r, err := d.centre.Operator.Records.Certificate(ctx, &nodepb.ShowRecordRequest{Number: d.number})
		if err == nil {
			return r.GetCertificate(), nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("certificate %s: %w", d.number, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}
