package restserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dengbei/chunkstore"
)

const (
	// maxRequests is how many requests are served at once; others wait for waitForTurn.
	maxRequests = 256
	waitForTurn = 20 * time.Second

	maxHeaderBytes = 64 << 10
)

// Config is what a [Server] serves and to whom.
type Config struct {
	// Path is the directory below which the repositories lie. It must exist.
	Path string

	// Users asks who is there; nil lets everybody in.
	Users *Users

	// PrivateRepos gives each user what lies below a directory of his name, and nothing else. It needs Users.
	PrivateRepos bool

	// AppendOnly refuses to delete anything but locks.
	AppendOnly bool

	// MaxBytes is the most that the files of one repository take together; zero is no limit.
	MaxBytes int64

	// Log gets refusals and failures; nil is none.
	Log *slog.Logger
}

// Server serves the repositories below a directory. Those that belong to a node are read-only. Create it with [New].
type Server struct {
	config Config
	turns  chan struct{} // holds a value for each request that is served

	mu   sync.Mutex // guards open; held while a repository is opened or made
	open map[string]Store
}

// New returns the server of a directory.
func New(c Config) (*Server, error) {
	if st, err := os.Stat(c.Path); err != nil {
		return nil, fmt.Errorf("serve repositories: %w", err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("serve repositories: %s is no directory", c.Path)
	}
	if c.PrivateRepos && c.Users == nil {
		return nil, errors.New("serve repositories: private repositories need users")
	}
	if c.MaxBytes < 0 {
		return nil, fmt.Errorf("serve repositories: a limit of %d bytes", c.MaxBytes)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{config: c, turns: make(chan struct{}, maxRequests), open: map[string]Store{}}, nil
}

// HTTPServer returns an http.Server for h with limits that keep slow and greedy clients from holding everything.
func HTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
	}
	if log != nil {
		s.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	}
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{w: w, r: r, ctx: r.Context(), log: s.config.Log}
	user := ""
	if s.config.Users != nil {
		name, password, ok := r.BasicAuth()
		known := false
		if ok {
			var err error
			if known, err = s.config.Users.Check(r.Context(), name, password); err != nil {
				q.fail(err)
				return
			}
		}
		if !known {
			if ok {
				s.config.Log.Warn("wrong user or password", "user", name, "from", r.RemoteAddr)
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="repositories", charset="UTF-8"`)
			q.status(http.StatusUnauthorized, http.StatusText(http.StatusUnauthorized))
			return
		}
		user = name
	}
	if !s.turn(r.Context()) {
		q.fail(ErrBusy)
		return
	}
	defer func() { <-s.turns }()
	q.ctx = withUser(r.Context(), user)
	t, err := parsePath(r.URL.Path)
	if err != nil {
		q.fail(err)
		return
	}
	// A user's name is compared with a plain segment, so that it can be no path.
	if s.config.PrivateRepos && (len(t.segments) == 0 || t.segments[0] != user) {
		q.fail(fmt.Errorf("repository %q of another user than %q: %w", t.repository(), user, ErrRefused))
		return
	}
	if t.kind == 0 {
		q.create(func() error { return s.create(q.ctx, t) })
		return
	}
	if q.store, err = s.repository(t); err != nil {
		q.fail(err)
		return
	}
	q.serve(t)
}

// turn waits until the request may be served.
func (s *Server) turn(ctx context.Context) bool {
	select {
	case s.turns <- struct{}{}:
		return true
	default:
	}
	wait := time.NewTimer(waitForTurn)
	defer wait.Stop()
	select {
	case s.turns <- struct{}{}:
		return true
	case <-wait.C:
	case <-ctx.Done():
	}
	return false
}

func (s *Server) dir(t target) string {
	return filepath.Join(append([]string{s.config.Path}, t.segments...)...)
}

// repository opens the repository that t lies in.
func (s *Server) repository(t target) (Store, error) {
	dir := s.dir(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(filepath.Join(dir, chunkstore.Pack.String())); err != nil {
		delete(s.open, t.repository())
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("repository %q: %w", t.repository(), fs.ErrNotExist)
		}
		return nil, fmt.Errorf("repository %q: %w", t.repository(), err)
	}
	if store := s.open[t.repository()]; store != nil {
		return store, nil
	}
	files, err := chunkstore.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("repository %q: %w", t.repository(), err)
	}
	var store Store = newLocal(files, s.config.MaxBytes, s.config.AppendOnly)
	if _, err := chunkstore.OwnerOf(dir); err == nil {
		store = &readOnly{Store: store, locks: newMemoryLocks(nil)}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("repository %q: %w", t.repository(), err)
	}
	s.open[t.repository()] = store
	return store, nil
}

// create makes the directories of a repository. One that is there already stays as it is, as with restic's own server: the
// client goes on to store a config, and is refused there. Repositories do not lie within each other.
func (s *Server) create(ctx context.Context, t target) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := s.config.Path
	for i := range len(t.segments) {
		if _, err := os.Stat(filepath.Join(dir, chunkstore.Pack.String())); err == nil {
			return fmt.Errorf("make repository %q within another: %w", t.repository(), ErrRefused)
		}
		dir = filepath.Join(dir, t.segments[i])
		if err := makeDir(dir); err != nil {
			return fmt.Errorf("make repository %q: %w", t.repository(), err)
		}
	}
	_, err := chunkstore.Create(dir)
	switch {
	case errors.Is(err, chunkstore.ErrExists):
		return nil
	case errors.Is(err, chunkstore.ErrNotRepository):
		return fmt.Errorf("make repository %q where there is something else: %w", t.repository(), ErrRefused)
	case err != nil:
		return fmt.Errorf("make repository %q: %w", t.repository(), err)
	}
	delete(s.open, t.repository())
	s.config.Log.Info("repository made", "repository", t.repository())
	return nil
}

// makeDir makes dir unless it is there, durably.
func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return err
	}
	return chunkstore.LocalDisk{}.SyncDir(filepath.Dir(dir))
}
