// Command docscheck holds documentation to the programs: every dengbei and dengbei-verify command in a shell block of a
// Markdown file must exist with the flags shown, every relative link must lead to a file of the tree, and every test,
// Go file and package.Name in backquotes must be there.
//
//	docscheck FILE|DIR…
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	bin, err := os.MkdirTemp("", "docscheck-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	findings, err := check(bin, os.Args[1:])
	err = errors.Join(err, os.RemoveAll(bin))
	for _, f := range findings {
		fmt.Println(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || len(findings) > 0 {
		os.Exit(1)
	}
}

func check(bin string, args []string) (findings []string, err error) {
	build := exec.Command("go", "build", "-o", bin+"/", "./cmd/...")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("build the programs: %w", err)
	}
	p := programs{bin: bin, help: map[string]string{}}
	src, err := readSource(".")
	if err != nil {
		return nil, err
	}
	commands := 0
	for _, arg := range args {
		err := filepath.WalkDir(arg, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			findings = append(findings, deadLinks(path, string(text))...)
			findings = append(findings, src.deadNames(path, string(text))...)
			for _, c := range shellCommands(string(text)) {
				commands++
				if what := p.check(c.words); what != "" {
					findings = append(findings, fmt.Sprintf("%s:%d: %s: %s", path, c.line, strings.Join(c.words, " "), what))
				}
			}
			return nil
		})
		if err != nil {
			return findings, err
		}
	}
	fmt.Printf("%d commands in shell blocks checked\n", commands)
	return findings, nil
}

type command struct {
	line  int
	words []string
}

// shellCommands returns the commands of our programs in the blocks marked sh, bash or console.
func shellCommands(text string) (out []command) {
	shell, fenced := false, false
	pending := ""
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if mark, ok := strings.CutPrefix(trimmed, "```"); ok {
			fenced = !fenced
			shell = fenced && (mark == "sh" || mark == "bash" || mark == "console")
			continue
		}
		if !shell {
			continue
		}
		if head, ok := strings.CutSuffix(trimmed, `\`); ok {
			pending += head + " "
			continue
		}
		words := strings.Fields(strings.TrimPrefix(pending+trimmed, "$ "))
		pending = ""
		for len(words) > 0 && (words[0] == "sudo" || words[0] == "-E" || words[0] == "-u" || strings.Contains(words[0], "=") || len(words) > 1 && words[0] == "dengbei" && words[1] == "dengbei") {
			if words[0] == "-u" {
				words = words[1:]
			}
			words = words[1:]
		}
		for j, w := range words { // what follows a comment, a pipe or a redirection is not ours
			if strings.HasPrefix(w, "#") || w == "|" || w == "&&" || w == "&" || w == ";" || strings.HasPrefix(w, ">") {
				words = words[:j]
				break
			}
		}
		if len(words) > 2 && words[0] == "go" && words[1] == "run" {
			words = append([]string{filepath.Base(words[2])}, words[3:]...)
		}
		if len(words) > 0 && (filepath.Base(words[0]) == "dengbei" || filepath.Base(words[0]) == "dengbei-verify") {
			words[0] = filepath.Base(words[0])
			out = append(out, command{i + 1, words})
		}
	}
	return out
}

// programs asks the built programs for their help, once per command.
type programs struct {
	bin  string
	help map[string]string
}

var (
	plainWord = regexp.MustCompile(`^[a-z][a-z-]*$`)
	usageLine = regexp.MustCompile(`[Uu]sage:\s*(dengbei(?:-verify)?)((?: [a-z][a-z-]*\b)*)`)
	flagName  = regexp.MustCompile(`^--?[a-z][a-z-]*`)
)

// check says what is wrong with a command, or nothing.
func (p programs) check(words []string) string {
	path := words[1:]
	if words[0] == "dengbei-verify" { // has no commands, only files and flags
		path = nil
	}
	for i, w := range path {
		if !plainWord.MatchString(w) {
			path = path[:i]
			break
		}
	}
	help := p.ask(words[0], path)
	m := usageLine.FindStringSubmatch(help)
	if m == nil {
		return "its help shows no usage:\n" + help
	}
	found := strings.Fields(m[2])
	if len(found) > len(path) || strings.Join(found, " ") != strings.Join(path[:len(found)], " ") {
		return "help is about " + m[0]
	}
	if strings.Contains(help, "Available Commands:") && len(path) > len(found) {
		return "no such command: " + path[len(found)]
	}
	for _, w := range words[1:] {
		if w == "--" {
			break
		}
		name := flagName.FindString(w)
		if name == "" || name == "--help" {
			continue
		}
		if !regexp.MustCompile(`(?m)(^|[\s,\[|])` + regexp.QuoteMeta(name) + `([\s=,\]|]|$)`).MatchString(help) {
			return "its help names no flag " + name
		}
	}
	return ""
}

func (p programs) ask(program string, path []string) string {
	key := program + " " + strings.Join(path, " ")
	if h, ok := p.help[key]; ok {
		return h
	}
	args := append(path[:len(path):len(path)], "--help")
	if program == "dengbei-verify" {
		args = []string{"--lang", "en", "--help"}
	}
	out, _ := exec.Command(filepath.Join(p.bin, program), args...).CombinedOutput() // what it printed counts
	p.help[key] = string(out)
	return string(out)
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func deadLinks(path, text string) (findings []string) {
	for i, line := range strings.Split(text, "\n") {
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, ":") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), filepath.FromSlash(target))); err != nil {
				findings = append(findings, fmt.Sprintf("%s:%d: dead link %s", path, i+1, m[1]))
			}
		}
	}
	return findings
}

// source is the words of the tree's Go files: by package the ones of code, and the names of all tests.
type source struct {
	words map[string]map[string]bool // package → word
	tests map[string]bool
}

var (
	goWord   = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example|Benchmark)\w*)\(`)
)

func readSource(root string) (source, error) {
	src := source{words: map[string]map[string]bool{}, tests: map[string]bool{}}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, "_test.go") {
			for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
				src.tests[m[1]] = true
			}
			return nil
		}
		name := filepath.Base(filepath.Dir(path))
		if src.words[name] == nil {
			src.words[name] = map[string]bool{}
		}
		for _, w := range goWord.FindAllString(string(text), -1) {
			src.words[name][w] = true
		}
		return nil
	})
	return src, err
}

var (
	quoted   = regexp.MustCompile("`([^`\n]+)`")
	testName = regexp.MustCompile(`^(Test|Fuzz)[A-Z]\w*$`)
	goPath   = regexp.MustCompile(`^[a-z][\w./-]*/[\w-]+\.(go|proto)$`)
	dotted   = regexp.MustCompile(`^([a-z]+)\.([A-Z]\w*)$`)
)

// deadNames finds names in backquotes that the tree does not have. Names of packages outside the tree are not judged.
func (src source) deadNames(path, text string) (findings []string) {
	for i, line := range strings.Split(text, "\n") {
		for _, m := range quoted.FindAllStringSubmatch(line, -1) {
			name, what := m[1], ""
			switch d := dotted.FindStringSubmatch(name); {
			case testName.MatchString(name) && !src.tests[name]:
				what = "no such test"
			case d != nil && src.words[d[1]] != nil && !src.words[d[1]][d[2]]:
				what = "no such name"
			case goPath.MatchString(name):
				if _, err := os.Stat(name); err != nil {
					what = "no such file"
				}
			}
			if what != "" {
				findings = append(findings, fmt.Sprintf("%s:%d: %s: %s", path, i+1, what, name))
			}
		}
	}
	return findings
}
