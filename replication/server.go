package replication

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"dengbei/chunkstore/digest"
	"dengbei/replication/manifest"
	"dengbei/replication/replicationpb"
)

const (
	// maxData is the most data in one reply.
	maxData = 1 << 20

	// sendData is the most that is sent in one reply: with its framing it fits grpc's pool of 1 MiB buffers.
	sendData = 512 << 10

	// maxFetchFiles bounds one FetchRequest.
	maxFetchFiles = 1024

	defaultServeStreams = 64
)

// Content is an opened file that is read at any offset.
type Content interface {
	io.ReaderAt
	io.Closer
}

// ServerConfig says what a [Server] serves. Open, Document and Allow are required.
type ServerConfig struct {
	// Allow decides whether the caller, known by the credential in ctx, may read repository. An error matching
	// [ErrRefused] is told to the caller as such.
	Allow func(ctx context.Context, repository string) error

	// Open returns a file of repository and its size, fs.ErrNotExist if there is none, [ErrRefused] if this file is not to
	// be served. Names were checked with [manifest.ParseName]. Other errors count as damage.
	Open func(ctx context.Context, repository, name string) (Content, int64, error)

	// Document returns an immutable document of repository, or an error as Open.
	Document func(ctx context.Context, repository string, d digest.Digest) (Content, int64, error)

	// Damaged is told of a file that could not be read or does not hash to its name. It is called from the stream and must
	// return at once. Nil for nobody.
	Damaged func(repository, name string, err error)

	// MaxStreams bounds the streams served at once, each of which takes 512 KiB for reading. Beyond it callers are sent
	// away and come back. Default 64.
	MaxStreams int
}

// Server is the side that is asked. It is safe for concurrent use and holds no goroutine of its own.
type Server struct {
	replicationpb.UnimplementedTransferServer
	config  ServerConfig
	slots   chan struct{}
	buffers sync.Pool
}

// NewServer returns a Server, or [ErrConfig].
func NewServer(c ServerConfig) (*Server, error) {
	if c.Allow == nil || c.Open == nil || c.Document == nil {
		return nil, fmt.Errorf("transfer server: %w: Allow, Open and Document are required", ErrConfig)
	}
	if c.MaxStreams <= 0 {
		c.MaxStreams = defaultServeStreams
	}
	if c.Damaged == nil {
		c.Damaged = func(string, string, error) {}
	}
	s := &Server{config: c, slots: make(chan struct{}, c.MaxStreams)}
	s.buffers.New = func() any { b := make([]byte, sendData); return &b }
	return s, nil
}

// wireError is an error of this package that also tells gRPC its code.
type wireError struct {
	error
	code codes.Code
}

// GRPCStatus makes the code known to grpc. The text is public: it never holds paths or content.
func (e wireError) GRPCStatus() *status.Status { return status.New(e.code, e.Error()) }

func (e wireError) Unwrap() error { return e.error }

// admit checks what every call checks, and takes a slot that the caller gives back.
func (s *Server) admit(ctx context.Context, repository string) error {
	if err := manifest.CheckRepository(repository); err != nil {
		return wireError{err, codes.InvalidArgument}
	}
	if err := s.config.Allow(ctx, repository); errors.Is(err, ErrRefused) {
		return wireError{fmt.Errorf("repository %s: %w", repository, ErrRefused), codes.PermissionDenied}
	} else if err != nil {
		return err
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
		return wireError{fmt.Errorf("%d streams are being served: try later", cap(s.slots)), codes.ResourceExhausted}
	}
}

// Fetch implements the service.
func (s *Server) Fetch(req *replicationpb.FetchRequest, stream grpc.ServerStreamingServer[replicationpb.FetchReply]) error {
	if n := len(req.Files); n > maxFetchFiles {
		return wireError{fmt.Errorf("%d files in one request: at most %d", n, maxFetchFiles), codes.InvalidArgument}
	}
	if err := s.admit(stream.Context(), req.Repository); err != nil {
		return err
	}
	defer func() { <-s.slots }()
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	for i, f := range req.Files {
		sum, err := manifest.ParseName(f.GetName())
		if err != nil {
			err = ErrRefused
		}
		open := func() (Content, int64, error) {
			return s.config.Open(stream.Context(), req.Repository, f.GetName())
		}
		out := outgoing{stream: stream, file: uint32(i), offset: f.GetOffset(), sum: sum, buf: *buf}
		if err := s.send(out, req.Repository, f.GetName(), err, open); err != nil {
			return err
		}
	}
	return nil
}

