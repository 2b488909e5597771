package registry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
	xtlog "golang.org/x/mod/sumdb/tlog"

	"dengbei/registry/registrypb"
	"dengbei/registry/tlog"
)

// RecordBySeq returns the record at a position of the log.
func (r *Reader) RecordBySeq(seq uint64) (*registrypb.Record, error) {
	var rec *registrypb.Record
	err := r.at(func(db pebble.Reader) (err error) {
		rec, err = recordAt(db, seq)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("record at %d: %w", seq, err)
	}
	return rec, nil
}

func recordAt(db pebble.Reader, seq uint64) (*registrypb.Record, error) {
	v, err := read(db, seqKey(keyRecord, seq))
	if err != nil {
		return nil, err
	}
	rec, err := decode("record", v, &registrypb.Record{})
	if err != nil {
		return nil, err
	}
	return rec, addStatement(db, rec)
}

// addStatement fills in the authority's signature, which is stored apart.
func addStatement(db pebble.Reader, rec *registrypb.Record) error {
	v, err := read(db, seqKey(keyStatement, rec.GetSeq()))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	s, err := decode("statement", v, &registrypb.SignStatement{})
	if err == nil && len(s.GetSignatures()) == 1 {
		rec.StatementSignature, rec.StatementVkey = s.GetSignatures()[0].GetSignature(), s.GetVkey()
	}
	return err
}

// RecordByNumber returns the record with a registration number as printed; [ErrNumber] if it is not one.
func (r *Reader) RecordByNumber(number string) (*registrypb.Record, error) {
	n, err := ParseNumber(number)
	if err != nil {
		return nil, err
	}
	var rec *registrypb.Record
	err = r.at(func(db pebble.Reader) error {
		seq, err := read(db, numberKey(n))
		if err != nil {
			return err
		}
		if len(seq) != 8 {
			return ErrCorrupt
		}
		rec, err = recordAt(db, binary.BigEndian.Uint64(seq))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", number, err)
	}
	return rec, nil
}

// Outcome returns what a submission got, as the result of its command was.
func (r *Reader) Outcome(submission []byte) (Result, error) {
	var o outcome
	err := r.reading(func() error {
		v, err := read(r.db, key(keySubmission, submission))
		if err == nil {
			o, err = decodeOutcome(v)
		}
		return err
	})
	if err != nil {
		return Result{}, fmt.Errorf("submission %x: %w", submission, err)
	}
	return o.result(), nil
}

// RecordsBySubmission returns the records of a submission in its order.
func (r *Reader) RecordsBySubmission(submission []byte) ([]*registrypb.Record, error) {
	o, err := r.Outcome(submission)
	if err != nil {
		return nil, err
	}
	return r.Records(o.Records[0].Seq, len(o.Records))
}

// Records returns at most limit records from position seq on.
func (r *Reader) Records(seq uint64, limit int) ([]*registrypb.Record, error) {
	var out []*registrypb.Record
	err := r.at(func(db pebble.Reader) error {
		if limit <= 0 {
			return nil
		}
		return scan(db, []byte{keyRecord}, seqKey(keyRecord, seq), func(_, v []byte) (bool, error) {
			rec, err := decode("record", v, &registrypb.Record{})
			if err == nil {
				err = addStatement(db, rec)
			}
			out = append(out, rec)
			return len(out) < limit, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("records from %d: %w", seq, err)
	}
	return out, nil
}

// Unsigned returns at most limit records of an authority, oldest first, whose statement is not signed yet.
func (r *Reader) Unsigned(authority string, limit int) ([]*registrypb.Record, error) {
	if !validCode(authority) {
		return nil, nil
	}
	var out []*registrypb.Record
	err := r.at(func(db pebble.Reader) error {
		if limit <= 0 {
			return nil
		}
		return scan(db, key(keyUnsigned, authority), nil, func(k, _ []byte) (bool, error) {
			if len(k) != 1+6+8 {
				return false, ErrCorrupt
			}
			rec, err := recordAt(db, binary.BigEndian.Uint64(k[7:]))
			out = append(out, rec)
			return len(out) < limit, err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("unsigned records of %s: %w", authority, err)
	}
	return out, nil
}

// LatestCheckpoint returns the last published checkpoint.
func (r *Reader) LatestCheckpoint() (*registrypb.Checkpoint, error) {
	var c *registrypb.Checkpoint
	err := r.at(func(db pebble.Reader) error {
		it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyCheckpoint}, UpperBound: []byte{keyCheckpoint + 1}})
		if err != nil {
			return err
		}
		if it.Last() {
			c, err = decode("checkpoint", it.Value(), &registrypb.Checkpoint{})
		}
		return errors.Join(err, it.Close())
	})
	if err == nil && c == nil {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("latest checkpoint: %w", err)
	}
	return c, nil
}

// CheckpointCovering returns the first published checkpoint whose log holds position seq.
func (r *Reader) CheckpointCovering(seq uint64) (*registrypb.Checkpoint, error) {
	var c *registrypb.Checkpoint
	err := r.reading(func() error {
		if seq == math.MaxUint64 {
			return ErrNotFound
		}
		return scan(r.db, []byte{keyCheckpoint}, key(keyCheckpoint, seq+1), func(_, v []byte) (_ bool, err error) {
			c, err = decode("checkpoint", v, &registrypb.Checkpoint{})
			return false, err
		})
	})
	if err == nil && c == nil {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint with position %d: %w", seq, err)
	}
	return c, nil
}

// tree runs f on the log's tree if it holds size leaves.
func (r *Reader) tree(size uint64, f func(tlog.Store) error) error {
	return r.at(func(db pebble.Reader) error {
		if size > r.Size() {
			return fmt.Errorf("log of size %d has no size %d: %w", r.Size(), size, tlog.ErrOutOfRange)
		}
		return f(treeStore{db})
	})
}

// Root returns the root hash over the first size leaves.
func (r *Reader) Root(size uint64) (root [32]byte, err error) {
	err = r.tree(size, func(st tlog.Store) (err error) {
		root, err = tlog.Root(st, int64(size))
		return err
	})
	return root, err
}

// ProveRecord returns the audit path of position seq in the log of the given size.
func (r *Reader) ProveRecord(size, seq uint64) (proof []tlog.Hash, err error) {
	err = r.tree(size, func(st tlog.Store) (err error) {
		if seq >= size {
			return fmt.Errorf("prove record %d in a log of size %d: %w", seq, size, tlog.ErrOutOfRange)
		}
		proof, err = tlog.ProveRecord(st, int64(size), int64(seq))
		return err
	})
	return proof, err
}

// ProveTree returns the proof that the log of the given size begins with that of oldSize.
func (r *Reader) ProveTree(size, oldSize uint64) (proof []tlog.Hash, err error) {
	err = r.tree(size, func(st tlog.Store) (err error) {
		if oldSize > size {
			return fmt.Errorf("prove size %d consistent with %d: %w", size, oldSize, tlog.ErrOutOfRange)
		}
		proof, err = tlog.ProveTree(st, int64(size), int64(oldSize))
		return err
	})
	return proof, err
}

// TileData returns the hashes of a full or partial tile (C2SP tlog-tiles) of the log of the given size.
func (r *Reader) TileData(size uint64, tile xtlog.Tile) (data []byte, err error) {
	err = r.tree(size, func(st tlog.Store) (err error) {
		data, err = tlog.TileData(st, int64(size), tile)
		return err
	})
	return data, err
}

// Leaf returns the log's entry at a position.
func (r *Reader) Leaf(seq uint64) ([]byte, error) {
	var leaf []byte
	err := r.reading(func() (err error) {
		leaf, err = read(r.db, seqKey(keyLeaf, seq))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("leaf %d: %w", seq, err)
	}
	return leaf, nil
}

// Leaves calls f for the leaves from position seq on, until it returns an error or the log ends. The leaf is valid
// during the call only.
func (r *Reader) Leaves(seq uint64, f func(seq uint64, leaf []byte) error) error {
	return r.reading(func() error {
		return scan(r.db, []byte{keyLeaf}, seqKey(keyLeaf, seq), func(k, v []byte) (bool, error) {
			if len(k) != 9 {
				return false, ErrCorrupt
			}
			return true, f(binary.BigEndian.Uint64(k[1:]), v)
		})
	})
}

// EntryBundle returns bundle n of the log of the given size with its first width entries (C2SP tlog-tiles): each entry
// behind its length in two big-endian bytes.
func (r *Reader) EntryBundle(size, n uint64, width int) ([]byte, error) {
	out := make([]byte, 0, tlog.TileWidth*(2+tlog.LeafSize))
	err := r.tree(size, func(tlog.Store) error {
		if width < 1 || width > tlog.TileWidth || n > size/tlog.TileWidth || n*tlog.TileWidth+uint64(width) > size {
			return fmt.Errorf("bundle %d of %d entries in a log of size %d: %w", n, width, size, tlog.ErrOutOfRange)
		}
		left := width
		return scan(r.db, []byte{keyLeaf}, seqKey(keyLeaf, n*tlog.TileWidth), func(_, v []byte) (bool, error) {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(v))), v...)
			left--
			return left > 0, nil
		})
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
