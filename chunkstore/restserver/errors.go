package restserver

import (
	"context"
	"errors"
	"io/fs"
	"net/http"

	"dengbei/chunkstore"
	"dengbei/chunkstore/digest"
)

var (
	// ErrRefused is returned for a change that the repository does not take: it is append-only, or read-only, or the
	// node's that owns it.
	ErrRefused = errors.New("not allowed here")

	// ErrQuota is returned when a file would take the repository over its size.
	ErrQuota = errors.New("repository is full")

	// ErrTooLarge is returned for a body beyond what a file of its kind may have.
	ErrTooLarge = errors.New("body is too large")

	// ErrBusy is returned when more is asked at once than can be answered. Try again later.
	ErrBusy = errors.New("too busy: try again later")

	// errPath marks a path that names nothing in a repository.
	errPath = errors.New("no such path")

	// errBody marks a body that ended early or stopped coming.
	errBody = errors.New("body could not be read")
)

// statusOf gives each error its answer and what the client may know of it; the first match wins.
func statusOf(err error) (status int, text string) {
	for _, row := range []struct {
		err    error
		status int
	}{
		{ErrQuota, http.StatusInsufficientStorage},
		{chunkstore.ErrFull, http.StatusInsufficientStorage},
		{ErrTooLarge, http.StatusRequestEntityTooLarge},
		{errBody, http.StatusBadRequest},
		{digest.ErrMismatch, http.StatusBadRequest},
		{ErrRefused, http.StatusForbidden},
		{chunkstore.ErrConfigExists, http.StatusForbidden},
		{chunkstore.ErrExists, http.StatusForbidden},
		{chunkstore.ErrOwned, http.StatusForbidden},
		{chunkstore.ErrNotRepository, http.StatusNotFound},
		{fs.ErrNotExist, http.StatusNotFound},
		{errPath, http.StatusNotFound},
		{ErrBusy, http.StatusServiceUnavailable},
		{context.Canceled, http.StatusServiceUnavailable},
		{context.DeadlineExceeded, http.StatusServiceUnavailable},
	} {
		if errors.Is(err, row.err) {
			return row.status, row.err.Error()
		}
	}
	return http.StatusInternalServerError, http.StatusText(http.StatusInternalServerError)
}
