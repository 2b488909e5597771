package catalogue

import (
	"strings"
	"unicode"
)

// segment separates Chinese, Japanese and Korean characters by blanks, so that each is a word of its own. Other text
// stays as it is.
func segment(text string) string {
	var b strings.Builder
	b.Grow(len(text) * 2)
	for _, r := range text {
		if unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Bopomofo) {
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
			continue
		}
		if r < ' ' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}

// query turns what a person typed into an FTS5 expression: every word must occur, its characters one after the other.
// It returns "" if nothing that can be searched for was typed.
func query(text string) string {
	var phrases []string
	for word := range strings.FieldsSeq(text) {
		if strings.IndexFunc(word, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }) < 0 {
			continue
		}
		phrases = append(phrases, `"`+strings.ReplaceAll(segment(word), `"`, " ")+`"`)
	}
	return strings.Join(phrases, " AND ")
}
