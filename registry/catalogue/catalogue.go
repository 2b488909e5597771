// Package catalogue answers questions about registered records: lists, filters and full text.
//
// It is derived: a SQLite file that follows the registry's state by watermark, the position up to which it has read.
// It promises nothing by itself. Numbers, digests and proofs are read from the state, and every answer says how far
// the catalogue is. Deleting the file loses nothing; it is filled again from the state.
//
// Titles are cut into single Chinese characters and searched for as phrases, so that any part of a title is found,
// also one of two characters.
package catalogue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"

	"dengbei/registry/registrypb"
)

// ErrCorrupt is returned for a file that is no catalogue and cannot be replaced by an empty one.
var ErrCorrupt = errors.New("catalogue cannot be read: delete its file, it is filled again from the registry")

// Source is the registry's state.
type Source interface {
	// Size returns the position of the next record.
	Size() uint64

	// Records returns at most limit records from position seq on.
	Records(seq uint64, limit int) ([]*registrypb.Record, error)

	// Changed returns a channel that is closed when there may be more records.
	Changed() <-chan struct{}
}

// Details are what only some centres may read of a record.
type Details struct {
	Title string
	Files uint64
	Bytes uint64
}

// Options are the settings of a [Catalogue].
type Options struct {
	// Unseal opens the sealed fields of a record that this centre may read. It is called once for each record, by the
	// goroutine that catches up; ok is false for others' records, whose open title is used. nil opens none.
	Unseal func(*registrypb.Record) (details Details, ok bool)
}

// Catalogue is an open catalogue. List may be called concurrently with everything; one goroutine at a time follows.
type Catalogue struct {
	write *sql.DB // one connection
	read  *sql.DB
	opts  Options
	anew  chan struct{} // a value: the follower is to begin anew
}

// schemaVersion changes when the tables do; a file of another version is filled anew.
const schemaVersion = 1

const schema = `
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE record (
	seq INTEGER PRIMARY KEY,
	number TEXT NOT NULL,
	authority TEXT NOT NULL,
	registrant TEXT NOT NULL,
	title TEXT NOT NULL,
	class TEXT NOT NULL,
	registered_at INTEGER NOT NULL,
	files INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	submission BLOB NOT NULL
);
CREATE INDEX record_authority ON record (authority, seq);
CREATE INDEX record_registrant ON record (registrant, seq);
CREATE INDEX record_class ON record (class, seq);
CREATE VIRTUAL TABLE title USING fts5 (words, content='', tokenize='unicode61');
INSERT INTO meta VALUES ('watermark', 0);
`

// Open opens the catalogue at path, or makes an empty one. A file that cannot be read or has an older form is replaced
// by an empty one.
func Open(path string, opts Options) (*Catalogue, error) {
	c, err := open(path, opts)
	if err == nil {
		return c, nil
	}
	if err := remove(path); err != nil {
		return nil, fmt.Errorf("open catalogue %s: %w (%w)", path, ErrCorrupt, err)
	}
	if c, err = open(path, opts); err != nil {
		return nil, fmt.Errorf("open catalogue %s: %w", path, err)
	}
	return c, nil
}

func remove(path string) error {
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func open(path string, opts Options) (*Catalogue, error) {
	c := &Catalogue{opts: opts, anew: make(chan struct{}, 1)}
	var err error
	if c.write, err = sql.Open("sqlite", dsn(path, "")); err != nil {
		return nil, err
	}
	c.write.SetMaxOpenConns(1)
	if err := c.prepare(); err != nil {
		return nil, errors.Join(err, c.write.Close())
	}
	if c.read, err = sql.Open("sqlite", dsn(path, "&_pragma=query_only(1)")); err != nil {
		return nil, errors.Join(err, c.write.Close())
	}
	c.read.SetMaxOpenConns(4)
	return c, nil
}

// dsn sets WAL, so that readers do not wait for the follower, and no sync per commit: the file can be filled again.
func dsn(path, more string) string {
	u := url.URL{Scheme: "file", Opaque: url.PathEscape(path)}
	return u.String() + "?_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=busy_timeout(10000)" + more
}

func (c *Catalogue) prepare() error {
	var version, tables int
	if err := c.write.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if err := c.write.QueryRow("SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return err
	}
	if version == schemaVersion {
		_, err := c.Watermark(context.Background())
		return err
	}
	if tables > 0 {
		return fmt.Errorf("catalogue of form %d, this build reads %d", version, schemaVersion)
	}
	return c.reset()
}

// reset empties the catalogue in one transaction.
func (c *Catalogue) reset() error {
	tx, err := c.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	_, err = tx.Exec("DROP TABLE IF EXISTS record; DROP TABLE IF EXISTS title; DROP TABLE IF EXISTS meta;" + schema +
		fmt.Sprintf("PRAGMA user_version = %d", schemaVersion))
	if err != nil {
		return err
	}
	return tx.Commit()
}

// Close closes the file.
func (c *Catalogue) Close() error { return errors.Join(c.read.Close(), c.write.Close()) }

// Watermark returns the position up to which the catalogue has read: the records before it are in it.
func (c *Catalogue) Watermark(ctx context.Context) (uint64, error) {
	var w int64
	if err := c.write.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = 'watermark'").Scan(&w); err != nil {
		return 0, fmt.Errorf("watermark of the catalogue: %w", err)
	}
	return uint64(w), nil
}

