package chunkstore

import (
	"fmt"
	"strings"

	"dengbei/chunkstore/digest"
)

// Kind is what a repository file is for. The zero Kind is none.
type Kind uint8

// The kinds of files, each in its own directory.
const (
	Config Kind = iota + 1
	Key
	Snapshot
	Index
	Lock
	Pack
)

// Kinds lists every Kind in the order in which a reader needs them.
func Kinds() []Kind { return []Kind{Config, Key, Snapshot, Index, Lock, Pack} }

// String returns restic's name of the directory, or "config" for [Config].
func (k Kind) String() string {
	switch k {
	case Config:
		return "config"
	case Key:
		return "keys"
	case Snapshot:
		return "snapshots"
	case Index:
		return "index"
	case Lock:
		return "locks"
	case Pack:
		return "data"
	default:
		return fmt.Sprintf("kind-%d", uint8(k))
	}
}

// Name is one file of a repository. The ID is the SHA-256 of the file's bytes. For [Config], which lies on disk as
// "config", the ID is kept by whoever registered it; a zero ID there means the config that is present, unverified.
type Name struct {
	Kind Kind
	ID   digest.Digest
}

// Entry is a file and its size.
type Entry struct {
	Name      Name
	SizeBytes int64
}

// String returns "config" or "<directory>/<64 hex>", as restic's REST protocol spells it: packs without their two-digit
// subdirectory.
func (n Name) String() string {
	if n.Kind == Config {
		return "config"
	}
	return n.Kind.String() + "/" + n.ID.Hex()
}

// ParseName reads what [Name.String] writes. The ID of "config" is zero.
func ParseName(s string) (Name, error) {
	if s == "config" {
		return Name{Kind: Config}, nil
	}
	dir, hex, ok := strings.Cut(s, "/")
	if !ok {
		return Name{}, fmt.Errorf("%w: %q", ErrName, s)
	}
	for _, k := range Kinds()[1:] {
		if k.String() != dir {
			continue
		}
		id, ok := parseID(hex)
		if !ok {
			break
		}
		return Name{Kind: k, ID: id}, nil
	}
	return Name{}, fmt.Errorf("%w: %q", ErrName, s)
}

func parseID(hex string) (digest.Digest, bool) {
	if len(hex) != 2*digest.Size {
		return digest.Digest{}, false
	}
	d, err := digest.Parse(hex)
	return d, err == nil
}

// check refuses names that no file can have.
func (n Name) check() error {
	if n.Kind < Config || n.Kind > Pack || n.ID.Algorithm() != digest.SHA256 && (n.Kind != Config || !n.ID.IsZero()) {
		return fmt.Errorf("%w: %s %s", ErrName, n.Kind, n.ID)
	}
	return nil
}

// dir returns the directory that holds n, relative to the root.
func (n Name) dir() string {
	switch n.Kind {
	case Config:
		return "."
	case Pack:
		return "data/" + n.ID.Hex()[:2]
	default:
		return n.Kind.String()
	}
}

// path returns where n lies, relative to the root.
func (n Name) path() string {
	if n.Kind == Config {
		return "config"
	}
	return n.dir() + "/" + n.ID.Hex()
}

// flat returns n as one path element, for parts and quarantined files.
func (n Name) flat() string { return n.Kind.String() + "-" + n.ID.Hex() }

// parseFlat reads what flat writes.
func parseFlat(s string) (Name, bool) {
	dir, hex, ok := strings.Cut(s, "-")
	if !ok {
		return Name{}, false
	}
	if dir == "config" {
		id, ok := parseID(hex)
		return Name{Kind: Config, ID: id}, ok
	}
	n, err := ParseName(dir + "/" + hex)
	return n, err == nil
}
