package certificate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"dengbei/registry/tlog"

	"github.com/emmansun/gmsm/sm3"
)

// Problem says what is wrong with a file. The values are part of the verifier's JSON output: add, never rename.
type Problem string

// The problems that [VerifyFiles] reports.
const (
	ProblemManifestChanged   Problem = "manifest_changed"   // a manifest is not the one that was registered
	ProblemManifestMalformed Problem = "manifest_malformed" // a registered manifest has a line that is none
	ProblemChanged           Problem = "changed"            // content differs from what was registered
	ProblemMissing           Problem = "missing"            // listed, not there
	ProblemExtra             Problem = "extra"              // there, not listed
	ProblemNotRegular        Problem = "not_regular"        // a link, device or pipe
	ProblemListedOnce        Problem = "listed_once"        // listed in one manifest only
	ProblemPayload           Problem = "payload"            // number or size of all files differs from what was registered
	ProblemUnreadable        Problem = "unreadable"         // could not be read to the end
)

// Problems returns every problem.
func Problems() []Problem {
	return []Problem{ProblemManifestChanged, ProblemManifestMalformed, ProblemChanged, ProblemMissing, ProblemExtra,
		ProblemNotRegular, ProblemListedOnce, ProblemPayload, ProblemUnreadable}
}

// FileProblem is one file that is not as registered.
type FileProblem struct {
	Path    string  `json:"path"` // relative to the bag, as on disk
	Problem Problem `json:"problem"`
	Detail  string  `json:"detail,omitempty"`
}

// FileReport says how the files of a bag compare with a certificate.
type FileReport struct {
	Files    int64         `json:"files"` // files whose every listed digest was right
	Bytes    int64         `json:"bytes"` // in them
	Problems []FileProblem `json:"problems"`
}

// Holds reports whether every registered file is there, unchanged, and no other.
func (r FileReport) Holds() bool { return len(r.Problems) == 0 }

// Undecided reports whether the only problem is that files could not be read.
func (r FileReport) Undecided() bool {
	return len(r.Problems) > 0 && !slices.ContainsFunc(r.Problems, func(p FileProblem) bool { return p.Problem != ProblemUnreadable })
}

// entry is what the manifests say of one file.
type entry struct {
	sha256, sm3       [32]byte
	hasSHA256, hasSM3 bool
	seen              bool
}

// algorithm is one of the two digests of a bag.
type algorithm struct {
	manifest string
	field    tlog.FieldID
	new      func() hash.Hash
	set      func(e *entry, d [32]byte) (first bool)
}

func algorithms() [2]algorithm {
	return [2]algorithm{
		{"manifest-sha256.txt", tlog.FieldManifestSHA256, sha256.New, func(e *entry, d [32]byte) bool {
			first := !e.hasSHA256
			e.sha256, e.hasSHA256 = d, true
			return first
		}},
		{"manifest-sm3.txt", tlog.FieldManifestSM3, sm3.New, func(e *entry, d [32]byte) bool {
			first := !e.hasSM3
			e.sm3, e.hasSM3 = d, true
			return first
		}},
	}
}

// VerifyFiles compares the bag in dir with what was registered: manifest-sha256.txt and manifest-sm3.txt with the
// certificate, every file that they list with both digests, and data/ with the lists. What differs is in the report;
// an error means that nothing can be said: the certificate hides a manifest's digest ([ErrHidden]), dir holds no bag, or
// ctx ended. Links are never followed. Tag files beside the manifests are not certified and not looked at.
func VerifyFiles(ctx context.Context, v *Verified, dir string) (FileReport, error) {
	report := FileReport{Problems: []FileProblem{}}
	for _, a := range algorithms() {
		if _, ok := v.Value(a.field); !ok {
			return report, fmt.Errorf("compare files: field %s: %w; ask for a certificate that shows it", a.field, ErrHidden)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return report, fmt.Errorf("compare files: %w", err)
	}
	defer root.Close()

	entries := map[string]*entry{}
	usable := 0
	for _, a := range algorithms() {
		list, problem, err := readManifest(root, a, v)
		if err != nil {
			return report, fmt.Errorf("compare files of %s: %w", dir, err)
		}
		if problem != nil {
			report.Problems = append(report.Problems, *problem)
			continue
		}
		usable++
		for _, l := range list {
			e := entries[l.path]
			if e == nil {
				e = &entry{}
				entries[l.path] = e
			}
			if !a.set(e, l.digest) {
				report.add(l.path, ProblemManifestMalformed, "listed twice in "+a.manifest)
			}
		}
	}
	if usable == 0 {
		return report, nil // no list to compare with
	}
	if err := compare(ctx, root, entries, usable, &report); err != nil {
		return report, fmt.Errorf("compare files of %s: %w", dir, err)
	}
	if v.PayloadFiles >= 0 && report.Holds() && (report.Files != v.PayloadFiles || report.Bytes != v.PayloadBytes) {
		report.add("data", ProblemPayload, fmt.Sprintf("%d files of %d bytes; registered %d of %d", report.Files, report.Bytes, v.PayloadFiles, v.PayloadBytes))
	}
	slices.SortFunc(report.Problems, func(a, b FileProblem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Problem, b.Problem))
	})
	return report, nil
}

