package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"dengbei/chunkstore/repository"
)

// special makes a symlink, a device or a pipe.
func (v *visitor) special(n *repository.Node) {
	switch n.Type {
	case repository.TypeSymlink, repository.TypeFifo, repository.TypeDevice, repository.TypeCharDevice:
	default:
		v.fail(n, fmt.Errorf("type %q: %w", n.Type, ErrSpecial))
		return
	}
	delete(v.listing, unfinishedName(n.Name))
	st, found, err := v.stat(n.Name)
	if err != nil {
		v.fail(n, err)
		return
	}
	if found && !v.dir.adopted && v.leaves(n, &st, kind(&st) == unix.S_IFREG) {
		v.done(n, Unchanged)
		return
	}
	told := specialNode{typ: n.Type, replaces: found}
	if v.options.DryRun {
		a := Restored
		if found {
			a = Updated
		}
		v.done(n, a)
		return
	}
	name := n.Name
	if !v.dir.shielded {
		name = unfinishedName(n.Name)
	}
	err = v.dirs.in(v.dir, func(dir int) error { return v.makeSpecial(dir, name, n) })
	if err != nil {
		v.fail(n, err)
		return
	}
	if v.dir.shielded {
		v.done(n, Restored)
		return
	}
	v.named.add(naming{dir: v.dir, name: n.Name, node: told}, 0)
}

func (v *visitor) makeSpecial(dir int, name string, n *repository.Node) error {
	err := makeNode(dir, name, n)
	if errors.Is(err, unix.EEXIST) && !v.dir.fresh {
		if err = removeAll(dir, name); err == nil {
			err = makeNode(dir, name, n)
		}
	}
	if err != nil {
		return err
	}
	a := v.attributesOf(n)
	if err := v.setAt(dir, name, &a, n.Type == repository.TypeSymlink); err != nil {
		return errors.Join(err, unix.Unlinkat(dir, name, 0))
	}
	return nil
}

// makeNode makes an entry without content. Devices need the rights of root.
func makeNode(dir int, name string, n *repository.Node) error {
	var err error
	switch n.Type {
	case repository.TypeSymlink:
		err = unix.Symlinkat(n.LinkTarget, dir, name)
	case repository.TypeFifo:
		err = unix.Mknodat(dir, name, unix.S_IFIFO|0o600, 0)
	case repository.TypeDevice:
		err = unix.Mknodat(dir, name, unix.S_IFBLK|0o600, int(n.Device))
	case repository.TypeCharDevice:
		err = unix.Mknodat(dir, name, unix.S_IFCHR|0o600, int(n.Device))
	}
	if errors.Is(err, unix.EPERM) && n.Type != repository.TypeSymlink {
		return fmt.Errorf("%s needs the rights of root: %w: %w", n.Type, err, ErrSpecial)
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", n.Type, err)
	}
	return nil
}

// linkAll gives files that are whole their further names.
func (r *restorer) linkAll() {
	for _, l := range r.plan.links {
		path := func() string { return l.dir.join(l.name) }
		a, err := r.link(l)
		if err == nil && a == "" {
			continue // waits for its name
		}
		r.outcome(path, repository.TypeFile, a, l.to.size, err)
	}
}

// link makes a further name. It returns no action if the name is not given yet.
func (r *restorer) link(l hardLink) (Action, error) {
	if l.to.state == failed {
		return Failed, fmt.Errorf("its other name %q is missing: %w", l.to.path(), ErrIncomplete)
	}
	from, err := r.dirs.acquire(l.to.dir)
	if err != nil {
		return Failed, err
	}
	defer r.dirs.release(l.to.dir)
	dir, err := r.dirs.acquire(l.dir)
	if err != nil {
		return Failed, err
	}
	defer r.dirs.release(l.dir)
	source, err := r.sourceName(from, l.to)
	if err != nil {
		return Failed, err
	}
	st, err := statAt(dir, l.name)
	if err == nil && !l.dir.adopted {
		if st.Dev == source.Dev && st.Ino == source.Ino {
			return Unchanged, nil
		}
	}
	replaces := err == nil
	name := l.name
	if !l.dir.shielded {
		name = unfinishedName(l.name)
	}
	err = unix.Linkat(from, source.name, dir, name, 0)
	if errors.Is(err, unix.EEXIST) {
		if err = removeAll(dir, name); err == nil {
			err = unix.Linkat(from, source.name, dir, name, 0)
		}
	}
	if err != nil {
		return Failed, fmt.Errorf("link to %q: %w", l.to.path(), err)
	}
	if l.dir.shielded {
		return Restored, nil
	}
	r.named.add(naming{dir: l.dir, name: l.name, node: specialNode{repository.TypeFile, replaces}}, 0)
	return "", nil
}

type sourceName struct {
	unix.Stat_t
	name string
}

// sourceName finds a file under its name or, if that is not given yet, its unfinished one.
func (r *restorer) sourceName(dir int, f *file) (sourceName, error) {
	names := []string{f.name}
	if f.unfinished {
		names = []string{f.disk(), f.name}
	}
	var err error
	for _, name := range names {
		var st unix.Stat_t
		if st, err = statAt(dir, name); err == nil {
			return sourceName{st, name}, nil
		}
	}
	return sourceName{}, err
}
