package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/catalogue"
	"dengbei/registry/registrypb"
)

// unsealForCatalogue lets the catalogue show what this centre may know of a record.
func (n *Node) unsealForCatalogue(rec *registrypb.Record) (catalogue.Details, bool) {
	title, files, size := titleOf(n.keys, rec)
	return catalogue.Details{Title: title, Files: files, Bytes: size}, files > 0 || size > 0
}

// followCatalogue keeps the catalogue up with the state, also when a snapshot puts another state in its place.
func (n *Node) followCatalogue(ctx context.Context) {
	for ctx.Err() == nil {
		err := n.catalogue.Follow(ctx, n.ledger.state())
		if ctx.Err() != nil {
			return
		}
		if err != nil && !errors.Is(err, registry.ErrClosed) {
			n.log.Error("catalogue does not follow", "err", err)
		}
		sleep(ctx, time.Second)
	}
}

// awaitCatalogue waits a moment until the catalogue has seen the log up to size.
func (n *Node) awaitCatalogue(ctx context.Context, size uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		w, err := n.catalogue.Watermark(ctx)
		if err != nil || w >= size {
			return err
		}
		sleep(ctx, 20*time.Millisecond)
		if ctx.Err() != nil {
			return nil // the answer says how far it is
		}
	}
}

// List answers from the catalogue and says how far that is.
func (s recordsService) List(ctx context.Context, req *nodepb.ListRecordsRequest) (*nodepb.ListRecordsReply, error) {
	n := s.n
	if err := n.ledger.Await(ctx, req.GetLevel()); err != nil {
		return nil, err
	}
	if req.GetLevel() != nodepb.ReadLevel_LOCAL {
		if err := n.awaitCatalogue(ctx, n.ledger.state().Size()); err != nil {
			return nil, err
		}
	}
	filter := catalogue.Filter{
		Authority: req.GetAuthority(), Registrant: req.GetRegistrant(), Text: req.GetText(), BeforeSeq: req.GetBeforeSeq(), Limit: int(req.GetLimit()),
	}
	if caller := rpc.CallerOf(ctx).Subject; caller.Has(identity.Registrant) {
		filter.Registrant = registrantOf(caller)
	}
	if err := n.maySearch(rpc.CallerOf(ctx).Subject, req.GetText()); err != nil {
		return nil, err
	}
	const most = 1000
	if filter.Limit > most {
		return nil, fmt.Errorf("at most %d records in one answer: %w", most, rpc.ErrInvalid)
	}
	rows, watermark, err := n.catalogue.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	reply := &nodepb.ListRecordsReply{Watermark: watermark}
	for _, row := range rows {
		rec, err := n.ledger.state().RecordBySeq(row.Seq)
		if err != nil {
			return nil, err
		}
		v, err := s.view(ctx, rec)
		if err != nil {
			return nil, err
		}
		reply.Records = append(reply.Records, v)
	}
	return reply, nil
}

// maySearch keeps people of other centres from finding out by search what they may not read: the catalogue knows every
// title that this node can open.
func (n *Node) maySearch(caller identity.Subject, text string) error {
	if text == "" || caller.Has(identity.Registrant) || caller.Code == n.cfg.Centre || registry.Supervises(caller.Code, n.cfg.Centre) {
		return nil
	}
	return fmt.Errorf("%s searches titles at centre %s, not at %s: %w", caller, caller.Code, n.cfg.Centre, rpc.ErrDenied)
}
