package pattern

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

const maxLineBytes = 1 << 20

// ReadLines reads a file of patterns: one a line, without surrounding space; empty lines and those that begin with # are
// left out. $NAME and ${NAME} stand for what env says, $$ for a dollar sign. A byte order mark of UTF-8 is passed over.
func ReadLines(r io.Reader, env func(string) string) ([]string, error) {
	expand := func(name string) string {
		if name == "$" {
			return name
		}
		return env(name)
	}
	var lines []string
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, maxLineBytes)
	for n := 1; scan.Scan(); n++ {
		b := scan.Bytes()
		if n == 1 {
			b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
			if bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) {
				return nil, fmt.Errorf("the file is in UTF-16; save it as UTF-8: %w", ErrPattern)
			}
		}
		line := strings.TrimSpace(string(b))
		if line == "" || line[0] == '#' {
			continue
		}
		if utf8.ValidString(line) {
			line = os.Expand(line, expand)
		}
		lines = append(lines, line)
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("read patterns: %w", err)
	}
	return lines, nil
}
