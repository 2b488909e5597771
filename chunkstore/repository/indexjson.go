package repository

import (
	"encoding/json"
	"fmt"
	"strings"
)

const (
	// maxPackedBlobs is how many blobs the header of a pack has room for.
	maxPackedBlobs = maxHeaderBytes / plainEntryBytes

	maxJSONDepth = 10_000 // encoding/json's
)

// decodeIndex reads the JSON of an index file. It accepts what encoding/json does, unknown fields and any order
// included, at several times the speed and with memory that a file of nothings ("{},{},…") cannot inflate: the first
// entry that no pack can hold ends it. A field that stands twice is refused.
func decodeIndex(b []byte) (*IndexFile, error) {
	d := indexDecoder{b: b}
	f := new(IndexFile)
	err := d.file(f)
	if err == nil && d.peek() != 0 {
		err = d.bad("data after the end")
	}
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	return f, nil
}

// indexDecoder is a position in JSON text. Its methods read one value each, with the white space before it. Where
// encoding/json leaves a field alone at null, so do they.
type indexDecoder struct {
	b     []byte
	i     int
	depth int
}

func (d *indexDecoder) bad(what string) error {
	return fmt.Errorf("byte %d: %s: %w", d.i, what, ErrUnreadable)
}

// peek skips white space and returns the next byte, 0 at the end. A zero byte is no JSON either.
func (d *indexDecoder) peek() byte {
	for d.i < len(d.b) {
		switch c := d.b[d.i]; c {
		case ' ', '\t', '\r', '\n':
			d.i++
		case 0:
			return 1 // not the end, and nothing that any value begins with
		default:
			return c
		}
	}
	return 0
}

// literal reads word if it comes next.
func (d *indexDecoder) literal(word string) bool {
	if d.peek() != word[0] || len(d.b)-d.i < len(word) || string(d.b[d.i:d.i+len(word)]) != word {
		return false
	}
	d.i += len(word)
	return true
}

func (d *indexDecoder) enter() error {
	d.i++
	if d.depth++; d.depth > maxJSONDepth {
		return d.bad("nested too deep")
	}
	return nil
}

// object reads an object. It calls value with the position among names of each field, -1 for an unknown one, and value
// reads what the field holds.
func (d *indexDecoder) object(value func(field int) error, names ...string) error {
	if d.peek() != '{' {
		return d.bad("want an object")
	}
	if err := d.enter(); err != nil {
		return err
	}
	seen := 0
	for n := 0; ; n++ {
		if n == 0 && d.peek() == '}' {
			break
		}
		key, err := d.string()
		if err != nil {
			return err
		}
		field := fieldOf(key, names)
		if field >= 0 {
			if seen&(1<<field) != 0 {
				return d.bad("field " + names[field] + " stands twice")
			}
			seen |= 1 << field
		}
		if d.peek() != ':' {
			return d.bad("want a colon")
		}
		d.i++
		if err := value(field); err != nil {
			return err
		}
		if c := d.peek(); c == '}' {
			break
		} else if c != ',' {
			return d.bad("want a comma or the end of the object")
		}
		d.i++
	}
	d.i++
	d.depth--
	return nil
}

// fieldOf returns the position of key among names, by case if that fits one, else without.
func fieldOf(key []byte, names []string) int {
	for i, n := range names {
		if string(key) == n {
			return i
		}
	}
	for i, n := range names {
		if len(key) >= len(n) && strings.EqualFold(string(key), n) {
			return i
		}
	}
	return -1
}

// array reads an array or null; element reads each element.
func (d *indexDecoder) array(element func() error) error {
	if d.peek() != '[' {
		if d.literal("null") {
			return nil
		}
		return d.bad("want an array")
	}
	if err := d.enter(); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n == 0 && d.peek() == ']' {
			break
		}
		if err := element(); err != nil {
			return err
		}
		if c := d.peek(); c == ']' {
			break
		} else if c != ',' {
			return d.bad("want a comma or the end of the array")
		}
		d.i++
	}
	d.i++
	d.depth--
	return nil
}

// string reads a string and returns what it stands for: a part of the text, or a copy if it has escapes.
func (d *indexDecoder) string() ([]byte, error) {
	if d.peek() != '"' {
		return nil, d.bad("want a string")
	}
	start := d.i
	escaped, err := d.skipString()
	if err != nil {
		return nil, err
	}
	if !escaped {
		return d.b[start+1 : d.i-1], nil
	}
	var s string
	if err := json.Unmarshal(d.b[start:d.i], &s); err != nil {
		return nil, d.bad(err.Error())
	}
	return []byte(s), nil
}

// skipString passes over a string, of which the quotation mark is next.
func (d *indexDecoder) skipString() (escaped bool, err error) {
	for d.i++; d.i < len(d.b); d.i++ {
		switch c := d.b[d.i]; {
		case c == '"':
			d.i++
			return escaped, nil
		case c < ' ':
			return false, d.bad("control character in a string")
		case c == '\\':
			escaped = true
			d.i++
			if d.i == len(d.b) {
				break
			}
			switch d.b[d.i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					d.i++
					if d.i == len(d.b) || !isHex(d.b[d.i]) {
						return false, d.bad("escape in a string")
					}
				}
			default:
				return false, d.bad("escape in a string")
			}
		}
	}
	return false, d.bad("string does not end")
}

