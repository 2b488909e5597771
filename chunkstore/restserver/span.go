package restserver

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// errRange marks a range that begins behind the end of the file.
var errRange = errors.New("range is not within the file")

// span is a part of a file.
type span struct{ offset, length int64 }

// header returns the span as Content-Range has it.
func (s span) header(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", s.offset, s.offset+s.length-1, size)
}

// parseRange reads the Range header of a file of size bytes. part is false when the whole file is to be sent: without a
// header, with one that is malformed or asks for several ranges, which RFC 9110 lets a server ignore, and for an empty file.
func parseRange(header string, size int64) (s span, part bool, err error) {
	whole := span{0, size}
	spec, ok := strings.CutPrefix(header, "bytes=")
	if !ok || size == 0 {
		return whole, false, nil
	}
	from, to, ok := strings.Cut(spec, "-")
	if !ok {
		return whole, false, nil
	}
	if from == "" { // the last bytes
		n, ok := parseCount(to)
		switch {
		case !ok:
			return whole, false, nil
		case n == 0:
			return span{}, false, errRange
		}
		n = min(n, size)
		return span{size - n, n}, true, nil
	}
	first, ok := parseCount(from)
	if !ok {
		return whole, false, nil
	}
	last := size - 1
	if to != "" {
		n, ok := parseCount(to)
		if !ok || n < first {
			return whole, false, nil
		}
		last = min(n, last)
	}
	if first >= size {
		return span{}, false, errRange
	}
	return span{first, last - first + 1}, true, nil
}

// parseCount reads digits and nothing else. What does not fit is the largest number: it is behind every end.
func parseCount(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil || errors.Is(err, strconv.ErrRange)
}
