package tlog

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Checkpoint is a log's name, size and root at one moment, as in C2SP tlog-checkpoint without extension lines.
type Checkpoint struct {
	Origin string   // name of the log
	Size   uint64   // number of leaves, at most 2⁶³-1
	Root   [32]byte // RFC 6962 Merkle tree hash over them
}

// String returns the note text that is signed: three lines.
func (c Checkpoint) String() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// ParseCheckpoint is the inverse of [Checkpoint.String]. It refuses every other spelling, and extension lines.
func ParseCheckpoint(text string) (Checkpoint, error) {
	var c Checkpoint
	lines := strings.SplitN(text, "\n", 5)
	if len(text) > MaxNoteSize || len(lines) != 4 || lines[3] != "" {
		return c, fmt.Errorf("checkpoint: want the three lines origin, size and root: %w", ErrMalformed)
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || size > math.MaxInt64 {
		return c, fmt.Errorf("checkpoint size %.40q: not a number of leaves: %w", lines[1], ErrMalformed)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return c, fmt.Errorf("checkpoint root %.60q: not the base64 of 32 bytes: %w", lines[2], ErrMalformed)
	}
	if !ValidKeyName(lines[0]) {
		return c, fmt.Errorf("checkpoint origin %.80q: must be UTF-8 without blanks or +: %w", lines[0], ErrMalformed)
	}
	c = Checkpoint{Origin: lines[0], Size: size, Root: [32]byte(root)}
	if c.String() != text {
		return Checkpoint{}, fmt.Errorf("checkpoint %.80q: not in canonical form: %w", text, ErrMalformed)
	}
	return c, nil
}

// SignCheckpoint returns c as a note signed with the log's key alone. The signer's name must be c's origin.
func SignCheckpoint(c Checkpoint, signer note.Signer) ([]byte, error) {
	if signer.Name() != c.Origin {
		return nil, fmt.Errorf("sign checkpoint of log %.80q: the key belongs to %q: %w", c.Origin, signer.Name(), ErrMalformed)
	}
	text := c.String()
	if _, err := ParseCheckpoint(text); err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	sig, err := signer.Sign([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint %s of size %d: %w", c.Origin, c.Size, err)
	}
	return []byte(text + "\n" + formatSignatureLine(signer.Name(), signer.KeyHash(), sig)), nil
}

// NoteText returns the text and the checkpoint of a signed note. It checks no signature.
func NoteText(raw []byte) (string, Checkpoint, error) {
	text, _, err := parseNote(raw)
	if err != nil {
		return "", Checkpoint{}, err
	}
	c, err := ParseCheckpoint(text)
	return text, c, err
}
