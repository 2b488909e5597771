package certificate

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"dengbei/registry/tlog"
)

//go:embed locale/*.json
var localeFiles embed.FS

// DefaultLanguage is used when none is asked for.
const DefaultLanguage = "zh-CN"

// Texts is the catalogue of one language: every sentence about certificates that a person reads.
type Texts struct {
	lang  string
	texts map[string]string
}

// Languages returns the languages that have a catalogue.
func Languages() []string { return []string{"zh-CN", "en"} }

// LoadTexts returns the catalogue of lang, or an error matching [ErrLanguage]. The empty string is [DefaultLanguage].
func LoadTexts(lang string) (*Texts, error) {
	if lang == "" {
		lang = DefaultLanguage
	}
	for _, known := range Languages() {
		if lang != known {
			continue
		}
		b, err := localeFiles.ReadFile("locale/" + lang + ".json")
		if err != nil {
			return nil, fmt.Errorf("catalogue %s: %w", lang, err)
		}
		t := &Texts{lang: lang}
		if err := json.Unmarshal(b, &t.texts); err != nil {
			return nil, fmt.Errorf("catalogue %s: %w", lang, err)
		}
		return t, nil
	}
	return nil, fmt.Errorf("language %.20q: %w; choose one of %s", lang, ErrLanguage, strings.Join(Languages(), ", "))
}

// Lang returns the catalogue's language.
func (t *Texts) Lang() string { return t.lang }

// Text returns the sentence of key. pairs are names and values for its {name} places; values are printed with [Printable].
func (t *Texts) Text(key string, pairs ...string) string {
	s, ok := t.texts[key]
	if !ok {
		return key // a test keeps the catalogues complete
	}
	replace := make([]string, 0, len(pairs))
	for i := 0; i+1 < len(pairs); i += 2 {
		replace = append(replace, "{"+pairs[i]+"}", Printable(pairs[i+1]))
	}
	return strings.NewReplacer(replace...).Replace(s)
}

// Field returns the name of a field for people.
func (t *Texts) Field(id tlog.FieldID) string { return t.Text("field." + id.String()) }

// DecisionText says whether the decision's signature was checked.
func (t *Texts) DecisionText(d DecisionCheck) string {
	if d.Checked {
		return t.Text("decision.checked")
	}
	names := make([]string, len(d.Missing))
	for i, id := range d.Missing {
		names[i] = t.Field(id)
	}
	return t.Text("decision.not_checked", "fields", strings.Join(names, " · "))
}

// Printable returns s with every character that could move a cursor or reorder text replaced by U+FFFD, so that a
// hostile title cannot pass for the verifier's words. Joiners, which several scripts need, stay.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
