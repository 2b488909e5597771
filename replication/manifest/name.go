package manifest

import (
	"fmt"
	"strings"

	"dengbei/chunkstore/digest"
)

// configName is the only file that is not named by its hash.
const configName = "config"

// rank orders the directories by what cannot be rebuilt: config and keys first, packs last.
func rank(dir string) (int, bool) {
	switch dir {
	case configName:
		return 0, true
	case "keys":
		return 1, true
	case "documents":
		return 2, true
	case "snapshots":
		return 3, true
	case "index":
		return 4, true
	case "data":
		return 5, true
	default:
		return 0, false
	}
}

// ParseName returns the SHA-256 that name carries, zero for "config", or [ErrSyntax] for what names no file of a backup.
// A good name is safe as a path below a directory.
func ParseName(name string) (digest.Digest, error) {
	if name == configName {
		return digest.Digest{}, nil
	}
	dir, hex, ok := strings.Cut(name, "/")
	if _, known := rank(dir); !ok || !known || dir == configName {
		return digest.Digest{}, fmt.Errorf("%w: %q names no file of a backup", ErrSyntax, clip(name))
	}
	d, err := parseHex(hex)
	if err != nil {
		return digest.Digest{}, fmt.Errorf("%w: name %q", err, clip(name))
	}
	return d, nil
}

// CheckRepository gives [ErrSyntax] unless id can name a repository: 1 to 128 of a-z 0-9 . _ -, the first a letter or a
// digit. A good id is safe as one path element.
func CheckRepository(id string) error {
	ok := len(id) > 0 && len(id) <= 128
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		ok = alnum || i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return fmt.Errorf("%w: %q names no repository", ErrSyntax, clip(id))
	}
	return nil
}

// Urgency orders names for copying: what cannot be rebuilt from the rest comes first (config, keys), packs come last.
// It returns a negative number if a is to be copied before b.
func Urgency(a, b string) int {
	da, _, _ := strings.Cut(a, "/")
	db, _, _ := strings.Cut(b, "/")
	ra, _ := rank(da)
	rb, _ := rank(db)
	if ra != rb {
		return ra - rb
	}
	return strings.Compare(a, b)
}

func parseHex(s string) (digest.Digest, error) {
	if len(s) != 2*digest.Size {
		return digest.Digest{}, fmt.Errorf("%w: %q is not 64 hex digits", ErrSyntax, clip(s))
	}
	d, err := digest.Parse(s)
	if err != nil {
		return digest.Digest{}, fmt.Errorf("%w: %q is not 64 lower-case hex digits", ErrSyntax, s)
	}
	return d, nil
}

// clip keeps hostile text out of error messages in full length.
func clip(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}
