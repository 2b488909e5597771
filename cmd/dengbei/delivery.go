package main

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"dengbei/chunkstore/digest"
	"dengbei/cmd/dengbei/term"
	"dengbei/node/identity"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry"
	"dengbei/registry/intake"
)

// delivery is what a registrant wants to hand in: each folder is one record of one submission.
type delivery struct {
	folders  []string
	titles   []string // as many as folders, or none: the folders' names
	batch    string
	note     string
	class    string
	opening  string
	secrecy  string
	metadata []intake.Element
	corrects digest.Digest
}

// parcel is a delivery that was read, described and signed.
type parcel struct {
	submission *intake.Submission
	folders    []string
	id         digest.Digest
	encoded    []byte
	signature  []byte
	files      int
	sizeBytes  int64
}

// packing says who hands in and how the reading is shown.
type packing struct {
	registrant identity.Subject
	signing    crypto.Signer // Ed25519
	workers    int           // 0 = all processors
	progress   func(intake.FolderProgress)
	warn       func(item string, w intake.PathWarning)
}

// pack reads every folder of d, describes it and signs the description. Nothing is sent.
func pack(ctx context.Context, d delivery, k packing) (*parcel, error) {
	s := &intake.Submission{
		Registrant: k.registrant.Code + "/" + k.registrant.Account, Authority: k.registrant.Code,
		Batch: d.batch, Note: d.note, Class: d.class, Corrects: d.corrects,
	}
	for i, folder := range d.folders {
		title, err := d.title(i)
		if err != nil {
			return nil, err
		}
		files, err := intake.ReadFolder(ctx, folder, intake.FolderOptions{Workers: k.workers, Progress: k.progress, Warn: k.warn})
		if err != nil {
			return nil, fmt.Errorf("folder %s: %w", folder, err)
		}
		s.Records = append(s.Records, intake.Record{Title: title, Opening: d.opening, Secrecy: d.secrecy, Metadata: d.metadata, Files: files})
	}
	if err := intake.CheckSecrecy(s); err != nil { // before anything leaves this machine
		return nil, err
	}
	p := &parcel{submission: s, folders: d.folders}
	p.files, p.sizeBytes = s.Totals()
	var err error
	if p.id, err = intake.ID(s); err != nil {
		return nil, err
	}
	if p.encoded, err = intake.Encode(s); err != nil {
		return nil, err
	}
	if p.signature, err = k.signing.Sign(nil, registry.SubmissionStatement(p.id.Bytes()), crypto.Hash(0)); err != nil {
		return nil, fmt.Errorf("sign submission: %w", err)
	}
	return p, nil
}

func (d delivery) title(i int) (string, error) {
	if len(d.titles) > 0 {
		return d.titles[i], nil
	}
	abs, err := filepath.Abs(d.folders[i])
	if err != nil {
		return "", fmt.Errorf("folder %s: %w", d.folders[i], err)
	}
	return filepath.Base(abs), nil
}

// sendBytes is how much of a file one message carries.
const sendBytes = 256 << 10

// send hands p in and returns the centre's answer. sent is told how many bytes went out. Sending the same parcel again is safe.
func (p *parcel) send(ctx context.Context, c *rpc.Client, sent func(int)) (*nodepb.SubmitReply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Submissions.Submit(ctx)
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	err = p.announce(stream)
	if err == nil {
		err = p.sendFiles(stream, sent)
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the centre has answered already, CloseAndRecv tells what
		return nil, err
	}
	r, err := stream.CloseAndRecv()
	if err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	if p.isAnswered(r) {
		return r, nil
	}
	return nil, fmt.Errorf("submit: the centre's receipt is for %q, handed in was %s: keep the folder and ask the centre", r.GetReceipt().GetSubmission(), p.id.Hex())
}

