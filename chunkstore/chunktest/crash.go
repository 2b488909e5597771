package chunktest

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Crash is a state in which a power cut may leave the directory of a [Recorder].
type Crash struct {
	// Steps is how many steps had been done: the power went before the next.
	Steps int

	// What says which step was the last and what of it all was kept, for people.
	What string

	// Files is the content of each file, by its path with slashes below the recorder's root; Dirs the directories,
	// parents first.
	Files map[string][]byte
	Dirs  []string
}

// Crashes yields what a power cut may leave after every step, the state before the first included, each state once for
// each step. The same state may come again after later steps, when more was promised: see [Crash.Sum].
//
// The model is that of a journaling file system such as ext4 or xfs, taken at its word and no further. What was synced
// stays: a file's bytes when the file was synced, the names in a directory when the directory was. Of what was not
// synced each directory's changes may be there or not, whatever happened in other directories before or after: a rename
// may be durable before the bytes it publishes, a removal before the name that was to replace it. Bytes that were not
// synced may be there, be gone, be cut off half-way, or be zeros from there on. Two things are relied on: changes within
// one directory come in order, and a rename never leaves a file without any name, though it may leave it with both.
//
// For each step these are tried: everything kept; nothing kept that was not synced; all names kept, with each of the
// four fates of bytes; and for each directory with changes not synced, only those of it kept, all but those of it, and
// all but its last one, each with bytes kept and with bytes lost.
func (r *Recorder) Crashes() iter.Seq[Crash] {
	r.mu.Lock()
	log, v := slices.Clone(r.log), r.base.clone()
	r.mu.Unlock()
	return func(yield func(Crash) bool) {
		for n := 0; ; n++ {
			seen := make(map[[sha256.Size]byte]bool)
			last := "nothing was done"
			if n > 0 {
				last = log[n-1].String()
			}
			for _, f := range v.fates() {
				c := v.crash(f)
				c.Steps, c.What = n, fmt.Sprintf("after %d steps (%s): %s", n, last, f.what)
				sum := c.Sum()
				if seen[sum] {
					continue
				}
				seen[sum] = true
				if !yield(c) {
					return
				}
			}
			if n == len(log) {
				return
			}
			v.apply(log[n])
		}
	}
}

// fate is what is kept of what was not synced.
type fate struct {
	what string
	keep func(dir int, c change) bool
	tear tear
}

// fates lists what is tried for one step.
func (v *volume) fates() []fate {
	all := func(int, change) bool { return true }
	fates := []fate{{"everything kept", all, kept}, {"nothing kept that was not synced", func(int, change) bool { return false }, lost}}
	for _, t := range []tear{lost, half, zeros} {
		fates = append(fates, fate{"all names kept, " + string(t), all, t})
	}
	names := make(map[int]string)
	for p, id := range v.now {
		names[id] = p
	}
	for _, id := range slices.Sorted(maps.Keys(v.dirs)) {
		pending := v.dirs[id].pending
		if len(pending) == 0 {
			continue
		}
		last := pending[len(pending)-1].order
		for _, t := range []tear{kept, lost} {
			fates = append(fates,
				fate{"only names in " + names[id] + " kept, " + string(t), func(dir int, _ change) bool { return dir == id }, t},
				fate{"all names kept but those in " + names[id] + ", " + string(t), func(dir int, _ change) bool { return dir != id }, t},
				fate{"all names kept but the last in " + names[id] + ", " + string(t), func(_ int, c change) bool { return c.order != last }, t})
		}
	}
	return fates
}

func (v *volume) crash(f fate) Crash {
	files, dirs := v.names(f.keep)
	c := Crash{Files: make(map[string][]byte, len(files)), Dirs: dirs}
	for p, node := range files {
		c.Files[p] = v.files[node].content(f.tear)
	}
	return c
}

func (v *volume) clone() *volume {
	c := &volume{files: make(map[int]*fileNode), dirs: make(map[int]*dirNode), now: maps.Clone(v.now), order: v.order}
	for id, f := range v.files {
		copied := *f
		c.files[id] = &copied
	}
	for id, d := range v.dirs {
		c.dirs[id] = &dirNode{maps.Clone(d.durable), slices.Clone(d.pending)}
	}
	return c
}

// Sum tells states apart, whatever steps led there.
func (c Crash) Sum() [sha256.Size]byte {
	h := sha256.New()
	for _, d := range c.Dirs {
		fmt.Fprintf(h, "%q\n", d)
	}
	for _, p := range slices.Sorted(maps.Keys(c.Files)) {
		fmt.Fprintf(h, "%q %x\n", p, sha256.Sum256(c.Files[p]))
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Write makes the state below dir, which must be empty.
func (c Crash) Write(t testing.TB, dir string) {
	t.Helper()
	for _, d := range c.Dirs {
		Must(t, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	for p, b := range c.Files {
		Must(t, os.WriteFile(filepath.Join(dir, p), b, 0o600))
	}
}
