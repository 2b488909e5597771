package tlog

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	xtlog "golang.org/x/mod/sumdb/tlog"
)

// MaxProofSize bounds a proof file in bytes.
const MaxProofSize = 512 << 10

// maxProofHashes is the height of the largest tree.
const maxProofHashes = 63

const proofHeader = "c2sp.org/tlog-proof@v1\n"

// ProofFile is the content of a C2SP tlog-proof file, version 1: everything that shows offline that a leaf is in a log.
type ProofFile struct {
	Extra      []byte // opaque to the format; nil = no extra line
	Index      uint64 // the leaf's position, from 0
	Hashes     []Hash // inclusion proof from the leaf's sibling up
	Checkpoint []byte // signed note
}

// FormatProof encodes p.
func FormatProof(p ProofFile) []byte {
	var b bytes.Buffer
	b.WriteString(proofHeader)
	if p.Extra != nil {
		b.WriteString("extra " + base64.StdEncoding.EncodeToString(p.Extra) + "\n")
	}
	b.WriteString("index " + strconv.FormatUint(p.Index, 10) + "\n")
	for _, h := range p.Hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteString("\n")
	b.Write(p.Checkpoint)
	return b.Bytes()
}

// ParseProof is the inverse of [FormatProof]: what it accepts encodes to the same bytes again. It checks no signature
// and no proof.
func ParseProof(raw []byte) (ProofFile, error) {
	var p ProofFile
	if len(raw) > MaxProofSize {
		return p, fmt.Errorf("proof file of %d bytes, at most %d are allowed: %w", len(raw), MaxProofSize, ErrMalformed)
	}
	rest, ok := strings.CutPrefix(string(raw), proofHeader)
	if !ok {
		return p, fmt.Errorf("proof file: first line is not %q, is this the right file?: %w", strings.TrimSuffix(proofHeader, "\n"), ErrMalformed)
	}
	if after, ok := strings.CutPrefix(rest, "extra "); ok {
		line, after, ok := strings.Cut(after, "\n")
		extra, err := base64.StdEncoding.DecodeString(line)
		if !ok || err != nil {
			return p, fmt.Errorf("proof file: extra line is not base64: %w", ErrMalformed)
		}
		p.Extra, rest = append([]byte{}, extra...), after
	}
	line, rest, ok := strings.Cut(rest, "\n")
	number, isIndex := strings.CutPrefix(line, "index ")
	index, err := strconv.ParseUint(number, 10, 64)
	if !ok || !isIndex || err != nil || index > math.MaxInt64 {
		return p, fmt.Errorf("proof file: %.60q is not an index line: %w", line, ErrMalformed)
	}
	p.Index = index
	for {
		line, after, ok := strings.Cut(rest, "\n")
		if !ok {
			return p, fmt.Errorf("proof file: ends before the checkpoint, is it whole?: %w", ErrMalformed)
		}
		rest = after
		if line == "" {
			break
		}
		h, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(h) != 32 || len(p.Hashes) == maxProofHashes {
			return p, fmt.Errorf("proof file, hash %d: want at most %d lines of 32 bytes in base64: %w", len(p.Hashes)+1, maxProofHashes, ErrMalformed)
		}
		p.Hashes = append(p.Hashes, Hash(h))
	}
	p.Checkpoint = []byte(rest)
	if _, _, err := NoteText(p.Checkpoint); err != nil {
		return ProofFile{}, fmt.Errorf("proof file: %w", err)
	}
	if !bytes.Equal(FormatProof(p), raw) {
		return ProofFile{}, fmt.Errorf("proof file: not in canonical form: %w", ErrMalformed)
	}
	return p, nil
}

// CheckInclusion reports whether leaf stands at p.Index of the tree that c describes. It returns nil or an error
// matching [ErrPolicy].
func (p ProofFile) CheckInclusion(c Checkpoint, leaf []byte) error {
	if p.Index >= c.Size || c.Size > math.MaxInt64 {
		return fmt.Errorf("inclusion: position %d is outside the checkpoint's %d leaves: %w", p.Index, c.Size, ErrPolicy)
	}
	if err := xtlog.CheckRecord(p.Hashes, int64(c.Size), c.Root, int64(p.Index), xtlog.RecordHash(leaf)); err != nil {
		return fmt.Errorf("inclusion: the leaf is not at position %d of log %s at size %d: %w", p.Index, c.Origin, c.Size, ErrPolicy)
	}
	return nil
}
