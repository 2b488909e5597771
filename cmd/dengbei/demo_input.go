package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"dengbei/cmd/dengbei/term"
	"dengbei/node/rpc"
	"dengbei/registry/intake"
)

// demoInput is what will be handed in and by whom.
type demoInput struct {
	root        string
	sources     bool // root is this project: only its documents and sources
	files       []inputFile
	skipped     []string // what cannot be handed in, and why
	registrants []*demoRegistrant
}

type inputFile struct {
	path string // relative, slash separated
	size int64
}

// demoRegistrant is a unit that hands records in at its centre.
type demoRegistrant struct {
	code  string
	short string
	name  string
	fonds string

	centre  *demoCentre
	dir     string // credential
	client  *rpc.Client
	signing crypto.Signer
}

func (r *demoRegistrant) id() string { return r.code + "/" + r.short }

func demoRegistrants() []*demoRegistrant {
	return []*demoRegistrant{
		{code: lostCentre, short: "zwfw", name: "上城区政务服务管理办公室", fonds: "0102"},
		{code: "330282", short: "zrzy", name: "慈溪市自然资源和规划局", fonds: "0282"},
		{code: "330100", short: "sjzy", name: "杭州市数据资源管理局", fonds: "0100"},
	}
}

func (r *demoRegistrant) connect(ctx context.Context) error {
	var err error
	if r.signing, err = openSigningKey(r.dir); err != nil {
		return err
	}
	r.client, err = rpc.Dial(ctx, rpc.Target{Address: r.centre.config.Peer.Listen, CredentialDir: r.dir, Name: clientName})
	return err
}

// The split of the input.
const (
	minDeliveries        = 20
	maxFilesPerDelivery  = 2500
	maxBytesPerDelivery  = 256 << 20
	maxCopiedBytes       = 64 << 20
	weightOfAFile        = 24 << 10 // what a file costs beside its bytes
	generatedFiles       = 40       // when there is no project around: the built-in texts
	generatedFileContent = 4 << 10
)

// gather lists the input, splits it and stages each part as a folder of its own.
func (d *demo) gather(ctx context.Context) error {
	d.input.registrants = demoRegistrants()
	if err := d.chooseInput(); err != nil {
		return err
	}
	if err := d.list(ctx); err != nil {
		return err
	}
	if err := d.split(ctx); err != nil {
		return err
	}
	if err := d.generateCases(); err != nil {
		return err
	}
	if err := d.findVerifier(ctx); err != nil {
		return err
	}
	var bytes int64
	for _, f := range d.input.files {
		bytes += f.size
	}
	d.report.Input, d.report.Skipped = d.input.root, term.OrEmpty(d.input.skipped)
	d.say("input: %d files, %s below %s, and %d generated cases (办件)", len(d.input.files), term.ByteCount(uint64(bytes)), d.input.root, d.cases.count())
	for _, s := range d.input.skipped {
		d.more("left out: %s", term.Safe(s))
	}
	return nil
}

