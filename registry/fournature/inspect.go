package fournature

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore/digest"
	"dengbei/registry/intake"
)

// errNoStream keeps the recogniser from reading a window as a stream.
var errNoStream = errors.New("fournature: the recogniser must slice")

// Package is what is inspected.
type Package struct {
	ID         digest.Digest // under which the package was filed and signed
	Submission *intake.Submission
	// Open opens one file of a record for reading. An error matching [fs.ErrNotExist] or [intake.ErrNotFound] is a finding;
	// any other ends the inspection. It is called concurrently. What also implements [io.ReaderAt], as *os.File does, lets
	// formats inside containers larger than 2 MiB be recognised.
	Open func(record int, path string) (io.ReadCloser, error)
	// List returns every path that was stored for a record. Nil means that files beyond the description cannot exist.
	List func(record int) ([]string, error)
}

// Options tunes [Inspect].
type Options struct {
	Now      time.Time // becomes the report's time
	Workers  int       // files read at once; 0 means the number of processors
	Progress func(Progress)
	Formats  *Formats // shared signatures; nil loads them for this call
}

// Progress counts what was read. Calls never overlap.
type Progress struct {
	Files, FilesTotal int
	Bytes, BytesTotal int64
}

// Inspect runs scheme over p and reports. An error means that the inspection itself could not be done, as with a disk
// that fails; everything that is wrong with the package stands in the report.
func Inspect(ctx context.Context, p Package, scheme Scheme, opt Options) (*Report, error) {
	if opt.Formats == nil {
		opt.Formats = new(Formats)
	}
	in := &inspection{p: p, opt: opt, items: make(map[string]*ItemResult)}
	in.list(scheme)
	if err := in.read(ctx); err != nil {
		return nil, fmt.Errorf("inspect submission %s: %w", p.ID.Hex(), err)
	}
	in.identity()
	in.secrecy()
	in.paths()
	if err := in.counts(); err != nil {
		return nil, fmt.Errorf("inspect submission %s: %w", p.ID.Hex(), err)
	}
	in.contents()
	r := &Report{Schema: Schema, Scheme: SchemeName{scheme.Link, scheme.Version}, Submission: p.ID, At: opt.Now.UTC(),
		Tools: []Tool{{Name: "dengbei-fournature", Version: strconv.Itoa(Schema)}, opt.Formats.tool()}, Items: []ItemResult{}, NotRun: in.notRun, Files: in.formats()}
	for _, item := range scheme.Items {
		if res, ok := in.items[item.ID]; ok {
			r.Items = append(r.Items, *res)
		}
	}
	r.Overall = overall(r.Items)
	return r, nil
}

// inspection is one run of Inspect.
type inspection struct {
	p      Package
	opt    Options
	items  map[string]*ItemResult
	notRun []NotRun
	seen   []examined // every described file, by record and path
}

// list prepares a result for each item that is run or open, and notes the others.
func (in *inspection) list(scheme Scheme) {
	in.notRun = []NotRun{}
	for _, item := range scheme.Items {
		reason := item.Reason
		if reason == "" && !checks(item.ID) {
			reason = reasonNoChecker // a scheme made elsewhere may name more than this build can do
		}
		name := message("item."+item.ID, nil)
		if reason == reasonNoMedium || reason != "" && item.Kind == Automatic {
			in.notRun = append(in.notRun, NotRun{ID: item.ID, Name: name, Kind: item.Kind, Code: reason, Reason: message("not_run."+reason, nil)})
			continue
		}
		res := &ItemResult{ID: item.ID, Nature: item.Nature, Name: name, Kind: item.Kind, Blocking: item.Blocking, Result: Pass}
		if reason != "" {
			why := message("not_run."+reason, nil)
			res.Result, res.Code, res.Reason = Open, reason, &why
		}
		in.items[item.ID] = res
	}
}

// checks reports whether this program can check an item.
func checks(id string) bool {
	return slices.Contains([]string{"1-1a", "1-14", "2-1", "2-2", "2-7", "3-3", "3-4", "X-1", "X-2", "X-7"}, id)
}

