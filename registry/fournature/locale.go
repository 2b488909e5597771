package fournature

import (
	"embed"
	"encoding/json"
	"strings"
	"sync"
)

//go:embed locale/*.json
var localeFiles embed.FS

// Languages of the catalogue.
const (
	LangZh = "zh-CN"
	LangEn = "en"
)

// catalogue returns language → code → text, parsed on first use and never changed.
var catalogue = sync.OnceValue(func() map[string]map[string]string {
	all := make(map[string]map[string]string)
	for _, lang := range []string{LangZh, LangEn} {
		b, err := localeFiles.ReadFile("locale/" + lang + ".json")
		if err != nil {
			panic("fournature: " + err.Error())
		}
		var m map[string]string
		if err := json.Unmarshal(b, &m); err != nil {
			panic("fournature: locale " + lang + ": " + err.Error())
		}
		all[lang] = m
	}
	return all
})

// text returns the catalogue's text for code with {name} replaced by params; the code itself if there is none.
func text(lang, code string, params map[string]string) string {
	t, ok := catalogue()[lang][code]
	if !ok {
		return code
	}
	if len(params) == 0 {
		return t
	}
	var pairs []string
	for k, v := range params {
		pairs = append(pairs, "{"+k+"}", v)
	}
	return strings.NewReplacer(pairs...).Replace(t)
}

func message(code string, params map[string]string) Message {
	return Message{Zh: text(LangZh, code, params), En: text(LangEn, code, params)}
}