// isAnswered reports whether r is about p. A centre that was lost and recovered knows the numbers of what it had, and has the receipts no longer.
func (p *parcel) isAnswered(r *nodepb.SubmitReply) bool {
	if r.GetExisting() && r.GetReceipt() == nil {
		return r.GetId() == p.id.Hex() && len(r.GetSubmission().GetNumbers()) > 0
	}
	return r.GetId() == p.id.Hex() && r.GetReceipt().GetSubmission() == p.id.Hex()
}

// submitStream is the sending half of a submission.
type submitStream interface {
	Send(*nodepb.SubmitRequest) error
}

// announcePiece is how much of a description one message carries.
const announcePiece = 1 << 20

// announce sends the description, which is long when there are many files, in pieces; the signature goes with the last.
func (p *parcel) announce(stream submitStream) error {
	for rest := p.encoded; ; {
		a := &nodepb.Announcement{Submission: rest, Signature: p.signature}
		if len(rest) > announcePiece {
			a = &nodepb.Announcement{Submission: rest[:announcePiece], More: true}
		}
		if err := stream.Send(&nodepb.SubmitRequest{Part: &nodepb.SubmitRequest_Announcement{Announcement: a}}); err != nil {
			return err
		}
		if !a.More {
			return nil
		}
		rest = rest[announcePiece:]
	}
}

func (p *parcel) sendFiles(stream submitStream, sent func(int)) error {
	buf := make([]byte, sendBytes)
	for i := range p.submission.Records {
		root, err := os.OpenRoot(p.folders[i])
		if err != nil {
			return fmt.Errorf("folder %s: %w", p.folders[i], err)
		}
		err = p.sendRecord(stream, root, i, buf, sent)
		root.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *parcel) sendRecord(stream submitStream, root *os.Root, record int, buf []byte, sent func(int)) error {
	files := p.submission.Records[record].Files
	for i := range files {
		if err := sendFile(stream, root, &files[i], uint32(record), uint32(i), buf, sent); err != nil {
			return err
		}
	}
	return nil
}

// sendFile sends exactly as many bytes as were hashed, and refuses a file that has another length by now. That the bytes are the
// same ones is for the centre to check, against the signed description.
func sendFile(stream submitStream, root *os.Root, f *intake.File, record, file uint32, buf []byte, sent func(int)) error {
	changed := func(err error) error {
		return &intake.RuleError{Rule: intake.RuleContent, Item: f.Path, What: "file changed after it was read", Way: "close the program that writes it, then try again", Err: err}
	}
	h, err := root.Open(f.Path)
	if err != nil {
		return changed(err)
	}
	defer h.Close()
	for left := f.SizeBytes; ; {
		n, err := io.ReadFull(h, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return changed(err)
		}
		left -= int64(n)
		if left == 0 {
			if extra, _ := h.Read(make([]byte, 1)); extra > 0 {
				return changed(nil)
			}
		}
		err = stream.Send(&nodepb.SubmitRequest{Part: &nodepb.SubmitRequest_File{File: &nodepb.FileData{Record: record, File: file, Data: buf[:n], Last: left == 0}}})
		if err != nil {
			return err
		}
		sent(n)
		if left == 0 {
			return nil
		}
	}
}

// isRefusedInput reports whether err is about the delivery itself.
func isRefusedInput(err error) bool { return errors.Is(err, intake.ErrRule) }

// openSigningKey reads the key that signs a registrant's submissions; it makes none.
func openSigningKey(dir string) (crypto.Signer, error) {
	path := filepath.Join(dir, signingFile)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("signing key of the registrant: %w", err)
	}
	return identity.LoadOrCreateSigningKey(path)
}

// parseMetadata reads "name=value" elements.
func parseMetadata(args []string) ([]intake.Element, error) {
	var out []intake.Element
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return nil, term.Usagef("--metadata %q: want NAME=VALUE", arg)
		}
		out = append(out, intake.Element{Name: name, Value: value})
	}
	return out, nil
}

// parseID reads a submission's ID, 64 hex digits.
func parseID(s string) (digest.Digest, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return digest.Digest{}, err
	}
	return digest.FromBytes(digest.SHA256, b)
}
