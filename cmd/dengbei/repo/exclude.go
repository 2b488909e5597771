package repo

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dengbei/chunkstore/archive"
	"dengbei/chunkstore/pattern"
	"dengbei/cmd/dengbei/term"
)

// excludes is the options that say what a backup leaves out.
type excludes struct {
	patterns, foldPatterns []string
	files, foldFiles       []string
	ifPresent              []string
	caches                 bool
	largerThan             string
	oneFileSystem          bool
}

func (e *excludes) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&e.patterns, "exclude", "e", nil, "leave out what `pattern` matches (may be given several times, as all of these)")
	f.StringArrayVar(&e.foldPatterns, "iexclude", nil, "the same, without telling upper from lower case")
	f.StringArrayVar(&e.files, "exclude-file", nil, "leave out what the patterns in `file` match, one a line")
	f.StringArrayVar(&e.foldFiles, "iexclude-file", nil, "the same, without telling upper from lower case")
	f.StringArrayVar(&e.ifPresent, "exclude-if-present", nil, "leave out what lies beside a file `name[:header]`, but not that file")
	f.BoolVar(&e.caches, "exclude-caches", false, "leave out what directories hold that "+archive.CacheTag+" marks as caches")
	f.StringVar(&e.largerThan, "exclude-larger-than", "", "leave out files of more than `size`, with a suffix k, m, g or t if wanted")
	f.BoolVarP(&e.oneFileSystem, "one-file-system", "x", false, "stay on the file systems of the files and directories given")
}

// selection returns what is left out, and the patterns as the snapshot records them.
func (e *excludes) selection(env func(string) string) (archive.Selection, []string, error) {
	s := archive.Selection{OneFileSystem: e.oneFileSystem}
	var recorded []string
	for _, list := range []struct {
		patterns, files []string
		parse           func([]string) (*pattern.Set, error)
	}{{e.patterns, e.files, pattern.Parse}, {e.foldPatterns, e.foldFiles, pattern.ParseFold}} {
		lines := append([]string(nil), list.patterns...)
		for _, file := range list.files {
			more, err := patternsIn(file, env)
			if err != nil {
				return s, nil, err
			}
			lines = append(lines, more...)
		}
		set, err := list.parse(lines)
		if err != nil {
			return s, nil, term.Usagef("%v", err)
		}
		if !set.Empty() {
			s.Exclude = append(s.Exclude, set)
		}
		recorded = append(recorded, lines...)
	}
	for _, spec := range e.ifPresent {
		name, header, _ := strings.Cut(spec, ":")
		if name == "" || strings.Contains(name, "/") {
			return s, nil, term.Usagef("--exclude-if-present %q: want NAME or NAME:HEADER", spec)
		}
		s.Tags = append(s.Tags, archive.Tag{Name: name, Header: header})
	}
	if e.caches {
		s.Tags = append(s.Tags, archive.Tag{Name: archive.CacheTag, Header: archive.CacheSignature})
	}
	if e.largerThan != "" {
		n, err := parseBytes("--exclude-larger-than", e.largerThan)
		if err != nil {
			return s, nil, err
		}
		s.LargerThan = n
	}
	return s, recorded, nil
}

func patternsIn(file string, env func(string) string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("exclude file: %w", err)
	}
	defer f.Close()
	lines, err := pattern.ReadLines(f, env)
	if err != nil {
		return nil, fmt.Errorf("exclude file %s: %w", file, err)
	}
	return lines, nil
}
