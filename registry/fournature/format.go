package fournature

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/richardlehane/siegfried"
	"github.com/richardlehane/siegfried/pkg/config"
	"github.com/richardlehane/siegfried/pkg/static"
)

// Formats recognises formats by content with the signatures built into the program. They are loaded on first use and
// take some ten megabytes. The zero Formats is ready; it may be used concurrently.
type Formats struct {
	once sync.Once
	sf   *siegfried.Siegfried
}

func (f *Formats) load() *siegfried.Siegfried {
	f.once.Do(func() { f.sf = static.New() })
	return f.sf
}

// tool names the recogniser and its signature files.
func (f *Formats) tool() Tool {
	sf := f.load()
	t := Tool{Name: "siegfried", Version: fmt.Sprintf("%d.%d.%d", config.Version()[0], config.Version()[1], config.Version()[2])}
	if ids := sf.Identifiers(); len(ids) > 0 {
		t.Data = ids[0][0] + " " + ids[0][1]
	}
	t.Data += " " + sf.C.UTC().Format(time.DateOnly)
	return t
}

// recognise tells the format of a non-empty file and what speaks against it.
func (f *Formats) recognise(name string, c *capture, middle io.ReaderAt) (FileFormat, []problem) {
	container := isZip(c.head) || isOLE(c.head)
	w := c.window(nil)
	if container {
		w.middle = middle
	}
	if isZip(c.head) {
		z, p := openZip(w)
		if p != nil {
			return FileFormat{}, []problem{*p}
		}
		if format, ok := recogniseOFD(z); ok {
			if !strings.EqualFold(path.Ext(name), ".ofd") {
				return format, []problem{mismatch(format)}
			}
			return format, nil
		}
	}
	if isOLE(c.head) {
		if p := checkOLE(w); p != nil {
			return FileFormat{}, []problem{*p}
		}
	}
	var found []problem
	if p := ending(c.head, w.tail); p != nil {
		found = append(found, *p)
	}
	format, p := f.match(name, w)
	if p != nil {
		found = append(found, *p)
	}
	return format, found
}

// match asks the signatures.
func (f *Formats) match(name string, w *window) (format FileFormat, p *problem) {
	unknown := &problem{item: "3-3", code: "format_unknown", result: Warn}
	defer func() {
		if recover() != nil { // a parser that trips over hostile bytes has recognised nothing
			format, p = FileFormat{}, unknown
		}
	}()
	sf := f.load()
	buf, err := sf.Buffer(source{w})
	defer sf.Put(buf)
	ids, err := sf.IdentifyBuffer(buf, err, path.Base(name), "")
	// An error means that a container could not be opened; what was recognised besides is still good.
	if len(ids) == 0 || !ids[0].Known() {
		return FileFormat{}, unknown
	}
	v := ids[0].Values() // namespace, id, name, version, MIME, class, basis, warning
	if len(v) < 8 {
		return FileFormat{}, unknown
	}
	format = FileFormat{Registry: v[0], ID: v[1], Name: v[2], Version: v[3], MIME: v[4], Basis: v[6]}
	if len(ids) > 1 {
		var all []string
		for _, id := range ids {
			all = append(all, id.String())
		}
		return format, &problem{item: "3-3", code: "format_ambiguous", result: Warn, params: map[string]string{"formats": strings.Join(all, ", ")}}
	}
	warning := v[7]
	switch {
	case strings.Contains(warning, "extension mismatch"):
		p := mismatch(format)
		return format, &p
	case strings.Contains(warning, "match on") && !strings.Contains(warning, "text"):
		return format, &problem{item: "3-3", code: "format_name_only", result: Warn, params: map[string]string{"format": format.Name, "id": format.ID}}
	case err != nil:
		return format, damaged("the container cannot be opened")
	}
	return format, nil
}

func mismatch(f FileFormat) problem {
	return problem{item: "3-3", code: "format_extension", result: Warn, params: map[string]string{"format": strings.TrimSpace(f.Name + " " + f.Version), "id": f.ID}}
}

// ending reports a file whose head promises a format and whose tail does not keep it: the commonest damage is a file cut
// off in transfer. ZIP containers are judged by their directory instead.
func ending(head, tail []byte) *problem {
	end := tail
	if len(end) < 4096 { // a short tail continues the head
		end = append(bytes.Clone(head[max(0, len(head)-4096):]), tail...)
	}
	last := func(n int) []byte { return end[max(0, len(end)-n):] }
	switch {
	case bytes.HasPrefix(head, []byte("%PDF-")):
		if !bytes.Contains(last(2048), []byte("%%EOF")) { // ISO 32000-1 7.5.5, with room for what programs append
			return damaged("a PDF without %%EOF at its end")
		}
		if !bytes.Contains(last(4096), []byte("startxref")) {
			return damaged("a PDF without startxref before its end")
		}
	case bytes.HasPrefix(head, []byte("\x89PNG\r\n\x1a\n")):
		if !bytes.Contains(last(1024), []byte("IEND\xaeB`\x82")) {
			return damaged("a PNG without its IEND chunk")
		}
	case bytes.HasPrefix(head, []byte("\xff\xd8\xff")):
		if !bytes.Contains(last(4096), []byte("\xff\xd9")) {
			return damaged("a JPEG without its end marker")
		}
	}
	return nil
}

// source hides everything of a window but what the recogniser asks for.
type source struct{ w *window }

func (s source) IsSlicer() bool                            { return true }
func (s source) Slice(off int64, l int) ([]byte, error)    { return s.w.Slice(off, l) }
func (s source) EofSlice(off int64, l int) ([]byte, error) { return s.w.EofSlice(off, l) }
func (s source) Size() int64                               { return s.w.Size() }
func (s source) Read([]byte) (int, error)                  { return 0, errNoStream }
