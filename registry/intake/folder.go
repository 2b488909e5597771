package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"dengbei/chunkstore/digest"
)

// FolderOptions tunes [ReadFolder]. The zero value is usable.
type FolderOptions struct {
	// Workers is how many files are hashed at once; 0 means the number of processors.
	Workers int
	// Progress, if set, is called after each file and at the end. Calls never overlap.
	Progress func(FolderProgress)
	// Warn, if set, is told what is accepted but makes trouble elsewhere. Calls never overlap and come in path order.
	Warn func(item string, warning PathWarning)
}

// WarnEmptyFolder is given for a folder without files: it is not part of the description, as in BagIt (RFC 8493).
const WarnEmptyFolder PathWarning = "empty_folder"

// FolderProgress counts what was hashed, and what was found in all.
type FolderProgress struct {
	Files, FilesTotal int
	Bytes, BytesTotal int64
}

// maxRuleErrors is how many refusals of one delivery are listed, so that a sender can repair more than one at a time.
const maxRuleErrors = 20

// ReadFolder describes every regular file below root, sorted by path, with both digests. It changes nothing there.
//
// It refuses, each as a [*RuleError] and joined when there are several: a missing or empty folder, unsafe names,
// unreadable files, files that change while they are read, devices, sockets and pipes, and every symbolic link: links
// out of the tree would take in foreign content, and links inside it would be certified as copies they are not.
// Folders without files give a warning.
func ReadFolder(ctx context.Context, root string, opt FolderOptions) ([]File, error) {
	info, err := os.Stat(root)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &RuleError{Rule: RuleStructure, Item: root, What: "folder does not exist", Way: "check the spelling, and that the drive is attached"}
	case err != nil:
		return nil, &RuleError{Rule: RuleContent, Item: root, What: "folder cannot be read", Way: "grant this account the right to read it", Err: err}
	case !info.IsDir():
		return nil, &RuleError{Rule: RuleStructure, Item: root, What: "is not a folder", Way: "put the file into a folder of its own and give that folder"}
	}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, &RuleError{Rule: RuleContent, Item: root, What: "folder cannot be opened", Way: "grant this account the right to read it", Err: err}
	}
	defer dir.Close()
	w := walk{root: dir, warn: opt.Warn}
	if err := w.folder(ctx, "."); err != nil {
		return nil, err
	}
	if len(w.refused) > 0 {
		return nil, errors.Join(w.refused...)
	}
	if len(w.files) == 0 {
		return nil, &RuleError{Rule: RuleStructure, Item: root, What: "folder holds no file", Way: "put the record's files into it"}
	}
	slices.SortFunc(w.files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	if err := hashFiles(ctx, dir, w.files, opt); err != nil {
		return nil, err
	}
	return w.files, nil
}

// walk lists a tree.
type walk struct {
	root    *os.Root
	warn    func(string, PathWarning)
	files   []File
	refused []error
}

// refuse notes a refusal and reports whether enough were found to stop.
func (w *walk) refuse(err error) bool {
	w.refused = append(w.refused, err)
	return len(w.refused) >= maxRuleErrors
}

func (w *walk) warning(item string, warning PathWarning) {
	if w.warn != nil {
		w.warn(item, warning)
	}
}

// folder adds what lies below dir. It returns only errors that end the walk; refusals are collected.
func (w *walk) folder(ctx context.Context, dir string) error {
	f, err := w.root.Open(dir)
	if err != nil {
		w.refuse(&RuleError{Rule: RuleContent, Item: dir, What: "folder cannot be opened", Way: "grant this account the right to read it", Err: err})
		return nil
	}
	entries, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		w.refuse(&RuleError{Rule: RuleContent, Item: dir, What: "folder cannot be read", Way: "grant this account the right to read it, or check the disk", Err: err})
		return nil
	}
	if len(entries) == 0 && dir != "." {
		w.warning(dir, WarnEmptyFolder)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(w.refused) >= maxRuleErrors {
			return nil
		}
		if err := w.entry(ctx, path.Join(dir, e.Name()), e); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) entry(ctx context.Context, p string, e fs.DirEntry) error {
	if err := CheckPath(p); err != nil {
		w.refuse(err)
		return nil
	}
	switch t := e.Type(); {
	case t.IsDir():
		return w.folder(ctx, p)
	case t&fs.ModeSymlink != 0:
		w.refuse(w.linkError(p))
		return nil
	case !t.IsRegular():
		w.refuse(pathError(p, "is a "+special(t)+", not a file", "take it out of the delivery"))
		return nil
	}
	info, err := e.Info()
	if err != nil {
		w.refuse(&RuleError{Rule: RuleContent, Item: p, What: "file cannot be examined", Way: "deliver a folder nobody is working in", Err: err})
		return nil
	}
	if len(w.files) == MaxFiles {
		return &RuleError{Rule: RuleCount, Item: p, What: fmt.Sprintf("more than %d files", MaxFiles), Way: "split the delivery"}
	}
	for _, warning := range PathWarnings(p) {
		w.warning(p, warning)
	}
	w.files = append(w.files, File{Path: p, SizeBytes: info.Size(), ModTime: info.ModTime().UTC()})
	return nil
}

