package registry

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"dengbei/registry/registrypb"
)

// MaxCommandBytes is the largest command that a leader admits, encoded. Larger content is a document named by its
// digest.
const MaxCommandBytes = 256 << 10

// firstKind is the lowest field number of a command kind.
const firstKind = 16

// EncodeEntry encodes the commands of one Raft entry.
func EncodeEntry(commands ...*registrypb.Command) ([]byte, error) {
	b, err := proto.Marshal(&registrypb.Entry{Commands: commands})
	if err != nil {
		return nil, fmt.Errorf("encode %d commands: %w (%w)", len(commands), ErrMalformed, err)
	}
	return b, nil
}

// DecodeEntry is the inverse of [EncodeEntry]. Bytes that are no entry, hold no command or a command without a kind
// give [ErrMalformed]; a command of a kind that this build does not know gives [ErrUnknownKind].
func DecodeEntry(b []byte) ([]*registrypb.Command, error) {
	e := &registrypb.Entry{}
	if err := proto.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("entry of %d bytes: %w (%w)", len(b), ErrMalformed, err)
	}
	if n := highestUnknown(e); n > 0 {
		return nil, fmt.Errorf("entry with field %d: %w", n, ErrUnknownKind)
	}
	if len(e.Commands) == 0 {
		return nil, fmt.Errorf("entry of %d bytes without a command: %w", len(b), ErrMalformed)
	}
	for i, c := range e.Commands {
		if n := highestUnknown(c); n >= firstKind {
			return nil, fmt.Errorf("command %d of kind %d: %w", i, n, ErrUnknownKind)
		}
		if c.GetKind() == nil {
			return nil, fmt.Errorf("command %d without a kind: %w", i, ErrMalformed)
		}
	}
	return e.Commands, nil
}

// highestUnknown returns the highest number of a field of m that this build does not know, or 0.
func highestUnknown(m proto.Message) protowire.Number {
	highest := protowire.Number(0)
	for b := m.ProtoReflect().GetUnknown(); len(b) > 0; {
		n, _, size := protowire.ConsumeField(b)
		if size < 0 {
			break
		}
		highest = max(highest, n)
		b = b[size:]
	}
	return highest
}

// validID reports whether s can be a name inside keys and statements: 1 to 255 bytes of UTF-8, no blank, no control.
func validID(s string) bool {
	return s != "" && len(s) <= 255 && strings.IndexFunc(s, func(r rune) bool { return r <= 0x20 || r == 0x7f }) < 0
}

// validName reports whether s can be the name of something for people: like validID, with blanks inside.
func validName(s string) bool {
	return s != "" && len(s) <= 255 && strings.TrimSpace(s) == s &&
		strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) < 0
}

func validHex(s string, digits int) bool {
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}
