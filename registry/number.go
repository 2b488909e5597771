package registry

import (
	"fmt"
	"strconv"
	"strings"
)

// Number is a registration number: unique in the network, gap-free per authority and year, never reused.
//
// It is printed as <authority>-<year>-<serial>-<check>: six digits, four digits, at least six digits, and the check
// digit of ISO 7064 MOD 11,10 over all digits before it. A number has one spelling.
type Number struct {
	Authority string // GB/T 2260 code
	Year      int    // in Shanghai
	Serial    uint64 // from 1
}

const serialDigits = 6

// String prints n.
func (n Number) String() string {
	b := make([]byte, 0, 24)
	b = append(b, n.Authority...)
	b = append(b, '-')
	b = appendPadded(b, uint64(n.Year), 4)
	b = append(b, '-')
	b = appendPadded(b, n.Serial, serialDigits)
	return string(append(b, '-', checkDigit(b)))
}

func appendPadded(b []byte, v uint64, width int) []byte {
	s := strconv.FormatUint(v, 10)
	for i := len(s); i < width; i++ {
		b = append(b, '0')
	}
	return append(b, s...)
}

// checkDigit computes ISO 7064 MOD 11,10 over the digits in b.
func checkDigit(b []byte) byte {
	p := 10
	for _, c := range b {
		if c < '0' || c > '9' {
			continue
		}
		s := (p + int(c-'0')) % 10
		if s == 0 {
			s = 10
		}
		p = s * 2 % 11
	}
	return '0' + byte((11-p)%10)
}

// ParseNumber reads what [Number.String] prints. Anything else, also a wrong check digit, gives [ErrNumber].
func ParseNumber(s string) (Number, error) {
	part := strings.Split(s, "-")
	if len(part) != 4 || len(s) > 40 {
		return Number{}, fmt.Errorf("%.40q: want <code>-<year>-<serial>-<check>: %w", s, ErrNumber)
	}
	year, yearErr := strconv.ParseUint(part[1], 10, 16)
	serial, serialErr := strconv.ParseUint(part[2], 10, 63)
	n := Number{Authority: part[0], Year: int(year), Serial: serial}
	if !validCode(n.Authority) || yearErr != nil || serialErr != nil || serial == 0 {
		return Number{}, fmt.Errorf("%.40q: want <code>-<year>-<serial>-<check>: %w", s, ErrNumber)
	}
	switch want := n.String(); {
	case want == s:
		return n, nil
	case want[:len(want)-1] == s[:len(s)-1]:
		return Number{}, fmt.Errorf("%.40q: check digit does not fit, compare it with the certificate: %w", s, ErrNumber)
	default:
		return Number{}, fmt.Errorf("%.40q: not written as %s: %w", s, want[:len(want)-1], ErrNumber)
	}
}

// validCode reports whether s has the form of a GB/T 2260 code. Whether it names a division is [DivisionOf]'s to say.
func validCode(s string) bool {
	if len(s) != 6 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