// linkError says where a symbolic link leads, because that is what the sender has to look at.
func (w *walk) linkError(p string) *RuleError {
	target, err := w.root.Readlink(p)
	switch {
	case err != nil:
		return pathError(p, "is a symbolic link", "replace it by the file it stands for")
	case path.IsAbs(target) || isDrive(target):
		return pathError(p, fmt.Sprintf("is a symbolic link to the absolute path %q", target), "replace it by a copy of that file, if it belongs to the record")
	}
	if joined := path.Join(path.Dir(p), target); joined == ".." || strings.HasPrefix(joined, "../") {
		return pathError(p, fmt.Sprintf("is a symbolic link out of the delivery, to %q", target), "replace it by a copy of that file, if it belongs to the record")
	}
	return pathError(p, fmt.Sprintf("is a symbolic link to %q", target), "replace it by a copy of that file, or remove it")
}

func special(t fs.FileMode) string {
	switch {
	case t&fs.ModeNamedPipe != 0:
		return "pipe"
	case t&fs.ModeSocket != 0:
		return "socket"
	case t&fs.ModeDevice != 0:
		return "device"
	default:
		return "special object"
	}
}

// hashFiles fills in size and digests of files, several at once.
func hashFiles(ctx context.Context, root *os.Root, files []File, opt FolderOptions) error {
	workers := opt.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	p := FolderProgress{FilesTotal: len(files)}
	for i := range files {
		p.BytesTotal += files[i].SizeBytes
	}
	var (
		mu      sync.Mutex // guards p and refused
		refused []error
	)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range files {
		if gctx.Err() != nil {
			break
		}
		f := &files[i]
		g.Go(func() error {
			err := hashFile(gctx, root, f)
			mu.Lock()
			defer mu.Unlock()
			p.Files++
			p.Bytes += f.SizeBytes
			if opt.Progress != nil {
				opt.Progress(p)
			}
			if !errors.Is(err, ErrRule) {
				return err
			}
			if refused = append(refused, err); len(refused) >= maxRuleErrors {
				return errEnough
			}
			return nil
		})
	}
	err := g.Wait()
	if cerr := ctx.Err(); cerr != nil {
		return cerr
	}
	if len(refused) > 0 {
		return errors.Join(refused...)
	}
	return err
}

// errEnough stops hashing once maxRuleErrors are listed.
var errEnough = errors.New("enough refusals")

// hashFile hashes one file and proves that it was the same before and after: same object, size and time, and as many
// bytes read as the size says.
func hashFile(ctx context.Context, root *os.Root, f *File) error {
	changed := func() error {
		return &RuleError{Rule: RuleContent, Item: f.Path, What: "file changed while it was read", Way: "close the program that writes it, then try again"}
	}
	h, err := root.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return changed()
	}
	if err != nil {
		return &RuleError{Rule: RuleContent, Item: f.Path, What: "file cannot be opened", Way: "grant this account the right to read it", Err: err}
	}
	defer h.Close()
	before, err := h.Stat()
	if err != nil {
		return &RuleError{Rule: RuleContent, Item: f.Path, What: "file cannot be examined", Way: "check the disk", Err: err}
	}
	if !before.Mode().IsRegular() || before.Size() != f.SizeBytes || !before.ModTime().Equal(f.ModTime) {
		return changed()
	}
	pair := digest.NewPair()
	// One byte more than the size says is enough to see that it grew, and no file can grow for ever.
	n, err := copyContext(ctx, pair, io.LimitReader(h, f.SizeBytes+1))
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &RuleError{Rule: RuleContent, Item: f.Path, What: fmt.Sprintf("file cannot be read after %d bytes", n), Way: "check the disk, and restore the file from another copy", Err: err}
	}
	after, err := h.Stat()
	if err != nil {
		return changed()
	}
	now, err := root.Lstat(f.Path)
	if err != nil || !os.SameFile(before, now) || n != f.SizeBytes || !same(before, after) || !same(before, now) {
		return changed()
	}
	f.SHA256, f.SM3 = pair.Sums()
	return nil
}

func same(a, b fs.FileInfo) bool {
	return a.Mode().Type() == b.Mode().Type() && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// copyBuffers are reused: a delivery of a million small files must not allocate a million buffers.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// copyContext copies until EOF or until ctx ends, and returns how much it wrote.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	bp := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(bp)
	var n int64
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		got, err := r.Read(*bp)
		if got > 0 {
			put, werr := w.Write((*bp)[:got])
			n += int64(put)
			if werr != nil {
				return n, werr
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