// chooseInput takes --input, or this project's sources if the working directory is in it, or texts made for the occasion.
func (d *demo) chooseInput() error {
	if d.opt.input != "" {
		root, err := filepath.Abs(d.opt.input)
		if err != nil {
			return err
		}
		info, err := os.Stat(root)
		if err != nil {
			return term.Usagef("--input: %v", err)
		}
		if !info.IsDir() {
			return term.Usagef("--input %s is not a folder", d.opt.input)
		}
		if rel, err := filepath.Rel(root, d.dir); err == nil && filepath.IsLocal(rel) {
			return term.Usagef("--dir %s lies inside --input %s: the demo would hand in its own data", d.dir, root)
		}
		d.input.root = root
		return nil
	}
	if root := moduleRoot(); root != "" {
		d.input.root, d.input.sources = root, true
		return nil
	}
	d.input.root = filepath.Join(d.dir, "texts")
	for i := range generatedFiles {
		name := filepath.Join(d.input.root, fmt.Sprintf("卷%02d", i/10+1), fmt.Sprintf("文%03d.txt", i+1))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		text := bytes.Repeat(fmt.Appendf(nil, "登记备份演示文本第 %d 号。\n", i+1), generatedFileContent/40)
		if err := os.WriteFile(name, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// moduleRoot is the directory of this project around the working directory, empty if there is none.
func moduleRoot() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module dengbei\n")) {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// list finds the files. What intake refuses is left out here and listed: a person who registers a folder wants to know before, not after.
func (d *demo) list(ctx context.Context) error {
	in := &d.input
	skip := func(p, why string) { in.skipped = append(in.skipped, p+": "+why) }
	err := filepath.WalkDir(in.root, func(name string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rel, rerr := filepath.Rel(in.root, name)
		if rerr != nil {
			return rerr
		}
		p := filepath.ToSlash(rel)
		if err != nil {
			if p == "." {
				return err
			}
			skip(p, err.Error())
			return nil
		}
		if p == "." {
			return nil
		}
		if e.IsDir() {
			if in.sources && strings.HasPrefix(e.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		if in.sources && !strings.HasPrefix(p, "docs/") && path.Ext(p) != ".go" {
			return nil
		}
		if cerr := intake.CheckPath(p); cerr != nil {
			skip(p, cerr.Error())
			return nil
		}
		if !e.Type().IsRegular() {
			skip(p, "is not a regular file: a link is no copy of what it points to")
			return nil
		}
		info, err := e.Info()
		if err != nil {
			skip(p, err.Error())
			return nil
		}
		if f, err := os.Open(name); err != nil {
			skip(p, err.Error())
			return nil
		} else {
			f.Close()
		}
		in.files = append(in.files, inputFile{p, info.Size()})
		return nil
	})
	if err != nil {
		return err
	}
	if len(in.files) == 0 {
		return term.Usagef("%s holds no file that can be handed in", in.root)
	}
	slices.SortFunc(in.files, func(a, b inputFile) int { return cmp.Compare(a.path, b.path) })
	return nil
}

// split cuts the sorted list into runs of about the same weight and stages each as a folder.
func (d *demo) split(ctx context.Context) error {
	files := d.input.files
	var total int64
	for _, f := range files {
		total += f.size
	}
	n := max(minDeliveries, (len(files)+maxFilesPerDelivery-1)/maxFilesPerDelivery, int(total/maxBytesPerDelivery)+1)
	n = min(n, len(files))
	name := filepath.Base(d.input.root)
	// Which registrant is next. The centre that will be lost has a fifth of the input: enough to see a recovery, and not to wait for nothing else.
	turns := [...]int{1, 2, 0, 1, 2}
	// Links cost nothing, but what is still being worked on changes under them: sources and other small input are copied.
	link := total > maxCopiedBytes && !d.input.sources
	for i, run := range cutRuns(files, n) {
		r := d.input.registrants[turns[i%len(turns)]]
		folder := filepath.Join(d.dir, "input", fmt.Sprintf("%03d-%s", i+1, r.code))
		if err := stageFiles(ctx, d.input.root, folder, run, link); err != nil {
			return err
		}
		d.deliveries = append(d.deliveries, &demoDelivery{
			registrant: r,
			delivery:   delivery{folders: []string{folder}, titles: []string{fmt.Sprintf("%s 第%d部分（共%d部分）", name, i+1, n)}, class: classStandard, opening: intake.OpeningOpen},
		})
	}
	return nil
}

// cutRuns cuts files into exactly n runs, none empty, of about the same weight.
func cutRuns(files []inputFile, n int) [][]inputFile {
	var left int64
	for _, f := range files {
		left += f.size + weightOfAFile
	}
	var runs [][]inputFile
	for start := 0; start < len(files); {
		parts := n - len(runs)
		target, end, weight := left/int64(parts), start, int64(0)
		for end < len(files) && (end == start || parts == 1 || weight+(files[end].size+weightOfAFile)/2 <= target) && (end == start || len(files)-end >= parts) {
			weight += files[end].size + weightOfAFile
			end++
		}
		runs = append(runs, files[start:end])
		left -= weight
		start = end
	}
	return runs
}

// stageFiles puts files into folder under the same names: as hard links if asked and possible, else as copies.
func stageFiles(ctx context.Context, from, folder string, files []inputFile, link bool) error {
	made := map[string]bool{}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		src, dst := filepath.Join(from, filepath.FromSlash(f.path)), filepath.Join(folder, filepath.FromSlash(f.path))
		if dir := filepath.Dir(dst); !made[dir] {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			made[dir] = true
		}
		if link && os.Link(src, dst) == nil {
			continue
		}
		if err := copyFile(src, dst); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
