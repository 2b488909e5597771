package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/nodepb"
	"dengbei/node/rpc"
	"dengbei/registry/intake"
)

func (a *app) restoreCommand() *cobra.Command {
	var target, policy string
	cmd := a.targeted(&cobra.Command{
		Use:   "restore NUMBER --target DIR",
		Short: "get a record back",
		Long: `Write the record's bag to a new directory DIR. DIR appears only when it is complete and on disk; what fails leaves nothing
behind. Damaged files of the repository are healed from the holders on the way, and named. With --policy the bag is also
compared, file by file, with the record's certificate.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if target == "" {
				return term.Usagef("give --target DIR")
			}
			return a.withNode(cmd.Context(), asOperator, func(c *rpc.Client) error {
				return a.restore(cmd.Context(), c, args[0], target, policy)
			})
		},
	})
	cmd.Flags().StringVar(&target, "target", "", "`DIR` to make (required)")
	cmd.Flags().StringVar(&policy, "policy", "", "`FILE` with the keys by which to verify the record's certificate")
	return cmd
}

// restored is what came back of a record.
type restored struct {
	Number   string       `json:"number"`
	Target   string       `json:"target"`
	Files    uint64       `json:"files"`
	Bytes    uint64       `json:"bytes"`
	Healed   []healedView `json:"healed"`
	Verified bool         `json:"verified"` // against the certificate
}

type healedView struct {
	File   string `json:"file"`
	Source string `json:"source"`
}

func healedOf(list []*nodepb.Healed) []healedView {
	out := []healedView{}
	for _, h := range list {
		out = append(out, healedView{h.GetFile(), h.GetSource()})
	}
	return out
}

func (a *app) restore(ctx context.Context, c *rpc.Client, number, target, policyFile string) error {
	p := a.NewProgress("restoring", 0, false)
	var files int64
	r, err := restoreRecord(ctx, c, number, target, func() { files++; p.Set(files, files) })
	p.End()
	if err != nil {
		return err
	}
	if policyFile != "" {
		cert, err := c.Records.Certificate(ctx, &nodepb.ShowRecordRequest{Number: number})
		if err != nil {
			return fmt.Errorf("certificate %s: %w", number, err)
		}
		if _, err := verifyCertificate(ctx, cert.GetCertificate(), policyFile, target); err != nil {
			return fmt.Errorf("restored to %s, but: %w", target, err)
		}
		r.Verified = true
	}
	return a.Print(r, func(w io.Writer) {
		fmt.Fprintf(w, "%s restored to %s: %d files, %s\n", r.Number, r.Target, r.Files, term.ByteCount(r.Bytes))
		for _, h := range r.Healed {
			fmt.Fprintf(w, "healed\t%s from %s\n", term.Safe(h.File), h.Source)
		}
		if r.Verified {
			fmt.Fprintln(w, "every file equals its certificate")
		} else {
			fmt.Fprintln(w, "not compared with the certificate: give --policy FILE for that")
		}
	})
}

// restoreRecord writes the bag of a record to target, which must not exist or be empty. It is made beside target under another name and
// takes its name once every byte is synced.
func restoreRecord(ctx context.Context, c *rpc.Client, number, target string, file func()) (restored, error) {
	r := restored{Number: number, Target: target}
	if entries, err := os.ReadDir(target); err == nil && len(entries) > 0 {
		return r, term.Falsef("restore %s: %s is not empty: name a directory that does not exist", number, target)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("restore %s: %w", number, err)
	}
	abs, err := filepath.Abs(target)
	if err != nil {
		return r, fmt.Errorf("restore %s: %w", number, err)
	}
	parent := filepath.Dir(abs)
	partial, err := os.MkdirTemp(parent, "."+filepath.Base(abs)+".partial-")
	if err != nil {
		return r, fmt.Errorf("restore %s: %w", number, err)
	}
	defer os.RemoveAll(partial) // gone already if the rename below was reached
	end, err := receiveBag(ctx, c, number, partial, file)
	if err != nil {
		return r, fmt.Errorf("restore %s: %w", number, err)
	}
	if err := os.Chmod(partial, 0o755); err != nil {
		return r, fmt.Errorf("restore %s: %w", number, err)
	}
	if err := os.Rename(partial, abs); err != nil {
		return r, fmt.Errorf("restore %s: %w", number, err)
	}
	if err := syncDir(parent); err != nil {
		return r, fmt.Errorf("restore %s: %w", number, err)
	}
	r.Files, r.Bytes, r.Healed = end.GetFiles(), end.GetSizeBytes(), healedOf(end.GetHealed())
	return r, nil
}

func receiveBag(ctx context.Context, c *rpc.Client, number, dir string, file func()) (*nodepb.RestoreEnd, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	stream, err := c.Backups.Restore(ctx, &nodepb.RestoreRequest{Number: number})
	if err != nil {
		return nil, err
	}
	b := bagWriter{root: root, dirs: map[string]bool{".": true}}
	defer b.abort()
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the node ended without saying that the bag is complete: try again")
		}
		if err != nil {
			return nil, err
		}
		switch part := m.GetPart().(type) {
		case *nodepb.RestoreReply_File:
			err = b.next(part.File)
			file()
		case *nodepb.RestoreReply_Data:
			err = b.write(part.Data)
		case *nodepb.RestoreReply_End:
			return part.End, b.finish(part.End)
		default:
			err = errors.New("the node sent a part this build does not know: upgrade this program")
		}
		if err != nil {
			return nil, err
		}
	}
}

// bagWriter writes the files of a bag below root and trusts nothing it is told about them.
type bagWriter struct {
	root  *os.Root
	dirs  map[string]bool // made, to be synced at the end
	f     *os.File
	at    *nodepb.RestoredFile
	left  int64
	files uint64
	bytes uint64
}

// next closes the file before and starts another.
func (b *bagWriter) next(f *nodepb.RestoredFile) error {
	if err := b.close(); err != nil {
		return err
	}
	if err := intake.CheckPath(f.GetPath()); err != nil {
		return fmt.Errorf("the node named an unsafe file: %w", err)
	}
	if f.GetSizeBytes() > intake.MaxFileBytes {
		return fmt.Errorf("%q: impossible size %d", f.GetPath(), f.GetSizeBytes())
	}
	dir := path.Dir(f.GetPath())
	if !b.dirs[dir] {
		if err := b.root.MkdirAll(filepath.FromSlash(dir), 0o755); err != nil {
			return err
		}
		for d := dir; !b.dirs[d]; d = path.Dir(d) {
			b.dirs[d] = true
		}
	}
	h, err := b.root.OpenFile(filepath.FromSlash(f.GetPath()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	b.f, b.at, b.left = h, f, int64(f.GetSizeBytes())
	return nil
}

func (b *bagWriter) write(data []byte) error {
	if b.f == nil {
		return errors.New("the node sent bytes of no file")
	}
	if int64(len(data)) > b.left {
		return fmt.Errorf("%q: more bytes than the %d announced", b.at.GetPath(), b.at.GetSizeBytes())
	}
	n, err := b.f.Write(data)
	b.left -= int64(n)
	b.bytes += uint64(n)
	return err
}

// close makes the file under way durable.
func (b *bagWriter) close() error {
	if b.f == nil {
		return nil
	}
	f := b.f
	b.f = nil
	if b.left != 0 {
		f.Close()
		return fmt.Errorf("%q: %d of %d bytes are missing", b.at.GetPath(), b.left, b.at.GetSizeBytes())
	}
	err := f.Chmod(fs.FileMode(b.at.GetMode())&0o755 | 0o600) // never writable for others, always for the owner
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil && b.at.GetModifiedAtMillis() != 0 {
		at := time.UnixMilli(b.at.GetModifiedAtMillis())
		err = b.root.Chtimes(filepath.FromSlash(b.at.GetPath()), at, at)
	}
	b.files++
	return err
}

func (b *bagWriter) abort() {
	if b.f != nil {
		b.f.Close()
	}
}

// finish compares the totals and syncs the directories, deepest first.
func (b *bagWriter) finish(end *nodepb.RestoreEnd) error {
	if err := b.close(); err != nil {
		return err
	}
	if b.files != end.GetFiles() || b.bytes != end.GetSizeBytes() {
		return fmt.Errorf("got %d files with %d bytes, the node counted %d with %d: try again", b.files, b.bytes, end.GetFiles(), end.GetSizeBytes())
	}
	var dirs []string
	for d := range b.dirs {
		dirs = append(dirs, d)
	}
	slices.SortFunc(dirs, func(x, y string) int { return strings.Compare(y, x) })
	for _, d := range dirs {
		h, err := b.root.Open(filepath.FromSlash(d))
		if err != nil {
			return err
		}
		err = h.Sync()
		h.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
