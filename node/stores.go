package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/replication"
	"dengbei/replication/manifest"
)

// backupStore gives replication one repository: its files lie in a chunkstore, the documents of its backups in the
// node's documents.
type backupStore struct {
	files *chunkstore.Files
	docs  *documents
	// config is the digest of the repository's config, which is not part of its name.
	config digest.Digest
}

var _ replication.Store = (*backupStore)(nil)

// document returns the digest in the name of a document.
func document(name string) (digest.Digest, bool) {
	hex, ok := strings.CutPrefix(name, "documents/")
	if !ok {
		return digest.Digest{}, false
	}
	d, err := digest.Parse(hex)
	return d, err == nil
}

func (s *backupStore) name(name string) (chunkstore.Name, error) {
	if name == "config" {
		return chunkstore.Name{Kind: chunkstore.Config, ID: s.config}, nil
	}
	return chunkstore.ParseName(name)
}

// Has implements [replication.Store].
func (s *backupStore) Has(ctx context.Context, name string) (int64, bool, error) {
	if d, ok := document(name); ok {
		b, err := s.docs.Get(d)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, digest.ErrMismatch) {
			return 0, false, nil
		}
		return int64(len(b)), err == nil, err
	}
	n, err := s.name(name)
	if err != nil {
		return 0, false, err
	}
	size, err := s.files.Stat(n)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	return size, err == nil, err
}

// Receive implements [replication.Store].
func (s *backupStore) Receive(ctx context.Context, f manifest.File) (replication.Incoming, error) {
	if d, ok := document(f.Name); ok {
		if f.SizeBytes > maxDocumentBytes {
			return nil, fmt.Errorf("document %s: %d bytes, at most %d", d, f.SizeBytes, maxDocumentBytes)
		}
		if _, err := s.docs.Get(d); err == nil {
			return nil, fmt.Errorf("document %s: %w", d, fs.ErrExist)
		}
		return &incomingDocument{docs: s.docs, id: d, size: f.SizeBytes}, nil
	}
	n, err := s.name(f.Name)
	if err != nil {
		return nil, err
	}
	n.ID = f.SHA256
	in, err := s.files.Receive(n, f.SizeBytes)
	if err != nil {
		return nil, storeError(err)
	}
	return incomingFile{in}, nil
}

// storeError lets replication recognise what it acts on.
func storeError(err error) error {
	switch {
	case errors.Is(err, chunkstore.ErrFull):
		return fmt.Errorf("%w: %w", replication.ErrFull, err)
	case errors.Is(err, chunkstore.ErrBusy):
		return fmt.Errorf("%w: %w", replication.ErrBusy, err)
	default:
		return err
	}
}

type incomingFile struct{ *chunkstore.Incoming }

func (i incomingFile) Write(b []byte) (int, error) {
	n, err := i.Incoming.Write(b)
	return n, storeError(err)
}

func (i incomingFile) Commit(ctx context.Context) error { return storeError(i.Incoming.Commit(ctx)) }

// incomingDocument collects a document; it is small, so an interrupted one begins anew.
type incomingDocument struct {
	docs *documents
	id   digest.Digest
	size int64
	buf  bytes.Buffer
	done bool
}

func (i *incomingDocument) Offset() int64 { return int64(i.buf.Len()) }

func (i *incomingDocument) Write(b []byte) (int, error) {
	if int64(i.buf.Len()+len(b)) > i.size {
		return 0, fmt.Errorf("document %s is longer than announced: %w", i.id, digest.ErrMismatch)
	}
	return i.buf.Write(b)
}

func (i *incomingDocument) Commit(ctx context.Context) error {
	if i.done {
		return fmt.Errorf("document %s: %w", i.id, os.ErrClosed)
	}
	i.done = true
	return i.docs.Put(ctx, i.id, &i.buf)
}

func (i *incomingDocument) Discard() error { return i.Close() }

func (i *incomingDocument) Close() error {
	i.done = true
	return nil
}

// Open implements [replication.Store].
func (s *backupStore) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if d, ok := document(name); ok {
		return s.docs.Open(ctx, d)
	}
	n, err := s.name(name)
	if err != nil {
		return nil, err
	}
	return s.files.Open(ctx, n)
}

// Quarantine implements [replication.Store].
func (s *backupStore) Quarantine(_ context.Context, name string) error {
	if d, ok := document(name); ok {
		return s.docs.remove(d)
	}
	n, err := s.name(name)
	if err != nil {
		return err
	}
	return s.files.Quarantine(n)
}

// content opens a file for serving.
func (s *backupStore) content(ctx context.Context, name string) (replication.Content, int64, error) {
	if d, ok := document(name); ok {
		return s.docs.content(d)
	}
	n, err := s.name(name)
	if err != nil {
		return nil, 0, err
	}
	size, err := s.files.Stat(n)
	if err != nil {
		return nil, 0, err
	}
	return &fileContent{ctx: ctx, files: s.files, name: n, size: size}, size, nil
}

type fileContent struct {
	ctx   context.Context // of the call that reads; the reader does not outlive it
	files *chunkstore.Files
	name  chunkstore.Name
	size  int64
}

func (c *fileContent) ReadAt(b []byte, off int64) (int, error) {
	if off >= c.size {
		return 0, io.EOF
	}
	n := min(int64(len(b)), c.size-off)
	if err := c.files.ReadRange(c.ctx, c.name, off, b[:n]); err != nil {
		return 0, err
	}
	if n < int64(len(b)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (c *fileContent) Close() error { return nil }

// content opens a document for serving.
func (d *documents) content(id digest.Digest) (replication.Content, int64, error) {
	b, err := d.Get(id)
	if err != nil {
		return nil, 0, err
	}
	return documentContent{bytes.NewReader(b)}, int64(len(b)), nil
}

type documentContent struct{ *bytes.Reader }

func (documentContent) Close() error { return nil }

// remove takes a damaged document away; its name says exactly what to fetch in its place.
func (d *documents) remove(id digest.Digest) error {
	if err := os.Remove(d.path(id)); err != nil {
		return fmt.Errorf("document %s: %w", id, err)
	}
	return nil
}
