package restserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	maxUsersFileBytes = 4 << 20

	// maxBcryptCost keeps a single line from holding a processor for minutes.
	maxBcryptCost = 15

	// checkUsersEvery is how often at most the file is looked at.
	checkUsersEvery = time.Second

	maxPasswordBytes = 1 << 10

	// maxUnproven is how many passwords may wait to be hashed: enough for every client that starts, too few for a flood to
	// hold everything.
	maxUnproven = 64
)

// Users is who may come in: the names and passwords of a file in htpasswd's form, one "name:bcrypt" a line, which is read
// again when it changes. Other hashes than bcrypt are refused: they do not protect a password. Its methods may be called
// concurrently.
type Users struct {
	path string
	log  *slog.Logger
	key  [32]byte      // of proven
	wait chan struct{} // holds a value for each password that waits to be hashed or is
	slow chan struct{} // holds a value for each password being hashed
	none []byte        // a hash that nobody's password has

	mu     sync.Mutex // guards the rest; never held while a password is hashed
	looked time.Time
	state  os.FileInfo // of the file as it was read
	hashes map[string][]byte
	proven map[string][sha256.Size]byte // user → what was right; hashing it for each request would take all the time
}

// OpenUsers reads the file at path.
func OpenUsers(path string, log *slog.Logger) (*Users, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	u := &Users{path: path, log: log, wait: make(chan struct{}, maxUnproven), slow: make(chan struct{}, 2), proven: map[string][sha256.Size]byte{}}
	rand.Read(u.key[:])
	none, err := bcrypt.GenerateFromPassword([]byte(rand.Text()), bcrypt.DefaultCost)
	if err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	u.none = none
	if err := u.read(); err != nil {
		return nil, fmt.Errorf("users: %w", err)
	}
	u.looked = time.Now()
	return u, nil
}

// Check reports whether password is that of name. A user that is not there takes as long as one whose password is wrong.
// While too many ask it gives [ErrBusy].
func (u *Users) Check(ctx context.Context, name, password string) (bool, error) {
	if len(password) > maxPasswordBytes || len(name) > maxSegmentBytes {
		return false, nil
	}
	u.mu.Lock()
	u.refresh()
	hash, known := u.hashes[name]
	proven, before := u.proven[name]
	u.mu.Unlock()
	proof := u.proof(hash, password)
	if known && before && hmac.Equal(proven[:], proof[:]) {
		return true, nil
	}
	if !known {
		hash = u.none
	}
	select {
	case u.wait <- struct{}{}:
		defer func() { <-u.wait }()
	default:
		return false, ErrBusy
	}
	select {
	case u.slow <- struct{}{}:
		defer func() { <-u.slow }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil || !known {
		return false, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !bytes.Equal(u.hashes[name], hash) { // changed meanwhile
		return false, nil
	}
	u.proven[name] = proof
	return true, nil
}

// proof is what is remembered of a right password: it is worthless without the key, and with another hash.
func (u *Users) proof(hash []byte, password string) [sha256.Size]byte {
	m := hmac.New(sha256.New, u.key[:])
	m.Write(hash)
	m.Write([]byte{0})
	io.WriteString(m, password)
	return [sha256.Size]byte(m.Sum(nil))
}

// refresh reads the file again if it changed. One that cannot be read leaves things as they are. u.mu is held.
func (u *Users) refresh() {
	if time.Since(u.looked) < checkUsersEvery {
		return
	}
	u.looked = time.Now()
	st, err := os.Stat(u.path)
	if err == nil && os.SameFile(st, u.state) && st.Size() == u.state.Size() && st.ModTime().Equal(u.state.ModTime()) {
		return
	}
	if err == nil {
		err = u.read()
	}
	if err != nil {
		u.log.Error("users cannot be read again: those of before stay", "err", err)
	}
}

// read reads the file. u.mu is held, or u is not shared yet.
func (u *Users) read() error {
	f, err := os.Open(u.path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxUsersFileBytes+1))
	if err != nil {
		return err
	}
	if len(b) > maxUsersFileBytes {
		return fmt.Errorf("%s has more than %d bytes: %w", u.path, maxUsersFileBytes, ErrTooLarge)
	}
	u.state, u.hashes = st, parseUsers(b, u.log)
	clear(u.proven)
	return nil
}

// parseUsers reads the lines of a file of users. One that is no user's is passed over and logged by its number.
func parseUsers(b []byte, log *slog.Logger) map[string][]byte {
	hashes := map[string][]byte{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, len(b)+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case !ok || !plainSegment(name):
			log.Error("users: line names no user; letters, digits and ._-+@= make a name", "line", n)
		case err != nil || cost > maxBcryptCost:
			log.Error("users: hash is not bcrypt's of cost 15 at most; make it with htpasswd -B", "line", n)
		default:
			hashes[name] = []byte(hash)
		}
	}
	return hashes
}
