package manifest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"

	"dengbei/chunkstore/digest"
)

const setHeader = "dengbei-manifest-set/v1"

// Set is all files of a repository after a chain of manifests. It is immutable; the zero Set is the one before the first
// manifest.
type Set struct {
	repository string
	tip        digest.Digest // of the last manifest
	files      []File        // sorted by name
	sizeBytes  int64
}

// Repository returns whose set it is, empty for the zero Set.
func (s Set) Repository() string { return s.repository }

// Tip returns the digest of the last manifest, zero for the zero Set.
func (s Set) Tip() digest.Digest { return s.tip }

// Len returns the number of files.
func (s Set) Len() int { return len(s.files) }

// SizeBytes returns the sum of the files' sizes.
func (s Set) SizeBytes() int64 { return s.sizeBytes }

// Files yields the files in ascending order of their names.
func (s Set) Files() iter.Seq[File] { return slices.Values(s.files) }

// File returns the file of that name.
func (s Set) File(name string) (File, bool) {
	i, ok := find(s.files, name)
	if !ok {
		return File{}, false
	}
	return s.files[i], true
}

// Root returns the Merkle root over the files, as the package comment defines it. It hashes every entry.
func (s Set) Root() Root { return setRoot(s.files) }

func setRoot(files []File) Root {
	var t tree
	var b []byte
	for _, f := range files {
		b = f.appendLine(append(b[:0], 0))
		t.add(sha256.Sum256(b))
	}
	return t.root()
}

// Check gives [ErrRoot] unless s has the root, the count and the bytes that d announces for the set after it.
func (s Set) Check(d Document) error {
	if uint64(len(s.files)) != d.SetFiles || s.sizeBytes != d.SetBytes {
		return fmt.Errorf("%w: %d files of %d bytes, announced are %d of %d",
			ErrRoot, len(s.files), s.sizeBytes, d.SetFiles, d.SetBytes)
	}
	if root := s.Root(); root != d.SetRoot {
		return fmt.Errorf("%w: %s, announced is %s", ErrRoot, root, d.SetRoot)
	}
	return nil
}

