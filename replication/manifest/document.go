package manifest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"dengbei/chunkstore/digest"
)

const header = "dengbei-manifest/v1"

// MaxDocumentBytes bounds one document: about 400,000 files. A larger backup is registered as several manifests.
const MaxDocumentBytes = 64 << 20

// File is one file of a backup.
type File struct {
	Name      string // as [ParseName] accepts it
	SizeBytes int64
	SHA256    digest.Digest // of the bytes; equal to the hex in Name except for "config"
	LeafRoot  Root          // over the 64 KiB leaves
}

// appendLine appends the file as it stands behind "+ ", which is also its leaf in the set root.
func (f File) appendLine(b []byte) []byte {
	b = append(append(b, f.Name...), ' ')
	b = append(strconv.AppendInt(b, f.SizeBytes, 10), ' ')
	b = hex.AppendEncode(b, f.LeafRoot[:])
	if f.Name == configName {
		b = append(append(b, ' '), f.SHA256.Hex()...)
	}
	return b
}

// Check gives [ErrSyntax] for a file that no manifest can list.
func (f File) Check() error {
	d, err := ParseName(f.Name)
	if err != nil {
		return err
	}
	if f.Name != configName && f.SHA256 != d || f.SHA256.Algorithm() != digest.SHA256 {
		return fmt.Errorf("%w: %s carries SHA-256 %s", ErrSyntax, f.Name, f.SHA256)
	}
	if f.SizeBytes < 0 {
		return fmt.Errorf("%w: %s of %d bytes", ErrSyntax, f.Name, f.SizeBytes)
	}
	return nil
}

// Document is one manifest. Added is sorted by name, Released likewise; see [Next] for making one.
type Document struct {
	Repository    string
	Parent        digest.Digest // zero in the first manifest
	Snapshot      string        // 64 hex digits, or empty
	SetRoot       Root          // of the set after this document
	SetFiles      uint64
	SetBytes      int64
	Added         []File
	AddedBytes    int64 // sum of Added
	Released      []string
	ReleasedBytes int64 // sum of the released files
}

// Encode returns the canonical text. Equal documents have equal text. It gives [ErrSyntax] for values that [Parse] would
// refuse.
func (d Document) Encode() ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nrepository %s\nparent %s\nsnapshot %s\nset-root %s\nset %d %d\nadded %d %d\nreleased %d %d\n\n",
		header, d.Repository, dash(d.Parent), dashText(d.Snapshot), d.SetRoot, d.SetFiles, d.SetBytes,
		len(d.Added), d.AddedBytes, len(d.Released), d.ReleasedBytes)
	for _, f := range d.Added {
		if err := f.Check(); err != nil {
			return nil, err
		}
		b.WriteString("+ ")
		b.Write(f.appendLine(b.AvailableBuffer()))
		b.WriteByte('\n')
	}
	for _, name := range d.Released {
		b.WriteString("- ")
		b.WriteString(name)
		b.WriteByte('\n')
	}
	// The parser is the definition of what is canonical; what it would refuse must not leave this function.
	if _, err := Parse(b.Bytes()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Digest returns the document's name, the SHA-256 of its text.
func (d Document) Digest() (digest.Digest, error) {
	b, err := d.Encode()
	if err != nil {
		return digest.Digest{}, err
	}
	return digest.Of(b), nil
}

// Read parses a document from r, of which at most [MaxDocumentBytes] are read, and checks that it hashes to want:
// [digest.ErrMismatch] if not.
func Read(r io.Reader, want digest.Digest) (Document, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxDocumentBytes+1))
	if err != nil {
		return Document{}, fmt.Errorf("read manifest %s: %w", want, err)
	}
	if digest.Of(b) != want {
		return Document{}, fmt.Errorf("manifest %s: %w", want, digest.ErrMismatch)
	}
	d, err := Parse(b)
	if err != nil {
		return Document{}, fmt.Errorf("manifest %s: %w", want, err)
	}
	return d, nil
}