// Filter selects records. Zero fields select all.
type Filter struct {
	Authority  string // code
	Registrant string // ID
	Class      string
	Text       string // words separated by blanks, each a part of the title
	Since      int64  // registered at this instant or later, in milliseconds since 1970-01-01 UTC
	Until      int64  // registered before this instant

	// BeforeSeq continues a list: the records before this position. 0 = from the newest.
	BeforeSeq uint64
	// AfterSeq, if set, lists oldest first: the records after this position.
	AfterSeq *uint64
	// Limit is the most rows to return. 0 = 100, at most 1000.
	Limit int
}

// Row is a record as lists show it.
type Row struct {
	Seq          uint64
	Number       string
	Authority    string
	Registrant   string
	Title        string // empty if it is closed to this centre
	Class        string
	RegisteredAt int64 // milliseconds since 1970-01-01 UTC
	Files        uint64
	Bytes        uint64
	Submission   []byte
}

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// where returns the condition of f, and false if nothing can match.
func (f Filter) where() (string, []any, bool) {
	var terms []string
	var args []any
	add := func(term string, arg any) { terms, args = append(terms, term), append(args, arg) }
	if f.Authority != "" {
		add("authority = ?", f.Authority)
	}
	if f.Registrant != "" {
		add("registrant = ?", f.Registrant)
	}
	if f.Class != "" {
		add("class = ?", f.Class)
	}
	if f.Since != 0 {
		add("registered_at >= ?", f.Since)
	}
	if f.Until != 0 {
		add("registered_at < ?", f.Until)
	}
	if f.BeforeSeq != 0 {
		add("seq < ?", int64(min(f.BeforeSeq, 1<<62)))
	}
	if f.AfterSeq != nil {
		add("seq > ?", int64(min(*f.AfterSeq, 1<<62)))
	}
	if strings.TrimSpace(f.Text) != "" {
		q := query(f.Text)
		if q == "" {
			return "", nil, false
		}
		add("seq IN (SELECT rowid FROM title WHERE title MATCH ?)", q)
	}
	if terms == nil {
		return "", nil, true
	}
	return " WHERE " + strings.Join(terms, " AND "), args, true
}

// List returns the records that f selects, newest first unless f.AfterSeq is set, and the watermark that the answer is
// true for.
func (c *Catalogue) List(ctx context.Context, f Filter) (rows []Row, watermark uint64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("list records: %w", err)
		}
	}()
	tx, err := c.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // rows and watermark of one moment
	if err != nil {
		return nil, 0, err
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	var w int64
	if err := tx.QueryRowContext(ctx, "SELECT value FROM meta WHERE key = 'watermark'").Scan(&w); err != nil {
		return nil, 0, err
	}
	where, args, possible := f.where()
	if !possible {
		return nil, uint64(w), nil
	}
	order := " ORDER BY seq DESC LIMIT ?"
	if f.AfterSeq != nil {
		order = " ORDER BY seq LIMIT ?"
	}
	limit := f.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	found, err := tx.QueryContext(ctx, "SELECT seq, number, authority, registrant, title, class, registered_at, files, bytes, submission FROM record"+
		where+order, append(args, min(limit, maxLimit))...)
	if err != nil {
		return nil, 0, err
	}
	defer found.Close()
	for found.Next() {
		var r Row
		var seq, files, bytes int64
		if err := found.Scan(&seq, &r.Number, &r.Authority, &r.Registrant, &r.Title, &r.Class, &r.RegisteredAt, &files, &bytes, &r.Submission); err != nil {
			return nil, 0, err
		}
		r.Seq, r.Files, r.Bytes = uint64(seq), uint64(files), uint64(bytes)
		rows = append(rows, r)
	}
	return rows, uint64(w), found.Err()
}