// find notes a finding of an item, if the scheme has it and it is run.
func (in *inspection) find(item, code string, result Result, record int, path string, params map[string]string) {
	if res, ok := in.items[item]; ok && res.Result != Open {
		res.add(Finding{Code: code, Result: result, Record: record, Path: path, Params: params})
	}
}

// looked notes what an item looked at.
func (in *inspection) looked(item string, files int, sizeBytes int64) {
	if res, ok := in.items[item]; ok {
		res.Records, res.Files, res.Bytes = len(in.p.Submission.Records), files, sizeBytes
	}
}

// examined is what reading one file gave.
type examined struct {
	record      int
	file        intake.File
	missing     bool
	size        int64
	sha256, sm3 digest.Digest
	format      FileFormat
	problems    []problem
}

// read reads every file once: digests, size and format.
func (in *inspection) read(ctx context.Context) error {
	prog := Progress{}
	for i := range in.p.Submission.Records {
		files := slices.Clone(in.p.Submission.Records[i].Files)
		slices.SortStableFunc(files, func(a, b intake.File) int { return strings.Compare(a.Path, b.Path) })
		for _, f := range files {
			in.seen = append(in.seen, examined{record: i, file: f})
			prog.BytesTotal += f.SizeBytes
		}
	}
	prog.FilesTotal = len(in.seen)
	workers := in.opt.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var mu sync.Mutex // guards prog
	pool := sync.Pool{New: func() any { return &reading{capture: new(capture), buf: make([]byte, 256<<10)} }}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range in.seen {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			e := &in.seen[i]
			r := pool.Get().(*reading)
			defer pool.Put(r)
			if err := in.examine(gctx, e, r); err != nil {
				return fmt.Errorf("record %d file %q: %w", e.record, e.file.Path, err)
			}
			mu.Lock()
			defer mu.Unlock()
			prog.Files++
			prog.Bytes += e.size
			if in.opt.Progress != nil {
				in.opt.Progress(prog)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// reading holds the memory one worker needs.
type reading struct {
	capture *capture
	buf     []byte
}

func (in *inspection) examine(ctx context.Context, e *examined, r *reading) error {
	if intake.CheckPath(e.file.Path) != nil { // never opened; X-7 reports it
		e.missing = true
		return nil
	}
	f, err := in.p.Open(e.record, e.file.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, intake.ErrNotFound) {
		e.missing = true
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r.capture.reset()
	pair := digest.NewPair()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(r.buf)
		pair.Write(r.buf[:n])
		r.capture.Write(r.buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	e.size = r.capture.size
	e.sha256, e.sm3 = pair.Sums()
	if e.size > 0 {
		middle, _ := f.(io.ReaderAt)
		e.format, e.problems = in.opt.Formats.recognise(e.file.Path, r.capture, middle)
	}
	return nil
}

// identity is 1-14: the description still has the ID under which it was filed.
func (in *inspection) identity() {
	in.looked("1-14", len(in.seen), 0)
	got, err := intake.ID(in.p.Submission)
	switch {
	case err != nil:
		in.find("1-14", "description_invalid", Fail, -1, "", map[string]string{"problem": err.Error()})
	case got != in.p.ID:
		in.find("1-14", "identity_differs", Fail, -1, "", map[string]string{"declared": in.p.ID.String(), "actual": got.String()})
	}
}

// secrecy is.
func (in *inspection) secrecy() {
	in.looked("X-1", 0, 0)
	in.looked("X-2", len(in.seen), 0)
	for i := range in.p.Submission.Records {
		r := &in.p.Submission.Records[i]
		if err := intake.CheckRecordSecrecy(i, r); err != nil {
			in.find("X-1", "secrecy_refused", Fail, i, "", map[string]string{"problem": err.Error()})
		}
		if word := markWord(r.Title); word != "" {
			in.find("X-2", "secrecy_mark_title", Warn, i, "", map[string]string{"word": word})
		}
	}
	for i := range in.seen {
		if word := markWord(in.seen[i].file.Path); word != "" {
			in.find("X-2", "secrecy_mark_path", Warn, in.seen[i].record, in.seen[i].file.Path, map[string]string{"word": word})
		}
	}
}

// markWord returns the first secrecy mark in s, or "".
func markWord(s string) string {
	for _, w := range []string{"绝密", "机密", "秘密"} {
		if strings.Contains(s, w) {
			return w
		}
	}
	return ""
}

// paths is X-7.
func (in *inspection) paths() {
	in.looked("X-7", len(in.seen), 0)
	for i := range in.seen {
		e := &in.seen[i]
		if err := intake.CheckPath(e.file.Path); err != nil {
			in.find("X-7", "path_unsafe", Fail, e.record, strings.ToValidUTF8(clip(e.file.Path), "\uFFFD"), map[string]string{"problem": err.Error()})
			continue
		}
		for _, w := range intake.PathWarnings(e.file.Path) {
			in.find("X-7", "path_"+string(w), Warn, e.record, e.file.Path, nil)
		}
	}
}

// counts is 2-1: as many files as declared, and none beyond.
func (in *inspection) counts() error {
	in.looked("2-1", len(in.seen), 0)
	received := make([]int, len(in.p.Submission.Records))
	for i := range in.seen {
		if !in.seen[i].missing {
			received[in.seen[i].record]++
		}
	}
	for i := range in.p.Submission.Records {
		files := in.p.Submission.Records[i].Files
		var extra []string
		if in.p.List != nil {
			stored, err := in.p.List(i)
			if err != nil {
				return fmt.Errorf("list record %d: %w", i, err)
			}
			extra = beyond(stored, files)
		}
		if received[i]+len(extra) != len(files) {
			in.find("2-1", "count_differs", Fail, i, "", map[string]string{"ordinal": strconv.Itoa(i), "declared": strconv.Itoa(len(files)), "actual": strconv.Itoa(received[i] + len(extra))})
		}
		for _, p := range extra {
			in.find("2-1", "file_extra", Fail, i, p, nil)
		}
	}
	return nil
}

// beyond returns what is stored but not described, sorted.
func beyond(stored []string, files []intake.File) []string {
	described := make(map[string]struct{}, len(files))
	for i := range files {
		described[files[i].Path] = struct{}{}
	}
	var extra []string
	for _, p := range stored {
		if _, ok := described[p]; !ok {
			extra = append(extra, p)
		}
	}
	slices.Sort(extra)
	return extra
}

// contents is what the bytes say: 1-1a, 2-2, 2-7, 3-3 and 3-4.
func (in *inspection) contents() {
	var total int64
	here := 0
	for i := range in.seen {
		e := &in.seen[i]
		if e.missing {
			in.find("2-7", "file_missing", Fail, e.record, e.file.Path, nil)
			continue
		}
		here++
		total += e.size
		if e.size != e.file.SizeBytes {
			in.find("2-2", "bytes_differ", Fail, e.record, e.file.Path, map[string]string{"declared": strconv.FormatInt(e.file.SizeBytes, 10), "actual": strconv.FormatInt(e.size, 10)})
		}
		for _, d := range [][2]digest.Digest{{e.file.SHA256, e.sha256}, {e.file.SM3, e.sm3}} {
			if d[0] != d[1] {
				params := map[string]string{"algorithm": d[1].Algorithm().String(), "declared": d[0].Hex(), "actual": d[1].Hex()}
				in.find("1-1a", "digest_differs", Fail, e.record, e.file.Path, params)
			}
		}
		if e.size == 0 {
			in.find("2-7", "file_empty", Warn, e.record, e.file.Path, nil)
		}
		for _, p := range e.problems {
			in.find(p.item, p.code, p.result, e.record, e.file.Path, p.params)
		}
	}
	for _, item := range []string{"1-1a", "2-2", "2-7", "3-3", "3-4"} {
		in.looked(item, here, total)
	}
}

// formats lists what every file is.
func (in *inspection) formats() []FileFormat {
	out := make([]FileFormat, len(in.seen))
	for i := range in.seen {
		e := &in.seen[i]
		out[i] = e.format
		out[i].Record, out[i].Path, out[i].Size = e.record, strings.ToValidUTF8(e.file.Path[:min(len(e.file.Path), intake.MaxPathBytes)], "\uFFFD"), e.size
	}
	return out
}
