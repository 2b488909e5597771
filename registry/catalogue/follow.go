package catalogue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"dengbei/registry/registrypb"
)

// batchSize is how many records are read and written at once.
const batchSize = 512

// CatchUp reads the records that the catalogue does not have yet, and returns the watermark it has reached. It begins
// anew if the source is not the one that filled the file: a state that was restored to an earlier moment, or another
// network's.
func (c *Catalogue) CatchUp(ctx context.Context, src Source) (uint64, error) {
	w, err := c.Watermark(ctx)
	if err != nil {
		return 0, err
	}
	if same, err := c.follows(ctx, src, w); err != nil {
		return w, err
	} else if !same {
		if err := c.reset(); err != nil {
			return w, fmt.Errorf("empty the catalogue: %w", err)
		}
		w = 0
	}
	for w < src.Size() {
		if err := ctx.Err(); err != nil {
			return w, fmt.Errorf("catch up with the registry at %d: %w", w, err)
		}
		records, err := src.Records(w, batchSize)
		if err != nil {
			return w, fmt.Errorf("catch up with the registry at %d: %w", w, err)
		}
		if len(records) == 0 {
			break
		}
		if err := c.add(ctx, w, records); err != nil {
			return w, fmt.Errorf("catch up with the registry at %d: %w", w, err)
		}
		w += uint64(len(records))
	}
	return w, nil
}

// Follow keeps the catalogue up with src until ctx ends, and returns an error matching ctx.Err() then. Any other error
// ends it too: the caller calls it again with the source as it is then.
func (c *Catalogue) Follow(ctx context.Context, src Source) error {
	for {
		changed := src.Changed()
		if _, err := c.CatchUp(ctx, src); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("follow the registry: %w", ctx.Err())
		case <-changed:
		case <-c.anew:
			if err := c.reset(); err != nil {
				c.Refill()
				return fmt.Errorf("empty the catalogue: %w", err)
			}
		}
	}
}

// Refill has the follower empty the catalogue and fill it again, because more records can be unsealed than when it was
// filled.
func (c *Catalogue) Refill() {
	select {
	case c.anew <- struct{}{}:
	default: // asked for already
	}
}

// follows reports whether the last record of the catalogue is the source's.
func (c *Catalogue) follows(ctx context.Context, src Source, watermark uint64) (bool, error) {
	if watermark == 0 {
		return true, nil
	}
	if watermark > src.Size() {
		return false, nil
	}
	var number string
	var submission []byte
	err := c.write.QueryRowContext(ctx, "SELECT number, submission FROM record WHERE seq = ?", int64(watermark-1)).Scan(&number, &submission)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the catalogue at %d: %w", watermark-1, err)
	}
	last, err := src.Records(watermark-1, 1)
	if err != nil {
		return false, fmt.Errorf("read the registry at %d: %w", watermark-1, err)
	}
	return len(last) == 1 && last[0].GetNumber() == number && string(last[0].GetSubmission()) == string(submission), nil
}

// add writes records and watermark together.
func (c *Catalogue) add(ctx context.Context, from uint64, records []*registrypb.Record) error {
	tx, err := c.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	insert, err := tx.PrepareContext(ctx, "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
	if err != nil {
		return err
	}
	defer insert.Close()
	index, err := tx.PrepareContext(ctx, "INSERT INTO title (rowid, words) VALUES (?, ?)")
	if err != nil {
		return err
	}
	defer index.Close()
	for i, r := range records {
		if r.GetSeq() != from+uint64(i) {
			return fmt.Errorf("registry gave record %d for %d", r.GetSeq(), from+uint64(i))
		}
		d := c.details(r)
		if _, err := insert.ExecContext(ctx, int64(r.GetSeq()), r.GetNumber(), r.GetAuthority(), r.GetRegistrant(), d.Title, r.GetClass(),
			r.GetRegisteredAtMillis(), int64(d.Files), int64(d.Bytes), r.GetSubmission()); err != nil {
			return err
		}
		if d.Title == "" {
			continue
		}
		if _, err := index.ExecContext(ctx, int64(r.GetSeq()), segment(d.Title)); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, "UPDATE meta SET value = ? WHERE key = 'watermark'", int64(from)+int64(len(records))); err != nil {
		return err
	}
	return tx.Commit()
}

func (c *Catalogue) details(r *registrypb.Record) Details {
	if c.opts.Unseal != nil {
		if d, ok := c.opts.Unseal(r); ok {
			return d
		}
	}
	return Details{Title: r.GetContent().GetTitle()}
}
