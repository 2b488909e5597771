package restserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"dengbei/chunkstore"
)

const (
	mediaV1 = "application/vnd.x.restic.rest.v1"
	mediaV2 = "application/vnd.x.restic.rest.v2"

	sendBytes = 256 << 10
)

// Handler serves one repository, at the root of the paths it gets. It asks nobody who he is; the name that comes with
// Basic authentication, which whoever is in front has checked, tells apart whose locks are whose. A nil log is none.
func Handler(s Store, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t, err := parsePath(r.URL.Path)
		if err == nil && len(t.segments) > 0 {
			err = errPath
		}
		q := &request{w: w, r: r, store: s, log: log}
		user, _, _ := r.BasicAuth()
		q.ctx = withUser(r.Context(), user)
		if err != nil {
			q.fail(err)
			return
		}
		if t.kind == 0 { // the repository is there: making it changes nothing
			q.create(func() error { return nil })
			return
		}
		q.serve(t)
	})
}

// request is one request on its way.
type request struct {
	ctx   context.Context
	w     http.ResponseWriter
	r     *http.Request
	store Store
	log   *slog.Logger
}

// fail answers with an error. What went wrong on this side is logged and not told.
func (q *request) fail(err error) {
	status, text := statusOf(err)
	switch {
	case status == http.StatusInternalServerError:
		q.log.Error("request failed", "method", q.r.Method, "path", q.r.URL.Path, "err", err)
	case status == http.StatusServiceUnavailable:
		q.w.Header().Set("Retry-After", "5")
	case status != http.StatusNotFound:
		q.log.Info("request refused", "method", q.r.Method, "path", q.r.URL.Path, "status", status, "err", err)
	}
	q.status(status, text)
}

func (q *request) status(status int, text string) {
	h := q.w.Header()
	h.Del("Content-Length")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	q.w.WriteHeader(status)
	if q.r.Method != http.MethodHead {
		io.WriteString(q.w, text+"\n") // a client that is gone needs no answer
	}
}

// allow answers a method that is not for this path.
func (q *request) allow(methods ...string) {
	q.w.Header().Set("Allow", strings.Join(methods, ", "))
	q.status(http.StatusMethodNotAllowed, http.StatusText(http.StatusMethodNotAllowed))
}

// create answers the request that makes a repository.
func (q *request) create(create func() error) {
	if q.r.Method != http.MethodPost {
		q.allow(http.MethodPost)
		return
	}
	if q.r.URL.Query().Get("create") != "true" {
		q.status(http.StatusBadRequest, "want ?create=true")
		return
	}
	if err := create(); err != nil {
		q.fail(err)
	}
}

// serve answers what concerns files.
func (q *request) serve(t target) {
	if t.listing() {
		if q.r.Method != http.MethodGet && q.r.Method != http.MethodHead {
			q.allow(http.MethodGet, http.MethodHead)
			return
		}
		q.list(t.kind)
		return
	}
	switch q.r.Method {
	case http.MethodGet, http.MethodHead:
		q.read(t.name)
	case http.MethodPost:
		q.save(t.name)
	case http.MethodDelete:
		if err := q.store.Remove(q.ctx, t.name); err != nil {
			q.fail(err)
		}
	default:
		q.allow(http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete)
	}
}

// save stores a body under name.
func (q *request) save(name chunkstore.Name) {
	most := maxBytes(name.Kind)
	if q.r.ContentLength > most {
		q.fail(ErrTooLarge)
		return
	}
	body := newBody(q.r, newPace(q.w), most)
	if err := q.store.Put(q.ctx, name, body, q.r.ContentLength); err != nil {
		q.fail(err)
	}
}

// read sends a file or a part of it.
func (q *request) read(name chunkstore.Name) {
	c, err := q.store.Open(q.ctx, name)
	if err != nil {
		q.fail(err)
		return
	}
	defer c.Close()
	h := q.w.Header()
	h.Set("Accept-Ranges", "bytes")
	size := c.SizeBytes()
	s, part, err := parseRange(q.r.Header.Get("Range"), size)
	if err != nil {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		q.status(http.StatusRequestedRangeNotSatisfiable, err.Error())
		return
	}
	// The first bytes are read before the answer begins: an error can still be one.
	buf := make([]byte, min(sendBytes, s.length))
	if q.r.Method == http.MethodGet && s.length > 0 {
		if err := c.ReadRange(q.ctx, s.offset, buf); err != nil {
			q.fail(err)
			return
		}
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.FormatInt(s.length, 10))
	status := http.StatusOK
	if part {
		h.Set("Content-Range", s.header(size))
		status = http.StatusPartialContent
	}
	q.w.WriteHeader(status)
	if q.r.Method == http.MethodHead {
		return
	}
	q.send(c, s, buf)
}

// send writes a span of c whose first bytes are in buf. An error here tears the connection: the client sees that bytes are
// missing.
func (q *request) send(c Content, s span, buf []byte) {
	p := newPace(q.w)
	p.allow(s.length)
	defer p.done()
	for {
		p.writing()
		if _, err := q.w.Write(buf); err != nil {
			return // the client is gone
		}
		s.offset += int64(len(buf))
		s.length -= int64(len(buf))
		if s.length == 0 {
			return
		}
		buf = buf[:min(int64(len(buf)), s.length)]
		if err := c.ReadRange(q.ctx, s.offset, buf); err != nil {
			if q.ctx.Err() == nil {
				q.log.Error("request failed half-way", "path", q.r.URL.Path, "err", err)
			}
			panic(http.ErrAbortHandler)
		}
	}
}

// list sends the names of a kind's files, with sizes in version 2. It is written as it is found, so that a long one needs
// no memory; an error half-way tears the connection.
func (q *request) list(kind chunkstore.Kind) {
	v2 := strings.Contains(q.r.Header.Get("Accept"), mediaV2)
	media := mediaV1
	if v2 {
		media = mediaV2
	}
	p := newPace(q.w)
	p.allow(0)
	defer p.done()
	begun := false
	w := bufio.NewWriterSize(writerFunc(func(b []byte) (int, error) {
		p.allow(0) // what is listed has no size known before
		p.writing()
		begun = true
		return q.w.Write(b)
	}), sendBytes)
	first := true
	q.w.Header().Set("Content-Type", media)
	if q.r.Method == http.MethodHead {
		return
	}
	w.WriteByte('[')
	for e, err := range q.store.List(q.ctx, kind) {
		if err != nil {
			if !begun {
				q.fail(err)
				return
			}
			if !errors.Is(err, context.Canceled) {
				q.log.Error("request failed half-way", "path", q.r.URL.Path, "err", err)
			}
			panic(http.ErrAbortHandler)
		}
		if !first {
			w.WriteByte(',')
		}
		first = false
		var item any = e.Name.ID.Hex()
		if v2 {
			item = listed{e.Name.ID.Hex(), e.SizeBytes}
		}
		b, err := json.Marshal(item)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if _, err := w.Write(b); err != nil {
			return // the client is gone
		}
	}
	w.WriteByte(']')
	w.Flush() // an error is the client's
}

// listed is a file in a listing of version 2.
type listed struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
