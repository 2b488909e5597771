package restore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"dengbei/chunkstore"
	"dengbei/chunkstore/repository"
)

// file plans a file.
func (v *visitor) file(n *repository.Node) {
	f := &file{dir: v.dir, name: n.Name, attrs: v.attributesOf(n), size: int64(n.SizeBytes), content: n.Content, was: -1,
		unfinished: !v.dir.shielded}
	temp := unfinishedName(n.Name)
	left := v.listing[temp]
	delete(v.listing, temp)
	st, found, err := v.stat(n.Name)
	if err == nil && left && (found || v.dir.adopted) && !v.options.DryRun {
		// Of no use, and perhaps in the way.
		err = v.dirs.in(v.dir, func(fd int) error { return removeAll(fd, temp) })
	}
	regular := found && kind(&st) == unix.S_IFREG
	// A file of several names is never written to: one of them may lie outside the target.
	usable := regular && st.Nlink == 1
	if err == nil && v.dir.adopted && found && !usable && !v.options.DryRun {
		err = v.dirs.in(v.dir, func(fd int) error { return removeAll(fd, n.Name) })
		found = false
	}
	if err != nil {
		v.fail(n, err)
		return
	}
	f.replaces = found
	if found && !v.dir.adopted && v.leaves(n, &st, regular) {
		f.state = skipped
		v.bytesTotal.Add(f.size)
		v.skippedBytes.Add(f.size)
		v.fileOutcome(f, Unchanged, nil)
		return
	}
	if v.hardLink(n, f) {
		return
	}
	v.bytesTotal.Add(f.size)
	switch {
	case usable:
		f.was, f.made = st.Size, true
		f.unfinished = false // until it turns out to differ
		if v.options.Overwrite == OverwriteIfChanged && !v.dir.adopted && st.Size == f.size && sameTime(&st, n.ModTime) {
			v.add(f, nil, nil, nil) // nothing to write
			return
		}
	case !found && left && !v.options.DryRun:
		ts, terr := v.statUnfinished(temp)
		if terr == nil && kind(&ts) == unix.S_IFREG && ts.Nlink == 1 {
			f.was, f.made, f.resumed = ts.Size, true, true
			break
		}
		fallthrough
	default:
		v.planFile(f, nil)
		return
	}
	v.plan.mu.Lock()
	v.plan.proofs = append(v.plan.proofs, f)
	v.plan.mu.Unlock()
}

func (v *visitor) statUnfinished(temp string) (st unix.Stat_t, err error) {
	err = v.dirs.in(v.dir, func(fd int) error {
		st, err = statAt(fd, temp)
		return err
	})
	return st, err
}

// leaves reports whether what lies there stays as it is.
func (v *visitor) leaves(n *repository.Node, st *unix.Stat_t, regular bool) bool {
	switch v.options.Overwrite {
	case OverwriteNever:
		return true
	case OverwriteIfNewer:
		return regular && !n.ModTime.After(time.Unix(st.Mtim.Unix()))
	}
	return false
}

func sameTime(st *unix.Stat_t, t time.Time) bool { return time.Unix(st.Mtim.Unix()).Equal(t) }

// hardLink reports whether the file is a further name of one that is planned. Only files of the same content are joined:
// numbers of inodes prove nothing.
func (v *visitor) hardLink(n *repository.Node, f *file) bool {
	if n.Links < 2 || n.Inode == 0 {
		return false
	}
	v.plan.mu.Lock()
	defer v.plan.mu.Unlock()
	key := linkKey{n.DeviceID, n.Inode}
	first := v.plan.firsts[key]
	if first == nil {
		v.plan.firsts[key] = f
		return false
	}
	if first.size != f.size || !slices.Equal(first.content, f.content) {
		return false
	}
	v.plan.links = append(v.plan.links, hardLink{v.dir, f.name, first})
	return true
}

// planFile plans what is to be written of a file.
func (r *restorer) planFile(f *file, same []bool) {
	pieces, packs, err := locate(r.repo, f)
	if err != nil {
		f.state = failed
		r.fileOutcome(f, Failed, err)
		return
	}
	r.add(f, pieces, packs, same)
}

// add takes a file up. One that needs no content is finished at once.
func (r *restorer) add(f *file, pieces []piece, packs []chunkstore.Name, same []bool) {
	r.plan.addPieces(f, pieces, packs, same)
	if f.left.Load() > 0 || r.options.DryRun {
		return
	}
	if err := r.whole(f); err != nil {
		r.fail(f, err)
	}
}

// whole finishes a file of which nothing has to be written.
func (r *restorer) whole(f *file) error {
	fd, _, err := r.open(f)
	if err != nil {
		return err
	}
	return errors.Join(r.complete(f, fd, nil), unix.Close(fd))
}

