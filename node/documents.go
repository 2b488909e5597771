package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"dengbei/chunkstore/digest"
)

// maxDocumentBytes bounds one document in memory: the manifest of a million files.
const maxDocumentBytes = 256 << 20

// documents keeps immutable bodies (backup manifests, inspection reports) named by their SHA-256. Its methods may be
// called concurrently.
type documents struct{ dir string }

func openDocuments(dir string) (*documents, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open documents: %w", err)
	}
	// What a crash left was never confirmed to anybody.
	left, err := filepath.Glob(filepath.Join(dir, "*", ".tmp-*"))
	if err != nil {
		return nil, fmt.Errorf("open documents: %w", err)
	}
	for _, p := range left {
		if err := os.Remove(p); err != nil {
			return nil, fmt.Errorf("open documents: %w", err)
		}
	}
	return &documents{dir}, nil
}

func (d *documents) path(id digest.Digest) string {
	h := id.Hex()
	return filepath.Join(d.dir, h[:2], h)
}

// PutBytes stores b under its SHA-256; on nil it survives power loss. What is stored already and whole is left alone.
func (d *documents) PutBytes(b []byte) (digest.Digest, error) {
	id := digest.Of(b)
	if _, err := d.Get(id); err == nil {
		return id, nil
	}
	if len(b) > maxDocumentBytes {
		return id, fmt.Errorf("document %s: %d bytes, at most %d", id, len(b), maxDocumentBytes)
	}
	if err := writeDurable(d.path(id), b); err != nil {
		return id, fmt.Errorf("document %s: %w", id, err)
	}
	return id, syncDir(d.dir)
}

// Put stores what r delivers under id, or gives [digest.ErrMismatch] and leaves no trace.
func (d *documents) Put(_ context.Context, id digest.Digest, r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, maxDocumentBytes+1))
	if err != nil {
		return fmt.Errorf("document %s: %w", id, err)
	}
	if digest.Of(b) != id {
		return fmt.Errorf("document %s: %w", id, digest.ErrMismatch)
	}
	_, err = d.PutBytes(b)
	return err
}

// Get returns the document, verified; [fs.ErrNotExist] or [digest.ErrMismatch] otherwise.
func (d *documents) Get(id digest.Digest) ([]byte, error) {
	b, err := os.ReadFile(d.path(id))
	if err != nil {
		return nil, fmt.Errorf("document %s: %w", id, err)
	}
	if digest.Of(b) != id {
		return nil, fmt.Errorf("document %s: %w", id, digest.ErrMismatch)
	}
	return b, nil
}

// Open returns a reader of the document, whose bytes were verified.
func (d *documents) Open(_ context.Context, id digest.Digest) (io.ReadCloser, error) {
	b, err := d.Get(id)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}
