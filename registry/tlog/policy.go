package tlog

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Bounds of a policy file. They keep what a hostile file costs small; real ones have a dozen lines per centre.
const (
	MaxPolicySize   = 1 << 20
	maxPolicyGroups = 1024
)

// QuorumNone is the quorum of a policy that wants no cosignatures.
const QuorumNone = "none"

// PolicySpec is the content of a policy file: whose signatures make a checkpoint and a certificate good.
type PolicySpec struct {
	Logs        []PolicyLog     // every key of one and the same log; any one must have signed
	Witnesses   []PolicyWitness // in the order in which their lines stand in a checkpoint
	Groups      []PolicyGroup   // members are defined above
	Quorum      string          // name of a witness or group, or [QuorumNone]
	Authorities []PolicyAuthority
}

// PolicyLog is a line "log vkey [url]". The key's name is the log's origin.
type PolicyLog struct{ VKey, URL string }

// PolicyWitness is a line "witness name vkey [url]".
type PolicyWitness struct{ Name, VKey, URL string }

// PolicyGroup is a line "group name k members…": the group cosigned when K of its members did.
type PolicyGroup struct {
	Name    string
	K       int
	Members []string
}

// PolicyAuthority is a line "authority code vkey": a key that the authority of that code has or had.
type PolicyAuthority struct{ Code, VKey string }

// Policy decides whether a checkpoint is countersigned as it must be, and which keys are an authority's. The file format
// is C2SP tlog-policy for one log, plus "authority" lines. A Policy does not change and may be used concurrently.
type Policy struct {
	spec        PolicySpec
	origin      string
	logs        []note.Verifier
	witnesses   []*CosignatureVerifier // as in spec.Witnesses
	groups      map[string]PolicyGroup
	witnessAt   map[string]int // name → place in witnesses
	authorities map[string][]string
}

// NewPolicy checks spec and returns its policy. Every key serves one purpose, every name is a member once, and a quorum
// fits into one note. An error says which line to change.
func NewPolicy(spec PolicySpec) (*Policy, error) {
	p := &Policy{spec: spec.clone(), groups: map[string]PolicyGroup{}, witnessAt: map[string]int{}, authorities: map[string][]string{}}
	keys := map[string]string{} // public key → the line that uses it
	claim := func(key ed25519.PublicKey, line string) error {
		if other, ok := keys[string(key)]; ok {
			return fmt.Errorf("policy: %s has the same key as %s; a key serves one purpose, remove one line: %w", line, other, ErrMalformed)
		}
		keys[string(key)] = line
		return nil
	}
	if len(spec.Logs) == 0 {
		return nil, fmt.Errorf("policy: no log line; add \"log VKEY\": %w", ErrMalformed)
	}
	for _, l := range spec.Logs {
		name, key, err := parseVKey(l.VKey, algEd25519)
		if err != nil {
			return nil, fmt.Errorf("policy, log: %w", err)
		}
		if p.origin == "" {
			p.origin = name
		}
		if name != p.origin {
			return nil, fmt.Errorf("policy: logs %s and %s; a policy is for one log, use two files: %w", p.origin, name, ErrMalformed)
		}
		v, err := note.NewVerifier(l.VKey)
		if err != nil {
			return nil, fmt.Errorf("policy, log %s: %w", name, ErrMalformed)
		}
		if err := claim(key, "log "+name); err != nil {
			return nil, err
		}
		p.logs = append(p.logs, v)
	}
	for i, w := range spec.Witnesses {
		if err := p.define(w.Name); err != nil {
			return nil, err
		}
		v, err := NewCosignatureVerifier(w.VKey)
		if err != nil {
			return nil, fmt.Errorf("policy, witness %s: %w", w.Name, err)
		}
		if err := claim(v.key, "witness "+w.Name); err != nil {
			return nil, err
		}
		p.witnessAt[w.Name] = i
		p.witnesses = append(p.witnesses, v)
	}
	if err := p.addGroups(spec.Groups); err != nil {
		return nil, err
	}
	for _, a := range spec.Authorities {
		if !validWord(a.Code) {
			return nil, fmt.Errorf("policy: authority code %.80q is not one word: %w", a.Code, ErrMalformed)
		}
		_, key, err := parseVKey(a.VKey, algEd25519)
		if err != nil {
			return nil, fmt.Errorf("policy, authority %s: %w", a.Code, err)
		}
		if err := claim(key, "authority "+a.Code); err != nil {
			return nil, err
		}
		p.authorities[a.Code] = append(p.authorities[a.Code], a.VKey)
	}
	for _, word := range spec.urls() {
		if word != "" && !validWord(word) {
			return nil, fmt.Errorf("policy: URL %.80q is not one word: %w", word, ErrMalformed)
		}
	}
	return p, nil
}

