package node

import (
	"errors"
	"fmt"

	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/certificate"
	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// certificateOf renders the certificate of a record from the state. Rendered anywhere, at any time, it is the same: the
// checkpoint is the first published one that covers the record, and the signatures are registered. A node that cannot
// open the hidden fields discloses none of them.
// It returns the policy of that checkpoint beside it.
func certificateOf(state *registry.State, k *keys, rec *registrypb.Record) ([]byte, *tlog.Policy, error) {
	if rec.GetStatementSignature() == "" {
		return nil, nil, fmt.Errorf("record %s: its authority has not signed the statement yet: %w", rec.GetNumber(), rpc.ErrNotPublished)
	}
	cp, policy, err := coveredBy(state, rec)
	if err != nil {
		return nil, nil, err
	}
	network, err := state.Network()
	if err != nil {
		return nil, nil, err
	}
	proof, err := state.ProveRecord(cp.GetSize(), rec.GetSeq())
	if err != nil {
		return nil, nil, err
	}
	in := certificate.Input{
		Policy: policy, OpenSeed: rec.GetContent().GetOpenSeed(), Index: rec.GetSeq(), Hashes: proof, Checkpoint: cp.GetNote(),
		AuthorityKey: rec.GetStatementVkey(), Signature: rec.GetStatementSignature(),
	}
	for i, v := range registry.OpenFields(network.GetOrigin(), rec) {
		in.Values[i] = v
	}
	if n := len(rec.GetContent().GetHidden()); n != certificate.HiddenFieldCount {
		return nil, nil, fmt.Errorf("record %s has %d hidden fields: %w", rec.GetNumber(), n, registry.ErrCorrupt)
	}
	for i, h := range rec.GetContent().GetHidden() {
		copy(in.Hidden[i][:], h)
	}
	if hidden, err := k.openHidden(rec.GetContent().GetSealed()); err == nil {
		in.HiddenSeed = hidden.Seed
		for _, id := range hiddenFields() {
			in.Values[id] = hidden.Fields[id.String()]
		}
	}
	raw, err := certificate.Build(in)
	return raw, policy, err
}

// coveredBy returns the checkpoint that a record's certificate stands on, and its policy.
func coveredBy(state *registry.State, rec *registrypb.Record) (*registrypb.Checkpoint, *tlog.Policy, error) {
	cp, err := state.CheckpointCovering(rec.GetSeq())
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil, fmt.Errorf("record %s: %w", rec.GetNumber(), rpc.ErrNotPublished)
	}
	if err != nil {
		return nil, nil, err
	}
	policy, err := policyFor(state, cp)
	return cp, policy, err
}

// titleOf returns what this node may know of a record's title and totals.
func titleOf(k *keys, rec *registrypb.Record) (title string, files, sizeBytes uint64) {
	title = rec.GetContent().GetTitle()
	hidden, err := k.openHidden(rec.GetContent().GetSealed())
	if err != nil {
		return title, 0, 0
	}
	// A payload that does not parse was refused by the certificate's form; here it only stays 0.
	_, _ = fmt.Sscanf(hidden.Fields[tlog.FieldPayload.String()], "%d.%d", &sizeBytes, &files)
	return hidden.Fields[tlog.FieldTitle.String()], files, sizeBytes
}