func isHex(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// digits passes over digits and reports whether there were any.
func (d *indexDecoder) digits() bool {
	start := d.i
	for d.i < len(d.b) && isDigit(d.b[d.i]) {
		d.i++
	}
	return d.i > start
}

// skip passes over any value.
func (d *indexDecoder) skip() error {
	switch c := d.peek(); {
	case c == '{':
		return d.object(func(int) error { return d.skip() })
	case c == '[':
		return d.array(d.skip)
	case c == '"':
		_, err := d.skipString()
		return err
	case c == '-' || isDigit(c):
		return d.skipNumber()
	case d.literal("null"), d.literal("true"), d.literal("false"):
		return nil
	}
	return d.bad("want a value")
}

func (d *indexDecoder) skipNumber() error {
	next := func() byte {
		if d.i < len(d.b) {
			return d.b[d.i]
		}
		return 0
	}
	if next() == '-' {
		d.i++
	}
	if next() == '0' {
		d.i++
	} else if !d.digits() {
		return d.bad("number without digits")
	}
	if next() == '.' {
		d.i++
		if !d.digits() {
			return d.bad("number without digits")
		}
	}
	if next()|0x20 == 'e' {
		d.i++
		if c := next(); c == '+' || c == '-' {
			d.i++
		}
		if !d.digits() {
			return d.bad("number without digits")
		}
	}
	return nil
}

func (d *indexDecoder) id(id *ID) error {
	c := d.peek()
	if text := d.b[d.i:]; c == '"' && len(text) > 2*len(id)+1 && text[2*len(id)+1] == '"' && unhex(id, text[1:]) {
		d.i += 2*len(id) + 2
		return nil
	}
	if c == 'n' && d.literal("null") {
		return nil
	}
	s, err := d.string()
	if err != nil {
		return err
	}
	return id.UnmarshalText(s)
}

// unhex reads lower-case hex digits, and reports false if there are others.
func unhex(id *ID, text []byte) bool {
	text = text[:2*len(id)]
	var wrong byte
	for i := range id {
		a, b := nibble(text[2*i]), nibble(text[2*i+1])
		wrong |= a | b
		id[i] = a<<4 | b&15
	}
	return wrong&0x80 == 0
}

// nibble returns the value of a lower-case hex digit, else something with the highest bit set.
func nibble(c byte) byte {
	const no = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
	const table = no + no + no + "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\xff\xff\xff\xff\xff\xff" +
		no + no + "\xff\x0a\x0b\x0c\x0d\x0e\x0f\xff\xff\xff\xff\xff\xff\xff\xff\xff" + no +
		no + no + no + no + no + no + no + no
	return table[c]
}

func (d *indexDecoder) uint32(to *uint32) error {
	if d.peek() == 'n' && d.literal("null") {
		return nil
	}
	start := d.i
	if !d.digits() || d.i-start > 10 || d.b[start] == '0' && d.i-start > 1 {
		return d.bad("want a number")
	}
	var n uint64
	for _, c := range d.b[start:d.i] {
		n = 10*n + uint64(c-'0')
	}
	if n > 1<<32-1 {
		return d.bad("number is too large")
	}
	*to = uint32(n) // a fraction or an exponent is not what comes next, so it is refused
	return nil
}

func (d *indexDecoder) file(f *IndexFile) error {
	if d.literal("null") {
		return nil
	}
	return d.object(func(field int) error {
		switch field {
		case 0:
			return d.packs(&f.Packs)
		case 1:
			return d.packs(&f.PacksToDelete)
		}
		return d.skip()
	}, "packs", "packs_to_delete")
}

func (d *indexDecoder) packs(to *[]IndexedPack) error {
	return d.array(func() error {
		var p IndexedPack
		if d.literal("null") {
			return p.check()
		}
		err := d.object(func(field int) error {
			switch field {
			case 0:
				return d.id(&p.ID)
			case 1:
				return d.blobs(&p.Blobs)
			case 2:
				d.peek()
				start := d.i
				if err := d.skip(); err != nil {
					return err
				}
				return p.Time.UnmarshalJSON(d.b[start:d.i])
			}
			return d.skip()
		}, "id", "blobs", "time")
		if err != nil {
			return err
		}
		if err := p.check(); err != nil {
			return err
		}
		*to = append(*to, p)
		return nil
	})
}

func (d *indexDecoder) blobs(to *[]PackedBlob) error {
	return d.array(func() error {
		var b PackedBlob
		if d.literal("null") {
			return b.check()
		}
		err := d.object(func(field int) error {
			switch field {
			case 0:
				return d.id(&b.ID)
			case 1:
				if d.literal("null") {
					return nil
				}
				s, err := d.string()
				if err != nil {
					return err
				}
				return b.Type.UnmarshalText(s)
			case 2:
				return d.uint32(&b.Offset)
			case 3:
				return d.uint32(&b.Length)
			case 4:
				return d.uint32(&b.UncompressedBytes)
			}
			return d.skip()
		}, "id", "type", "offset", "length", "uncompressed_length")
		if err != nil {
			return err
		}
		if err := checkIndexed(b); err != nil {
			return err
		}
		if len(*to) == maxPackedBlobs {
			return d.bad("more blobs than a pack can hold")
		}
		*to = append(*to, b)
		return nil
	})
}