// addGroups checks the groups and the quorum.
func (p *Policy) addGroups(groups []PolicyGroup) error {
	if len(groups) > maxPolicyGroups {
		return fmt.Errorf("policy: %d groups, at most %d are allowed: %w", len(groups), maxPolicyGroups, ErrMalformed)
	}
	memberOf, cost := map[string]string{}, map[string]int{} // cost: the most cosignatures a group can need
	costOf := func(name string) (int, bool) {
		if _, ok := p.witnessAt[name]; ok {
			return 1, true
		}
		c, ok := cost[name]
		return c, ok
	}
	for _, g := range groups {
		if err := p.define(g.Name); err != nil {
			return err
		}
		if g.K < 1 || g.K > len(g.Members) {
			return fmt.Errorf("policy, group %s: needs %d of %d members; want 1 to %d: %w", g.Name, g.K, len(g.Members), len(g.Members), ErrMalformed)
		}
		var costs []int
		for _, m := range g.Members {
			c, ok := costOf(m)
			if !ok {
				return fmt.Errorf("policy, group %s: member %.80q is not defined above it: %w", g.Name, m, ErrMalformed)
			}
			if other, ok := memberOf[m]; ok {
				return fmt.Errorf("policy, group %s: %s is a member of %s already, and may be one once: %w", g.Name, m, other, ErrMalformed)
			}
			memberOf[m] = g.Name
			costs = append(costs, c)
		}
		slices.Sort(costs)
		for _, c := range costs[len(costs)-g.K:] {
			cost[g.Name] += c
		}
		p.groups[g.Name] = g
	}
	if p.spec.Quorum == QuorumNone {
		return nil
	}
	c, ok := costOf(p.spec.Quorum)
	if !ok {
		return fmt.Errorf("policy: quorum %.80q is no witness and no group of this file: %w", p.spec.Quorum, ErrMalformed)
	}
	if c >= maxSignatures {
		return fmt.Errorf("policy: quorum %s needs %d cosignatures, and a note holds %d; choose fewer: %w", p.spec.Quorum, c, maxSignatures-1, ErrMalformed)
	}
	return nil
}

// define checks that name is free for a new witness or group.
func (p *Policy) define(name string) error {
	_, isWitness := p.witnessAt[name]
	_, isGroup := p.groups[name]
	if !validWord(name) || name == QuorumNone || isWitness || isGroup {
		return fmt.Errorf("policy: witness or group name %.80q is taken, reserved or not one word: %w", name, ErrMalformed)
	}
	return nil
}

// validWord reports whether s can stand as one item of a policy line.
func validWord(s string) bool {
	return s != "" && s[0] != '#' && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

func (s PolicySpec) urls() []string {
	var urls []string
	for _, l := range s.Logs {
		urls = append(urls, l.URL)
	}
	for _, w := range s.Witnesses {
		urls = append(urls, w.URL)
	}
	return urls
}

func (s PolicySpec) clone() PolicySpec {
	s.Logs, s.Witnesses, s.Authorities = slices.Clone(s.Logs), slices.Clone(s.Witnesses), slices.Clone(s.Authorities)
	s.Groups = slices.Clone(s.Groups)
	for i := range s.Groups {
		s.Groups[i].Members = slices.Clone(s.Groups[i].Members)
	}
	return s
}

// ParsePolicy reads a policy file. Empty lines, and lines that start with "#", are ignored; everything else must be
// understood, or the error names the line.
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > MaxPolicySize {
		return nil, fmt.Errorf("policy of %d bytes, at most %d are allowed: %w", len(text), MaxPolicySize, ErrMalformed)
	}
	var spec PolicySpec
	defined := map[string]bool{} // names so far: a group sees only what stands above it
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line, ok := bytes.CutSuffix(line, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("policy, line %d: does not end with a newline, is the file whole?: %w", number, ErrMalformed)
		}
		if bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, fmt.Errorf("policy, line %d: control character (save the file with plain line ends): %w", number, ErrMalformed)
		}
		fields := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' })
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		if err := spec.parseLine(fields, defined); err != nil {
			return nil, fmt.Errorf("policy, line %d: %w", number, err)
		}
	}
	if spec.Quorum == "" {
		return nil, fmt.Errorf("policy: no quorum line; add \"quorum NAME\": %w", ErrMalformed)
	}
	return NewPolicy(spec)
}