// Document implements the service.
func (s *Server) Document(req *replicationpb.DocumentRequest, stream grpc.ServerStreamingServer[replicationpb.FetchReply]) error {
	d, err := digest.FromBytes(digest.SHA256, req.Sha256)
	if err != nil {
		return wireError{err, codes.InvalidArgument}
	}
	if err := s.admit(stream.Context(), req.Repository); err != nil {
		return err
	}
	defer func() { <-s.slots }()
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	open := func() (Content, int64, error) { return s.config.Document(stream.Context(), req.Repository, d) }
	out := outgoing{stream: stream, offset: req.Offset, sum: d, buf: *buf}
	return s.send(out, req.Repository, "documents/"+d.Hex(), nil, open)
}

// send streams one file or its error. A non-nil result ends the stream.
func (s *Server) send(out outgoing, repository, name string, err error, open func() (Content, int64, error)) error {
	var content Content
	if err == nil {
		content, out.size, err = open()
	}
	if err == nil {
		defer content.Close()
		err = out.run(content)
	}
	var broken errStream
	switch {
	case err == nil:
		return nil
	case errors.As(err, &broken):
		return broken.error
	case out.stream.Context().Err() != nil:
		return out.stream.Context().Err()
	case errors.Is(err, ErrRefused):
		return out.fail(replicationpb.FileError_FILE_ERROR_REFUSED)
	case errors.Is(err, fs.ErrNotExist):
		return out.fail(replicationpb.FileError_FILE_ERROR_MISSING)
	case errors.Is(err, errToldDamaged):
		s.config.Damaged(repository, name, digest.ErrMismatch)
		return nil
	default:
		s.config.Damaged(repository, name, err)
		return out.fail(replicationpb.FileError_FILE_ERROR_DAMAGED)
	}
}

// errStream marks an error of the stream, as against one of the file.
type errStream struct{ error }

// errToldDamaged says that the caller knows already.
var errToldDamaged = errors.New("file does not hash to its name")

// outgoing is one file being sent.
type outgoing struct {
	stream grpc.ServerStreamingServer[replicationpb.FetchReply]
	file   uint32
	offset uint64
	size   int64
	sum    digest.Digest // zero for config
	buf    []byte
}

func (o *outgoing) fail(code replicationpb.FileError) error {
	return o.stream.Send(&replicationpb.FetchReply{File: o.file, Offset: o.offset, Error: code})
}

// run sends the rest of content. A file that is sent whole is hashed on the way: the last reply tells DAMAGED then, with
// the data, so that the receiver can see for itself.
func (o *outgoing) run(content io.ReaderAt) error {
	if o.offset > uint64(o.size) {
		return fs.ErrNotExist
	}
	var h hash.Hash
	if o.offset == 0 && !o.sum.IsZero() {
		h = digest.SHA256.New()
	}
	reply := &replicationpb.FetchReply{File: o.file, SizeBytes: uint64(o.size)}
	for {
		want := min(int64(len(o.buf)), o.size-int64(o.offset))
		n, err := content.ReadAt(o.buf[:want], int64(o.offset))
		if int64(n) < want {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if h != nil {
			h.Write(o.buf[:n])
		}
		reply.Offset, reply.Data = o.offset, o.buf[:n]
		o.offset += uint64(n)
		end := o.offset == uint64(o.size)
		damaged := end && h != nil && digest.FromHash(digest.SHA256, h) != o.sum
		switch {
		case damaged:
			reply.Error = replicationpb.FileError_FILE_ERROR_DAMAGED
		case end:
			reply.Last = true
		}
		if err := o.stream.Send(reply); err != nil {
			return errStream{err}
		}
		if damaged {
			return errToldDamaged
		}
		if end {
			return nil
		}
	}
}
