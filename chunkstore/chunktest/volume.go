package chunktest

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
)

// volume is a disk as the system shows it and, beside that, what of it is known to be durable.
type volume struct {
	files map[int]*fileNode
	dirs  map[int]*dirNode
	now   map[string]int // paths as the system shows them
	order int            // numbers changes
}

// fileNode is the content of a file. The slices are never changed in place.
type fileNode struct {
	now, durable []byte
}

// dirNode is the names in a directory that are durable, and what happened to names since, in order.
type dirNode struct {
	durable map[string]int
	pending []change
}

// change is one name that came (node > 0) or went.
type change struct {
	order int
	name  string
	node  int
	// The other half of a rename: the directory that the new name came to, of the change that takes the old one away.
	// Journals keep the two together at least so far that the file is never without a name.
	renamedTo int
	partner   int // order of that change; 0 for none
}

func newVolume() *volume {
	return &volume{
		files: make(map[int]*fileNode),
		dirs:  map[int]*dirNode{0: {durable: make(map[string]int)}},
		now:   map[string]int{".": 0},
	}
}

func (v *volume) dir(p string) *dirNode { return v.dirs[v.now[path.Dir(p)]] }

// note adds a change to the directory of p and returns its number.
func (v *volume) note(p string, c change) int {
	v.order++
	c.order, c.name = v.order, path.Base(p)
	d := v.dir(p)
	d.pending = append(d.pending, c)
	return c.order
}

// apply does a step.
func (v *volume) apply(s step) {
	switch s.action {
	case mkdir:
		v.dirs[s.node] = &dirNode{durable: make(map[string]int)}
		v.note(s.path, change{node: s.node})
		v.now[s.path] = s.node
	case create:
		v.files[s.node] = new(fileNode)
		v.note(s.path, change{node: s.node})
		v.now[s.path] = s.node
	case write:
		f := v.files[s.node]
		b := make([]byte, max(int64(len(f.now)), s.off+int64(len(s.data))))
		copy(b, f.now)
		copy(b[s.off:], s.data)
		f.now = b
	case truncate:
		f := v.files[s.node]
		b := make([]byte, s.off)
		copy(b, f.now)
		f.now = b
	case syncFile:
		f := v.files[s.node]
		f.durable = f.now
	case link:
		v.note(s.to, change{node: v.now[s.path]})
		v.now[s.to] = v.now[s.path]
	case rename:
		came := v.note(s.to, change{node: v.now[s.path]})
		v.note(s.path, change{renamedTo: v.now[path.Dir(s.to)], partner: came})
		v.now[s.to] = v.now[s.path]
		delete(v.now, s.path)
	case remove:
		v.note(s.path, change{})
		delete(v.now, s.path)
	case syncDir:
		v.sync(v.now[s.path])
	default:
		panic("chunktest: unknown action " + string(s.action))
	}
}

// sync makes the names of a directory durable.
func (v *volume) sync(id int) {
	d := v.dirs[id]
	for _, c := range d.pending {
		d.durable = with(d.durable, c)
		if c.partner == 0 || c.renamedTo == id {
			continue
		}
		// The name that a file was moved away from is durably gone, so the one it was moved to is durably there.
		to := v.dirs[c.renamedTo]
		if i := slices.IndexFunc(to.pending, func(o change) bool { return o.order == c.partner }); i >= 0 {
			to.durable = with(to.durable, to.pending[i])
			to.pending = slices.Delete(slices.Clone(to.pending), i, i+1)
		}
	}
	d.pending = nil
}

func (v *volume) syncAll() {
	for id := range v.dirs {
		v.sync(id)
	}
	for _, f := range v.files {
		f.durable = f.now
	}
}

// with returns names after c.
func with(names map[string]int, c change) map[string]int {
	names = maps.Clone(names)
	if c.node > 0 {
		names[c.name] = c.node
	} else {
		delete(names, c.name)
	}
	return names
}

// names returns the paths that a power cut leaves if of the changes that are not synced those are kept for which keep
// says so, and the directories among them.
func (v *volume) names(keep func(dir int, c change) bool) (files map[string]int, dirs []string) {
	kept := make(map[int]bool) // by order
	for id, d := range v.dirs {
		for _, c := range d.pending {
			kept[c.order] = keep(id, c)
		}
	}
	files = make(map[string]int)
	var walk func(id int, at string)
	walk = func(id int, at string) {
		names := maps.Clone(v.dirs[id].durable)
		for _, c := range v.dirs[id].pending {
			switch {
			case !kept[c.order]:
			case c.node > 0:
				names[c.name] = c.node
			case c.partner == 0 || kept[c.partner] || !v.pending(c.renamedTo, c.partner):
				delete(names, c.name)
			}
		}
		for name, node := range names {
			p := path.Join(at, name)
			if _, ok := v.dirs[node]; ok {
				dirs = append(dirs, p)
				walk(node, p)
			} else {
				files[p] = node
			}
		}
	}
	walk(0, "")
	slices.Sort(dirs) // parents first
	return files, dirs
}

func (v *volume) pending(dir, order int) bool {
	return slices.ContainsFunc(v.dirs[dir].pending, func(c change) bool { return c.order == order })
}

// tear is what becomes of bytes that were written and not synced.
type tear string

const (
	kept  tear = "bytes kept"
	lost  tear = "bytes lost"
	half  tear = "half of the bytes"
	zeros tear = "half of the bytes, then zeros"
)

// content returns a file's bytes after a power cut.
func (f *fileNode) content(t tear) []byte {
	if bytes.Equal(f.now, f.durable) {
		return f.durable
	}
	n := len(f.now) / 2
	if bytes.HasPrefix(f.now, f.durable) {
		n = len(f.durable) + (len(f.now)-len(f.durable))/2
	}
	switch t {
	case kept:
		return f.now
	case lost:
		return f.durable
	case half:
		return f.now[:n]
	case zeros:
		return append(slices.Clone(f.now[:n]), make([]byte, len(f.now)-n)...)
	default:
		panic(fmt.Sprintf("chunktest: unknown tear %q", t))
	}
}
