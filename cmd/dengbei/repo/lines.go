package repo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"

	"dengbei/cmd/dengbei/term"
)

// lines prints a result of any length, line by line, as text or as JSON.
type lines struct {
	buf  *bufio.Writer
	json *json.Encoder
}

func (r *commands) newLines() *lines {
	l := &lines{buf: bufio.NewWriterSize(r.Out, 64<<10)}
	l.json = json.NewEncoder(l.buf)
	l.json.SetEscapeHTML(false)
	return l
}

// printf writes text.
func (l *lines) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(l.buf, format, args...)
	return printing(err)
}

// object writes one line of JSON.
func (l *lines) object(v any) error { return printing(l.json.Encode(v)) }

// flush ends the printing; err is how the work went.
func (l *lines) flush(err error) error { return errors.Join(err, printing(l.buf.Flush())) }

func printing(err error) error {
	if err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}

// array prints a JSON array element by element.
type array struct {
	*lines
	n int
}

// next begins an element.
func (a *array) next() error {
	a.n++
	if a.n == 1 {
		return a.printf("[")
	}
	return a.printf(",")
}

// end ends the array.
func (a *array) end() error {
	if a.n == 0 {
		return a.printf("[]\n")
	}
	return a.printf("]\n")
}

// damages tells what could not be read and counts it.
type damages struct {
	console *term.Console
	n       int
}

// note is a damage function for package browse: the work goes on beside it.
func (d *damages) note(at string, err error) error {
	d.n++
	d.console.Note("passed over %s: %v", term.Safe(at), err)
	return nil
}

// err is the command's error when something was passed over.
func (d *damages) err() error {
	if d.n == 0 {
		return nil
	}
	return incomplete{fmt.Errorf("%d files or directories could not be read: the result lacks them; check --read-data finds the cause", d.n)}
}