func (s *PolicySpec) parseLine(fields []string, defined map[string]bool) error {
	item := func(i int) string {
		if i < len(fields) {
			return fields[i]
		}
		return ""
	}
	switch n := len(fields); {
	case fields[0] == "log" && (n == 2 || n == 3):
		s.Logs = append(s.Logs, PolicyLog{VKey: fields[1], URL: item(2)})
	case fields[0] == "witness" && (n == 3 || n == 4):
		s.Witnesses = append(s.Witnesses, PolicyWitness{Name: fields[1], VKey: fields[2], URL: item(3)})
		defined[fields[1]] = true
	case fields[0] == "group" && n >= 4:
		g := PolicyGroup{Name: fields[1], Members: fields[3:]}
		switch fields[2] {
		case "any":
			g.K = 1
		case "all":
			g.K = len(g.Members)
		default:
			k, err := strconv.Atoi(fields[2])
			if err != nil || strconv.Itoa(k) != fields[2] {
				return fmt.Errorf("group %.80s: %.20q is not all, any or a number: %w", g.Name, fields[2], ErrMalformed)
			}
			g.K = k
		}
		for _, m := range g.Members {
			if !defined[m] {
				return fmt.Errorf("group %.80s: member %.80q is not defined above it: %w", g.Name, m, ErrMalformed)
			}
		}
		s.Groups = append(s.Groups, g)
		defined[g.Name] = true
	case fields[0] == "quorum" && n == 2:
		if s.Quorum != "" {
			return fmt.Errorf("a second quorum line; keep one: %w", ErrMalformed)
		}
		if fields[1] != QuorumNone && !defined[fields[1]] {
			return fmt.Errorf("quorum %.80q is not defined above it: %w", fields[1], ErrMalformed)
		}
		s.Quorum = fields[1]
	case fields[0] == "authority" && n == 3:
		s.Authorities = append(s.Authorities, PolicyAuthority{Code: fields[1], VKey: fields[2]})
	default:
		return fmt.Errorf("%.40q with %d items is no line of a policy (log, witness, group, quorum, authority): %w", fields[0], n, ErrMalformed)
	}
	return nil
}

// Format returns the policy as a file, always the same for the same content: no comments, thresholds as numbers.
func (p *Policy) Format() []byte {
	var b bytes.Buffer
	line := func(words ...string) {
		b.WriteString(strings.TrimRight(strings.Join(words, " "), " ") + "\n")
	}
	for _, l := range p.spec.Logs {
		line("log", l.VKey, l.URL)
	}
	for _, w := range p.spec.Witnesses {
		line("witness", w.Name, w.VKey, w.URL)
	}
	for _, g := range p.spec.Groups {
		line(append([]string{"group", g.Name, strconv.Itoa(g.K)}, g.Members...)...)
	}
	line("quorum", p.spec.Quorum)
	for _, a := range p.spec.Authorities {
		line("authority", a.Code, a.VKey)
	}
	return b.Bytes()
}

// Spec returns a copy of the policy's content.
func (p *Policy) Spec() PolicySpec { return p.spec.clone() }

// Origin returns the name of the policy's log.
func (p *Policy) Origin() string { return p.origin }

// AuthorityKeys returns every verifier key that the authority of this code has or had, in the policy's order.
func (p *Policy) AuthorityKeys(code string) []string { return slices.Clone(p.authorities[code]) }