// Apply returns the set after the documents, which follow s in order. It checks chain, names, sizes and counts of each and
// gives [ErrChain], but hashes no set: see [Set.Check]. The cost is that of s once plus that of the documents.
func Apply(s Set, documents ...Document) (Set, error) {
	files := make(map[string]File, len(s.files))
	for _, f := range s.files {
		files[f.Name] = f
	}
	next := s
	for _, d := range documents {
		if err := next.apply(files, d); err != nil {
			return Set{}, err
		}
	}
	next.files = make([]File, 0, len(files))
	for _, f := range files {
		next.files = append(next.files, f)
	}
	slices.SortFunc(next.files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return next, nil
}

func (s *Set) apply(files map[string]File, d Document) error {
	sum, err := d.Digest()
	if err != nil {
		return err
	}
	if d.Parent != s.tip || s.repository != "" && d.Repository != s.repository {
		return fmt.Errorf("%w: manifest %s of %s has parent %s, the set of %s ends with %s",
			ErrChain, sum, d.Repository, dash(d.Parent), s.repository, dash(s.tip))
	}
	size := s.sizeBytes
	var released int64
	for _, name := range d.Released {
		f, ok := files[name]
		if !ok {
			return fmt.Errorf("%w: manifest %s releases %s, which is not there", ErrChain, sum, name)
		}
		delete(files, name)
		released += f.SizeBytes
	}
	for _, f := range d.Added {
		if _, ok := files[f.Name]; ok {
			return fmt.Errorf("%w: manifest %s adds %s a second time", ErrChain, sum, f.Name)
		}
		files[f.Name] = f
	}
	if size -= released; d.AddedBytes > math.MaxInt64-size {
		return fmt.Errorf("%w: sizes overflow", ErrChain)
	}
	size += d.AddedBytes
	if released != d.ReleasedBytes || size != d.SetBytes || uint64(len(files)) != d.SetFiles {
		return fmt.Errorf("%w: manifest %s announces %d files of %d bytes with %d bytes released; it makes %d of %d with %d",
			ErrChain, sum, d.SetFiles, d.SetBytes, d.ReleasedBytes, len(files), size, released)
	}
	s.repository, s.tip, s.sizeBytes = d.Repository, sum, size
	return nil
}

// Next returns the document that takes s to a set with added files and without released ones, and the set after it. The
// order of the arguments does not matter. repository is ignored unless s is the zero Set.
func Next(s Set, repository, snapshot string, added []File, released []string) (Document, Set, error) {
	d := Document{Repository: s.repository, Parent: s.tip, Snapshot: snapshot,
		Added: slices.Clone(added), Released: slices.Clone(released)}
	if d.Repository == "" {
		d.Repository = repository
	}
	slices.SortFunc(d.Added, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(d.Released)
	gone := make(map[string]bool, len(released))
	for _, name := range d.Released {
		f, ok := s.File(name)
		if !ok || gone[name] {
			return Document{}, Set{}, fmt.Errorf("%w: release of %s, which is not there", ErrChain, clip(name))
		}
		gone[name] = true
		d.ReleasedBytes += f.SizeBytes
	}
	for _, f := range d.Added {
		if err := f.Check(); err != nil {
			return Document{}, Set{}, err
		}
		if f.SizeBytes > math.MaxInt64-s.sizeBytes-d.AddedBytes {
			return Document{}, Set{}, fmt.Errorf("%w: sizes overflow", ErrChain)
		}
		d.AddedBytes += f.SizeBytes
	}
	after := make([]File, 0, len(s.files)+len(added))
	for _, f := range s.files {
		if !gone[f.Name] {
			after = append(after, f)
		}
	}
	after = append(after, d.Added...)
	slices.SortFunc(after, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	d.SetFiles, d.SetBytes, d.SetRoot = uint64(len(after)), s.sizeBytes-d.ReleasedBytes+d.AddedBytes, setRoot(after)
	next, err := Apply(s, d)
	return d, next, err
}

// Encode returns s as text, for keeping a set between runs: the header "dengbei-manifest-set/v1", then repository, parent
// (the tip), set-root and set as in a document, an empty line and the + lines. Whoever reads it back compares tip and root
// with the registry, so it needs no other protection.
func (s Set) Encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nrepository %s\nparent %s\nset-root %s\nset %d %d\n\n",
		setHeader, s.repository, dash(s.tip), s.Root(), len(s.files), s.sizeBytes)
	for _, f := range s.files {
		b.WriteString("+ ")
		b.Write(f.appendLine(b.AvailableBuffer()))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// ParseSet reads what [Set.Encode] writes and proves it against the root in it. Every refusal matches [ErrSyntax] or
// [ErrRoot].
func ParseSet(b []byte) (Set, error) {
	l := lines{rest: string(b)}
	s, d, err := l.wholeSet()
	if err != nil {
		if !errors.Is(err, ErrSyntax) {
			err = fmt.Errorf("%w: %w", ErrSyntax, err)
		}
		return Set{}, fmt.Errorf("set, line %d: %w", l.n, err)
	}
	if err := s.Check(d); err != nil {
		return Set{}, err
	}
	return s, nil
}

func (l *lines) wholeSet() (s Set, d Document, err error) {
	if first, err := l.next(); err != nil || first != setHeader {
		return s, d, fmt.Errorf("want %q", setHeader)
	}
	if s.repository, err = l.field("repository"); err != nil {
		return s, d, err
	}
	if err := CheckRepository(s.repository); err != nil {
		return s, d, err
	}
	s.repository = strings.Clone(s.repository)
	tip, err := l.field("parent")
	if err != nil {
		return s, d, err
	}
	if s.tip, err = parseHex(tip); err != nil {
		return s, d, err
	}
	if d.SetRoot, d.SetFiles, d.SetBytes, err = l.set(); err != nil {
		return s, d, err
	}
	if blank, err := l.next(); err != nil || blank != "" {
		return s, d, errors.New("want an empty line")
	}
	d.AddedBytes = d.SetBytes
	if err := l.files(&d); err != nil {
		return s, d, err
	}
	if len(d.Released) > 0 {
		return s, d, errors.New("a set has no - lines")
	}
	s.files, s.sizeBytes = d.Added, d.SetBytes
	return s, d, nil
}
