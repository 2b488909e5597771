package certificate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"dengbei/registry/tlog"
)

const formatName = "dengbei/certificate/v1"

// extraJSON mirrors what encodeExtra writes.
type extraJSON struct {
	Format    string      `json:"format"`
	Kind      uint8       `json:"kind"`
	Fields    []fieldJSON `json:"fields"`
	Key       string      `json:"key"`
	Signature string      `json:"signature"`
}

type fieldJSON struct {
	Name   string  `json:"name"`
	Value  *string `json:"value"`
	Salt   *string `json:"salt"`
	Digest *string `json:"digest"`
}

// encodeExtra writes the JSON itself: the bytes must be the same for decades, whatever a JSON library escapes.
func (c *Certificate) encodeExtra() []byte {
	b := appendQuoted([]byte(`{"format":`), formatName)
	b = append(b, `,"kind":`...)
	b = strconv.AppendUint(b, uint64(c.Kind), 10)
	b = append(b, `,"fields":[`...)
	for i, f := range c.Fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(append(b, `{"name":`...), tlog.FieldID(i).String())
		if f.Disclosed {
			b = appendQuoted(append(b, `,"value":`...), f.Value)
			b = appendQuoted(append(b, `,"salt":`...), base64.StdEncoding.EncodeToString(f.Salt[:]))
		} else {
			b = appendQuoted(append(b, `,"digest":`...), base64.StdEncoding.EncodeToString(f.Hidden[:]))
		}
		b = append(b, '}')
	}
	b = appendQuoted(append(b, `],"key":`...), c.AuthorityKey)
	b = appendQuoted(append(b, `,"signature":`...), c.Signature)
	return append(b, '}')
}

// appendQuoted writes a JSON string as RFC 8785 does: short escapes where JSON has them, \u00xx for other control
// characters, everything else as it is.
func appendQuoted(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch ch := s[i]; {
		case ch == '"' || ch == '\\':
			b = append(b, '\\', ch)
		case ch == '\b':
			b = append(b, '\\', 'b')
		case ch == '\t':
			b = append(b, '\\', 't')
		case ch == '\n':
			b = append(b, '\\', 'n')
		case ch == '\f':
			b = append(b, '\\', 'f')
		case ch == '\r':
			b = append(b, '\\', 'r')
		case ch < ' ':
			b = append(b, '\\', 'u', '0', '0', digits[ch>>4], digits[ch&15])
		default:
			b = append(b, ch)
		}
	}
	return append(b, '"')
}

// parseExtra reads what encodeExtra writes. Other spellings are caught by comparing bytes afterwards.
func parseExtra(raw []byte) (*Certificate, error) {
	if raw == nil {
		return nil, fmt.Errorf("certificate: no extra line; this is a bare inclusion proof: %w", tlog.ErrMalformed)
	}
	var x extraJSON
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&x); err != nil {
		return nil, fmt.Errorf("certificate: extra data is not the JSON of a certificate (%v): %w", err, tlog.ErrMalformed)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("certificate: bytes after the JSON: %w", tlog.ErrMalformed)
	}
	if x.Format != formatName {
		return nil, fmt.Errorf("certificate: format %.60q is not %s; use a verifier that knows it: %w", x.Format, formatName, tlog.ErrMalformed)
	}
	c := &Certificate{Kind: tlog.LeafKind(x.Kind), AuthorityKey: x.Key, Signature: x.Signature}
	if len(x.Fields) != len(c.Fields) {
		return nil, fmt.Errorf("certificate: %d fields, want %d: %w", len(x.Fields), len(c.Fields), tlog.ErrMalformed)
	}
	for i, f := range x.Fields {
		id := tlog.FieldID(i)
		if f.Name != id.String() {
			return nil, fmt.Errorf("certificate: field %d is %.60q, want %s: %w", i, f.Name, id, tlog.ErrMalformed)
		}
		switch {
		case f.Value != nil && f.Salt != nil && f.Digest == nil:
			salt, err := decodeExactly(*f.Salt, tlog.SaltSize)
			if err != nil {
				return nil, fmt.Errorf("certificate, salt of %s: %w", id, err)
			}
			c.Fields[i] = Field{Disclosed: true, Value: *f.Value, Salt: [tlog.SaltSize]byte(salt)}
		case f.Value == nil && f.Salt == nil && f.Digest != nil:
			digest, err := decodeExactly(*f.Digest, 32)
			if err != nil {
				return nil, fmt.Errorf("certificate, digest of %s: %w", id, err)
			}
			c.Fields[i] = HiddenField([32]byte(digest))
		default:
			return nil, fmt.Errorf("certificate, field %s: want value and salt, or digest: %w", id, tlog.ErrMalformed)
		}
	}
	return c, nil
}

func decodeExactly(s string, size int) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || len(b) != size {
		return nil, fmt.Errorf("%.60q is not the base64 of %d bytes: %w", s, size, tlog.ErrMalformed)
	}
	return b, nil
}
