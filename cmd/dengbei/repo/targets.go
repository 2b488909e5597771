package repo

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/pattern"
	"dengbei/cmd/dengbei/term"
)

// targets is the options that say what is backed up.
type targets struct {
	from, verbatim, raw []string
	stdin               bool
	stdinName           string
}

func (t *targets) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&t.from, "files-from", nil, "also what the patterns in `file` match, one a line (- for standard input)")
	f.StringArrayVar(&t.verbatim, "files-from-verbatim", nil, "also the names in `file`, one a line, as they are")
	f.StringArrayVar(&t.raw, "files-from-raw", nil, "also the names in `file`, each ended by a NUL byte")
	f.BoolVar(&t.stdin, "stdin", false, "back up standard input")
	f.StringVar(&t.stdinName, "stdin-filename", "stdin", "the `name` it is given")
}

// roots returns what is to be backed up, and the paths that the snapshot is to record.
func (t *targets) roots(in io.Reader, args []string) ([]archive.Root, []string, error) {
	if t.stdin {
		if len(args)+len(t.from)+len(t.verbatim)+len(t.raw) > 0 {
			return nil, nil, term.Usagef("--stdin is backed up alone: leave out the other files")
		}
		name := "/" + strings.TrimPrefix(filepath.Clean("/"+t.stdinName), "/")
		if name == "/" {
			return nil, nil, term.Usagef("--stdin-filename %q names no file", t.stdinName)
		}
		return []archive.Root{{Path: name, Content: in}}, []string{name}, nil
	}
	names := slices.Clone(args)
	for _, list := range []struct {
		files []string
		read  func([]byte) ([]string, error)
	}{{t.from, matching}, {t.verbatim, lineNames}, {t.raw, rawNames}} {
		for _, file := range list.files {
			b, err := readList(in, file)
			if err != nil {
				return nil, nil, err
			}
			more, err := list.read(b)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", file, err)
			}
			names = append(names, more...)
		}
	}
	if len(names) == 0 {
		return nil, nil, term.Usagef("back up what? Give files or directories, --files-from or --stdin")
	}
	var roots []archive.Root
	var paths []string
	for _, name := range names {
		if name == "" {
			return nil, nil, term.Usagef("an empty name is no file")
		}
		abs, err := filepath.Abs(name)
		if err != nil {
			return nil, nil, err
		}
		paths = append(paths, abs)
		below, err := rootsFor(name, abs)
		if err != nil {
			return nil, nil, err
		}
		roots = append(roots, below...)
	}
	slices.Sort(paths)
	return withoutNested(roots), slices.Compact(paths), nil
}

// rootsFor places what lies at name, absolute or as it was given, as stock restic does: an absolute path where it is, a
// relative one below the root without what leads upwards, and of a directory that is only ways upwards its entries.
func rootsFor(name, abs string) ([]archive.Root, error) {
	if filepath.IsAbs(name) {
		return []archive.Root{{Path: abs, Source: abs, Base: "/"}}, nil
	}
	clean := filepath.Clean(name)
	for {
		rest, up := strings.CutPrefix(clean, "..")
		if !up || rest != "" && rest[0] != '/' {
			break
		}
		clean = strings.TrimPrefix(rest, "/")
	}
	if clean != "" && clean != "." {
		return []archive.Root{{Path: "/" + clean, Source: abs, Base: strings.TrimSuffix(abs, "/"+clean) + "/"}}, nil
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return nil, err
	}
	var roots []archive.Root
	for _, e := range entries {
		roots = append(roots, archive.Root{Path: "/" + e.Name(), Source: filepath.Join(abs, e.Name()), Base: abs})
	}
	return roots, nil
}

// withoutNested leaves out roots that lie in another root, which holds them anyway.
func withoutNested(roots []archive.Root) []archive.Root {
	sources := make(map[string]string) // of each path
	for _, r := range roots {
		if _, ok := sources[r.Path]; !ok {
			sources[r.Path] = r.Source
		}
	}
	seen := make(map[archive.Root]bool)
	return slices.DeleteFunc(roots, func(r archive.Root) bool {
		if seen[r] {
			return true
		}
		seen[r] = true
		for p, rest := filepath.Dir(r.Path), filepath.Dir(r.Source); r.Path != "/"; p, rest = filepath.Dir(p), filepath.Dir(rest) {
			if s, ok := sources[p]; ok && s == rest {
				return true
			}
			if p == "/" {
				break
			}
		}
		return false
	})
}

// maxListBytes bounds a list of files.
const maxListBytes = 1 << 30

func readList(in io.Reader, file string) ([]byte, error) {
	r := in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxListBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(b) > maxListBytes {
		return nil, fmt.Errorf("%s is longer than %d bytes", file, maxListBytes)
	}
	return b, nil
}

// matching returns what the patterns in b match.
func matching(b []byte) ([]string, error) {
	var all []string
	scan := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		line := strings.TrimSpace(scan.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		found, err := filepath.Glob(line)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, pattern.ErrPattern)
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%q matches no file", line)
		}
		all = append(all, found...)
	}
	return all, scan.Err()
}

// lineNames returns the names in b, one a line.
func lineNames(b []byte) ([]string, error) {
	var all []string
	for line := range bytes.Lines(b) {
		if name := bytes.TrimSuffix(line, []byte("\n")); len(name) > 0 {
			all = append(all, string(name))
		}
	}
	return all, nil
}

// rawNames returns the names in b, each ended by a NUL byte.
func rawNames(b []byte) ([]string, error) {
	if len(b) == 0 {
		return nil, nil
	}
	rest, ok := bytes.CutSuffix(b, []byte{0})
	if !ok {
		return nil, fmt.Errorf("the last name is not ended by a NUL byte: is the list whole?")
	}
	var all []string
	for name := range bytes.SplitSeq(rest, []byte{0}) {
		if len(name) == 0 {
			return nil, fmt.Errorf("an empty name is no file")
		}
		all = append(all, string(name))
	}
	return all, nil
}