// compareBytes is how much of a file one worker compares at a time, so that several share a large one.
const compareBytes = 64 << 20

// proof is the comparison of one existing file.
type proof struct {
	file   *file
	pieces []piece
	packs  []chunkstore.Name
	same   []bool
	open   *os.File
	left   atomic.Int32
}

// compare reads the files that exist and plans to write what differs.
func (r *restorer) compare(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers())
	for _, f := range r.plan.proofs {
		if gctx.Err() != nil {
			break
		}
		p := &proof{file: f}
		var err error
		if p.pieces, p.packs, err = locate(r.repo, f); err == nil {
			p.open, err = r.openExisting(f)
		}
		if err != nil {
			r.fail(f, err)
			continue
		}
		p.same = make([]bool, len(p.pieces))
		if len(p.pieces) == 0 {
			r.proved(p)
			continue
		}
		var parts [][2]int
		for from := 0; from < len(p.pieces); {
			to := from + 1
			for to < len(p.pieces) && p.pieces[to].at-p.pieces[from].at < compareBytes {
				to++
			}
			parts = append(parts, [2]int{from, to})
			from = to
		}
		p.left.Store(int32(len(parts)))
		for _, part := range parts {
			g.Go(func() error {
				err := p.compare(gctx, part[0], part[1])
				if p.left.Add(-1) == 0 {
					if gctx.Err() != nil {
						p.open.Close()
						return gctx.Err()
					}
					r.proved(p)
				}
				return err
			})
		}
	}
	r.plan.proofs = nil
	err := g.Wait()
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	return r.setAside()
}

func (r *restorer) openExisting(f *file) (*os.File, error) {
	var fd int
	err := r.dirs.in(f.dir, func(dir int) (err error) {
		fd, err = unix.Openat(dir, f.disk(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open for comparison: %w", err)
	}
	return os.NewFile(uintptr(fd), f.name), nil
}

// compare finds out which of the chunks from..to are there. What cannot be read is not.
func (p *proof) compare(ctx context.Context, from, to int) error {
	var buf []byte
	for i := from; i < to; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		end := p.file.size
		if i+1 < len(p.pieces) {
			end = p.pieces[i+1].at
		}
		n := int(end - p.pieces[i].at)
		buf = slices.Grow(buf[:0], n)[:n]
		if m, err := p.open.ReadAt(buf, p.pieces[i].at); m < n || err != nil && !errors.Is(err, io.EOF) {
			continue
		}
		p.same[i] = sha256.Sum256(buf) == p.file.content[p.pieces[i].index]
	}
	return nil
}

// inPlaceBytes is the size from which a file that differs in parts is rewritten where it lies. Smaller ones are made anew
// beside the old one, which stays until they are whole.
const inPlaceBytes = 1 << 20

// proved plans the writing of what was found to differ.
func (r *restorer) proved(p *proof) {
	f := p.file
	p.open.Close()
	equal := int64(0)
	for i, at := range p.pieces {
		if p.same[i] {
			end := f.size
			if i+1 < len(p.pieces) {
				end = p.pieces[i+1].at
			}
			equal += end - at.at
		}
	}
	if (equal < f.size || f.was != f.size) && !f.dir.shielded && !f.unfinished {
		f.unfinished = true
		if f.size < inPlaceBytes || equal == 0 {
			f.was, f.made = -1, false
			r.add(f, p.pieces, p.packs, nil)
			return
		}
		r.plan.mu.Lock()
		r.plan.aside = append(r.plan.aside, f)
		r.plan.mu.Unlock()
		r.skippedBytes.Add(equal)
		r.plan.addPieces(f, p.pieces, p.packs, p.same)
		return
	}
	r.skippedBytes.Add(equal)
	r.add(f, p.pieces, p.packs, p.same)
}

// setAside gives files that are rewritten in place their unfinished names, before a byte of them is changed.
func (r *restorer) setAside() error {
	if r.options.DryRun || len(r.plan.aside) == 0 {
		return nil
	}
	for _, f := range r.plan.aside {
		err := r.dirs.in(f.dir, func(dir int) error { return unix.Renameat(dir, f.name, dir, f.disk()) })
		if err != nil {
			f.unfinished = false
			r.fail(f, fmt.Errorf("set aside: %w", err))
			continue
		}
		f.replaces = false
		if f.left.Load() == 0 { // only its length differs
			if err := r.whole(f); err != nil {
				r.fail(f, err)
			}
		}
	}
	// The new names are on disk before the content changes.
	return r.sync()
}
