package tlog

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// MaxNoteSize bounds a signed checkpoint in bytes: 100 signature lines with the longest names fit.
const MaxNoteSize = 64 << 10

// maxSignatures is what golang.org/x/mod/sumdb/note accepts in one note.
const maxSignatures = 100

const signaturePrefix = "— "

// parseNote splits a signed note into its text and signature lines and accepts only the spelling that formatNote writes.
func parseNote(b []byte) (text string, sigs []note.Signature, err error) {
	if len(b) > MaxNoteSize {
		return "", nil, fmt.Errorf("signed note of %d bytes, at most %d are allowed: %w", len(b), MaxNoteSize, ErrMalformed)
	}
	s := string(b)
	split := strings.LastIndex(s, "\n\n")
	if !utf8.ValidString(s) || split < 0 || !strings.HasSuffix(s, "\n") {
		return "", nil, fmt.Errorf("signed note: want text, an empty line and signature lines: %w", ErrMalformed)
	}
	text = s[:split+1]
	for line := range strings.Lines(s[split+2:]) {
		if len(sigs) == maxSignatures {
			return "", nil, fmt.Errorf("signed note: more than %d signature lines: %w", maxSignatures, ErrMalformed)
		}
		sig, err := parseSignatureLine(line)
		if err != nil {
			return "", nil, fmt.Errorf("signed note, signature line %d: %w", len(sigs)+1, err)
		}
		sigs = append(sigs, sig)
	}
	if len(sigs) == 0 {
		return "", nil, fmt.Errorf("signed note: no signature line: %w", ErrMalformed)
	}
	return text, sigs, nil
}

// parseSignatureLine reads "— name base64\n" and refuses every other spelling of the same signature.
func parseSignatureLine(line string) (note.Signature, error) {
	rest, ok := strings.CutPrefix(line, signaturePrefix)
	rest, nl := strings.CutSuffix(rest, "\n")
	name, b64, sep := strings.Cut(rest, " ")
	if !ok || !nl || !sep || !ValidKeyName(name) || len(b64) > 4096 {
		return note.Signature{}, fmt.Errorf("%.80q is not %q, name, blank, base64: %w", line, signaturePrefix, ErrMalformed)
	}
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil || len(raw) < 5 || base64.StdEncoding.EncodeToString(raw) != b64 {
		return note.Signature{}, fmt.Errorf("signature of %s is not base64: %w", name, ErrMalformed)
	}
	return note.Signature{Name: name, Hash: binary.BigEndian.Uint32(raw), Base64: b64}, nil
}

// formatSignatureLine writes the line for signature bytes made by the key (name, hash).
func formatSignatureLine(name string, hash uint32, sig []byte) string {
	raw := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(sig)), hash)
	return signaturePrefix + name + " " + base64.StdEncoding.EncodeToString(append(raw, sig...)) + "\n"
}

// signatureBytes returns the signature of a parsed line without the key hash.
func signatureBytes(sig note.Signature) []byte {
	raw, err := base64.StdEncoding.DecodeString(sig.Base64)
	if err != nil || len(raw) < 4 {
		return nil
	}
	return raw[4:]
}

func formatNote(text string, sigs []note.Signature) []byte {
	var b strings.Builder
	b.WriteString(text)
	b.WriteString("\n")
	for _, s := range sigs {
		b.WriteString(signaturePrefix + s.Name + " " + s.Base64 + "\n")
	}
	return []byte(b.String())
}