// Parse reads what [Document.Encode] writes and nothing else: text that is accepted encodes to the same bytes again.
// Every refusal matches [ErrSyntax] and names the line.
func Parse(b []byte) (Document, error) {
	if len(b) > MaxDocumentBytes {
		return Document{}, fmt.Errorf("%w: more than %d bytes", ErrSyntax, MaxDocumentBytes)
	}
	l := lines{rest: string(b)}
	d, err := l.document()
	if err != nil {
		if !errors.Is(err, ErrSyntax) {
			err = fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		return Document{}, fmt.Errorf("line %d: %w", l.n, err)
	}
	return d, nil
}

// lines takes a document apart. Strings that are kept are cloned, so that the text can be freed.
type lines struct {
	rest string
	n    int
}

var errEnd = errors.New("text ends without LF")

func (l *lines) next() (string, error) {
	l.n++
	line, rest, ok := strings.Cut(l.rest, "\n")
	if !ok {
		return "", errEnd
	}
	l.rest = rest
	return line, nil
}

// field reads the line "<key> <value>".
func (l *lines) field(key string) (string, error) {
	line, err := l.next()
	if err != nil {
		return "", err
	}
	value, ok := strings.CutPrefix(line, key+" ")
	if !ok {
		return "", fmt.Errorf("want %q, have %q", key, clip(line))
	}
	return value, nil
}

// total reads the line "<key> <files> <bytes>".
func (l *lines) total(key string) (files uint64, sizeBytes int64, err error) {
	s, err := l.field(key)
	if err != nil {
		return 0, 0, err
	}
	count, size, _ := strings.Cut(s, " ")
	n, err := number(count)
	if err != nil {
		return 0, 0, err
	}
	sizeBytes, err = number(size)
	return uint64(n), sizeBytes, err
}

func (l *lines) document() (d Document, err error) {
	if first, err := l.next(); err != nil || first != header {
		return d, fmt.Errorf("want %q", header)
	}
	if d.Repository, err = l.field("repository"); err != nil {
		return d, err
	}
	if err := CheckRepository(d.Repository); err != nil {
		return d, err
	}
	d.Repository = strings.Clone(d.Repository)
	parent, err := l.field("parent")
	if err != nil {
		return d, err
	}
	if parent != "-" {
		if d.Parent, err = parseHex(parent); err != nil {
			return d, err
		}
	}
	snapshot, err := l.field("snapshot")
	if err != nil {
		return d, err
	}
	if snapshot != "-" {
		if _, err := parseHex(snapshot); err != nil {
			return d, err
		}
		d.Snapshot = strings.Clone(snapshot)
	}
	if d.SetRoot, d.SetFiles, d.SetBytes, err = l.set(); err != nil {
		return d, err
	}
	added, addedBytes, err := l.total("added")
	if err != nil {
		return d, err
	}
	released, releasedBytes, err := l.total("released")
	if err != nil {
		return d, err
	}
	d.AddedBytes, d.ReleasedBytes = addedBytes, releasedBytes
	if blank, err := l.next(); err != nil || blank != "" {
		return d, errors.New("want an empty line")
	}
	if err := l.files(&d); err != nil {
		return d, err
	}
	if uint64(len(d.Added)) != added || uint64(len(d.Released)) != released {
		return d, fmt.Errorf("%d added and %d released files listed, %d and %d announced",
			len(d.Added), len(d.Released), added, released)
	}
	return d, nil
}

// set reads the two lines that describe the whole set.
func (l *lines) set() (root Root, files uint64, sizeBytes int64, err error) {
	s, err := l.field("set-root")
	if err != nil {
		return root, 0, 0, err
	}
	if root, err = parseRoot(s); err != nil {
		return root, 0, 0, err
	}
	files, sizeBytes, err = l.total("set")
	return root, files, sizeBytes, err
}

// files reads the + and - lines up to the end of the text.
func (l *lines) files(d *Document) error {
	var sum int64
	for prev := ""; l.rest != ""; {
		line, err := l.next()
		if err != nil {
			return err
		}
		if line <= prev {
			return errors.New("lines are not in ascending order")
		}
		prev = line
		if name, ok := strings.CutPrefix(line, "- "); ok {
			if _, err := ParseName(name); err != nil {
				return err
			}
			d.Released = append(d.Released, strings.Clone(name))
			continue
		}
		text, ok := strings.CutPrefix(line, "+ ")
		if !ok {
			return fmt.Errorf("want + or -, have %q", clip(line))
		}
		f, err := parseFile(text)
		if err != nil {
			return err
		}
		if n := len(d.Added); n > 0 && d.Added[n-1].Name == f.Name {
			return fmt.Errorf("%s is added twice", f.Name)
		}
		if f.SizeBytes > math.MaxInt64-sum {
			return errors.New("sizes overflow")
		}
		sum += f.SizeBytes
		d.Added = append(d.Added, f)
	}
	if sum != d.AddedBytes {
		return fmt.Errorf("added files have %d bytes, %d announced", sum, d.AddedBytes)
	}
	for _, name := range d.Released {
		if _, found := find(d.Added, name); found {
			return fmt.Errorf("%s is both added and released", name)
		}
	}
	return nil
}

// find looks name up in files sorted by name.
func find(files []File, name string) (int, bool) {
	return slices.BinarySearchFunc(files, name, func(f File, n string) int { return strings.Compare(f.Name, n) })
}

// parseFile reads what File.line writes.
func parseFile(s string) (f File, err error) {
	name, rest, _ := strings.Cut(s, " ")
	size, rest, _ := strings.Cut(rest, " ")
	if f.SHA256, err = ParseName(name); err != nil {
		return f, err
	}
	f.Name = strings.Clone(name)
	if f.SizeBytes, err = number(size); err != nil {
		return f, err
	}
	if name == configName {
		var sum string
		if rest, sum, _ = strings.Cut(rest, " "); len(sum) == 0 {
			return f, errors.New("config carries no SHA-256")
		}
		if f.SHA256, err = parseHex(sum); err != nil {
			return f, err
		}
	}
	f.LeafRoot, err = parseRoot(rest)
	return f, err
}

func parseRoot(s string) (Root, error) {
	d, err := parseHex(s)
	if err != nil {
		return Root{}, err
	}
	return Root(d.Bytes()), nil
}

// number reads a canonical decimal number from 0 to 2⁶³-1.
func number(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, fmt.Errorf("%q is not a number", clip(s))
	}
	return n, nil
}

func dash(d digest.Digest) string {
	if d.IsZero() {
		return "-"
	}
	return d.Hex()
}

func dashText(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