func (r *FileReport) add(path string, p Problem, detail string) {
	r.Problems = append(r.Problems, FileProblem{Path: path, Problem: p, Detail: detail})
}

// compare walks data/ and hashes every listed file on all processors.
func compare(ctx context.Context, root *os.Root, entries map[string]*entry, usable int, report *FileReport) error {
	switch info, err := root.Lstat("data"); {
	case errors.Is(err, fs.ErrNotExist):
		report.add("data", ProblemMissing, "")
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		report.add("data", ProblemNotRegular, info.Mode().Type().String())
		return nil
	}
	var mu sync.Mutex // guards report and the entries' seen while workers run; held for an append
	paths := make(chan string)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			buf := make([]byte, 256<<10)
			for path := range paths {
				size, problem, detail := compareFile(ctx, root, path, entries[path], buf)
				mu.Lock()
				if problem != "" {
					report.add(path, problem, detail)
				} else {
					report.Files++
					report.Bytes += size
				}
				mu.Unlock()
			}
		})
	}
	var unread []string // folders that could not be listed: what is in them is unknown, not missing
	walkErr := fs.WalkDir(root.FS(), "data", func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		mu.Lock()
		e := entries[path]
		if e != nil && err == nil && !d.IsDir() {
			e.seen = true
		}
		switch {
		case err != nil:
			report.add(path, ProblemUnreadable, err.Error())
			unread = append(unread, path+"/")
		case d.IsDir():
		case !d.Type().IsRegular():
			report.add(path, ProblemNotRegular, d.Type().String())
		case e == nil:
			report.add(path, ProblemExtra, "")
		case usable == 2 && !(e.hasSHA256 && e.hasSM3):
			report.add(path, ProblemListedOnce, "")
		default:
			mu.Unlock()
			select {
			case paths <- path:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		mu.Unlock()
		return nil
	})
	close(paths)
	workers.Wait()
	if err := cmp.Or(walkErr, ctx.Err()); err != nil {
		return err
	}
	for path, e := range entries {
		if !e.seen && !slices.ContainsFunc(unread, func(folder string) bool { return strings.HasPrefix(path, folder) }) {
			report.add(path, ProblemMissing, "")
		}
	}
	return nil
}

// compareFile hashes one file with the algorithms that its entry has. An empty problem means that it is as registered.
func compareFile(ctx context.Context, root *os.Root, path string, e *entry, buf []byte) (int64, Problem, string) {
	f, err := root.Open(path)
	if err != nil {
		return 0, ProblemUnreadable, err.Error()
	}
	defer f.Close()
	h256, h3 := sha256.New(), sm3.New()
	var size int64
	for {
		n, err := f.Read(buf)
		size += int64(n)
		if e.hasSHA256 {
			h256.Write(buf[:n])
		}
		if e.hasSM3 {
			h3.Write(buf[:n])
		}
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, ProblemUnreadable, err.Error()
		}
	}
	for _, c := range []struct {
		listed bool
		name   string
		want   [32]byte
		h      hash.Hash
	}{{e.hasSHA256, "SHA-256", e.sha256, h256}, {e.hasSM3, "SM3", e.sm3, h3}} {
		if got := [32]byte(c.h.Sum(nil)); c.listed && got != c.want {
			return 0, ProblemChanged, fmt.Sprintf("%s is %s, registered %s", c.name, hex.EncodeToString(got[:]), hex.EncodeToString(c.want[:]))
		}
	}
	return size, "", ""
}
