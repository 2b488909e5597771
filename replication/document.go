package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	"dengbei/chunkstore/digest"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
)

// documentFetch gets one immutable document.
type documentFetch struct {
	c          *Config
	limiter    *Limiter
	repository string
	sum        digest.Digest
}

// from asks one source after the other, stores the document and returns its text.
func (f documentFetch) from(ctx context.Context, sources []Source) ([]byte, error) {
	name := "documents/" + f.sum.Hex()
	errs := []error{fmt.Errorf("document %s: %w", f.sum, ErrIncomplete)}
	for _, s := range sources {
		text, err := f.receive(ctx, s.Client)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, digest.ErrMismatch):
			f.c.Observer.Damaged(f.repository, s.ServerID, name)
			f.c.Logger.WarnContext(ctx, "wrong bytes from a source, asking another", "peer", s.ServerID, "chunk", name)
		case errors.Is(err, errAbsent):
			f.c.Observer.Missing(f.repository, s.ServerID, name)
		case err == nil:
			if err := f.c.Documents.Put(ctx, f.sum, bytes.NewReader(text)); err != nil {
				return nil, fmt.Errorf("store document %s: %w", f.sum, err)
			}
			return text, nil
		}
		errs = append(errs, fmt.Errorf("source %s: %w", s.ServerID, err))
	}
	return nil, errors.Join(errs...)
}

// errAbsent says that a source does not serve a document.
var errAbsent = errors.New("source does not have the document")

func (f documentFetch) receive(ctx context.Context, client replicationpb.TransferClient) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watchdog := time.AfterFunc(f.c.Stall, cancel)
	defer watchdog.Stop()
	stream, err := client.Document(ctx, &replicationpb.DocumentRequest{Repository: f.repository, Sha256: f.sum.Bytes()},
		grpc.MaxCallRecvMsgSize(2*maxData))
	if err != nil {
		return nil, wire(err)
	}
	var text []byte
	for {
		watchdog.Reset(f.c.Stall)
		r, err := stream.Recv()
		watchdog.Stop()
		if errors.Is(err, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, wire(err)
		}
		switch r.Error {
		case replicationpb.FileError_FILE_ERROR_UNSPECIFIED:
		case replicationpb.FileError_FILE_ERROR_DAMAGED:
			return nil, digest.ErrMismatch
		default:
			return nil, errAbsent
		}
		if r.Offset != uint64(len(text)) || len(r.Data) == 0 && !r.Last {
			return nil, errProtocol
		}
		if len(text)+len(r.Data) > manifest.MaxDocumentBytes {
			return nil, fmt.Errorf("more than %d bytes: %w", manifest.MaxDocumentBytes, errProtocol)
		}
		if err := f.limiter.Wait(ctx, len(r.Data)); err != nil {
			return nil, err
		}
		text = append(text, r.Data...)
		if r.Last {
			break
		}
	}
	if digest.Of(text) != f.sum {
		return nil, digest.ErrMismatch
	}
	return text, nil
}
