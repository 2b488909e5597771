package network

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"dengbei/chunkstore/digest"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/intake"
)

// Registrant is a unit that hands records in at its centre. It is safe for concurrent use.
type Registrant struct {
	ID     string
	centre *Centre
	dir    string
	key    crypto.Signer

	mu     sync.Mutex // guards client, held while it is made
	client *rpc.Client
}

// addRegistrant has the centre add a unit, as an officer does on its machine.
func addRegistrant(ctx context.Context, n *Network, c *Centre) (*Registrant, error) {
	r := &Registrant{ID: c.Code + "/danwei", centre: c, dir: n.Path("registrants", c.Code)}
	err := n.CLI(ctx, nil, "registrant", "add", r.ID, "--config", c.File, "--name", c.Name+"登记单位", "--fonds", "J001", "--out", r.dir)
	if err != nil {
		return nil, err
	}
	r.key, err = identity.LoadOrCreateSigningKey(filepath.Join(r.dir, "signing.key"))
	return r, err
}

// Client returns a connection to the centre with the unit's credential. It stays until [Registrant.Redial].
func (r *Registrant) Client(ctx context.Context) (*rpc.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	if r.client == nil {
		r.client, err = r.centre.dial(ctx, r.dir, "")
	}
	return r.client, err
}

// Redial drops a connection that failed, so that the next call does not wait for it to be tried again.
func (r *Registrant) Redial(failed *rpc.Client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil && r.client == failed {
		r.client.Close()
		r.client = nil
	}
}

func (r *Registrant) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.client != nil {
		r.client.Close()
		r.client = nil
	}
}

// Parcel is a described and signed delivery of one record.
type Parcel struct {
	ID    string // 64 hex digits
	Title string
	Files map[string][]byte // by path

	order     []string // of the description
	encoded   []byte
	signature []byte
}

// Pack describes and signs a delivery. The same title and files give the same ID.
func (r *Registrant) Pack(title string, files map[string][]byte) (*Parcel, error) {
	s := &intake.Submission{Registrant: r.ID, Authority: r.centre.Code, Class: "standard"}
	rec := intake.Record{Title: title, Opening: intake.OpeningOpen}
	p := &Parcel{Title: title, Files: files}
	for path := range files {
		p.order = append(p.order, path)
	}
	slices.SortFunc(p.order, strings.Compare)
	for _, path := range p.order {
		pair := digest.NewPair()
		_, _ = pair.Write(files[path]) // hashing does not fail
		sha, sm := pair.Sums()
		rec.Files = append(rec.Files, intake.File{Path: path, SizeBytes: int64(len(files[path])), SHA256: sha, SM3: sm})
	}
	s.Records = []intake.Record{rec}
	id, err := intake.ID(s)
	if err == nil {
		p.encoded, err = intake.Encode(s)
	}
	if err == nil {
		p.signature, err = r.key.Sign(nil, registry.SubmissionStatement(id.Bytes()), crypto.Hash(0))
	}
	if err != nil {
		return nil, fmt.Errorf("pack %q: %w", title, err)
	}
	p.ID = id.Hex()
	return p, nil
}

// Submit hands p in once and returns the centre's answer, whose receipt is for p. Trying again after an error is safe.
func (r *Registrant) Submit(ctx context.Context, p *Parcel) (*nodepb.SubmitReply, error) {
	c, err := r.Client(ctx)
	if err != nil {
		return nil, err
	}
	reply, err := p.send(ctx, c)
	if err != nil {
		if rpc.Reason(err) == "" { // no answer: the process or the connection is gone
			r.Redial(c)
		}
		return nil, fmt.Errorf("submit %s at %s: %w", p.ID, r.centre.Code, err)
	}
	if reply.GetReceipt().GetSubmission() != p.ID || len(reply.GetReceipt().GetSignature()) == 0 {
		return nil, fmt.Errorf("submit %s at %s: the receipt is for %q", p.ID, r.centre.Code, reply.GetReceipt().GetSubmission())
	}
	return reply, nil
}

func (p *Parcel) send(ctx context.Context, c *rpc.Client) (*nodepb.SubmitReply, error) {
	const piece = 256 << 10
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Submissions.Submit(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&nodepb.SubmitRequest{Part: &nodepb.SubmitRequest_Announcement{
		Announcement: &nodepb.Announcement{Submission: p.encoded, Signature: p.signature},
	}})
	for i, path := range p.order {
		for data, last := p.Files[path], false; err == nil && !last; {
			n := min(len(data), piece)
			last = n == len(data)
			err = stream.Send(&nodepb.SubmitRequest{Part: &nodepb.SubmitRequest_File{
				File: &nodepb.FileData{File: uint32(i), Data: data[:n], Last: last},
			}})
			data = data[n:]
		}
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the centre has answered already, the answer says what
		return nil, err
	}
	return stream.CloseAndRecv()
}
