package tlog

import (
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// Countersigned is a checkpoint that satisfied a policy, and who cosigned it.
type Countersigned struct {
	Checkpoint   Checkpoint
	Cosignatures []Cosignature // in the policy's order
}

// Cosignature says that a witness of a policy has verifiably cosigned a checkpoint.
type Cosignature struct {
	Witness     string // name in the policy
	Name        string // name of the key
	UnixSeconds int64  // time stated by the cosigner
	Line        string // signature line
}

// Check reports what a signed note certifies if it satisfies the policy strictly: one signature of the log, then exactly the
// cosignatures that the quorum needs, each once and in the policy's order, and no other line. An error matches
// [ErrPolicy] or [ErrMalformed]; [ErrQuorum] if only cosignatures are missing.
func (p *Policy) Check(raw []byte) (Checkpoint, error) {
	c, err := p.Open(raw)
	if err != nil {
		return Checkpoint{}, err
	}
	return c.Checkpoint, nil
}

// Open is [Policy.Check], and lists the cosignatures.
func (p *Policy) Open(raw []byte) (*Countersigned, error) {
	text, sigs, err := parseNote(raw)
	if err != nil {
		return nil, err
	}
	c := &Countersigned{}
	if c.Checkpoint, err = p.checkpoint(text); err != nil {
		return nil, err
	}
	if p.logVerifier(sigs[0]) == nil {
		return nil, fmt.Errorf("checkpoint: first signature is by %s, not by a key of log %s in the policy; get the policy of this log: %w", sigs[0].Name, p.origin, ErrPolicy)
	}
	signed, last := make(map[string]bool, len(sigs)), -1
	for _, sig := range sigs[1:] {
		at := p.findWitness(sig)
		switch {
		case at < 0:
			return nil, fmt.Errorf("checkpoint: signature by %s, which is no witness of the policy; get a certificate or policy that fits: %w", sig.Name, ErrPolicy)
		case signed[p.spec.Witnesses[at].Name]:
			return nil, fmt.Errorf("checkpoint: witness %s signs twice; remove one line: %w", p.spec.Witnesses[at].Name, ErrPolicy)
		case at < last:
			return nil, fmt.Errorf("checkpoint: witness %s stands out of the policy's order; the note was rearranged, get the original: %w", p.spec.Witnesses[at].Name, ErrPolicy)
		}
		last = at
		signed[p.spec.Witnesses[at].Name] = true
	}
	if err := p.checkQuorum(signed); err != nil {
		return nil, err
	}
	if !p.logVerifier(sigs[0]).Verify([]byte(text), signatureBytes(sigs[0])) {
		return nil, fmt.Errorf("checkpoint: signature of log %s does not fit the text; it was changed, get the original: %w", p.origin, ErrPolicy)
	}
	for _, sig := range sigs[1:] {
		co, ok := p.verifyCosignature(text, sig)
		if !ok {
			return nil, fmt.Errorf("checkpoint: cosignature of %s does not fit the text; it was changed, get the original: %w", sig.Name, ErrPolicy)
		}
		c.Cosignatures = append(c.Cosignatures, co)
	}
	return c, nil
}

// VerifyCosignature checks one signature line over a checkpoint's note text by any witness of the policy.
func (p *Policy) VerifyCosignature(text, line string) (Cosignature, error) {
	if _, err := p.checkpoint(text); err != nil {
		return Cosignature{}, err
	}
	sig, err := parseSignatureLine(line)
	if err != nil {
		return Cosignature{}, err
	}
	if p.findWitness(sig) < 0 {
		return Cosignature{}, fmt.Errorf("cosignature: %s is no witness of the policy: %w", sig.Name, ErrPolicy)
	}
	co, ok := p.verifyCosignature(text, sig)
	if !ok {
		return Cosignature{}, fmt.Errorf("cosignature of %s: %w", sig.Name, ErrSignature)
	}
	return co, nil
}

// Assemble joins a checkpoint signed by the log with cosignature lines into a note that satisfies the policy strictly,
// and says which cosignatures it holds. Of a group with more cosignatures than it needs, the members named first are
// taken. Lines that do not verify are passed over: one bad witness stops nothing. If too few are left the error matches
// [ErrQuorum].
func (p *Policy) Assemble(signed []byte, lines []string) ([]byte, []Cosignature, error) {
	text, sigs, err := parseNote(signed)
	if err != nil {
		return nil, nil, err
	}
	if _, err := p.checkpoint(text); err != nil {
		return nil, nil, err
	}
	v := p.logVerifier(sigs[0])
	if v == nil || !v.Verify([]byte(text), signatureBytes(sigs[0])) {
		return nil, nil, fmt.Errorf("assemble checkpoint: the first signature is not by log %s: %w", p.origin, ErrPolicy)
	}
	have := map[string]Cosignature{}
	for _, line := range lines {
		co, err := p.VerifyCosignature(text, line)
		if _, twice := have[co.Witness]; err == nil && !twice {
			have[co.Witness] = co
		}
	}
	var chosen []string
	if p.spec.Quorum != QuorumNone {
		var ok bool
		if chosen, ok = p.choose(p.spec.Quorum, have); !ok {
			names := make(map[string]bool, len(have))
			for name := range have {
				names[name] = true
			}
			return nil, nil, p.missing(names)
		}
	}
	slices.SortFunc(chosen, func(a, b string) int { return p.witnessAt[a] - p.witnessAt[b] })
	out := formatNote(text, sigs[:1])
	used := make([]Cosignature, 0, len(chosen))
	for _, name := range chosen {
		out = append(out, have[name].Line...)
		used = append(used, have[name])
	}
	if _, err := p.Open(out); err != nil {
		return nil, nil, fmt.Errorf("assemble checkpoint: %w", err)
	}
	return out, used, nil
}

// checkpoint parses a note's text and wants it to be of the policy's log.
func (p *Policy) checkpoint(text string) (Checkpoint, error) {
	c, err := ParseCheckpoint(text)
	if err != nil {
		return c, err
	}
	if c.Origin != p.origin {
		return c, fmt.Errorf("checkpoint: of log %s, but the policy is for %s; get the policy of this log: %w", c.Origin, p.origin, ErrPolicy)
	}
	return c, nil
}

func (p *Policy) logVerifier(sig note.Signature) note.Verifier {
	for _, v := range p.logs {
		if v.Name() == sig.Name && v.KeyHash() == sig.Hash {
			return v
		}
	}
	return nil
}

// findWitness returns the place of the witness that a signature line names, or -1.
func (p *Policy) findWitness(sig note.Signature) int {
	return slices.IndexFunc(p.witnesses, func(v *CosignatureVerifier) bool { return v.name == sig.Name && v.hash == sig.Hash })
}

func (p *Policy) verifyCosignature(text string, sig note.Signature) (Cosignature, bool) {
	at := p.findWitness(sig)
	if at < 0 || !p.witnesses[at].Verify([]byte(text), signatureBytes(sig)) {
		return Cosignature{}, false
	}
	seconds, err := CosignatureTime(sig)
	return Cosignature{Witness: p.spec.Witnesses[at].Name, Name: sig.Name, UnixSeconds: seconds,
		Line: formatSignatureLine(sig.Name, sig.Hash, signatureBytes(sig))}, err == nil
}

// checkQuorum wants signed to be a smallest set that satisfies the quorum.
func (p *Policy) checkQuorum(signed map[string]bool) error {
	counted := 0
	if p.spec.Quorum != QuorumNone {
		w, err := p.weigh(p.spec.Quorum, signed)
		if err != nil {
			return err
		}
		if !w.satisfied {
			return p.missing(signed)
		}
		counted = w.signatures
	}
	if counted != len(signed) {
		return fmt.Errorf("checkpoint: %d cosignatures, but quorum %s counts %d; leave the others out: %w", len(signed), p.spec.Quorum, counted, ErrPolicy)
	}
	return nil
}

// weight says what the cosignatures at hand do for a witness or group.
type weight struct {
	satisfied  bool
	signatures int
}

func (p *Policy) weigh(name string, signed map[string]bool) (weight, error) {
	g, isGroup := p.groups[name]
	if !isGroup {
		if signed[name] {
			return weight{satisfied: true, signatures: 1}, nil
		}
		return weight{}, nil
	}
	var sum, satisfied, stray = 0, 0, 0
	for _, m := range g.Members {
		w, err := p.weigh(m, signed)
		if err != nil {
			return weight{}, err
		}
		sum += w.signatures
		if w.satisfied {
			satisfied++
		} else {
			stray += w.signatures
		}
	}
	if satisfied > g.K || satisfied == g.K && stray > 0 {
		return weight{}, fmt.Errorf("checkpoint: group %s needs exactly %d of its %d members, and more signed; leave the others out: %w", name, g.K, len(g.Members), ErrPolicy)
	}
	return weight{satisfied: satisfied == g.K, signatures: sum}, nil
}

// choose picks the witnesses, named first in each group, that satisfy name.
func (p *Policy) choose(name string, have map[string]Cosignature) ([]string, bool) {
	g, isGroup := p.groups[name]
	if !isGroup {
		_, ok := have[name]
		return []string{name}, ok
	}
	var chosen []string
	n := 0
	for _, m := range g.Members {
		if n == g.K {
			break
		}
		if more, ok := p.choose(m, have); ok {
			chosen = append(chosen, more...)
			n++
		}
	}
	return chosen, n == g.K
}

func (p *Policy) missing(signed map[string]bool) error {
	name := p.spec.Quorum
	if g, ok := p.groups[name]; ok {
		return fmt.Errorf("checkpoint: quorum %s needs %d of its %d members, cosigned by %d witnesses so far; wait for more, or ask for a later certificate: %w",
			name, g.K, len(g.Members), len(signed), ErrQuorum)
	}
	return fmt.Errorf("checkpoint: quorum is witness %s, which has not cosigned; wait, or ask for a later certificate: %w", name, ErrQuorum)
}
