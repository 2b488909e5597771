package intake

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"
)

// writeDurable replaces name below root by b: after a power cut it holds the old bytes or b, never a mixture.
func writeDurable(root *os.Root, name string, b []byte) error {
	tmp := name + ".tmp"
	if err := writeSynced(root, tmp, b); err != nil {
		root.Remove(tmp)
		return err
	}
	if err := root.Rename(tmp, name); err != nil {
		root.Remove(tmp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(root, path.Dir(name))
}

// writeSynced creates or truncates name and syncs its content, not its folder.
func writeSynced(root *os.Root, name string, b []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fullOr(fmt.Errorf("write %s: %w", name, err))
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fullOr(fmt.Errorf("write %s: %w", name, err))
	}
	return nil
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fullOr(fmt.Errorf("sync folder %s: %w", dir, err))
	}
	return nil
}

// readBounded returns the content of name, or an error matching [fs.ErrNotExist], or ErrDamaged above limit.
func readBounded(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%w: %s is longer than %d bytes", ErrDamaged, name, limit)
	}
	return b, nil
}

// fullOr adds ErrFull to an error that means a full disk or an exhausted quota.
func fullOr(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: free space on its disk, then send again: %w", ErrFull, err)
	}
	return err
}

// missing turns a file system's not-exist into ErrNotFound.
func missing(what string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// turnstile shares one expensive call among all who arrive while the previous one runs. Everybody's call starts after
// they asked for it, which is what a sync needs.
type turnstile struct {
	mu      sync.Mutex // guards next, for an instant
	next    *round
	running sync.Mutex // held during a call
}

type round struct {
	done chan struct{}
	err  error // set before done is closed
}

func (t *turnstile) do(call func() error) error {
	t.mu.Lock()
	r := t.next
	if r != nil {
		t.mu.Unlock()
		<-r.done
		return r.err
	}
	r = &round{done: make(chan struct{})}
	t.next = r
	t.mu.Unlock()

	t.running.Lock()
	defer t.running.Unlock()
	t.mu.Lock()
	t.next = nil // whoever comes now needs a later call
	t.mu.Unlock()
	r.err = call()
	close(r.done)
	return r.err
}
