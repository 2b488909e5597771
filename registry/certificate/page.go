package certificate

import (
	_ "embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"time"

	"dengbei/registry/tlog"
)

//go:embed page.html
var pageHTML string

// Page says how a certificate is printed.
type Page struct {
	Lang  string // empty = DefaultLanguage
	Title string // heading, such as 登记证明; empty = the catalogue's
}

type pageRow struct {
	Name, Value    string
	Hidden, Digest bool
}

type pageCosigned struct{ Name, At string }

// RenderHTML writes a self-contained page, for the screen and for A4 paper, that says what v proved and what it does not
// prove. It asks for nothing from anywhere.
func RenderHTML(w io.Writer, v *Verified, page Page) error {
	t, err := LoadTexts(page.Lang)
	if err != nil {
		return err
	}
	tmpl, err := template.New("certificate").Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("certificate page: %w", err)
	}
	data := struct {
		Lang, Title, Number, HiddenText, Decision, Position, Root, Commitment, Key string
		AnyHidden                                                                  bool
		Rows                                                                       []pageRow
		Cosigned                                                                   []pageCosigned
		T                                                                          func(key string) string
	}{
		Lang: t.Lang(), Title: page.Title, Number: v.Number, HiddenText: t.Text("certificate.hidden"),
		Decision: t.DecisionText(v.Decision), Root: hex.EncodeToString(v.Root[:]), Commitment: hex.EncodeToString(v.Commitment[:]),
		Key: v.AuthorityKey, AnyHidden: len(v.Hidden()) > 0, T: func(key string) string { return t.Text(key) },
		Position: t.Text("certificate.position_value", "seq", strconv.FormatUint(v.Seq, 10), "size", strconv.FormatUint(v.TreeSize, 10)),
	}
	if data.Title == "" {
		data.Title = t.Text("certificate.title")
	}
	for _, f := range v.Fields {
		row := pageRow{Name: t.Field(f.ID), Value: Printable(f.Value), Hidden: !f.Disclosed}
		switch f.ID {
		case tlog.FieldRegisteredAt, tlog.FieldReceivedAt:
			row.Value = strings.Replace(f.Value, "T", " ", 1)
		case tlog.FieldPayload:
			row.Value = t.Text("payload.value", "files", strconv.FormatInt(v.PayloadFiles, 10), "bytes", strconv.FormatInt(v.PayloadBytes, 10))
		case tlog.FieldSubmission, tlog.FieldDecision, tlog.FieldManifestSHA256, tlog.FieldManifestSM3, tlog.FieldReport, tlog.FieldMetadata:
			row.Digest = true
		}
		data.Rows = append(data.Rows, row)
	}
	for _, c := range v.Cosigned {
		data.Cosigned = append(data.Cosigned, pageCosigned{Name: c.Name, At: c.At.Format(time.RFC3339)})
	}
	if err := tmpl.Execute(w, data); err != nil {
		return fmt.Errorf("certificate page %s: %w", v.Number, err)
	}
	return nil
}
