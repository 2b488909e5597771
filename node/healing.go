package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
	"dengbei/node/rpc"
	"dengbei/replication"
	"dengbei/replication/manifest"
)

// healer replaces damaged and missing files of this centre's repositories by verified copies from the holders. The
// damaged file is kept aside until the copy is verified.
type healer struct {
	keeper   *keeper
	holdings *holdings
	log      *slog.Logger

	mu     sync.Mutex // guards recent, held for an instant
	recent []healed
}

// healed is one file that was replaced.
type healed struct{ Repository, File, Source string }

// maxRecentHealed bounds what status shows.
const maxRecentHealed = 100

type healedKey struct{}

// healedList collects what was healed during one call.
type healedList struct {
	mu   sync.Mutex
	list []healed
}

func (l *healedList) all() []healed {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]healed(nil), l.list...)
}

// collectHealed returns a context under which healing is noted in the list.
func collectHealed(ctx context.Context) (context.Context, *healedList) {
	l := &healedList{}
	return context.WithValue(ctx, healedKey{}, l), l
}

func (h *healer) note(ctx context.Context, x healed) {
	h.log.Warn("repository file healed", "repository", x.Repository, "file", x.File, "peer", x.Source)
	if l, ok := ctx.Value(healedKey{}).(*healedList); ok {
		l.mu.Lock()
		l.list = append(l.list, x)
		l.mu.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recent = append(h.recent, x)
	if len(h.recent) > maxRecentHealed {
		h.recent = h.recent[1:]
	}
}

// Recent returns the files healed lately, oldest first.
func (h *healer) Recent() []healed {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]healed(nil), h.recent...)
}

// Heal fetches one file of a repository of this centre from the holders. It returns cause if the file is whole after
// all, or is none that a manifest names.
func (h *healer) Heal(ctx context.Context, repository string, name chunkstore.Name, cause error) error {
	set, _, err := h.keeper.registeredSet(repository)
	if err != nil {
		return errors.Join(cause, err)
	}
	f, ok := set.File(name.String())
	if !ok {
		return cause
	}
	name.ID = f.SHA256
	store, err := h.holdings.store(repository, false)
	if err != nil {
		return errors.Join(cause, err)
	}
	switch err := store.files.Verify(ctx, name); {
	case err == nil:
		return cause
	case errors.Is(err, digest.ErrMismatch):
		if err := store.files.Quarantine(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(cause, err)
		}
	case errors.Is(err, fs.ErrNotExist):
	default:
		return errors.Join(cause, err)
	}
	sources, err := h.holdings.sources(ctx, repository, 1)
	if err != nil {
		return errors.Join(cause, err)
	}
	if len(sources) == 0 {
		return fmt.Errorf("%s of %s is damaged here and no centre holds a copy: %w: %w", name, repository, rpc.ErrLost, cause)
	}
	var from string
	_, err = replication.Gather(ctx, replication.GatherConfig{
		Repository: repository, Files: []manifest.File{f}, Sources: sources, Store: store, Logger: h.log,
		OnFile: func(source string, _ manifest.File) { from = source },
	})
	if err != nil {
		return fmt.Errorf("%s of %s is damaged here and could not be fetched from its holders: %w: %w", name, repository, rpc.ErrLost, errors.Join(err, cause))
	}
	if err := store.files.DropDamaged(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.log.Warn("damaged file not removed after healing", "repository", repository, "file", name.String(), "err", err)
	}
	h.note(ctx, healed{repository, name.String(), from})
	return nil
}
