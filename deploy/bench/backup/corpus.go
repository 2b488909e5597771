package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// corpus is a folder to back up.
type corpus struct {
	name  string
	dir   string
	bytes int64
	edit  func(round int) error // changes it in place; nil for corpora without such a step
}

// source is randomness that follows from seed alone.
func source(seed string) *rand.ChaCha8 { return rand.NewChaCha8(sha256.Sum256([]byte(seed))) }

// makeCorpora writes the three corpora below dir, each of at least size bytes.
func makeCorpora(dir string, size int64) ([]*corpus, error) {
	small := &corpus{name: "small files", dir: filepath.Join(dir, "small")}
	scans := &corpus{name: "scans", dir: filepath.Join(dir, "scans")}
	dump := &corpus{name: "SQL dump", dir: filepath.Join(dir, "dump")}
	for c, write := range map[*corpus]func(*corpus, int64) error{small: writeSmall, scans: writeScans, dump: writeDump} {
		if err := os.MkdirAll(c.dir, 0o700); err != nil {
			return nil, err
		}
		if err := write(c, size); err != nil {
			return nil, fmt.Errorf("corpus %s: %w", c.name, err)
		}
	}
	dump.edit = func(round int) error {
		return editDump(filepath.Join(dump.dir, "database.sql"), dump.bytes, round)
	}
	return []*corpus{small, scans, dump}, nil
}

// writeSmall writes files of 200 bytes to 2 MB, 50 KB on average: a third text, a sixth structured data, and half images,
// which are compressed already, in directories of 100.
func writeSmall(c *corpus, size int64) error {
	src := source("small files")
	r := rand.New(src)
	for n := 0; c.bytes < size; n++ {
		dir := filepath.Join(c.dir, fmt.Sprintf("%02d", n/10_000), fmt.Sprintf("%04d", n/100))
		if n%100 == 0 {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
		length := 200 << r.IntN(8) // 200 B to 25 KB
		if n%13 == 0 {             // no divisor of 6: some of every sort
			length = 80_000 << r.IntN(5) // to 1.3 MB
		}
		length += r.IntN(length)
		var name string
		b := make([]byte, 0, length)
		switch n % 6 {
		case 0, 1:
			name = "note.txt"
			b = prose(b, r, length)
		case 2:
			name = "record.xml"
			for len(b) < length {
				b = fmt.Appendf(b, "<entry id=\"%d\"><title>%s</title><date>20%02d-%02d-%02d</date></entry>\n", r.IntN(1e9), words[r.IntN(len(words))],
					r.IntN(26), 1+r.IntN(12), 1+r.IntN(28))
			}
		default:
			name = "image.jpg"
			b = b[:length]
			_, _ = src.Read(b) // gives always all
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d-%s", n, name)), b, 0o600); err != nil {
			return err
		}
		c.bytes += int64(len(b))
	}
	return nil
}

var words = strings.Fields("archive record registration certificate deed title court file pension county city province 档案 登记 备份 移交 接收 保管 期限 永久 " +
	"the of and in to is for with that on as by from was are this at or an be which had not but were have has one")

func prose(b []byte, r *rand.Rand, length int) []byte {
	for len(b) < length {
		// A Zipf-like choice compresses as language does.
		w := words[int(float64(len(words))*r.Float64()*r.Float64())]
		b = append(append(b, w...), " \n"[r.IntN(20)/19])
		if r.IntN(4) == 0 {
			b = fmt.Appendf(b, "%d ", r.IntN(100_000))
		}
	}
	return b
}

// writeScans writes files of 4 to 40 MB of noise: scanned pages are compressed already.
func writeScans(c *corpus, size int64) error {
	src := source("scans")
	r := rand.New(src)
	for n := 0; c.bytes < size; n++ {
		length := min(4<<20+r.Int64N(36<<20), max(size-c.bytes, 1<<20))
		f, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("%04d.tif", n)))
		if err != nil {
			return err
		}
		_, err = io.CopyN(f, src, length)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
		c.bytes += length
	}
	return nil
}

// writeDump writes one file of SQL statements.
func writeDump(c *corpus, size int64) error {
	r := rand.New(source("SQL dump"))
	f, err := os.Create(filepath.Join(c.dir, "database.sql"))
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for id := 1; c.bytes < size; id++ {
		n, err := fmt.Fprintf(w, "INSERT INTO record VALUES (%d,'330102-20%02d-%06d','%s%s','%x',%d.%02d,'20%02d-%02d-%02d %02d:%02d:%02d');\n", id, r.IntN(26), r.IntN(1e6),
			words[r.IntN(len(words))], words[r.IntN(len(words))], r.Uint64(), r.IntN(1e6), r.IntN(100), r.IntN(26), 1+r.IntN(12), 1+r.IntN(28),
			r.IntN(24), r.IntN(60), r.IntN(60))
		if err != nil {
			return err
		}
		c.bytes += int64(n)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// editDump overwrites 2 % of the file in stretches of 16 KiB, a page of a table, at random places.
func editDump(path string, size int64, round int) error {
	const stretch = 16 << 10
	src := source(fmt.Sprint("edits ", round))
	r := rand.New(src)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 0, stretch)
	for range size / 50 / stretch {
		b = b[:0]
		for len(b) < stretch {
			b = fmt.Appendf(b, "UPDATE record SET holder='%x' WHERE id=%d;\n", r.Uint64(), r.IntN(1e8))
		}
		if _, err := f.WriteAt(b[:stretch], r.Int64N(size-stretch)); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	now := time.Now()
	return os.Chtimes(path, now, now)
}
